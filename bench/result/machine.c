/* Reads /proc, /sys and the environment. */
#include "bench/result/machine.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* ---- files ---- */

static FILE *open_file(const char *root, const char *path)
{
    char name[1024];
    snprintf(name, sizeof name, "%s%s", root, path);
    return fopen(name, "re");
}

/* The first line, without its end; false: cannot be read. */
static bool read_line(const char *root, const char *path, char *out, size_t size)
{
    FILE      *from = open_file(root, path);
    const bool ok   = from != NULL && fgets(out, (int)size, from) != NULL;
    if (from != NULL) fclose(from);
    if (ok) out[strcspn(out, "\n")] = '\0';
    return ok;
}

static json_t *line_json(const char *root, const char *path)
{
    char text[256];
    return read_line(root, path, text, sizeof text) ? json_string(text) : json_null();
}

/* A number with an optional K, M or "kB" behind it, in bytes. */
static json_t *bytes_json(const char *text)
{
    char              *end;
    unsigned long long value = strtoull(text, &end, 10);
    while (*end == ' ') end++;
    if (*end == 'K' || *end == 'k') value <<= 10;
    if (*end == 'M') value <<= 20;
    return json_integer((json_int_t)value);
}

/* The value of the first line of `path` that holds `key`; null: none. */
static json_t *field_bytes(const char *root, const char *path, const char *key)
{
    FILE *from = open_file(root, path);
    char  line[512];
    while (from != NULL && fgets(line, sizeof line, from) != NULL) {
        const char *at = strstr(line, key);
        if (at == NULL) continue;
        fclose(from);
        return bytes_json(at + strlen(key) + strspn(at + strlen(key), ": \t"));
    }
    if (from != NULL) fclose(from);
    return json_null();
}

/* ---- CPUs ---- */

typedef struct cpu_facts {
    char     model[128];
    bool     hypervisor;
    uint32_t logical, physical_ids, core_ids;
    uint64_t cores[1024]; /* (package, core) pairs seen */
    double   mhz_min, mhz_max, mhz_sum;
} cpu_facts;

static void add_core(cpu_facts *c, uint32_t package, uint32_t core)
{
    const uint64_t pair  = (uint64_t)package << 32 | core;
    bool           known = false, same_package = false;
    for (uint32_t i = 0; i < c->core_ids; i++) {
        known |= c->cores[i] == pair;
        same_package |= c->cores[i] >> 32 == package;
    }
    if (known || c->core_ids == sizeof c->cores / sizeof *c->cores) return;
    c->physical_ids += !same_package;
    c->cores[c->core_ids++] = pair;
}

/* /proc/cpuinfo: blocks of "key : value"; "core id" comes behind "physical id". */
static void read_cpuinfo(const char *root, cpu_facts *c)
{
    FILE    *from = open_file(root, "/proc/cpuinfo");
    char     line[8192];
    uint32_t package = 0, number;
    double   mhz;
    while (from != NULL && fgets(line, sizeof line, from) != NULL) {
        const char *value = strchr(line, ':');
        if (value == NULL) continue;
        value += 1 + (value[1] == ' ');
        if (strncmp(line, "processor", 9) == 0) c->logical++;
        if (strncmp(line, "model name", 10) == 0)
            snprintf(c->model, sizeof c->model, "%.*s", (int)strcspn(value, "\n"), value);
        if (strncmp(line, "flags", 5) == 0) c->hypervisor |= strstr(value, " hypervisor") != NULL;
        if (sscanf(line, "physical id : %u", &number) == 1) package = number;
        if (sscanf(line, "core id : %u", &number) == 1) add_core(c, package, number);
        if (sscanf(line, "cpu MHz : %lf", &mhz) == 1) {
            if (c->mhz_max == 0 || mhz < c->mhz_min) c->mhz_min = mhz;
            if (mhz > c->mhz_max) c->mhz_max = mhz;
            c->mhz_sum += mhz;
        }
    }
    if (from != NULL) fclose(from);
}

/* The data cache of the first CPU at this level. */
static json_t *cache_bytes(const char *root, int level)
{
    for (int index = 0; index < 8; index++) {
        char path[96], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!read_line(root, path, text, sizeof text) || atoi(text) != level) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        if (read_line(root, path, text, sizeof text) && strcmp(text, "Instruction") == 0) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (read_line(root, path, text, sizeof text)) return bytes_json(text);
    }
    return json_null();
}

/* The vendor's name where the firmware says it, else "yes". */
static json_t *hypervisor_json(const char *root, const cpu_facts *c)
{
    char vendor[128];
    if (!c->hypervisor) return json_null();
    return json_string(read_line(root, "/sys/class/dmi/id/sys_vendor", vendor, sizeof vendor) ? vendor : "yes");
}

