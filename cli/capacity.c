/* quire sweep --capacity: the highest request rate that meets [slo], by probes of the real engine. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/printable.h"
#include "bench/capacity.h"
#include "bench/result/result_json.h"
#include "bench/session.h"
#include "bench/workload/workload.h"
#include "cli/sweep.h"

enum { MIN_SPAN_NS = 2000000000 };

typedef struct search {
    const qr_sweep *sweep;
    const qr_point *point;
    qr_slo          slo;
    double          target, confidence;
    quire_logger    logger;
    qr_session     *session;
    uint32_t        probes;
    qr_probe        last;   /* that ended */
    int             status; /* exit status of a probe that failed */
} search;

/* ---- what a search needs ---- */

static bool is_searchable(const qr_sweep *sweep, const quire_config *config)
{
    const char  *profile = quire_config_string(config, "load.profile");
    const double target  = quire_config_number(config, "slo.min_attainment");
    qr_slo       slo;
    qr_slo_read(config, &slo);
    for (size_t a = 0; a < sweep->axis_count; a++)
        if (strcmp(sweep->axes[a], "load.request_rate") == 0)
            return qr_complain("--capacity searches load.request_rate itself; remove it from [sweep]"), false;
    if (!qr_profile_is_rated(profile))
        return qr_complain("%s: load.profile: \"%s\" has no request rate; --capacity needs one of %s",
                           quire_config_origin(config, "load.profile"), profile, qr_rated_profiles),
               false;
    const int64_t duration_ns = quire_config_integer(config, "run.duration");
    if (duration_ns > 0 && duration_ns < MIN_SPAN_NS)
        return qr_complain("%s: run.duration: --capacity needs a duration of at least 2 s",
                           quire_config_origin(config, "run.duration")),
               false;
    if (!qr_slo_is_given(&slo))
        return qr_complain("--capacity needs limits: [slo], or --goodput ttft:2000,tpot:100"), false;
    if (!(target > 0 && target < 1))
        return qr_complain("%s: slo.min_attainment: %g; --capacity needs a share between 0 and 1, e.g. 0.9",
                           quire_config_origin(config, "slo.min_attainment"), target),
               false;
    return true;
}

bool qr_sweep_is_searchable(const qr_sweep *sweep)
{
    for (size_t i = 0; i < sweep->point_count; i++)
        if (!is_searchable(sweep, sweep->points[i].config)) return false;
    return true;
}

/* Both ends of the range, then halves of its logarithm, and one of full length for a rate that passed early. */
void qr_sweep_plan_capacity(const qr_sweep *sweep)
{
    for (size_t i = 0; i < sweep->point_count; i++) {
        const quire_config *config    = sweep->points[i].config;
        const double        low       = quire_config_number(config, "capacity.min_rate");
        const double        high      = quire_config_number(config, "capacity.max_rate");
        const double        precision = quire_config_number(config, "capacity.precision");
        const double        asked     = (double)quire_config_integer(config, "run.duration") * 1e-9;
        const double        halvings  = high > low ? ceil(log2(fmax(1, log(high / low) / log1p(precision)))) : 0;
        fprintf(qr_stdout, "capacity   %g to %g requests/s: about %.0f probes of at most %g s each\n", low, high,
                halvings + 3, asked > 0 ? asked : 60);
    }
}

/* ---- a probe ---- */

/* Behind the point's own values: the rate, one repetition, and where nothing is said a minute after five seconds of
 * warm-up. */
static quire_config *configure(const search *s, double rate)
{
    char  *more[QR_MAX_AXES + 6];
    char   text[64];
    size_t count = 0;
    for (; count < s->sweep->axis_count; count++) more[count] = s->point->assignments[count];
    snprintf(text, sizeof text, "load.request_rate=%.6g", rate);
    more[count++] = text;
    more[count++] = "run.repetitions=1";
    more[count++] = "workload.num_prompts=0";
    if (quire_config_integer(s->point->config, "run.duration") == 0) more[count++] = "run.duration=60s";
    if (strcmp(quire_config_origin(s->point->config, "run.warmup.mode"), "built-in") == 0)
        more[count++] = "run.warmup={mode=\"duration\",min=\"5s\"}";
    return qr_arguments_load_with(s->sweep->arguments, "--capacity", more, count);
}

static quire_status play(search *s, const quire_config *config, const qr_run_stop *stop, qr_result *result,
                         quire_error *error)
{
    qr_session_begin(config, result);
    if (s->session != NULL)
        qr_session_cool(s->session, config, s->sweep->interrupt);
    else
        QR_TRY(qr_session_open(config, &s->logger, NULL, &s->session, error));
    const quire_status status = qr_session_repeat(s->session, s->sweep->interrupt, stop, result, error);
    qr_session_end(result);
    return status;
}

static bool write_probe(const search *s, const qr_result *result, const qr_probe *probe)
{
    json_t *place = json_pack("{s:o, s:{s:f, s:b, s:b, s:I, s:I}}", "axes", qr_point_axes(s->sweep, s->point), "probe",
                              "rate", probe->rate, "passed", probe->passed, "early", probe->early, "met",
                              (json_int_t)probe->met, "missed", (json_int_t)probe->missed);
    return qr_sweep_write(s->sweep, qr_sweep_line(result, place));
}

static void say_probe(const search *s, const qr_probe *p)
{
    fprintf(stderr, "quire: probe %u: %.4g requests/s %s: %llu of %llu met, %.1f s%s\n", s->probes, p->rate,
            p->passed ? "passes" : "fails", (unsigned long long)p->met, (unsigned long long)(p->met + p->missed),
            p->seconds, p->early ? ", ended early" : "");
}

