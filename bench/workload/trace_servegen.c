/* Clients of a ServeGen folder: rates over time, and histograms of lengths, turned into requests. */
#include "bench/workload/trace_servegen.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/error.h"
#include "bench/common/array.h"
#include "bench/common/input_file.h"
#include "bench/workload/distribution.h"

enum { WINDOW_S = 600, DATASET_WINDOW_S = 6 * 3600, MAX_REQUESTS = 50000000 };

typedef struct arrival {
    double   time_s;
    uint32_t input, output;
} arrival;

typedef struct arrivals {
    arrival *items;
    size_t   count;
} arrivals;

/* A length histogram as cumulative probabilities. */
typedef struct histogram {
    double *lengths, *cumulative; /* [count] */
    size_t  count, capacity;
} histogram;

typedef struct client {
    const char  *name; /* of the trace file, for messages */
    json_t      *dataset;
    histogram    input, output;
    long         loaded; /* dataset window in the histograms; -1: none */
    qr_stream    stream;
    quire_error *error;
} client;

static void histogram_deinit(histogram *h)
{
    free(h->lengths);
    free(h->cumulative);
    *h = (histogram){0};
}

static bool histogram_add(histogram *h, double length, double probability)
{
    size_t       count = h->count;
    const double total = probability + (count ? h->cumulative[count - 1] : 0);
    if (!QR_ARRAY_PUSH(h->lengths, count, length)) return false;
    return QR_ARRAY_PUSH(h->cumulative, h->count, total);
}

/* "{18: 0.017, 19: 0.1}": not JSON, since the keys are bare numbers. */
static quire_status parse_histogram(const client *c, const char *text, histogram *out)
{
    histogram_deinit(out);
    if (text == NULL || *text++ != '{')
        return qr_fail(c->error, QUIRE_ERR_FORMAT, "%s: a histogram does not begin with {", c->name);
    while (*text != '\0' && *text != '}') {
        char        *end;
        const double length = strtod(text, &end);
        if (end == text || *end != ':' || !(length >= 0 && length <= 1e9))
            return qr_fail(c->error, QUIRE_ERR_FORMAT, "%s: histogram: \"%.30s\" is not length: probability", c->name,
                           text);
        text                     = end + 1;
        const double probability = strtod(text, &end);
        if (end == text || !(probability >= 0 && probability <= 1))
            return qr_fail(c->error, QUIRE_ERR_FORMAT, "%s: histogram: \"%.30s\" is not a probability", c->name, text);
        if (!histogram_add(out, length, probability))
            return qr_fail(c->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", c->name);
        text = end + strspn(end, ", ");
    }
    for (size_t i = 0; i < out->count; i++) out->cumulative[i] /= out->cumulative[out->count - 1];
    return QUIRE_OK;
}

static uint32_t draw_length(const histogram *h, qr_stream *stream)
{
    return h->count ? (uint32_t)h->lengths[qr_table_draw(h->cumulative, h->count, stream)] : 1;
}

/* The histograms of the dataset window that holds `time_s`; an empty one keeps those before it. */
static quire_status load_window(client *c, double time_s)
{
    const long window = (long)(time_s / DATASET_WINDOW_S);
    char       key[32];
    if (window == c->loaded) return QUIRE_OK;
    c->loaded = window;
    snprintf(key, sizeof key, "%ld", window * DATASET_WINDOW_S);
    const json_t *entry = json_object_get(c->dataset, key);
    if (entry == NULL) return QUIRE_OK;
    const char *input  = json_string_value(json_object_get(entry, "input_tokens"));
    const char *output = json_string_value(json_object_get(entry, "output_tokens"));
    if (input != NULL && input[0] == '{' && input[1] != '}') QR_TRY(parse_histogram(c, input, &c->input));
    if (output != NULL && output[0] == '{' && output[1] != '}') QR_TRY(parse_histogram(c, output, &c->output));
    return QUIRE_OK;
}

static quire_status draw_window(client *c, double from, double to, const char *pattern, double shape, double scale,
                                arrivals *out)
{
    const bool gamma = strcmp(pattern, "Gamma") == 0;
    for (double t = from;;) {
        t += scale * (gamma ? qr_stream_gamma(&c->stream, shape) : qr_stream_weibull(&c->stream, shape));
        if (!(t < to)) return QUIRE_OK;
        QR_TRY(load_window(c, t));
        const arrival next = {t, draw_length(&c->input, &c->stream), draw_length(&c->output, &c->stream)};
        if (out->count >= MAX_REQUESTS || !QR_ARRAY_PUSH(out->items, out->count, next))
            return qr_fail(c->error, QUIRE_ERR_NO_MEMORY, "%s: more than %d requests", c->name, MAX_REQUESTS);
    }
}

static quire_status read_windows(client *c, FILE *file, double start, double end, arrivals *out)
{
    char line[512];
    for (unsigned long number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        double    window, rate, cv, shape = 0, scale = 0;
        char      pattern[16] = "";
        const int fields =
            sscanf(line, "%lf,%lf,%lf,%15[A-Za-z],%lf,%lf", &window, &rate, &cv, pattern, &shape, &scale);
        if (fields < 2 || !(rate >= 0) || !(window >= 0))
            return qr_fail(c->error, QUIRE_ERR_FORMAT, "%s:%lu: not start,rate,cv,pattern,shape,scale", c->name,
                           number);
        if (rate == 0 || window + WINDOW_S <= start || window >= end) continue; /* idle, or outside */
        const bool known = strcmp(pattern, "Gamma") == 0 || strcmp(pattern, "Weibull") == 0;
        if (fields < 6 || !known || !(shape > 0) || !(scale > 0))
            return qr_fail(c->error, QUIRE_ERR_FORMAT, "%s:%lu: needs Gamma or Weibull, a shape and a scale above 0",
                           c->name, number);
        const double from = window > start ? window : start, to = window + WINDOW_S < end ? window + WINDOW_S : end;
        QR_TRY(draw_window(c, from, to, pattern, shape, scale, out));
    }
    return QUIRE_OK;
}

static quire_status read_client(const char *folder, const char *file_name, unsigned number, double start, double end,
                                uint64_t seed, arrivals *out, quire_error *error)
{
    char         path[4096];
    json_error_t parse_error;
    client       c = {.name = path, .loaded = -1, .stream = {seed, number, 0}, .error = error};
    snprintf(path, sizeof path, "%s/chunk-%u-dataset.json", folder, number);
    FILE *from = qr_input_open(path, QR_MOST_ROWS_BYTES, error);
    if (from == NULL) return QUIRE_ERR_IO;
    c.dataset = json_loadf(from, 0, &parse_error);
    fclose(from);
    if (c.dataset == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%d: %.100s", path, parse_error.line, parse_error.text);
    snprintf(path, sizeof path, "%s/%s", folder, file_name);
    FILE        *file   = qr_input_open(path, QR_MOST_ROWS_BYTES, error);
    quire_status status = file ? load_window(&c, start) : QUIRE_ERR_IO;
    if (status == QUIRE_OK) status = read_windows(&c, file, start, end, out);
    if (file) fclose(file);
    histogram_deinit(&c.input);
    histogram_deinit(&c.output);
    json_decref(c.dataset);
    return status;
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const arrival *)a)->time_s, y = ((const arrival *)b)->time_s;
    return (x > y) - (x < y);
}

