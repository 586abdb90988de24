/* Registers the keys of bench/, and checks what depends on several of them. */
#include "bench/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "bench/common/statistics.h"
#include "bench/report/result_file.h"
#include "bench/result/metrics.h"
#include "bench/result/result_json.h"

/* Words of a list: " | a | b | c", of which the first three bytes are not wanted. */
#define QR_PROFILE(enumerator, name) " | " name
#define QR_RATED_PROFILE(enumerator, name) " | " name
#define QR_SLO_PRESET(name, ttft, tpot) " | " name
static const char profiles[] =
#include "bench/workload/profiles.inc"
    ;
static const char presets[] =
#include "bench/result/slo_presets.inc"
    ;
#undef QR_PROFILE
#undef QR_RATED_PROFILE
#define QR_PROFILE(enumerator, name)
#define QR_RATED_PROFILE(enumerator, name) " " name ","
static const char rate_help[] = "requests per second of the profiles"
#include "bench/workload/profiles.inc"
                                " which have a rate";
#undef QR_PROFILE
#undef QR_RATED_PROFILE
#undef QR_SLO_PRESET

#define PROFILES (profiles + 3)
#define SLO_PRESETS (presets + 3)
#define KEY(name, type, fallback, range, help) {name, type, fallback, range, help},

static const quire_config_key run_keys[] = {
#include "bench/keys.inc"
};
static const quire_config_key output_keys[] = {
#include "bench/output_keys.inc"
};

quire_status qr_bench_config_create(quire_config **config_out, quire_error *error)
{
    QR_TRY(quire_config_create(config_out, error));
    quire_status status =
        quire_config_add_keys(*config_out, QR_RUN_KEYS, run_keys, sizeof run_keys / sizeof *run_keys, error);
    if (status == QUIRE_OK)
        status =
            quire_config_add_keys(*config_out, "output", output_keys, sizeof output_keys / sizeof *output_keys, error);
    if (status == QUIRE_OK) return QUIRE_OK;
    quire_config_destroy(*config_out);
    *config_out = NULL;
    return status;
}

/* ---- distributions ---- */

static const struct distribution {
    const char *dist, *needed, *allowed; /* "|a|b|" */
} distributions[] = {
    {"fixed", "|value|", "|value|min|max|"},
    {"uniform", "|min|max|", "|min|max|"},
    {"normal", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"lognormal", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"gamma", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"zipf", "|s|max|", "|s|min|max|"},
    {"empirical", "|file|column|", "|file|column|min|max|"},
};
static const char *const members[] = {"value", "mean", "stdev", "s", "min", "max", "file", "column"};
enum { MEMBERS = sizeof members / sizeof *members };

static bool lists(const char *list, const char *member)
{
    char quoted[16];
    snprintf(quoted, sizeof quoted, "|%s|", member);
    return strstr(list, quoted) != NULL;
}

static const char *member_of(const char *key, const char *member, char name_out[96])
{
    snprintf(name_out, 96, "%s.%s", key, member);
    return name_out;
}

/* The first member that is set, for the place of an error; NULL: none is. */
static const char *any_member(const quire_config *config, const char *key, char name_out[96])
{
    for (int i = 0; i < MEMBERS; i++)
        if (quire_config_is_set(config, member_of(key, members[i], name_out))) return name_out;
    return NULL;
}

static quire_status check_members(const quire_config *config, const char *key, const struct distribution *d,
                                  quire_error *error)
{
    char name[96], dist[96];
    member_of(key, "dist", dist);
    for (int i = 0; i < MEMBERS; i++) {
        const bool is_set = quire_config_is_set(config, member_of(key, members[i], name));
        if (!is_set && lists(d->needed, members[i]))
            return quire_config_refuse(config, dist, error, "%s needs %s", d->dist, members[i]);
        if (is_set && !lists(d->allowed, members[i]))
            return quire_config_refuse(config, name, error, "%s has no %s", d->dist, members[i]);
    }
    return QUIRE_OK;
}

static quire_status check_order(const quire_config *config, const char *low, const char *high, quire_error *error);

static quire_status check_distribution(const quire_config *config, const char *key, quire_error *error)
{
    char        name[96], min[96], max[96];
    const char *dist = quire_config_string(config, member_of(key, "dist", name));
    if (dist == NULL && any_member(config, key, name) != NULL)
        return quire_config_refuse(config, name, error, "dist is missing (fixed, uniform, normal, ...)");
    for (size_t i = 0; dist != NULL && i < sizeof distributions / sizeof *distributions; i++)
        if (strcmp(dist, distributions[i].dist) == 0) QR_TRY(check_members(config, key, &distributions[i], error));
    return check_order(config, member_of(key, "min", min), member_of(key, "max", max), error);
}

static quire_status check_distributions(const quire_config *config, quire_error *error)
{
    QR_TRY(check_distribution(config, "workload.prompt_tokens", error));
    QR_TRY(check_distribution(config, "workload.output_tokens", error));
    QR_TRY(check_distribution(config, "workload.encoder_tokens", error));
    for (size_t i = 0; i < quire_config_count(config, "workload.mix"); i++) {
        char key[64];
        snprintf(key, sizeof key, "workload.mix[%zu].prompt_tokens", i);
        QR_TRY(check_distribution(config, key, error));
        snprintf(key, sizeof key, "workload.mix[%zu].output_tokens", i);
        QR_TRY(check_distribution(config, key, error));
    }
    return QUIRE_OK;
}

