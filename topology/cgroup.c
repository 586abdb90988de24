/* Reads /proc/self/cgroup and /proc/self/mountinfo, then walks each hierarchy from the process's group to its mount
 * point, because a parent's limit binds its children. In a container without a cgroup namespace the group's path
 * starts with the mount's own root; in others the directory does not exist here and the walk starts where it does. */
#include "topology/cgroup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

enum { PATH_CAPACITY = 1024, LINE_CAPACITY = 2048 }; /* several on a stack: hosts may have small ones */

/* One hierarchy: directories from path down to path[0..mount_length). */
typedef struct hierarchy {
    char   path[PATH_CAPACITY];
    size_t mount_length;
} hierarchy;

/* ---- files ---- */

static FILE *open_below(const char *root, const char *path)
{
    char      whole[PATH_CAPACITY];
    const int length = snprintf(whole, sizeof whole, "%s%s", root ? root : "", path);
    if (length < 0 || (size_t)length >= sizeof whole) return NULL;
    return fopen(whole, "re");
}

/* A line without its newline; the rest of one that is too long is dropped. */
static bool next_line(FILE *file, char *line, size_t capacity)
{
    if (fgets(line, (int)capacity, file) == NULL) return false;
    const size_t length = strcspn(line, "\n");
    if (line[length] != '\n')
        for (int c = getc(file); c != EOF && c != '\n';) c = getc(file);
    line[length] = '\0';
    return true;
}

bool qr_read_line(const char *root, const char *path, char *line, size_t capacity)
{
    FILE *file = open_below(root, path);
    if (file == NULL) return false;
    const bool found = next_line(file, line, capacity);
    fclose(file);
    return found;
}

bool qr_read_field(const char *root, const char *path, const char *key, char *value, size_t capacity)
{
    FILE *file = open_below(root, path);
    if (file == NULL) return false;
    char   line[LINE_CAPACITY];
    bool   found  = false;
    size_t length = strlen(key);
    while (!found && next_line(file, line, sizeof line)) {
        found = strncmp(line, key, length) == 0;
        if (found) snprintf(value, capacity, "%s", line + length + strspn(line + length, " \t"));
    }
    fclose(file);
    return found;
}

static bool read_u64(const char *root, const char *directory, const char *name, uint64_t *value_out)
{
    char path[PATH_CAPACITY + 64], line[64], *end = line;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!qr_read_line(root, path, line, sizeof line) || line[0] < '0' || line[0] > '9') return false;
    *value_out = strtoull(line, &end, 10);
    return *end == '\0';
}

/* ---- where the hierarchies are ---- */

/* Is `word` one of the comma-separated words of `list`? */
static bool has_word(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (const char *at = list; at != NULL && *at != '\0';) {
        const size_t here = strcspn(at, ",");
        if (here == length && memcmp(at, word, length) == 0) return true;
        at += here + (at[here] == ',');
    }
    return false;
}

/* The process's group in the hierarchy of `controller` (v1), or in the unified one (NULL). */
static bool group_path(const char *root, const char *controller, char *path_out)
{
    FILE *file = open_below(root, "/proc/self/cgroup");
    if (file == NULL) return false;
    char line[LINE_CAPACITY];
    bool found = false;
    while (!found && next_line(file, line, sizeof line)) {
        char *controllers = strchr(line, ':');
        char *path        = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL) continue;
        *path++ = '\0';
        controllers++;
        found = controller ? has_word(controllers, controller) : *controllers == '\0';
        if (found) snprintf(path_out, PATH_CAPACITY, "%s", path);
    }
    fclose(file);
    return found;
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        const bool octal = from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' &&
                           from[3] >= '0' && from[3] <= '7';
        *to++ = octal ? (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0')) : *from;
        from += octal ? 4 : 1;
    }
    *to = '\0';
}

/* Splits "id parent major:minor ROOT POINT options ... - TYPE source SUPER" in place. */
static bool split_mount(char *line, char **root_out, char **point_out, char **type_out, char **super_out)
{
    char *tail = strstr(line, " - ");
    if (tail == NULL) return false;
    *tail      = '\0';
    char *save = NULL;
    strtok_r(line, " ", &save), strtok_r(NULL, " ", &save), strtok_r(NULL, " ", &save);
    *root_out  = strtok_r(NULL, " ", &save);
    *point_out = strtok_r(NULL, " ", &save);
    *type_out  = strtok_r(tail + 3, " ", &save);
    strtok_r(NULL, " ", &save);
    *super_out = strtok_r(NULL, " ", &save);
    if (*root_out == NULL || *point_out == NULL || *type_out == NULL || *super_out == NULL) return false;
    unescape(*root_out), unescape(*point_out);
    return true;
}

/* Where the hierarchy is mounted, and which of its directories is mounted there. */
static bool mount_point(const char *root, const char *controller, char *point_out, char *mount_root_out)
{
    FILE *file = open_below(root, "/proc/self/mountinfo");
    if (file == NULL) return false;
    char line[LINE_CAPACITY];
    bool found = false;
    while (!found && next_line(file, line, sizeof line)) {
        char *mount_root, *point, *type, *super;
        if (!split_mount(line, &mount_root, &point, &type, &super)) continue;
        found = controller ? strcmp(type, "cgroup") == 0 && has_word(super, controller) : strcmp(type, "cgroup2") == 0;
        if (!found) continue;
        snprintf(point_out, PATH_CAPACITY, "%s", point);
        snprintf(mount_root_out, PATH_CAPACITY, "%s", mount_root);
    }
    fclose(file);
    return found;
}

