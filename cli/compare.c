/* quire compare: two results, or two configurations measured in turn; ratios with intervals, and a gate. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/result/compare.h"
#include "bench/result/result_json.h"
#include "bench/turns.h"
#include "cli/command.h"
#include "cli/dry_run.h"
#include "cli/inputs.h"
#include "cli/interrupt.h"
#include "cli/output.h"

enum { OPTION_RUN = 0x3001, OPTION_METRIC, OPTION_MAX_REGRESSION, OPTION_STRICT, MAX_METRICS = 16 };

typedef struct settings {
    qr_arguments common;
    const char  *sides[2];
    const char  *metrics[MAX_METRICS];
    unsigned     side_count, metric_count;
    const char  *output;
    double       max_regression; /* a share; NAN: no gate */
    bool         run, strict;
} settings;

/* ---- two configurations, measured here ---- */

static bool report_end(void *context, size_t index, quire_status status, const quire_error *error)
{
    int *const failed = context;
    (void)index;
    if (status != QUIRE_OK) *failed = qr_report_error(error);
    return status == QUIRE_OK;
}

static int measure(settings *s, quire_config *const configs[2], json_t *sides[2])
{
    const quire_logger logger     = qr_logger_of(configs[0]);
    volatile int      *interrupt  = qr_interrupt_install();
    int                status     = QR_EXIT_OK;
    qr_result         *results[2] = {NULL};
    qr_warn_of_machine(configs[0]);
    for (int i = 0; i < 2; i++)
        if ((results[i] = qr_arguments_result(&s->common, configs[i])) == NULL) status = QR_EXIT_FAILED;
    const qr_turns turns = {.results   = results,
                            .count     = 2,
                            .logger    = &logger,
                            .interrupt = interrupt,
                            .ended     = report_end,
                            .context   = &status};
    if (status == QR_EXIT_OK && !qr_turns_run(&turns) && status == QR_EXIT_OK) status = QR_EXIT_INTERRUPTED;
    for (int i = 0; i < 2; i++) {
        if (status == QR_EXIT_OK) sides[i] = qr_result_json(results[i]);
        qr_result_destroy(results[i]);
    }
    return status;
}

static bool are_inputs_kept(const settings *s, quire_config *const configs[2])
{
    bool kept = true;
    for (int i = 0; i < 2 && s->output != NULL && kept; i++)
        kept = qr_inputs_are_kept("--output", s->output, s->sides[i], configs[i]);
    return kept;
}

/* Both sides see the same flags. */
static int run_both(settings *s, json_t *sides[2])
{
    quire_config *configs[2] = {NULL};
    int           status     = QR_EXIT_USAGE;
    for (int i = 0; i < 2; i++) {
        s->common.config_path = s->sides[i];
        configs[i]            = qr_arguments_load(&s->common);
    }
    if (configs[0] != NULL && configs[1] != NULL && are_inputs_kept(s, configs)) {
        if (quire_config_integer(configs[0], "run.repetitions") != quire_config_integer(configs[1], "run.repetitions"))
            qr_complain("run.repetitions differs: %s and %s must be measured equally often; --repetitions sets both",
                        s->sides[0], s->sides[1]);
        else if (s->common.dry_run)
            status = qr_dry_run((const quire_config *const *)configs, 2, true);
        else
            status = measure(s, configs, sides);
    }
    quire_config_destroy(configs[0]);
    quire_config_destroy(configs[1]);
    return status;
}

static int read_both(const settings *s, json_t *sides[2])
{
    for (int i = 0; i < 2; i++) {
        quire_error error;
        if (qr_result_read(s->sides[i], &sides[i], &error) == QUIRE_OK) continue;
        qr_complain("%s", error.message);
        return QR_EXIT_USAGE;
    }
    return QR_EXIT_OK;
}

/* ---- the gate ---- */