static json_t *cpu_json(const char *root)
{
    cpu_facts *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    read_cpuinfo(root, c);
    json_t *mhz = c->mhz_max > 0 ? json_pack("{s:f, s:f, s:f}", "min", c->mhz_min, "mean", c->mhz_sum / c->logical,
                                             "max", c->mhz_max)
                                 : json_null();
    json_t *to  = json_pack("{s:o, s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:o, s:o}", "model",
                           c->model[0] ? json_string(c->model) : json_null(), "packages", (json_int_t)c->physical_ids,
                            "cores", (json_int_t)c->core_ids, "hardware_threads", (json_int_t)c->logical, "smt",
                            c->logical > c->core_ids && c->core_ids > 0, "l2_bytes", cache_bytes(root, 2), "l3_bytes",
                            cache_bytes(root, 3), "governor",
                            line_json(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "mhz", mhz,
                            "hypervisor", hypervisor_json(root, c));
    free(c);
    return to;
}

/* ---- memory ---- */

static json_t *nodes_json(const char *root)
{
    json_t *nodes = json_array();
    for (int node = 0; node < 256; node++) {
        char path[96], cpus[512];
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
        if (!read_line(root, path, cpus, sizeof cpus)) continue;
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", node);
        json_array_append_new(nodes, json_pack("{s:i, s:s, s:o}", "node", node, "cpus", cpus, "memory_bytes",
                                               field_bytes(root, path, "MemTotal:")));
    }
    return nodes;
}

/* "always [madvise] never" */
static json_t *huge_pages_json(const char *root)
{
    char        text[128];
    const char *open = NULL;
    if (read_line(root, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text)) open = strchr(text, '[');
    return open != NULL ? json_stringn(open + 1, strcspn(open + 1, "]")) : json_null();
}

static json_t *memory_json(const char *root)
{
    char    balancing[16];
    json_t *numa = read_line(root, "/proc/sys/kernel/numa_balancing", balancing, sizeof balancing)
                       ? json_boolean(balancing[0] != '0')
                       : json_null();
    return json_pack("{s:o, s:o, s:o}", "huge_pages", huge_pages_json(root), "numa_balancing", numa, "available_bytes",
                     field_bytes(root, "/proc/meminfo", "MemAvailable:"));
}

/* ---- the group ---- */

/* "400000 100000" or "max 100000", of version 2. */
static json_t *quota_json(const char *root, const char *group)
{
    char   path[512], text[64];
    double quota, period;
    snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/cpu.max", group);
    if (!read_line(root, path, text, sizeof text) || sscanf(text, "%lf %lf", &quota, &period) != 2) return json_null();
    return json_real(quota / period);
}

static json_t *limit_json(const char *root, const char *group)
{
    char path[512], text[64];
    snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/memory.max", group);
    return read_line(root, path, text, sizeof text) && text[0] != 'm' ? bytes_json(text) : json_null();
}

/* Version 2 when it is the only one; limits of version 1 show in the engine's sizes, not here. */
static json_t *cgroup_json(const char *root)
{
    FILE *from = open_file(root, "/proc/self/cgroup");
    char  line[512], group[512] = "";
    int   version = 0;
    while (from != NULL && fgets(line, sizeof line, from) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) != 0) {
            version = 1;
            continue;
        }
        if (version == 0) version = 2;
        snprintf(group, sizeof group, "%s", strcmp(line + 3, "/") == 0 ? "" : line + 3);
    }
    if (from != NULL) fclose(from);
    return json_pack("{s:o, s:o, s:o}", "version", version ? json_integer(version) : json_null(), "quota_cpus",
                     quota_json(root, group), "memory_max_bytes", limit_json(root, group));
}

/* ---- environment ---- */

/* Variables that change what OpenMP, oneDNN, the allocator or quire do. */
static json_t *environment_json(void)
{
    static const char *const prefixes[] = {"OMP_",  "KMP_",   "GOMP_",   "ONEDNN_",
                                           "DNNL_", "QUIRE_", "MALLOC_", "LD_PRELOAD"};
    json_t                  *to         = json_object();
    for (char **at = environ; *at != NULL; at++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
            const char *equal = strchr(*at, '=');
            if (equal == NULL || strncmp(*at, prefixes[i], strlen(prefixes[i])) != 0) continue;
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)(equal - *at), *at);
            json_object_set_new(to, name, json_string(equal + 1));
        }
    return to;
}

static json_t *load_json(const char *root)
{
    char   text[128];
    double load[3];
    if (!read_line(root, "/proc/loadavg", text, sizeof text)) return json_null();
    if (sscanf(text, "%lf %lf %lf", &load[0], &load[1], &load[2]) != 3) return json_null();
    return json_pack("[f, f, f]", load[0], load[1], load[2]);
}

/* What is known to disturb measurements. */
static json_t *warnings_json(const json_t *machine)
{
    json_t       *to       = json_array();
    const char   *governor = json_string_value(json_object_get(json_object_get(machine, "cpu"), "governor"));
    const json_t *memory = json_object_get(machine, "memory"), *env = json_object_get(machine, "env");
    if (governor != NULL && strcmp(governor, "performance") != 0)
        json_array_append_new(to, json_sprintf("the CPU governor is %s, not performance", governor));
    if (json_is_true(json_object_get(memory, "numa_balancing")) &&
        json_array_size(json_object_get(machine, "nodes")) > 1)
        json_array_append_new(to, json_string("kernel.numa_balancing moves pages while the engine runs"));
    static const char *const overruled[] = {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY",
                                            "GOMP_CPU_AFFINITY"};
    for (size_t i = 0; i < sizeof overruled / sizeof *overruled; i++)
        if (json_object_get(env, overruled[i]) != NULL)
            json_array_append_new(
                to, json_sprintf("%s is set, but [topology] decides where the engine's threads run", overruled[i]));
    return to;
}

json_t *qr_machine_json(const char *root)
{
    json_t *to = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "cpu", cpu_json(root), "nodes", nodes_json(root), "memory",
                           memory_json(root), "cgroup", cgroup_json(root), "env", environment_json(), "loadavg",
                           load_json(root));
    if (to != NULL) json_object_set_new(to, "warnings", warnings_json(to));
    return to;
}
