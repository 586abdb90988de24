/* The report that people read: table.txt filled with the result, most important first, at most 100 columns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/json_text.h"
#include "bench/report/html.h"
#include "bench/report/result_file.h"
#include "bench/report/template.h"
#include "bench/result/attribution.h"
#include "bench/result/result_json.h"
#include "bench/result/roofline.h"

extern const unsigned char qr_table_text[]; /* table.txt: made by cmake/embed.cmake */
extern const size_t        qr_table_text_size;

enum { COLUMNS = 100, INDENT = 4, MOST_PERCENTILES = 5 };

/* ---- what the result does not say itself ---- */

/* output.color; "auto" is on a terminal, where NO_COLOR (no-color.org) is not set. */
static bool is_coloured(const qr_result *result, bool on_terminal)
{
    const char *mode = quire_config_string(result->config, "output.color");
    if (strcmp(mode, "auto") != 0) return strcmp(mode, "always") == 0;
    const char *no_color = getenv("NO_COLOR");
    return on_terminal && (no_color == NULL || no_color[0] == '\0');
}

/* The columns of percentiles get their heads: "P50". */
static void name_percentiles(const json_t *run)
{
    const char *latency, *name;
    json_t     *summary, *value;
    json_object_foreach(json_object_get(run, "latency"), latency, summary)
    {
        json_t *named = json_object();
        char    head[32];
        json_object_foreach(json_object_get(summary, "p"), name,
                            value) if (json_object_size(named) < MOST_PERCENTILES &&
                                       snprintf(head, sizeof head, "P%s", name) > 0)
            json_object_set(named, head, value);
        json_object_del(summary, "p");
        json_object_set_new(summary, "p", named);
    }
}

/* A single run has no interval over the repetitions: its own stands there. */
static void use_intervals_of(const json_t *run, json_t *aggregate)
{
    const char *name;
    json_t     *throughput, *interval;
    json_object_foreach(json_object_get(aggregate, "throughput"), name, throughput)
    {
        interval = json_object_get(json_object_get(json_object_get(run, "throughput"), name), "ci95");
        if (!json_is_object(throughput) || interval == NULL) continue;
        json_object_del(throughput, "ci95");
        json_object_set(throughput, "ci95", interval);
    }
}

static void in_percent_of(const json_t *times, double whole)
{
    const char *name;
    json_t     *value;
    json_object_foreach((json_t *)times, name, value)
        json_real_set(value, whole > 0 ? 100 * json_number_value(value) / whole : 0);
}

/* A fraction above 1 says that the machine was not measured at its best. */
static bool any_above_one(const qr_roofline_fraction *f)
{
    bool any = f->fraction > 1;
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++) any |= f->phases[i].fraction > 1;
    for (int i = 0; i < QR_ROOFLINE_CLASSES; i++) any |= f->by_rows[i].fraction > 1;
    return any;
}

static json_t *roofline(const qr_result *result)
{
    qr_roofline_fraction f;
    qr_roofline          roof;
    json_t              *to = qr_roofline_json(result, 0);
    if (!qr_roofline_of(result, &roof) || !qr_roofline_fraction_of(result, 0, &f)) return to;
    json_object_set_new(to, "step_mib", qr_json_number(f.step_bytes / (1 << 20)));
    json_object_set_new(to, "is_cached", json_boolean(2 * f.cached_steps > f.steps));
    json_object_set_new(to, "weight_gflops", qr_json_number(roof.weight_gflops));
    json_object_set_new(to, "is_exceeded", json_boolean(any_above_one(&f)));
    if (qr_limits_spread(result) > QR_LIMITS_AGREE)
        json_object_set_new(to, "spread", json_real(qr_limits_spread(result)));
    return to;
}