static bool is_comparable(const settings *s, const qr_comparison *c, int *status_out)
{
    const qr_difference *machine = qr_compare_machine(c);
    *status_out                  = QR_EXIT_USAGE;
    if (machine != NULL)
        qr_complain("no gate across machines: %s is %s in A and %s in B", machine->name, machine->a, machine->b);
    if (machine != NULL) return false;
    const bool simulated[2] = {qr_compare_is_simulated(c, 0), qr_compare_is_simulated(c, 1)};
    if (simulated[0] != simulated[1])
        qr_complain("no gate between a simulated and a measured result: %s is on the virtual clock",
                    s->sides[simulated[0] ? 0 : 1]);
    if (simulated[0] != simulated[1]) return false;
    *status_out = QR_EXIT_INVALID;
    for (int side = 0; side < 2; side++)
        if (qr_compare_is_invalid(c, side)) qr_complain("no gate on an INVALID result: %s", s->sides[side]);
    return !qr_compare_is_invalid(c, 0) && !qr_compare_is_invalid(c, 1);
}

/* "-3.10 % (-4.00 .. -2.20)" */
static void print_regression(const qr_compared *m, const qr_interval *r, FILE *to)
{
    if (isinf(r->value)) {
        fputs("regression undefined: A is 0", to);
        return;
    }
    fprintf(to, "regression %.2f %%", 100 * r->value);
    if (qr_compare_is_loss(m))
        fputs(" (B is 0)", to);
    else if (isnan(r->low) || isnan(r->high))
        fputs(" (no interval)", to);
    else
        fprintf(to, " (%.2f .. %.2f)", 100 * r->low, 100 * r->high);
}

static int gate_one(const settings *s, const qr_comparison *c, const char *name, FILE *to)
{
    const qr_compared *m = qr_compare_find(c, name);
    if (m == NULL) {
        qr_complain("--metric %s: not measured on both sides, or 0 on both; the table lists the metrics", name);
        return QR_EXIT_USAGE;
    }
    if (m->verdict == QR_VERDICT_NONE) {
        qr_complain("no gate on one pair of runs: measure both sides with --repetitions 2 or more");
        return QR_EXIT_USAGE;
    }
    const qr_interval r       = qr_compare_regression(m);
    const bool        is_gain = isinf(r.value) && m->verdict == QR_VERDICT_BETTER;
    const bool        beyond  = qr_compare_is_loss(m) ? s->max_regression < 1 : r.low > s->max_regression;
    const bool        within  = qr_compare_is_loss(m) ? !beyond : is_gain || r.high <= s->max_regression;
    fprintf(to, "%s %s: ", beyond ? "FAILED" : within ? "passed" : "unclear", name);
    print_regression(m, &r, to);
    fprintf(to, ", limit %.2f %%\n", 100 * s->max_regression);
    return beyond || (s->strict && !within) ? QR_EXIT_MISSED : QR_EXIT_OK;
}

static int gate(const settings *s, const qr_comparison *c, FILE *to)
{
    int status = QR_EXIT_OK;
    if (isnan(s->max_regression)) return QR_EXIT_OK;
    if (!is_comparable(s, c, &status)) return status;
    status = QR_EXIT_OK;
    fputc('\n', to);
    for (unsigned i = 0; i < s->metric_count; i++) {
        const int one = gate_one(s, c, s->metrics[i], to);
        if (status == QR_EXIT_OK || one == QR_EXIT_USAGE) status = one;
    }
    return status;
}

/* ---- output ---- */

