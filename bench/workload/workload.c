/* Each property of a request is drawn from a stream of its own, by the number of the request. */
#include "bench/workload/workload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/request.h"
#include "base/rng.h"
#include "bench/common/portable_math.h"
#include "bench/workload/request_file.h"
#include "bench/workload/trace.h"

enum { STREAM_ARRIVAL = 1, STREAM_LENGTH = 2, STREAM_CONTENT = 3, STREAM_SAMPLING = 4 };
#define MAX_SPAN_S 315360000.0 /* ten years */
enum { MAX_MIX = 16, MAX_TENANTS = 1024, DRAWS_PER_REQUEST = 1 << 12 };

#define QR_PROFILE(enumerator, name) enumerator,
#define QR_RATED_PROFILE(enumerator, name) enumerator,
typedef enum profile {
#include "bench/workload/profiles.inc"
} profile;
enum { PROFILES = REPLAY + 1 };
#undef QR_PROFILE
#undef QR_RATED_PROFILE

#define QR_PROFILE(enumerator, name) {name, false},
#define QR_RATED_PROFILE(enumerator, name) {name, true},
static const struct {
    const char *name;
    bool        is_rated;
} profiles[PROFILES] = {
#include "bench/workload/profiles.inc"
};
#undef QR_PROFILE
#undef QR_RATED_PROFILE

#define QR_PROFILE(enumerator, name)
#define QR_RATED_PROFILE(enumerator, name) ", " name
const char *const qr_rated_profiles = &(
#include "bench/workload/profiles.inc"
    )[2];

static uint32_t profile_named(const char *name)
{
    uint32_t i = 0;
    while (i < PROFILES && strcmp(name, profiles[i].name) != 0) i++;
    return i;
}

const qr_load_key *qr_load_key_of(const char *key)
{
    static const qr_load_key keys[] = {{"load.streams", "streams", "streams"},
                                       {"load.request_rate", "requests due per second", "requests/s"},
                                       {"load.max_concurrency", "requests at once, at most", "at once"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i].key, key) == 0) return &keys[i];
    return NULL;
}

