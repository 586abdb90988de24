/* Samples of /proc and /sys, and what lies between two of them; proc(5) has the formats. */
#include "bench/run/noise.h"

#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"

static FILE *open_file(const char *root, const char *path)
{
    char name[1024];
    snprintf(name, sizeof name, "%s%s", root, path);
    return fopen(name, "re");
}

/* ---- noise ---- */

/* "cpu1 user nice system idle iowait irq softirq steal guest ..." in ticks; guest time is in user already. */
static void read_cpu_times(const char *root, qr_noise_sample *s)
{
    cpu_set_t allowed;
    FILE     *from = open_file(root, "/proc/stat");
    char      line[512];
    unsigned  cpu;
    double    t[8];
    if (from == NULL) return;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
    const double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    while (fgets(line, sizeof line, from) != NULL) {
        if (strncmp(line, "cpu ", 4) == 0) continue; /* all together */
        if (sscanf(line, "cpu%u %lf %lf %lf %lf %lf %lf %lf %lf", &cpu, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
                   &t[7]) != 9)
            continue;
        if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed)) continue;
        s->cpus++;
        s->busy_s += (t[0] + t[1] + t[2] + t[5] + t[6]) * tick;
        s->steal_s += t[7] * tick;
        char     path[96];
        unsigned khz = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_cur_freq", cpu);
        FILE *frequency = open_file(root, path);
        if (frequency != NULL && fscanf(frequency, "%u", &khz) == 1 && khz > 0 &&
            (s->frequency_khz == 0 || khz < s->frequency_khz))
            s->frequency_khz = khz;
        if (frequency != NULL) fclose(frequency);
    }
    fclose(from);
}

static void read_own_usage(qr_noise_sample *s)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return;
    s->own_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    s->involuntary_switches = (uint64_t)usage.ru_nivcsw;
    s->major_faults         = (uint64_t)usage.ru_majflt;
    s->page_faults          = (uint64_t)usage.ru_minflt + s->major_faults;
}

/* nr_throttled of this process's group: version 2 ("0::/path"), else version 1 ("3:cpu,cpuacct:/path"). */
uint64_t qr_throttled_periods(const char *root)
{
    uint64_t periods = 0;
    FILE    *groups  = open_file(root, "/proc/self/cgroup");
    char     line[512];
    while (groups != NULL && fgets(line, sizeof line, groups) != NULL) {
        char  path[768], field[64];
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) continue;
        *group++                    = '\0';
        group[strcspn(group, "\n")] = '\0';
        const bool unified          = controllers[1] == '\0';
        if (!unified && strncmp(controllers + 1, "cpu", 3) != 0) continue;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/cpu.stat", unified ? "" : "/cpu", group);
        FILE              *stat = open_file(root, path);
        unsigned long long value;
        while (stat != NULL && fscanf(stat, "%63s %llu", field, &value) == 2)
            if (strcmp(field, "nr_throttled") == 0) periods += value;
        if (stat != NULL) fclose(stat);
    }
    if (groups != NULL) fclose(groups);
    return periods;
}

void qr_noise_sample_take(const char *root, qr_noise_sample *sample_out)
{
    *sample_out = (qr_noise_sample){.time_ns = (int64_t)qr_now_ns()};
    read_cpu_times(root, sample_out);
    read_own_usage(sample_out);
    sample_out->throttled_periods = qr_throttled_periods(root);
}

qr_noise qr_noise_between(const qr_noise_sample *a, const qr_noise_sample *b)
{
    qr_noise     n     = {.seconds              = (double)(b->time_ns - a->time_ns) * 1e-9,
                          .involuntary_switches = b->involuntary_switches - a->involuntary_switches,
                          .page_faults          = b->page_faults - a->page_faults,
                          .major_faults         = b->major_faults - a->major_faults,
                          .throttled_periods    = b->throttled_periods - a->throttled_periods};
    const double whole = n.seconds * b->cpus;
    if (!(whole > 0)) return n;
    n.steal_share = (b->steal_s - a->steal_s) / whole;
    n.other_share = fmax(0, (b->busy_s - a->busy_s) - (b->own_s - a->own_s)) / whole;
    return n;
}

double qr_noise_share(const qr_noise *n)
{
    const double tick_s = 0.01; /* of each CPU, over the seconds of each */
    return n->seconds > 0 ? fmin(1, fmax(0, n->steal_share + n->other_share - tick_s / n->seconds)) : 0;
}

bool qr_noise_is_contaminated(const qr_noise_sample *a, const qr_noise_sample *b)
{
    const qr_noise n = qr_noise_between(a, b);
    return qr_noise_share(&n) > QR_NOISE_LIMIT_PERCENT / 100.0 || n.major_faults > 0 || n.throttled_periods > 0 ||
           (double)b->frequency_khz < 0.9 * (double)a->frequency_khz;
}

/* ---- the engine's threads ---- */

/* The kernel's list, "0-3,8". */
static void parse_list(const char *text, cpu_set_t *out)
{
    CPU_ZERO(out);
    while (*text != '\0' && *text != '\n') {
        char         *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (end == text) return;
        if (*end == '-') last = strtoul(end + 1, &end, 10);
        for (; first <= last && first < CPU_SETSIZE; first++) CPU_SET(first, out);
        text = *end == ',' ? end + 1 : end;
    }
}