static bool write_json(const void *comparison, FILE *to)
{
    json_t    *json = qr_compare_json(comparison);
    const bool ok   = json != NULL && json_dumpf(json, to, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    json_decref(json);
    return ok && fputc('\n', to) != EOF;
}

static int compare(const settings *s, json_t *sides[2])
{
    qr_comparison *c = calloc(1, sizeof *c);
    if (c == NULL) return QR_EXIT_FAILED;
    FILE *to = qr_output_is_stdout(s->output) ? stderr : qr_stdout;
    qr_compare(sides[0], sides[1], c);
    qr_compare_table(c, to);
    int status = gate(s, c, to);
    if (s->output != NULL && !qr_output_write(s->output, write_json, c)) status = QR_EXIT_FAILED;
    if (fflush(to) != 0) status = QR_EXIT_FAILED;
    free(c);
    return status;
}

/* ---- options ---- */

static double share(struct argp_state *state, const char *text)
{
    char        *end;
    const double value = strtod(text, &end);
    if (end == text || !(value >= 0) || value > 1e6 || (*end != '\0' && strcmp(end, "%") != 0))
        argp_error(state, "--max-regression %s: expected a share of at least 0, like 3%% or 0.03", text);
    if (*end == '\0' && value > 1)
        argp_error(state, "--max-regression %s: a share above 1 needs a %% sign: %s%% or %g%%?", text, text,
                   100 * value);
    return *end == '%' ? value / 100 : value;
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &s->common; return 0;
    case OPTION_RUN: s->run = true; return 0;
    case OPTION_STRICT: s->strict = true; return 0;
    case OPTION_MAX_REGRESSION: s->max_regression = share(state, value); return 0;
    case OPTION_METRIC:
        if (s->metric_count == MAX_METRICS) argp_error(state, "--metric: more than %d", MAX_METRICS);
        s->metrics[s->metric_count++] = value;
        return 0;
    case 'o': s->output = value; return 0;
    case ARGP_KEY_ARG:
        if (s->side_count == 2) argp_error(state, "%s: more than two sides", value);
        s->sides[s->side_count++] = value;
        return 0;
    case ARGP_KEY_END:
        if (s->side_count != 2) argp_error(state, "expected two sides, A and B");
        for (unsigned i = 0; i < s->side_count && s->output != NULL; i++)
            if (qr_output_is_same(s->output, s->sides[i]))
                argp_error(state, "--output %s would overwrite side %c", s->output, 'A' + (int)i);
        if (!s->run && s->common.dry_run) argp_error(state, "--dry-run: needs --run");
        if (!s->run && s->common.assignment_count > 0)
            argp_error(state, "%s: changes a run, and needs --run", s->common.assignments[0].origin);
        if ((s->metric_count > 0 || s->strict) && isnan(s->max_regression))
            argp_error(state, "--metric and --strict need --max-regression");
        if (s->metric_count == 0) s->metrics[s->metric_count++] = "output_tokens";
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"run", OPTION_RUN, NULL, 0, "A and B are configurations: measure both here, in turn (ABBA)", 1},
    {"metric", OPTION_METRIC, "NAME", 0, "metric to gate on (default output_tokens). Repeatable", 1},
    {"max-regression", OPTION_MAX_REGRESSION, "SHARE", 0,
     "e.g. 3%: exit status 3 when the whole interval of a metric is worse than that", 1},
    {"strict", OPTION_STRICT, NULL, 0, "also fail when the interval contains the limit, so that it is unclear", 1},
    {"output", 'o', "FILE", 0, "also write the comparison as JSON; - = stdout, the table goes to stderr", 1},
    {0},
};

int qr_command_compare(int argc, char **argv)
{
    static const struct argp_child children[] = {{&qr_workload_argp, 0, "With --run, for both sides", 2}, {0}};
    static const struct argp       argp       = {
                    .options  = options,
                    .parser   = parse,
                    .children = children,
                    .args_doc = "A.json B.json\n--run A.toml B.toml",
                    .doc      = "Compare two results: the ratio B / A of every metric, with its interval.\v"
                                            "Repetitions are paired by their number. better and worse: the interval leaves out 1; same: it lies "
                                            "within 1 %; else unclear. none: a side is INVALID, or there is one pair, and no gate either. Results "
                                            "of different machines, or a simulated and a measured one, are compared, but not gated.\n\n"
                                            "  quire compare before.json after.json --metric output_tokens --max-regression 3%\n"
                                            "  quire compare --run a.toml b.toml --repetitions 8\n\n"
                                            "Exit status: 0 done, 1 a run or a file failed, 2 usage, or what is not gated, 130 interrupted; with "
                                            "--max-regression also 3 a regression, 4 a side is INVALID.",
    };
    settings s = {.max_regression = NAN};
    qr_parse(&argp, argc, argv, &s);
    json_t *sides[2] = {NULL, NULL};
    int     status   = QR_EXIT_USAGE;
    if (s.output == NULL || qr_output_is_possible("--output", s.output))
        status = s.run ? run_both(&s, sides) : read_both(&s, sides);
    if (status == QR_EXIT_OK && sides[1] != NULL) status = compare(&s, sides);
    json_decref(sides[0]);
    json_decref(sides[1]);
    qr_arguments_deinit(&s.common);
    return status;
}