const char *qr_last_word(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

bool qr_profile_is_rated(const char *name)
{
    const uint32_t i = profile_named(name);
    return i < PROFILES && profiles[i].is_rated;
}

typedef struct lengths {
    double          weight;
    int32_t         priority;
    qr_distribution prompt, output, encoder;
} lengths;

struct qr_workload {
    quire_model_info model;
    uint64_t         seed;
    uint32_t         max_model_len, count, next, streams, skipped, shortened;
    profile          profile;
    double           rate, burstiness, rampup_s;
    double           arrival_s;     /* of the last request */
    double           arrival_scale; /* normalize_arrivals */
    lengths          mix[MAX_MIX];
    double           mix_table[MAX_MIX]; /* cumulative */
    uint32_t         mix_count;
    uint32_t         prefix_groups, prefix_tokens;
    double          *prefix_table; /* [prefix_groups] cumulative */
    double           encoder_repeat;
    uint32_t         tenant_count;
    double          *tenant_table; /* [tenant_count] cumulative */
    char (*tenant_names)[20];
    quire_request    shape; /* n, sampling, ignore_eos */
    qr_trace        *trace;
    qr_trace_facts   trace_facts;
    qr_request_file *file; /* source = file */
};

static qr_stream stream_of(const qr_workload *workload, uint64_t stream, uint64_t index)
{
    return (qr_stream){workload->seed, stream, index * DRAWS_PER_REQUEST};
}

/* ---- arrivals ---- */

static double gap(const qr_workload *workload, uint32_t index)
{
    qr_stream    stream = stream_of(workload, STREAM_ARRIVAL, index);
    const double mean = 1.0 / workload->rate, shape = workload->burstiness;
    switch (workload->profile) {
    case CONSTANT: return mean;
    case POISSON: return mean * qr_stream_weibull(&stream, 1.0);
    case GAMMA: return mean * qr_stream_gamma(&stream, shape) / shape;
    case WEIBULL: return mean * qr_stream_weibull(&stream, shape) / qr_portable_gamma(1.0 + 1.0 / shape);
    case THROUGHPUT:
    case SYNCHRONOUS:
    case CONCURRENT:
    case REPLAY: break;
    }
    return 0;
}

/* A linear ramp stretches the gaps at the start: the rate at time t is rate * t / rampup until rampup. */
static double ramped(const qr_workload *workload, double t)
{
    const double r = workload->rampup_s;
    return r <= 0 ? t : t < r / 2 ? sqrt(2 * t * r) : t + r / 2;
}

static double last_arrival(const qr_workload *workload)
{
    double t = 0;
    for (uint32_t i = 0; i < workload->count; i++) t += gap(workload, i);
    return t;
}

/* ---- creation ---- */

static quire_status read_mix(qr_workload *workload, const quire_config *config, quire_error *error)
{
    const size_t classes = quire_config_count(config, "workload.mix");
    if (classes > MAX_MIX)
        return qr_fail(error, QUIRE_ERR_INVALID, "workload.mix: %zu classes, at most %d", classes, MAX_MIX);
    workload->mix_count = classes ? (uint32_t)classes : 1;
    double sum          = 0;
    for (uint32_t i = 0; i < workload->mix_count; i++) {
        char     base[64] = "workload", key[96];
        lengths *mix      = &workload->mix[i];
        if (classes) snprintf(base, sizeof base, "workload.mix[%u]", i);
        snprintf(key, sizeof key, "%s.prompt_tokens", base);
        QR_TRY(qr_distribution_read(config, key, &mix->prompt, error));
        snprintf(key, sizeof key, "%s.output_tokens", base);
        QR_TRY(qr_distribution_read(config, key, &mix->output, error));
        QR_TRY(qr_distribution_read(config, "workload.encoder_tokens", &mix->encoder, error));
        snprintf(key, sizeof key, "%s.weight", base);
        mix->weight = classes ? quire_config_number(config, key) : 1;
        snprintf(key, sizeof key, "%s.priority", base);
        mix->priority          = classes ? (int32_t)quire_config_integer(config, key) : 0;
        workload->mix_table[i] = sum += mix->weight;
    }
    for (uint32_t i = 0; i < workload->mix_count; i++) workload->mix_table[i] /= sum;
    return QUIRE_OK;
}

static quire_status read_tables(qr_workload *workload, const quire_config *config, quire_error *error)
{
    workload->prefix_groups = (uint32_t)quire_config_integer(config, "workload.prefix.groups");
    workload->prefix_tokens = (uint32_t)quire_config_integer(config, "workload.prefix.tokens");
    workload->tenant_count  = (uint32_t)quire_config_integer(config, "workload.tenants.count");
    if (workload->trace_facts.tenants > workload->tenant_count) workload->tenant_count = workload->trace_facts.tenants;
    if (workload->file != NULL) workload->tenant_count = qr_request_file_tenants(workload->file);
    if (workload->tenant_count == 0 || workload->tenant_count > MAX_TENANTS)
        return qr_fail(error, QUIRE_ERR_INVALID, "workload.tenants.count: %u is not between 1 and %d",
                       workload->tenant_count, MAX_TENANTS);
    workload->prefix_table = calloc(workload->prefix_groups + 1u, sizeof(double));
    workload->tenant_table = calloc(workload->tenant_count, sizeof(double));
    workload->tenant_names = calloc(workload->tenant_count, sizeof *workload->tenant_names);
    if (!workload->prefix_table || !workload->tenant_table || !workload->tenant_names)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "workload: out of memory");
    qr_zipf_fill(workload->prefix_table, workload->prefix_groups,
                 quire_config_number(config, "workload.prefix.zipf_s"));
    qr_zipf_fill(workload->tenant_table, workload->tenant_count,
                 quire_config_number(config, "workload.tenants.zipf_s"));
    for (uint32_t i = 0; i < workload->tenant_count && workload->tenant_count > 1; i++)
        snprintf(workload->tenant_names[i], sizeof workload->tenant_names[i], "tenant-%u", i);
    return QUIRE_OK;
}

