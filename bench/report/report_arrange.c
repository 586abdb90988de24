/* What the results of a report are called, along which axis a sweep lies, and in which order they stand. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_data.h"
#include "bench/workload/workload.h"

static const json_t *axes_of(const json_t *result) { return qr_json_at(result, "sweep/axes"); }
static json_t       *result_at(const qr_report *report, size_t i) { return json_array_get(report->results, i); }

static void replace(json_t *object, const char *name, json_t *value)
{
    json_object_del(object, name);
    json_object_set_new(object, name, value);
}

/* ---- the axis ---- */

static double setting(const json_t *result, const char *key)
{
    char path[128];
    snprintf(path, sizeof path, "config/%s", key);
    return qr_json_number_at(result, path);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* At how many values of the key results were measured. */
static size_t distinct_values(const qr_report *report, const char *key)
{
    double values[QR_REPORT_MAX_RESULTS];
    size_t all = 0, count = 0;
    for (size_t i = 0; i < json_array_size(report->results); i++) {
        const double value = setting(result_at(report, i), key);
        if (isfinite(value)) values[all++] = value;
    }
    qsort(values, all, sizeof *values, by_value);
    for (size_t i = 0; i < all; i++) count += i == 0 || values[i - 1] < values[i];
    return count;
}

/* Of results that were given one by one: the request rate, or the streams. */
static const char *load_key_of(const json_t *result)
{
    const char *profile = qr_json_text_at(result, "disclosure/profile");
    if (strcmp(profile, "throughput") == 0 || strcmp(profile, "replay") == 0) return NULL;
    return strcmp(profile, "concurrent") == 0 ? "load.streams" : "load.request_rate";
}

/* Of the axes of [sweep], a load, else the first whose values are numbers. */
static const char *named_axis(const qr_report *report)
{
    json_t     *axes = (json_t *)axes_of(result_at(report, 0)), *value;
    const char *key, *found = NULL;
    json_object_foreach(axes, key, value)
    {
        if (distinct_values(report, key) > 1 && (found == NULL || (qr_load_key_of(key) && !qr_load_key_of(found))))
            found = key;
    }
    return found;
}

const char *qr_report_axis(const qr_report *report)
{
    bool        all_named = true, all_alike = true;
    const char *key = load_key_of(result_at(report, 0));
    for (size_t i = 0; i < json_array_size(report->results); i++) {
        const char *own = load_key_of(result_at(report, i));
        all_named &= json_object_size(axes_of(result_at(report, i))) > 0;
        all_alike &= key != NULL && own != NULL && strcmp(key, own) == 0;
    }
    if (json_array_size(report->results) < 3) return NULL;
    if (all_named) return named_axis(report);
    return all_alike && distinct_values(report, key) >= 3 ? key : NULL;
}

const char *qr_report_axis_title(const char *axis)
{
    const qr_load_key *load = qr_load_key_of(axis);
    return load != NULL ? load->title : qr_last_word(axis);
}

/* ---- names ---- */

/* "load.streams" 4 as "4 streams"; another key as "max_num_seqs=16". */
static void print_value(const char *key, const json_t *value, FILE *to)
{
    const double       number = json_number_value(value);
    const qr_load_key *load   = json_is_number(value) ? qr_load_key_of(key) : NULL;
    if (load != NULL) {
        fprintf(to, "%g %s", number, number == 1 && strcmp(load->unit, "streams") == 0 ? "stream" : load->unit);
        return;
    }
    fprintf(to, "%s=", qr_last_word(key));
    if (json_is_number(value))
        fprintf(to, "%g", number);
    else if (json_is_string(value))
        fputs(json_string_value(value), to);
    else
        json_dumpf(value, to, JSON_ENCODE_ANY | JSON_COMPACT);
}

/* Names `member` by the values of the axes: all but `without` (NULL: all), or of `only`; behind the file, if any. */
static void name_by(json_t *result, const char *member, const char *file, const char *without, const char *only)
{
    const json_t *values = only ? json_object_get(result, "config") : axes_of(result);
    char         *text   = NULL;
    size_t        size   = 0;
    const char   *key;
    json_t       *value;
    FILE         *to = open_memstream(&text, &size);
    if (to == NULL) return;
    json_object_foreach((json_t *)values, key, value)
    {
        if ((without != NULL && strcmp(key, without) == 0) || (only != NULL && strcmp(key, only) != 0)) continue;
        if (ftell(to) > 0) fputs(", ", to);
        print_value(key, value, to);
    }
    fclose(to);
    if (text[0] != '\0' || strcmp(member, "curve") == 0)
        replace(result, member, json_sprintf("%s%s%s", file, file[0] && text[0] ? ": " : "", text));
    free(text);
}

/* A point of a sweep is called by its values, and by its file where there are several; results that were given one by
 * one keep their names. A probe of a search has no axes but its rate. */
static void name_point(json_t *result, const char *axis, bool with_file)
{
    const bool  is_point = qr_json_text_at(result, "file")[0] != '\0';
    const bool  has_axes = json_object_size(axes_of(result)) > 0;
    const char *file     = with_file ? qr_json_text_at(result, "file") : "";
    name_by(result, "curve", file, axis, NULL);
    if (is_point && (has_axes || axis != NULL)) name_by(result, "shown_as", file, NULL, has_axes ? NULL : axis);
}

/* Results of sweeps carry the name of their file. */
static bool several_files(const qr_report *report)
{
    const char *first = qr_json_text_at(result_at(report, 0), "file");
    bool        any   = false;
    for (size_t i = 1; i < json_array_size(report->results); i++)
        any |= strcmp(qr_json_text_at(result_at(report, i), "file"), first) != 0;
    return any;
}

/* Two points with the same values, probes of a search or a point measured again, get numbers. What is simulated is
 * called so beside measured results, and INVALID beside valid ones. */
static void tell_apart(const qr_report *report)
{
    const size_t count = json_array_size(report->results), simulated = qr_report_simulated(report);
    const size_t valid = qr_report_valid(report);
    const char  *names[QR_REPORT_MAX_RESULTS];
    for (size_t i = 0; i < count; i++) names[i] = qr_json_text_at(result_at(report, i), "shown_as");
    for (size_t i = count; i-- > 0;) {
        char   number[24] = "";
        size_t same       = 1;
        for (size_t j = 0; j < i; j++) same += strcmp(names[i], names[j]) == 0;
        if (same > 1) snprintf(number, sizeof number, " (%zu)", same);
        const bool is_marked  = simulated < count && qr_report_is_simulated(result_at(report, i));
        const bool is_invalid = valid > 0 && !qr_report_is_valid(result_at(report, i));
        replace(result_at(report, i), "shown_as",
                json_sprintf("%s%s%s%s", names[i], number, is_marked ? " (simulated)" : "",
                             is_invalid ? " (INVALID)" : ""));
    }
}

/* ---- the order ---- */

/* By curve, "max_num_seqs=4" before "max_num_seqs=16", then along the axis. */
static bool comes_before(const json_t *a, const json_t *b)
{
    const int order = strverscmp(qr_json_text_at(a, "curve"), qr_json_text_at(b, "curve"));
    return order < 0 || (order == 0 && qr_json_number_at(a, "x") < qr_json_number_at(b, "x"));
}

/* A sweep's results come in the order in which they ended. Insertion sort: stable, and there are a few hundred at the
 * most. */
static void sort_results(json_t *results)
{
    for (size_t i = 1; i < json_array_size(results); i++) {
        json_t *moving = json_incref(json_array_get(results, i));
        size_t  to     = i;
        while (to > 0 && comes_before(moving, json_array_get(results, to - 1))) to--;
        json_array_remove(results, i);
        json_array_insert_new(results, to, moving);
    }
}

/* ---- runs ---- */

/* Runs are called by their result, and numbered over all results. */
static void name_runs(const qr_report *report)
{
    json_int_t number = 0;
    for (size_t r = 0; r < json_array_size(report->results); r++) {
        const char *name = qr_json_text_at(result_at(report, r), "shown_as");
        json_t     *runs = json_object_get(result_at(report, r), "runs"), *run;
        size_t      i;
        json_array_foreach(runs, i, run)
        {
            json_object_set_new(run, "label",
                                json_array_size(runs) > 1 ? json_sprintf("%s #%zu", name, i + 1) : json_string(name));
            json_object_set_new(run, "number", json_integer(++number));
            json_object_set(run, "verdict", (json_t *)qr_json_at(result_at(report, r), "validity/result"));
            json_object_set(run, "profile", (json_t *)qr_json_at(result_at(report, r), "disclosure/profile"));
        }
    }
}

/* All points of a sweep come from one command: it is shown with the first. */
static void find_repeated_commands(const qr_report *report)
{
    for (size_t i = 1; i < json_array_size(report->results); i++) {
        const json_t *command = qr_json_at(result_at(report, i), "context/command");
        for (size_t j = 0; j < i && command != NULL; j++)
            if (json_equal(command, qr_json_at(result_at(report, j), "context/command"))) {
                json_object_set_new(result_at(report, i), "same_command", json_true());
                break;
            }
    }
}

void qr_report_arrange(qr_report *report)
{
    const char *axis      = qr_report_axis(report);
    const bool  with_file = several_files(report);
    for (size_t i = 0; i < json_array_size(report->results); i++) {
        const double x = axis != NULL ? setting(result_at(report, i), axis) : NAN;
        json_object_set_new(result_at(report, i), "x", isfinite(x) ? json_real(x) : json_null());
        name_point(result_at(report, i), axis, with_file);
    }
    tell_apart(report);
    if (axis != NULL) sort_results(report->results);
    name_runs(report);
    find_repeated_commands(report);
}