/* The text behind `key` in a file of a task; false: not there. */
static bool task_field(const char *task, const char *file, const char *key, char *out, size_t size)
{
    char path[128], line[4096];
    snprintf(path, sizeof path, "/proc/self/task/%.20s/%s", task, file);
    FILE *from  = fopen(path, "re");
    bool  found = false;
    while (!found && from != NULL && fgets(line, sizeof line, from) != NULL) {
        if (strncmp(line, key, strlen(key)) != 0) continue;
        const char *value = line + strlen(key);
        value += strspn(value, " \t:");
        snprintf(out, size, "%s", value);
        out[strcspn(out, "\n")] = '\0';
        found                   = true;
    }
    if (from != NULL) fclose(from);
    return found;
}

/* Field 39 of stat; the name, in brackets, may hold anything. */
static uint32_t task_cpu(const char *task)
{
    char path[128], line[1024] = "";
    snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", task);
    FILE *from = fopen(path, "re");
    if (from == NULL) return 0;
    const char *at = fgets(line, sizeof line, from) != NULL ? strrchr(line, ')') : NULL;
    fclose(from);
    for (int field = 2; at != NULL && field < 39; field++) {
        at = strchr(at + 1, ' ');
        if (at == NULL) return 0;
    }
    return at != NULL ? (uint32_t)strtoul(at + 1, NULL, 10) : 0;
}

static void take_task(const char *task, int own_cpus, cpu_set_t *team, qr_thread_placement *to)
{
    char      text[4096];
    cpu_set_t allowed;
    if (!task_field(task, "comm", "quire-", text, sizeof text)) return;
    CPU_ZERO(&allowed);
    if (task_field(task, "status", "Cpus_allowed_list", text, sizeof text)) parse_list(text, &allowed);
    to->pinned &= CPU_COUNT(&allowed) < own_cpus || own_cpus == 1;
    CPU_OR(team, team, &allowed);
    if (to->threads < sizeof to->cpus / sizeof *to->cpus) to->cpus[to->threads] = task_cpu(task);
    to->threads++;
    if (task_field(task, "sched", "se.nr_migrations", text, sizeof text)) to->migrations += strtoull(text, NULL, 10);
}

static bool node_has_any(unsigned node, const cpu_set_t *team)
{
    char      path[64], text[4096] = "";
    cpu_set_t cpus;
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/cpulist", node);
    FILE *from = fopen(path, "re");
    if (from == NULL) return true; /* no nodes: one machine */
    if (fgets(text, sizeof text, from) == NULL) text[0] = '\0';
    fclose(from);
    parse_list(text, &cpus);
    CPU_AND(&cpus, &cpus, team);
    return CPU_COUNT(&cpus) > 0;
}

/* "... anon=512 dirty=512 N0=300 N1=212 kernelpagesize_kB=4": anonymous memory by node. */
static double share_on_nodes_of(const cpu_set_t *team)
{
    FILE  *from = fopen("/proc/self/numa_maps", "re");
    char   line[4096];
    double local = 0, all = 0;
    if (from == NULL) return NAN;
    while (fgets(line, sizeof line, from) != NULL) {
        const char  *size  = strstr(line, "kernelpagesize_kB=");
        const double bytes = size != NULL ? strtod(size + 18, NULL) : 4;
        if (strstr(line, " anon=") == NULL) continue;
        for (const char *at = line; (at = strstr(at, " N")) != NULL; at += 2) {
            unsigned node, pages;
            if (sscanf(at, " N%u=%u", &node, &pages) != 2) continue;
            all += pages * bytes;
            local += node_has_any(node, team) ? pages * bytes : 0;
        }
    }
    fclose(from);
    return all > 0 ? local / all : NAN;
}

static uint64_t huge_bytes(void)
{
    static const char *const kinds[] = {
        "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"};
    FILE    *from = fopen("/proc/self/smaps_rollup", "re");
    char     line[256];
    uint64_t kib = 0;
    while (from != NULL && fgets(line, sizeof line, from) != NULL)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (strncmp(line, kinds[i], strlen(kinds[i])) == 0) kib += strtoull(line + strlen(kinds[i]), NULL, 10);
    if (from != NULL) fclose(from);
    return kib * 1024;
}

void qr_thread_placement_read(qr_thread_placement *to)
{
    cpu_set_t own, team;
    DIR      *tasks = opendir("/proc/self/task");
    *to             = (qr_thread_placement){.pinned = true, .memory_local = NAN};
    CPU_ZERO(&team);
    if (tasks == NULL || sched_getaffinity(0, sizeof own, &own) != 0) CPU_ZERO(&own);
    for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;)
        if (entry->d_name[0] != '.') take_task(entry->d_name, CPU_COUNT(&own), &team, to);
    if (tasks != NULL) closedir(tasks);
    if (to->threads > 0) to->memory_local = share_on_nodes_of(&team);
    to->pinned &= to->threads > 0;
    to->huge_bytes = huge_bytes();
}