static quire_status read_load(qr_workload *workload, const quire_config *config, quire_error *error)
{
    workload->profile    = (profile)profile_named(quire_config_string(config, "load.profile"));
    workload->rate       = quire_config_number(config, "load.request_rate");
    workload->burstiness = quire_config_number(config, "load.burstiness");
    workload->rampup_s   = (double)quire_config_integer(config, "load.rampup") * 1e-9;
    workload->streams    = (uint32_t)quire_config_integer(config, "load.streams");
    if (workload->profile == SYNCHRONOUS) workload->streams = 1;
    if (workload->profile == REPLAY && workload->trace == NULL && workload->file == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "load.profile: replay needs workload.source = \"trace\" or \"file\"");
    if (!(workload->rate > 0))
        return qr_fail(error, QUIRE_ERR_INVALID, "load.request_rate: %g is not above 0", workload->rate);
    workload->arrival_scale = 1;
    const double last       = workload->count == UINT32_MAX ? 0 : last_arrival(workload);
    if (!(ramped(workload, last) <= MAX_SPAN_S))
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "%s: load.request_rate: %g requests/s: the last of %u is due after more than ten years",
                       quire_config_origin(config, "load.request_rate"), workload->rate, workload->count);
    if (quire_config_boolean(config, "load.normalize_arrivals") && last > 0)
        workload->arrival_scale = workload->count / workload->rate / last;
    return QUIRE_OK;
}

static void read_shape(qr_workload *workload, const quire_config *config)
{
    quire_request *shape        = &workload->shape;
    shape->n                    = (uint32_t)quire_config_integer(config, "workload.n");
    shape->ignore_eos           = quire_config_boolean(config, "workload.ignore_eos");
    shape->sampling.temperature = (float)quire_config_number(config, "workload.sampling.temperature");
    shape->sampling.top_k       = (uint32_t)quire_config_integer(config, "workload.sampling.top_k");
    shape->sampling.top_p       = (float)quire_config_number(config, "workload.sampling.top_p");
    shape->sampling.min_p       = (float)quire_config_number(config, "workload.sampling.min_p");
}

static quire_status read_trace(qr_workload *workload, const quire_config *config, quire_error *error)
{
    QR_TRY(qr_trace_read(config, workload->max_model_len, &workload->trace, error));
    workload->trace_facts = qr_trace_describe(workload->trace);
    workload->count       = workload->trace_facts.count;
    workload->skipped     = workload->trace_facts.skipped;
    if (workload->trace_facts.has_encoder && workload->model.encoder_layers == 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: rows have encoder_tokens, but this model has no encoder",
                       quire_config_string(config, "workload.trace.path"));
    return QUIRE_OK;
}

static quire_status read_requests(qr_workload *workload, const quire_config *config, quire_error *error)
{
    QR_TRY(qr_request_file_read(config, &workload->model, workload->max_model_len, &workload->file, error));
    workload->count = qr_request_file_count(workload->file);
    return QUIRE_OK;
}

/* Whether somebody chose lengths of encoder inputs. The default says nothing, also where a template spells it out. */
static bool asks_for_encoder(const quire_config *config)
{
    return !quire_config_is_default(config, "workload.encoder_tokens.dist") ||
           !quire_config_is_default(config, "workload.encoder_tokens.value");
}

static quire_status build(qr_workload *workload, const quire_config *config, quire_error *error)
{
    const char *source       = quire_config_string(config, "workload.source");
    workload->encoder_repeat = quire_config_number(config, "workload.encoder_repeat");
    read_shape(workload, config);
    if (workload->model.encoder_layers == 0 && asks_for_encoder(config))
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: workload.encoder_tokens: this model has no encoder",
                       quire_config_origin(config, "workload.encoder_tokens.dist"));
    QR_TRY(read_mix(workload, config, error));
    if (source != NULL && strcmp(source, "trace") == 0) {
        QR_TRY(read_trace(workload, config, error));
    } else if (source != NULL && strcmp(source, "file") == 0) {
        QR_TRY(read_requests(workload, config, error));
    } else {
        workload->count = (uint32_t)quire_config_integer(config, "workload.num_prompts");
        if (workload->count == 0 && quire_config_integer(config, "run.duration") == 0)
            return qr_fail(error, QUIRE_ERR_INVALID, "workload.num_prompts: 0 needs a run.duration above 0");
        if (workload->count == 0) workload->count = UINT32_MAX;
    }
    QR_TRY(read_tables(workload, config, error));
    return read_load(workload, config, error);
}

