/* Machine, model, engine, configuration. See report_html.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_html.h"

/* What the members of a result are called by people, and their units: "" as it is, "B" bytes, "%" a share. */
typedef struct fact {
    const char *name, *path, *unit;
} fact;

static const fact machine[] = {{"host", "context/host", ""},
                               {"CPU", "context/cpu/model", ""},
                               {"sockets", "context/cpu/packages", ""},
                               {"cores", "context/cpu/cores", ""},
                               {"hardware threads", "context/cpu/hardware_threads", ""},
                               {"several threads per core", "context/cpu/smt", ""},
                               {"second-level cache of a core", "context/cpu/l2_bytes", "B"},
                               {"last-level cache", "context/cpu/l3_bytes", "B"},
                               {"clock when it ended, mean", "context/cpu/mhz/mean", "MHz"},
                               {"clock governor", "context/cpu/governor", ""},
                               {"hypervisor", "context/cpu/hypervisor", ""},
                               {"memory available", "context/memory/available_bytes", "B"},
                               {"transparent huge pages", "context/memory/huge_pages", ""},
                               {"memory in huge pages", "context/memory/huge_bytes", "B"},
                               {"automatic NUMA balancing", "context/memory/numa_balancing", ""},
                               {"control groups, version", "context/cgroup/version", ""},
                               {"CPU quota of the group", "context/cgroup/quota_cpus", "CPUs"},
                               {"memory limit of the group", "context/cgroup/memory_max_bytes", "B"},
                               {"load average, 1, 5, 15 min", "context/loadavg", ""},
                               {"environment", "context/env", ""},
                               {"warnings", "context/warnings", ""},
                               {"started", "context/started", ""},
                               {"finished", "context/finished", ""}};

static const fact build[] = {{"quire", "context/quire/version", ""},     {"git", "context/quire/git", ""},
                             {"compiler", "context/quire/compiler", ""}, {"optimised", "context/quire/optimised", ""},
                             {"oneDNN", "context/libs/onednn", ""},      {"hwloc", "context/libs/hwloc", ""},
                             {"OpenMP", "context/libs/openmp", ""}};

static const fact model[] = {{"model", "model/name", ""},
                             {"from", "model/source", ""},
                             {"architecture", "model/architecture", ""},
                             {"parameters", "model/parameters", ""},
                             {"weights", "model/weight_dtype", ""},
                             {"keys and values", "model/kv_dtype", ""},
                             {"size of the weights, packed", "model/weight_bytes", "B"},
                             {"keys and values of a token", "model/kv_bytes_per_token", "B"},
                             {"longest sequence", "model/max_model_len", "tokens"}};

static const fact engine[] = {{"threads", "engine/threads", ""},
                              {"on CPUs", "engine/cpus", ""},
                              {"NUMA nodes", "engine/nodes", ""},
                              {"threads are pinned", "engine/placement/pinned", ""},
                              {"memory on the threads\xe2\x80\x99 nodes", "engine/placement/memory_local", "%"},
                              {"threads changed CPU", "engine/placement/migrations", "times"},
                              {"instruction set", "context/cpu/isa", ""},
                              {"capped at", "context/cpu/isa_cap", ""},
                              {"projections by", "engine/implementation", ""},
                              {"projections of few rows by", "engine/small_m", ""},
                              {"prefetch of keys and values", "engine/prefetch", ""},
                              {"results do not depend on the batch", "engine/batch_invariant", ""},
                              {"KV cache", "engine/kv_cache_bytes", "B"},
                              {"KV blocks", "engine/num_blocks", ""},
                              {"tokens of a block", "engine/block_size", ""},
                              {"scratch memory", "engine/scratch_bytes", "B"}};

static const fact disclosure[] = {{"measured at the boundary of", "disclosure/boundary", ""},
                                  {"loop", "disclosure/load_model", ""},
                                  {"load", "disclosure/profile", ""},
                                  {"clock", "disclosure/clock", ""},
                                  {"requests", "disclosure/workload", ""},
                                  {"prefix caching", "disclosure/prefix_caching", ""},
                                  {"end-of-sequence ids ignored", "disclosure/ignore_eos", ""},
                                  {"percentiles", "disclosure/percentiles", ""}};

void qr_html_bytes(double bytes, FILE *to)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t                   unit    = 0;
    for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
    fprintf(to, "%.*f %s", bytes == floor(bytes) || bytes >= 99.95 ? 0 : 1, bytes, units[unit]);
}

static void fact_value(const json_t *value, const char *unit, FILE *to)
{
    const double number = json_number_value(value);
    if (!json_is_number(value))
        qr_html_value(value, to);
    else if (strcmp(unit, "B") == 0)
        qr_html_bytes(number, to);
    else if (strcmp(unit, "%") == 0)
        fprintf(to, "%.1f %%", 100 * number);
    else {
        qr_html_figure(number, to);
        if (unit[0] != '\0') fprintf(to, " %s", unit);
    }
}