static quire_status read_folder(DIR *directory, const char *folder, double start, double end, uint64_t seed,
                                arrivals *out, quire_error *error)
{
    const struct dirent *entry;
    unsigned             clients = 0;
    while ((entry = readdir(directory)) != NULL) {
        unsigned number;
        int      used = 0;
        if (sscanf(entry->d_name, "chunk-%u-trace.csv%n", &number, &used) != 1 || used == 0) continue;
        QR_TRY(read_client(folder, entry->d_name, number, start, end, seed, out, error));
        clients++;
    }
    if (clients == 0)
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%s: a folder without chunk-N-trace.csv; a trace is a file, or (servegen) a folder of those",
                       folder);
    if (out->count == 0)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: no client (of %u) has requests between %g and %g s", folder,
                       clients, start, end);
    qsort(out->items, out->count, sizeof *out->items, by_time);
    return QUIRE_OK;
}

quire_status qr_servegen_read(const char *folder, double start_s, double duration_s, uint64_t seed,
                              qr_servegen_add *add, void *context, quire_error *error)
{
    DIR *directory = opendir(folder);
    if (directory == NULL) return qr_fail(error, QUIRE_ERR_IO, "%s: %s", folder, strerror(errno));
    arrivals     all    = {0};
    const double end    = start_s + (duration_s > 0 ? duration_s : 3600);
    quire_status status = read_folder(directory, folder, start_s, end, seed, &all, error);
    for (size_t i = 0; i < all.count && status == QUIRE_OK; i++)
        status = add(context, all.items[i].time_s, all.items[i].input, all.items[i].output);
    free(all.items);
    closedir(directory);
    return status;
}