quire_status qr_workload_create(const quire_config *config, const quire_model_info *model, uint32_t max_model_len,
                                uint64_t seed, qr_workload **workload_out, quire_error *error)
{
    *workload_out         = NULL;
    qr_workload *workload = calloc(1, sizeof *workload);
    if (workload == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "workload: out of memory");
    workload->model           = *model;
    workload->seed            = seed;
    workload->max_model_len   = max_model_len;
    const quire_status status = build(workload, config, error);
    if (status == QUIRE_OK)
        *workload_out = workload;
    else
        qr_workload_destroy(workload);
    return status;
}

void qr_workload_destroy(qr_workload *workload)
{
    if (workload == NULL) return;
    for (uint32_t i = 0; i < MAX_MIX; i++) {
        qr_distribution_deinit(&workload->mix[i].prompt);
        qr_distribution_deinit(&workload->mix[i].output);
        qr_distribution_deinit(&workload->mix[i].encoder);
    }
    free(workload->prefix_table);
    free(workload->tenant_table);
    free(workload->tenant_names);
    qr_trace_destroy(workload->trace);
    qr_request_file_destroy(workload->file);
    free(workload);
}

/* ---- requests ---- */

/* Lengths are clipped so that prompt + output fit into max_model_len. */
static void fit(qr_workload *workload, qr_workload_request *request)
{
    const uint32_t limit = workload->max_model_len;
    if (request->prompt_tokens == 0) request->prompt_tokens = 1;
    if (request->output_tokens == 0) request->output_tokens = 1;
    request->is_shortened = (uint64_t)request->prompt_tokens + request->output_tokens > limit;
    workload->shortened += request->is_shortened;
    if (request->prompt_tokens > limit - 1) request->prompt_tokens = limit - 1;
    if (request->output_tokens > limit - request->prompt_tokens)
        request->output_tokens = limit - request->prompt_tokens;
    if (request->prefix_tokens > request->prompt_tokens) request->prefix_tokens = request->prompt_tokens;
    const quire_model_info *model = &workload->model;
    const uint32_t          most  = model->encoder_feature_size > 0 ? model->max_encoder_positions : UINT32_MAX;
    request->encoder_tokens       = qr_min_u32(request->encoder_tokens, qr_min_u32(most, QR_WORKLOAD_MAX_ENCODER));
}

static uint32_t draw_earlier(const qr_workload *workload, uint32_t index)
{
    qr_stream stream = stream_of(workload, STREAM_CONTENT, index);
    if (index == 0 || qr_stream_uniform(&stream) >= workload->encoder_repeat) return index;
    return (uint32_t)(qr_stream_uniform(&stream) * index);
}

/* The request whose encoder input this one has: its own, or an earlier one's, which may itself be a repeat. */
static uint32_t draw_original(const qr_workload *workload, uint32_t index)
{
    for (uint32_t earlier; (earlier = draw_earlier(workload, index)) != index;) index = earlier;
    return index;
}

static void draw_encoder(const qr_workload *workload, uint32_t index, const lengths *mix, qr_workload_request *request)
{
    const uint32_t original = draw_original(workload, index);
    qr_stream      length   = stream_of(workload, STREAM_LENGTH, original);
    length.counter += DRAWS_PER_REQUEST / 2; /* counters of its own: a repeat must find the same length */
    request->encoder_tokens = qr_distribution_draw(&mix->encoder, &length);
    if (request->encoder_tokens == 0) request->encoder_tokens = 1;
    request->encoder_id    = original;
    request->prompt_tokens = 1; /* the decoder's start token */
}

/* After the draws of draw_earlier. */
static qr_stream content_stream(const qr_workload *workload, uint32_t index)
{
    qr_stream content = stream_of(workload, STREAM_CONTENT, index);
    content.counter += 8;
    return content;
}