/* What of `path` lies below the mounted directory. */
static const char *below_mount(const char *path, const char *mount_root)
{
    const size_t length = strlen(mount_root);
    if (length > 1 && strncmp(path, mount_root, length) == 0 && (path[length] == '/' || path[length] == '\0'))
        path += length;
    else if (length > 1)
        path = ""; /* the mount shows another branch: its top is all we can see */
    return strcmp(path, "/") == 0 ? "" : path;
}

/* controller NULL: the unified hierarchy (v2). */
static bool hierarchy_open(const char *root, const char *controller, hierarchy *h)
{
    static const char usual[] = "/sys/fs/cgroup";
    char              group[PATH_CAPACITY], point[PATH_CAPACITY], mount_root[PATH_CAPACITY] = "/";
    if (!group_path(root, controller, group)) return false;
    if (!mount_point(root, controller, point, mount_root)) {
        snprintf(point, sizeof point, "%s%s%s", usual, controller ? "/" : "", controller ? controller : "");
    }
    const int length = snprintf(h->path, sizeof h->path, "%s%s", point, below_mount(group, mount_root));
    h->mount_length  = strlen(point);
    return length >= 0 && (size_t)length < sizeof h->path;
}

/* One directory up; false at the mount point. */
static bool hierarchy_up(hierarchy *h)
{
    char *slash = strlen(h->path) > h->mount_length ? strrchr(h->path + h->mount_length, '/') : NULL;
    if (slash == NULL) return false;
    *slash = '\0';
    return true;
}

/* ---- CPU quota ---- */

static double least_quota(double a, double b) { return a == 0.0 || (b > 0.0 && b < a) ? b : a; }

static double quota_v2(const char *root, const char *directory)
{
    char               path[PATH_CAPACITY + 64], line[128];
    unsigned long long quota = 0, period = 0;
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (!qr_read_line(root, path, line, sizeof line)) return 0.0;
    if (sscanf(line, "%llu %llu", &quota, &period) != 2 || quota == 0 || period == 0) return 0.0; /* "max ..." */
    return (double)quota / (double)period;
}

static double quota_v1(const char *root, const char *directory)
{
    uint64_t quota = 0, period = 0; /* quota -1, no limit, is not read as a number */
    if (!read_u64(root, directory, "cpu.cfs_quota_us", &quota) ||
        !read_u64(root, directory, "cpu.cfs_period_us", &period) || quota == 0 || period == 0)
        return 0.0;
    return (double)quota / (double)period;
}

double qr_cgroup_quota(const char *root)
{
    double    quota = 0.0;
    hierarchy h;
    for (bool more = hierarchy_open(root, NULL, &h); more; more = hierarchy_up(&h))
        quota = least_quota(quota, quota_v2(root, h.path));
    for (bool more = hierarchy_open(root, "cpu", &h); more; more = hierarchy_up(&h))
        quota = least_quota(quota, quota_v1(root, h.path));
    return quota;
}

/* ---- cpuset ---- */

bool qr_cpu_set_parse(const char *text, qr_cpu_set *set_out)
{
    *set_out    = (qr_cpu_set){0};
    bool filled = false;
    while (*text >= '0' && *text <= '9') {
        char         *end   = NULL;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-') last = strtoul(end + 1, &end, 10);
        for (unsigned long cpu = first; cpu <= last && cpu < QR_MAX_CPUS; cpu++)
            qr_cpu_set_add(set_out, (uint32_t)cpu), filled = true;
        text = end + (*end == ',');
    }
    return filled && (*text == '\0' || *text == '\n');
}

/* The files hold what remains after all parents, so that the nearest one decides. */
static bool nearest_cpuset(const char *root, const char *controller, const char *const *names, qr_cpu_set *set_out)
{
    hierarchy h;
    if (!hierarchy_open(root, controller, &h)) return false;
    for (bool more = true; more; more = hierarchy_up(&h)) {
        for (const char *const *name = names; *name != NULL; name++) {
            char path[PATH_CAPACITY + 64], line[LINE_CAPACITY];
            snprintf(path, sizeof path, "%s/%s", h.path, *name);
            if (qr_read_line(root, path, line, sizeof line) && qr_cpu_set_parse(line, set_out)) return true;
        }
    }
    return false;
}

bool qr_cgroup_cpuset(const char *root, qr_cpu_set *set_out)
{
    static const char *const v2[] = {"cpuset.cpus.effective", NULL};
    static const char *const v1[] = {"cpuset.effective_cpus", "cpuset.cpus", NULL};
    return nearest_cpuset(root, NULL, v2, set_out) || nearest_cpuset(root, "cpuset", v1, set_out);
}

/* ---- memory ---- */

/* Page cache that the kernel gives back under pressure counts as free. */
static uint64_t memory_left(const char *root, const char *directory, const char *max_name, const char *current_name,
                            const char *inactive_key)
{
    uint64_t max = 0, current = 0, inactive = 0;
    char     path[PATH_CAPACITY + 64], value[64];
    if (!read_u64(root, directory, max_name, &max)) return UINT64_MAX; /* "max" */
    if (!read_u64(root, directory, current_name, &current)) current = 0;
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    if (qr_read_field(root, path, inactive_key, value, sizeof value)) inactive = strtoull(value, NULL, 10);
    current -= inactive < current ? inactive : current;
    return max > current ? max - current : 0;
}

uint64_t qr_cgroup_memory(const char *root)
{
    uint64_t  least = UINT64_MAX;
    hierarchy h;
    for (bool more = hierarchy_open(root, NULL, &h); more; more = hierarchy_up(&h))
        least = qr_min_u64(least, memory_left(root, h.path, "memory.max", "memory.current", "inactive_file "));
    for (bool more = hierarchy_open(root, "memory", &h); more; more = hierarchy_up(&h))
        least = qr_min_u64(
            least, memory_left(root, h.path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "));
    return least;
}