/* Of the first result. What it does not know is left out. */
static void fact_table(const qr_report *report, const char *title, const fact *facts, size_t count, FILE *to)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = qr_json_at(qr_report_first(report), facts[i].path);
        const bool    empty =
            (json_is_object(value) || json_is_array(value)) && json_array_size(value) + json_object_size(value) == 0;
        if (value == NULL || json_is_null(value) || empty) continue;
        if (!any) fprintf(to, "<div><h3>%s</h3><div class=\"scroll\"><table><tbody>\n", title);
        any = true;
        fputs("<tr>", to);
        qr_html_row_label(facts[i].name, to);
        fputs("<td class=\"text\">", to);
        fact_value(value, facts[i].unit, to);
        fputs("</td></tr>\n", to);
    }
    if (!any) return;
    qr_html_close_table(to);
    fputs("</div>\n", to);
}

void qr_report_machine(const qr_report *report, FILE *to)
{
#define TABLE(title, facts) fact_table(report, title, facts, sizeof(facts) / sizeof *(facts), to)
    fputs("<div class=\"facts\">\n", to);
    TABLE("Machine", machine);
    fputs("<div>", to);
    TABLE("Model", model);
    TABLE("Build", build);
    fputs("</div><div>", to);
    TABLE("Engine", engine);
    TABLE("Disclosure", disclosure);
    fputs("</div></div>\n", to);
#undef TABLE
}

/* ---- the node map ---- */

/* Is `cpu` in the kernel's list, "0-3,8"? */
static bool lists(const char *list, long cpu)
{
    while (*list != '\0') {
        char      *end;
        const long first = strtol(list, &end, 10);
        if (end == list) return false;
        const long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        if (cpu >= first && cpu <= last) return true;
        list = *end == ',' ? end + 1 : end;
        if (*end != ',') break;
    }
    return false;
}

/* "thread 0  CPU 0", and how much of the steps it worked where that was recorded. */
static void thread_item(const json_t *times, size_t thread, long cpu, FILE *to)
{
    const json_t *own  = json_array_get(times, thread);
    const double  busy = qr_json_number_at(own, "busy_s"), wait = qr_json_number_at(own, "barrier_s");
    fprintf(to, "<li><span>thread %zu <small>CPU %ld</small></span>", thread, cpu);
    if (busy + wait > 0) {
        const double share = 100 * busy / (busy + wait);
        fprintf(to, "<span class=\"bar\"><i style=\"width:%.1f%%\"></i></span><span>%.1f %% busy</span>", share, share);
    }
    fputs("</li>\n", to);
}

static void node(const qr_report *report, const json_t *facts, FILE *to)
{
    const json_t *cpus  = qr_json_at(qr_report_first(report), "engine/cpus"), *cpu;
    const json_t *times = json_object_get(qr_report_first_run(report), "threads");
    const char   *list  = qr_json_text_at(facts, "cpus");
    size_t        thread;
    fprintf(to, "<div class=\"node\"><h4>Node %.0f</h4><p>CPUs ", qr_json_number_at(facts, "node"));
    qr_html_text(list, to);
    if (isfinite(qr_json_number_at(facts, "memory_bytes"))) {
        fputs(", ", to);
        qr_html_bytes(qr_json_number_at(facts, "memory_bytes"), to);
    }
    fputs("</p><ul>\n", to);
    json_array_foreach(cpus, thread, cpu)
    {
        const long number = (long)json_integer_value(cpu);
        if (lists(list, number)) thread_item(times, thread, number, to);
    }
    fputs("</ul></div>\n", to);
}

void qr_report_nodes(const qr_report *report, FILE *to)
{
    const json_t *nodes = qr_json_at(qr_report_first(report), "context/nodes"), *facts;
    size_t        index;
    if (json_array_size(nodes) == 0 || qr_json_at(qr_report_first(report), "engine/cpus") == NULL) return;
    fputs("<h3>Where the threads are</h3><div class=\"nodes\">\n", to);
    json_array_foreach(nodes, index, facts) node(report, facts, to);
    fputs("</div>\n", to);
    if (json_array_size(json_object_get(qr_report_first_run(report), "threads")) > 0)
        fputs("<p class=\"note\">Busy: of the time in the stages of steps, not waiting at a barrier.</p>\n", to);
}

/* ---- configuration ---- */

static void configuration_rows(const json_t *result, bool all, FILE *to)
{
    static const char *const heads[] = {"Key", "|Value", "|From"};
    const json_t            *origins = json_object_get(result, "config_origin");
    const char              *key;
    json_t                  *value;
    qr_html_open_table(heads, sizeof heads / sizeof *heads, to);
    json_object_foreach(json_object_get(result, "config"), key, value)
    {
        const char *origin = json_string_value(json_object_get(origins, key));
        if ((origin == NULL) != all) continue;
        fputs("<tr>", to);
        qr_html_row_label(key, to);
        fputs("<td class=\"text\">", to);
        qr_html_value(value, to);
        fputs("</td>", to);
        qr_html_text_cell(origin ? origin : "built-in", to);
        fputs("</tr>\n", to);
    }
    qr_html_close_table(to);
}

void qr_report_configuration(const qr_report *report, FILE *to)
{
    const json_t *result = qr_report_first(report);
    if (qr_report_count(report) > 1) {
        fputs("<p>Of ", to);
        qr_html_text(qr_json_text_at(result, "shown_as"), to);
        fputs(".</p>\n", to);
    }
    configuration_rows(result, false, to);
    fputs("<details><summary>Keys at their defaults</summary>\n", to);
    configuration_rows(result, true, to);
    fputs("</details>\n", to);
}