static uint32_t draw_tenant(const qr_workload *workload, qr_stream *content)
{
    return (uint32_t)qr_table_draw(workload->tenant_table, workload->tenant_count, content);
}

/* What a trace does not say is drawn. An encoder-decoder model's input goes to the encoder. */
static void complete_trace(const qr_workload *workload, uint32_t index, qr_workload_request *request)
{
    qr_stream content = content_stream(workload, index);
    if (request->tenant == UINT32_MAX) request->tenant = draw_tenant(workload, &content);
    if (workload->model.encoder_layers == 0 || workload->trace_facts.has_encoder) return;
    qr_workload_request original;
    qr_trace_request(workload->trace, draw_original(workload, index), &original);
    request->encoder_tokens = original.prompt_tokens;
    request->encoder_id     = original.encoder_id;
    request->prompt_tokens  = 1;
    request->hash_ids       = NULL;
    request->hash_count     = 0;
}

static void draw_random(const qr_workload *workload, uint32_t index, qr_workload_request *request)
{
    qr_stream      length  = stream_of(workload, STREAM_LENGTH, index);
    qr_stream      content = content_stream(workload, index);
    const size_t   kind    = qr_table_draw(workload->mix_table, workload->mix_count, &length);
    const lengths *mix     = &workload->mix[kind];
    request->mix           = (uint32_t)kind;
    request->priority      = mix->priority;
    request->prompt_tokens = qr_distribution_draw(&mix->prompt, &length);
    request->output_tokens = qr_distribution_draw(&mix->output, &length);
    if (workload->model.encoder_layers > 0) draw_encoder(workload, index, mix, request);
    if (workload->prefix_groups > 0) {
        request->prefix_id     = qr_table_draw(workload->prefix_table, workload->prefix_groups, &content);
        request->prefix_tokens = workload->prefix_tokens;
    }
    request->tenant = draw_tenant(workload, &content);
}

void qr_workload_next(qr_workload *workload, qr_workload_request *request_out)
{
    const uint32_t index = workload->next++;
    *request_out         = (qr_workload_request){.number        = index,
                                                 .content_key   = qr_mix64(~(uint64_t)index),
                                                 .sampling_seed = qr_random_u64(workload->seed, STREAM_SAMPLING, index)};
    if (workload->file != NULL) {
        qr_request_file_shape(workload->file, index, request_out);
    } else if (workload->trace != NULL) {
        qr_trace_request(workload->trace, index, request_out);
        complete_trace(workload, index, request_out);
    } else {
        draw_random(workload, index, request_out);
    }
    if (workload->file == NULL) fit(workload, request_out); /* what a file asks for is not bent */
    if (workload->profile == REPLAY) return;
    workload->arrival_s += gap(workload, index) * workload->arrival_scale;
    request_out->due_ns = (uint64_t)(fmin(ramped(workload, workload->arrival_s), MAX_SPAN_S) * 1e9);
}

void qr_workload_peek(const qr_workload *workload, uint32_t index, qr_workload_request *request_out)
{
    qr_workload copy = *workload; /* drawing writes to the struct alone, not behind its pointers */
    copy.next        = index;
    qr_workload_next(&copy, request_out);
}

static int32_t token_of(const qr_workload *workload, uint64_t key, uint32_t position)
{
    return (int32_t)qr_random_below(workload->seed ^ key, STREAM_CONTENT, position, workload->model.vocab_size);
}

void qr_workload_prompt(const qr_workload *workload, const qr_workload_request *request, int32_t *out)
{
    const quire_request *own = workload->file ? qr_request_file_at(workload->file, request->number) : NULL;
    if (own != NULL && own->prompt_count > 0) {
        memcpy(out, own->prompt, own->prompt_count * sizeof *out);
        return;
    }
    const uint32_t block = request->hash_ids ? workload->trace_facts.hash_block : 1;
    for (uint32_t i = 0; i < request->prompt_tokens; i++) {
        if (i == 0 && workload->model.encoder_layers > 0)
            out[i] = workload->model.decoder_start_token_id;
        else if (i < request->prefix_tokens)
            out[i] = token_of(workload, qr_mix64((request->prefix_id + 1) << 20), i);
        else if (request->hash_ids && i / block < request->hash_count)
            out[i] = token_of(workload, qr_mix64(request->hash_ids[i / block] + 1), i % block);
        else
            out[i] = token_of(workload, request->content_key, i);
    }
}

