/* Points of a sweep: along which axis they lie, which of them make one curve, and what they are called. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_html.h"

static const char *const load_keys[] = {"load.request_rate", "load.streams", "load.max_concurrency"};
enum { LOAD_KEYS = sizeof load_keys / sizeof *load_keys, MOST_VALUES = QR_REPORT_MAX_RESULTS };

static const json_t *axes_of(const json_t *result) { return qr_json_at(result, "sweep/axes"); }

static const char *last_word(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* ---- the axis ---- */

/* What the load of a result is, where it is no axis: the request rate, or the streams. */
static const char *load_key_of(const json_t *result)
{
    const char *profile = qr_json_text_at(result, "disclosure/profile");
    if (strcmp(profile, "concurrent") == 0) return "load.streams";
    if (strcmp(profile, "throughput") == 0 || strcmp(profile, "replay") == 0) return NULL;
    return "load.request_rate";
}

static double config_number(const json_t *result, const char *key)
{
    const json_t *value = json_object_get(json_object_get(result, "config"), key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static size_t distinct_values(const qr_report *report, const char *key)
{
    double        seen[MOST_VALUES];
    size_t        count = 0, index;
    const json_t *result;
    json_array_foreach(report->results, index, result)
    {
        const double value = config_number(result, key);
        bool         old   = !isfinite(value);
        for (size_t i = 0; i < count; i++) old |= seen[i] == value;
        if (!old) seen[count++] = value;
    }
    return count;
}

static bool all_have_axes(const qr_report *report)
{
    size_t        index;
    const json_t *result;
    json_array_foreach(report->results, index, result) if (json_object_size(axes_of(result)) == 0) return false;
    return true;
}

/* Of the axes of [sweep], the load, else the first whose values are numbers. */
static const char *named_axis(const qr_report *report)
{
    json_t     *axes = (json_t *)axes_of(json_array_get(report->results, 0)), *value;
    const char *key;
    for (size_t i = 0; i < LOAD_KEYS; i++)
        if (json_object_get(axes, load_keys[i]) != NULL && distinct_values(report, load_keys[i]) > 1)
            return load_keys[i];
    json_object_foreach(axes, key, value) if (distinct_values(report, key) > 1) return key;
    return NULL;
}

/* Of results that were given one by one: their load, when there are at least three. */
static const char *found_axis(const qr_report *report)
{
    const char   *key = load_key_of(json_array_get(report->results, 0));
    size_t        index;
    const json_t *result;
    json_array_foreach(report->results, index, result)
    {
        const char *own = load_key_of(result);
        if (key == NULL || own == NULL || strcmp(key, own) != 0) return NULL;
    }
    return distinct_values(report, key) >= 3 ? key : NULL;
}

const char *qr_report_axis(const qr_report *report)
{
    if (json_array_size(report->results) < 3) return NULL;
    return all_have_axes(report) ? named_axis(report) : found_axis(report);
}

bool qr_report_is_sweep(const qr_report *report) { return qr_report_axis(report) != NULL; }

const char *qr_report_axis_title(const char *axis)
{
    static const char *const titles[LOAD_KEYS] = {"requests due per second", "streams", "requests at once, at most"};
    for (size_t i = 0; i < LOAD_KEYS; i++)
        if (strcmp(axis, load_keys[i]) == 0) return titles[i];
    return axis;
}

/* ---- names ---- */

/* "load.streams" 4 as "4 streams"; another key as "max_num_seqs=16". */
static void print_value(const char *key, const json_t *value, FILE *to)
{
    static const char *const units[LOAD_KEYS] = {"requests/s", "streams", "at once"};
    const double             number           = json_number_value(value);
    for (size_t i = 0; i < LOAD_KEYS; i++) {
        if (strcmp(key, load_keys[i]) != 0 || !json_is_number(value)) continue;
        fprintf(to, "%g %s", number, number == 1 && i == 1 ? "stream" : units[i]);
        return;
    }
    fprintf(to, "%s=", last_word(key));
    if (json_is_number(value))
        fprintf(to, "%g", number);
    else if (json_is_string(value))
        fputs(json_string_value(value), to);
    else
        json_dumpf(value, to, JSON_ENCODE_ANY | JSON_COMPACT);
}

/* A new string of the caller's: of these values all but `without`, or only `only`; NULL: any. */
static char *print_axes(const json_t *values, const char *without, const char *only)
{
    char       *text = NULL;
    size_t      size = 0;
    const char *key;
    json_t     *value;
    FILE       *to = open_memstream(&text, &size);
    if (to == NULL) return NULL;
    json_object_foreach((json_t *)values, key, value)
    {
        if ((without != NULL && strcmp(key, without) == 0) || (only != NULL && strcmp(key, only) != 0)) continue;
        if (ftell(to) > 0) fputs(", ", to);
        print_value(key, value, to);
    }
    fclose(to);
    return text;
}

/* Results of sweeps carry the name of their file. */
static bool several_files(const qr_report *report)
{
    size_t        index;
    const json_t *result;
    const char   *first = qr_json_text_at(json_array_get(report->results, 0), "file");
    json_array_foreach(report->results, index,
                       result) if (strcmp(qr_json_text_at(result, "file"), first) != 0) return true;
    return false;
}

static void rename_to(json_t *result, json_t *name)
{
    json_object_del(result, "shown_as");
    json_object_set_new(result, "shown_as", name);
}

static void set_text(json_t *result, const char *member, const char *a, const char *b)
{
    json_object_del(result, member);
    json_object_set_new(result, member, json_sprintf("%s%s%s", a, a[0] && b[0] ? ": " : "", b));
}

/* A point of a sweep is called by its values, and by its file where there are several; results that were given one by
 * one keep their names. A probe of a search has no axes but its rate. */
static void name_point(json_t *result, const char *axis, bool with_file)
{
    const json_t *config = json_object_get(result, "config");
    const char   *file   = with_file ? qr_json_text_at(result, "file") : "";
    const bool    bare   = json_object_size(axes_of(result)) == 0;
    char         *others = print_axes(axes_of(result), axis, NULL);
    char         *all    = print_axes(bare && axis != NULL ? config : axes_of(result), NULL, bare ? axis : NULL);
    if (others != NULL && all != NULL) {
        set_text(result, "curve", file, others);
        if (all[0] != '\0' && qr_json_text_at(result, "file")[0] != '\0') set_text(result, "shown_as", file, all);
    }
    free(others);
    free(all);
}

/* Two points with the same values: probes of a search, or a point measured again. */
static void tell_apart(json_t *results)
{
    for (size_t i = 0; i < json_array_size(results); i++) {
        json_t *result = json_array_get(results, i), *name = json_object_get(result, "shown_as");
        size_t  same = 1;
        for (size_t j = 0; j < i; j++)
            if (json_equal(name, json_object_get(json_array_get(results, j), "called"))) same++;
        json_object_set(result, "called", name); /* before a number is added */
        if (same > 1) rename_to(result, json_sprintf("%s (%zu)", json_string_value(name), same));
    }
}

/* ---- the order ---- */

/* Curves are numbered as they appear. */
static void number_curves(json_t *results)
{
    json_int_t curves = 0;
    for (size_t i = 0; i < json_array_size(results); i++) {
        json_t    *result = json_array_get(results, i);
        json_int_t number = curves;
        for (size_t j = 0; j < i; j++) {
            const json_t *earlier = json_array_get(results, j);
            if (json_equal(json_object_get(earlier, "curve"), json_object_get(result, "curve")))
                number = json_integer_value(json_object_get(earlier, "curve_number"));
        }
        if (number == curves) curves++;
        json_object_set_new(result, "curve_number", json_integer(number));
    }
}

static bool comes_before(const json_t *a, const json_t *b)
{
    const double c = qr_json_number_at(a, "curve_number"), d = qr_json_number_at(b, "curve_number");
    return c < d || (c == d && qr_json_number_at(a, "x") < qr_json_number_at(b, "x"));
}

/* A sweep's results come in the order in which they ended: here by curve, then along the axis. Insertion sort: stable,
 * and there are a few hundred at the most. */
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

/* Beside measured results, wherever they are named. */
static void mark_simulated(const qr_report *report)
{
    size_t       index;
    json_t      *result;
    const size_t simulated = qr_report_simulated(report);
    if (simulated == 0 || simulated == qr_report_count(report)) return;
    json_array_foreach(report->results, index, result)
    {
        if (qr_report_is_simulated(result))
            rename_to(result, json_sprintf("%s (simulated)", qr_json_text_at(result, "shown_as")));
    }
}

void qr_report_arrange(qr_report *report)
{
    const char *axis      = qr_report_axis(report);
    const bool  with_file = several_files(report);
    size_t      index;
    json_t     *result;
    json_array_foreach(report->results, index, result)
    {
        const double x = axis != NULL ? config_number(result, axis) : NAN;
        json_object_set_new(result, "x", isfinite(x) ? json_real(x) : json_null());
        name_point(result, axis, with_file);
    }
    tell_apart(report->results);
    mark_simulated(report);
    if (axis == NULL) return;
    number_curves(report->results);
    sort_results(report->results);
}