static bool run_probe(search *s, const quire_config *config, bool may_pass_early, qr_probe *probe, qr_result *result)
{
    quire_error       error = {0};
    qr_slo_watch      watch = {.slo            = s->slo,
                               .test           = {.target = s->target, .confidence = s->confidence},
                               .may_pass_early = may_pass_early,
                               .min_span_ns    = MIN_SPAN_NS};
    const qr_run_stop stop  = {qr_slo_watch_decides, &watch};
    if (play(s, config, &stop, result, &error) != QUIRE_OK) {
        s->status = qr_report_error(&error);
        return false;
    }
    const qr_run *run = &result->records[0];
    if (*s->sweep->interrupt == QR_INTERRUPT_ASKED) return false;
    probe->passed  = qr_slo_watch_passes(&watch, run);
    probe->early   = run->stopped;
    probe->met     = watch.test.met;
    probe->missed  = watch.test.missed;
    probe->seconds = (double)run->end_ns * 1e-9;
    s->probes++;
    s->last = *probe;
    say_probe(s, probe);
    if (write_probe(s, result, probe)) return true;
    s->status = QR_EXIT_FAILED;
    return false;
}

static bool probe_rate(void *context, bool may_pass_early, qr_probe *probe)
{
    search       *s      = context;
    quire_config *config = configure(s, probe->rate);
    qr_result    *result = qr_arguments_result(s->sweep->arguments, config);
    bool          ok     = config != NULL && result != NULL;
    if (!ok) s->status = QR_EXIT_FAILED;
    if (ok) ok = run_probe(s, config, may_pass_early, probe, result);
    qr_result_destroy(result);
    quire_config_destroy(config);
    return ok;
}

/* ---- the answer ---- */

static json_t *bound(double rate) { return isfinite(rate) ? json_real(rate) : json_null(); }

static bool publish(const search *s, const qr_capacity *c)
{
    for (size_t a = 0; a < s->sweep->axis_count; a++)
        fprintf(qr_stdout, "%s%s", a ? ", " : "", s->point->assignments[a]);
    if (s->sweep->axis_count > 0) fprintf(qr_stdout, ": ");
    if (c->outcome == QR_CAPACITY_BELOW_MIN)
        fprintf(qr_stdout, "capacity below %.4g requests/s (capacity.min_rate)", c->high);
    else if (c->outcome == QR_CAPACITY_ABOVE_MAX)
        fprintf(qr_stdout, "capacity at least %.4g requests/s (capacity.max_rate)", c->low);
    else
        fprintf(qr_stdout, "capacity %.4g requests/s, between %.4g and %.4g%s", c->rate, c->low, c->high,
                c->outcome == QR_CAPACITY_STOPPED ? " so far" : "");
    if (c->outcome == QR_CAPACITY_BELOW_MIN) /* the last probe was of min_rate */
        fprintf(qr_stdout, ": %llu of %llu met, %g %% are needed", (unsigned long long)s->last.met,
                (unsigned long long)(s->last.met + s->last.missed), 100 * s->target);
    else
        fprintf(qr_stdout, ": %g %% meet the SLOs", 100 * s->target);
    fprintf(qr_stdout, "; %u probe%s, %llu request%s, %.0f s\n", c->probes, qr_plural(c->probes),
            (unsigned long long)c->requests, qr_plural(c->requests), c->seconds);
    return qr_sweep_write(s->sweep, json_pack("{s:s, s:s, s:o, s:f, s:f, s:o, s:f, s:f, s:I, s:I, s:f}", "schema",
                                              "quire.capacity/1", "outcome", qr_capacity_outcome_name(c->outcome),
                                              "axes", qr_point_axes(s->sweep, s->point), "rate", c->rate, "low", c->low,
                                              "high", bound(c->high), "min_attainment", s->target, "confidence",
                                              s->confidence, "probes", (json_int_t)c->probes, "requests",
                                              (json_int_t)c->requests, "seconds", c->seconds)) &&
           fflush(qr_stdout) == 0;
}

static int search_point(const qr_sweep *sweep, const qr_point *point)
{
    const quire_config      *config = point->config;
    search                   s      = {.sweep      = sweep,
                                       .point      = point,
                                       .target     = quire_config_number(config, "slo.min_attainment"),
                                       .confidence = quire_config_number(config, "capacity.confidence"),
                                       .logger     = qr_logger_of(config)};
    const qr_capacity_search how    = {.min_rate  = quire_config_number(config, "capacity.min_rate"),
                                       .max_rate  = quire_config_number(config, "capacity.max_rate"),
                                       .precision = quire_config_number(config, "capacity.precision"),
                                       .probe     = probe_rate,
                                       .context   = &s};
    qr_capacity              found;
    qr_slo_read(config, &s.slo);
    qr_capacity_find(&how, &found);
    qr_session_close(s.session);
    if (!publish(&s, &found)) return QR_EXIT_FAILED;
    if (s.status != QR_EXIT_OK) return s.status;
    if (*sweep->interrupt == QR_INTERRUPT_ASKED) return QR_EXIT_INTERRUPTED;
    if (found.outcome == QR_CAPACITY_STOPPED) return QR_EXIT_FAILED;
    return found.outcome == QR_CAPACITY_BELOW_MIN ? QR_EXIT_MISSED : QR_EXIT_OK;
}

int qr_sweep_capacity(qr_sweep *sweep)
{
    int status = QR_EXIT_OK;
    for (size_t i = 0; i < sweep->point_count; i++) {
        const int one = search_point(sweep, &sweep->points[i]);
        if (one != QR_EXIT_OK) status = one;
        if (one == QR_EXIT_INTERRUPTED) break;
    }
    return status;
}
