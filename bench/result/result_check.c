/* Walks the members of a result that readers rely on. */
#include "bench/result/result_check.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define SCHEMA_FAMILY "quire.result/"
#define SCHEMA SCHEMA_FAMILY "1"

typedef struct member { /* where we are, for messages: "runs[0].latency.ttft" */
    const char  *place, *path;
    quire_error *error;
} member;

static const char *kind_of(const json_t *value)
{
    if (value == NULL) return "missing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_NULL: return "null";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    default: return "true or false";
    }
}

static quire_status wrong(const member *m, const char *name, const json_t *value, const char *expected)
{
    return qr_fail(m->error, QUIRE_ERR_FORMAT, "%.100s: %s%s%.40s is %s, expected %s", m->place, m->path,
                   name[0] ? "." : "", name, kind_of(value), expected);
}

static quire_status check_number(const member *m, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return value == NULL || json_is_null(value) || json_is_number(value) ? QUIRE_OK
                                                                         : wrong(m, name, value, "a number or null");
}

static quire_status check_numbers(const member *m, const json_t *object)
{
    const char *name;
    json_t     *value;
    json_object_foreach((json_t *)object, name, value) QR_TRY(check_number(m, object, name));
    return QUIRE_OK;
}

static quire_status check_distribution(const member *m, const json_t *summary)
{
    static const char *const numbers[] = {"n", "mean", "stdev", "min", "max"};
    const json_t            *p         = json_object_get(summary, "p");
    char                     path[160];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) QR_TRY(check_number(m, summary, numbers[i]));
    if (p != NULL && !json_is_object(p)) return wrong(m, "p", p, "an object");
    snprintf(path, sizeof path, "%s.p", m->path);
    return check_numbers(&(member){m->place, path, m->error}, p);
}

static quire_status check_rate(const member *m, const json_t *rate) { return check_number(m, rate, "value"); }

/* Every member of a group is an object of one shape. */
static quire_status check_group(const member *run, const json_t *in, const char *group, bool required,
                                quire_status (*check)(const member *m, const json_t *value))
{
    const json_t *object = json_object_get(in, group);
    const char   *name;
    json_t       *value;
    char          path[128];
    if (object == NULL && !required) return QUIRE_OK;
    if (!json_is_object(object)) return wrong(run, group, object, "an object");
    json_object_foreach((json_t *)object, name, value)
    {
        snprintf(path, sizeof path, "%s.%s.%.40s", run->path, group, name);
        const member m = {run->place, path, run->error};
        if (!json_is_object(value)) return wrong(&m, "", value, "an object");
        QR_TRY(check(&m, value));
    }
    return QUIRE_OK;
}

static quire_status check_run(const member *m, const json_t *run)
{
    if (!json_is_object(run)) return wrong(m, "", run, "an object");
    QR_TRY(check_group(m, run, "latency", true, check_distribution));
    QR_TRY(check_group(m, run, "throughput", false, check_rate));
    return check_number(m, json_object_get(run, "slo"), "attainment");
}

static quire_status check_schema(const json_t *result, const char *place, quire_error *error)
{
    const char *schema = json_string_value(json_object_get(result, "schema"));
    if (schema == NULL || strncmp(schema, SCHEMA_FAMILY, strlen(SCHEMA_FAMILY)) != 0)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: not a result of quire: \"schema\" is not \"" SCHEMA "\"", place);
    if (strcmp(schema, SCHEMA) == 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: schema %.40s is not one that this version reads (" SCHEMA ")", place,
                   schema);
}

quire_status qr_result_check(const json_t *result, const char *place, quire_error *error)
{
    const json_t *runs = json_object_get(result, "runs"), *run;
    size_t        index;
    QR_TRY(check_schema(result, place, error));
    if (json_array_size(runs) == 0) return qr_fail(error, QUIRE_ERR_FORMAT, "%s: \"runs\" holds no run", place);
    json_array_foreach(runs, index, run)
    {
        char path[32];
        snprintf(path, sizeof path, "runs[%zu]", index);
        QR_TRY(check_run(&(member){place, path, error}, run));
    }
    return QUIRE_OK;
}