/* ---- pairs of keys ---- */

static bool is_built_in(const quire_config *config, const char *key)
{
    return strcmp(quire_config_origin(config, key), "built-in") == 0;
}

/* "60s" as it was written, or the number. */
static const char *written(const quire_config *config, const char *key, char text_out[32])
{
    const char *text = quire_config_string(config, key);
    snprintf(text_out, 32, "%.10g", quire_config_number(config, key));
    return text != NULL ? text : text_out;
}

/* `low` <= `high`, where both are set; the one that somebody wrote is named. */
static quire_status check_order(const quire_config *config, const char *low, const char *high, quire_error *error)
{
    char       a[32], b[32];
    const bool is_wrong = quire_config_number(config, low) > quire_config_number(config, high);
    if (!is_wrong) return QUIRE_OK;
    const char *least = written(config, low, a), *most = written(config, high, b);
    if (is_built_in(config, low))
        return quire_config_refuse(config, high, error, "%s is below %s = %s", most, low, least);
    return quire_config_refuse(config, low, error, "%s is above %s = %s", least, high, most);
}

static quire_status check_source(const quire_config *config, quire_error *error)
{
    const char *source = quire_config_string(config, "workload.source");
    if (strcmp(source, "file") == 0 && quire_config_string(config, "workload.path") == NULL)
        return quire_config_refuse(config, "workload.source", error, "\"file\" needs workload.path");
    if (strcmp(source, "trace") == 0 && quire_config_string(config, "workload.trace.path") == NULL)
        return quire_config_refuse(config, "workload.source", error, "\"trace\" needs workload.trace.path");
    if (strcmp(source, "random") == 0 && quire_config_integer(config, "workload.num_prompts") == 0 &&
        quire_config_integer(config, "run.duration") == 0)
        return quire_config_refuse(config, "workload.num_prompts", error,
                                   "0 needs run.duration, or the run never ends");
    return check_order(config, "workload.n", "scheduler.max_num_seqs", error);
}

/* A part of a request's time cannot be allowed more than the whole, whether given or a preset's. */
static quire_status check_slo(const quire_config *config, quire_error *error)
{
    qr_slo slo;
    qr_slo_read(config, &slo);
    const struct {
        const char *key;
        double      ms;
    } parts[] = {{"slo.ttft", slo.ttft_ms}, {"slo.tpot", slo.tpot_ms}, {"slo.itl_p99", slo.itl_p99_ms}};
    for (size_t i = 0; slo.e2el_ms > 0 && i < sizeof parts / sizeof *parts; i++)
        if (parts[i].ms > slo.e2el_ms)
            return quire_config_refuse(config, "slo.e2el", error, "%.10g is below %s = %.10g", slo.e2el_ms,
                                       parts[i].key, parts[i].ms);
    if (quire_config_number(config, "slo.min_attainment") > 0 && !qr_slo_is_given(&slo))
        return quire_config_refuse(config, "slo.min_attainment", error, "needs a limit in [slo]");
    return QUIRE_OK;
}

static quire_status check_percentiles(const quire_config *config, quire_error *error)
{
    const size_t count = quire_config_count(config, "output.percentiles");
    if (count == 0) return quire_config_refuse(config, "output.percentiles", error, "is empty; name at least one");
    if (count > QR_MAX_PERCENTILES)
        return quire_config_refuse(config, "output.percentiles", error, "has %zu values; must be 1 to %d", count,
                                   QR_MAX_PERCENTILES);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++) {
            char key[48], other[48];
            snprintf(key, sizeof key, "output.percentiles[%zu]", i);
            snprintf(other, sizeof other, "output.percentiles[%zu]", k);
            if (quire_config_number(config, key) == quire_config_number(config, other))
                return quire_config_refuse(config, key, error, "%.10g appears twice", quire_config_number(config, key));
        }
    return QUIRE_OK;
}

/* ---- a server ---- */

static quire_status check_target(const quire_config *config, quire_error *error)
{
    const int64_t streams     = quire_config_integer(config, "load.streams");
    const int64_t connections = quire_config_integer(config, "run.target_connections");
    if (!quire_config_is_set(config, "run.target")) return QUIRE_OK;
    if (strcmp(quire_config_string(config, "run.clock"), "virtual") == 0)
        return quire_config_refuse(config, "run.target", error, "a server has no virtual clock (run.clock)");
    if (quire_config_integer(config, "run.target_timeout") < 1000000)
        return quire_config_refuse(config, "run.target_timeout", error, "below 1ms");
    if (strcmp(quire_config_string(config, "load.profile"), "concurrent") != 0 || streams <= connections)
        return QUIRE_OK;
    return quire_config_refuse(config, "load.streams", error, "%lld are more than run.target_connections, %lld",
                               (long long)streams, (long long)connections);
}

quire_status qr_bench_config_check(const quire_config *config, quire_error *error)
{
    QR_TRY(check_distributions(config, error));
    QR_TRY(check_source(config, error));
    QR_TRY(check_order(config, "run.warmup.min", "run.warmup.max", error));
    QR_TRY(check_slo(config, error));
    QR_TRY(check_target(config, error));
    return check_percentiles(config, error);
}