void qr_workload_encoder(const qr_workload *workload, const qr_workload_request *request, int32_t *out)
{
    const uint64_t key = qr_mix64(request->encoder_id + 1);
    if (workload->file != NULL && request->encoder_tokens > 0) {
        memcpy(out, qr_request_file_at(workload->file, request->number)->encoder_input,
               request->encoder_tokens * sizeof *out);
        return;
    }
    for (uint32_t i = 0; i < request->encoder_tokens; i++) out[i] = token_of(workload, key, i);
}

size_t qr_workload_feature_count(const quire_model_info *model, uint32_t encoder_tokens)
{
    return (size_t)encoder_tokens * QR_FRAMES_PER_POSITION * model->encoder_feature_size;
}

void qr_workload_features(const qr_workload *workload, const qr_workload_request *request, float *out)
{
    const size_t   count = qr_workload_feature_count(&workload->model, request->encoder_tokens);
    const uint64_t key   = qr_mix64(request->encoder_id + 1);
    if (workload->file != NULL) {
        const quire_request *own = qr_request_file_at(workload->file, request->number);
        memcpy(out, own->encoder_features,
               (size_t)own->encoder_frames * workload->model.encoder_feature_size * sizeof *out);
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = (float)qr_random_uniform(workload->seed ^ key, STREAM_CONTENT, i) * 2 - 1;
}

static const char *tenant_name(const qr_workload *workload, uint32_t tenant)
{
    if (workload->file != NULL) return qr_request_file_tenant(workload->file, tenant);
    return workload->tenant_names[tenant % workload->tenant_count];
}

void qr_workload_fill(const qr_workload *workload, const qr_workload_request *request, quire_request *to)
{
    *to               = workload->file ? *qr_request_file_at(workload->file, request->number) : workload->shape;
    to->size          = sizeof *to;
    to->prompt_count  = request->prompt_tokens;
    to->encoder_count = request->encoder_tokens;
    if (workload->model.encoder_feature_size > 0 && workload->file == NULL)
        to->encoder_frames = request->encoder_tokens * QR_FRAMES_PER_POSITION;
    to->max_tokens    = request->output_tokens;
    to->priority      = request->priority;
    to->tenant        = tenant_name(workload, request->tenant);
    to->sampling.seed = request->sampling_seed;
}

uint32_t qr_workload_sequences(const qr_workload *workload)
{
    if (workload->file != NULL) return qr_request_file_sequences(workload->file);
    return workload->shape.n > 1 ? workload->shape.n : 1;
}

const quire_model_info *qr_workload_model(const qr_workload *workload) { return &workload->model; }

uint32_t    qr_workload_count(const qr_workload *workload) { return workload->count; }
uint32_t    qr_workload_streams(const qr_workload *workload) { return workload->streams; }
uint32_t    qr_workload_shortened(const qr_workload *workload) { return workload->shortened; }
uint32_t    qr_workload_skipped(const qr_workload *workload) { return workload->skipped; }
uint32_t    qr_workload_empty(const qr_workload *workload) { return workload->trace_facts.empty; }
uint32_t    qr_workload_hash_block(const qr_workload *workload) { return workload->trace_facts.hash_block; }
uint32_t    qr_workload_tenants(const qr_workload *workload) { return workload->tenant_count; }
uint64_t    qr_workload_seed(const qr_workload *workload) { return workload->seed; }
const char *qr_workload_profile(const qr_workload *workload) { return profiles[workload->profile].name; }
bool        qr_workload_has_beams(const qr_workload *workload)
{
    return workload->file != NULL && qr_request_file_has_beams(workload->file);
}

bool qr_workload_is_file(const qr_workload *workload) { return workload->file != NULL; }
bool qr_workload_is_offline(const qr_workload *workload) { return workload->profile == THROUGHPUT; }

bool qr_workload_is_closed(const qr_workload *workload)
{
    return workload->profile == SYNCHRONOUS || workload->profile == CONCURRENT;
}