/* Where most of the time of the middle and of the highest percentile with its samples went. */
static json_t *main_causes(const qr_result *result, qr_latency latency, const qr_summary *s)
{
    const qr_metrics *m       = &result->runs[0];
    json_t           *to      = json_array();
    double            highest = 0;
    for (size_t i = 0; i < m->percentile_count; i++)
        if (!isnan(s->p[i])) highest = fmax(highest, m->percentiles[i]);
    for (size_t i = 0; i < m->percentile_count; i++) {
        qr_band band;
        double  share;
        if (isnan(s->p[i]) || (m->percentiles[i] < highest && m->percentiles[i] != 50)) continue;
        if (!qr_band_of(&result->records[0], latency, m->percentiles[i], &band)) continue;
        const qr_cause cause = qr_band_main_cause(&band, &share);
        json_array_append_new(to, json_pack("{s:o, s:s, s:f}", "percentile", json_sprintf("P%g", m->percentiles[i]),
                                            "cause", qr_cause_text(cause), "share", share));
    }
    return to;
}

static json_t *causes(const qr_result *result)
{
    json_t *to = json_array(), *ttft, *itl;
    if (result->is_virtual || result->is_remote) return to; /* stages are not simulated, nor told */
    ttft = main_causes(result, QR_LATENCY_TTFT, &result->runs[0].ttft);
    itl  = main_causes(result, QR_LATENCY_ITL, &result->runs[0].itl);
    if (json_array_size(ttft) > 0) json_array_append_new(to, json_pack("{s:s, s:O}", "latency", "TTFT", "bands", ttft));
    if (json_array_size(itl) > 0) json_array_append_new(to, json_pack("{s:s, s:O}", "latency", "ITL", "bands", itl));
    json_decref(ttft);
    json_decref(itl);
    return to;
}

/* Those of the warm-up that had not ended with it; with those due in the window they are all that the other counts
 * have. */
static double carried_over(const qr_metrics *m)
{
    return (double)m->requests.completed + m->requests.failed + m->requests.refused + m->requests.cancelled +
           m->requests.truncated - m->requests.due;
}

static json_t *document(const qr_result *result, bool coloured)
{
    json_t *root = qr_result_json(result), *run = json_array_get(json_object_get(root, "runs"), 0);
    if (run == NULL) return root;
    name_percentiles(run);
    if (result->run_count == 1) use_intervals_of(run, json_object_get(root, "aggregate"));
    in_percent_of(qr_json_at(run, "steps/time_s"), result->runs[0].length_s);
    in_percent_of(qr_json_at(run, "steps/stage_s"), result->runs[0].steps.busy_s);
    json_t *more =
        json_pack("{s:O, s:i, s:b, s:o, s:o, s:f, s:s, s:s, s:s}", "run", run, "run_count", (int)result->run_count,
                  "has_encoder", result->model.encoder_layers > 0, "roofline", roofline(result), "causes",
                  causes(result), "carried_over", carried_over(&result->runs[0]), "good", coloured ? "\033[1;32m" : "",
                  "bad", coloured ? "\033[1;31m" : "", "plain", coloured ? "\033[0m" : "");
    json_object_update(root, more);
    json_decref(more);
    return root;
}

/* ---- the text ---- */

/* A line of text, broken at spaces where it would be longer than COLUMNS; what follows is indented. */
static void write_line(const char *at, size_t length, FILE *to)
{
    for (size_t room = COLUMNS; length > room; room = COLUMNS - INDENT) {
        size_t cut = room;
        while (cut > 0 && at[cut] != ' ') cut--;
        if (cut == 0) break; /* one long word */
        fprintf(to, "%.*s\n%*s", (int)cut, at, INDENT, "");
        at += cut + 1;
        length -= cut + 1;
    }
    fprintf(to, "%.*s\n", (int)length, at);
}

void qr_result_table(const qr_result *result, bool on_terminal, FILE *to)
{
    char   *text = NULL;
    size_t  size = 0;
    json_t *root = document(result, is_coloured(result, on_terminal));
    FILE   *all  = root != NULL ? open_memstream(&text, &size) : NULL;
    if (all != NULL) {
        qr_template_fill((const char *)qr_table_text, qr_table_text_size, root, qr_text_value, all);
        fclose(all);
    }
    for (size_t at = 0, length; at < size; at += length + 1)
        write_line(text + at, length = strcspn(text + at, "\n"), to);
    free(text);
    json_decref(root);
}
