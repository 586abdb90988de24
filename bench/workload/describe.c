/* Draws the workload once and sums up lengths, gaps, reuse, tenants and classes; or writes it as a trace. */
#include "bench/workload/describe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/printable.h"
#include "base/rng.h"
#include "bench/common/array.h"
#include "bench/common/statistics.h"

/* ---- sets of hashes ---- */

typedef struct set { /* open addressing, at most half full; 0 is never a member */
    uint64_t *slots;
    size_t    capacity, count;
} set;

static void put(const set *s, uint64_t key)
{
    size_t at = (size_t)qr_mix64(key) & (s->capacity - 1);
    while (s->slots[at] != 0) at = (at + 1) & (s->capacity - 1);
    s->slots[at] = key;
}

static bool has(const set *s, uint64_t key)
{
    if (s->capacity == 0) return false;
    size_t at = (size_t)qr_mix64(key) & (s->capacity - 1);
    while (s->slots[at] != 0 && s->slots[at] != key) at = (at + 1) & (s->capacity - 1);
    return s->slots[at] == key;
}

static bool grow(set *s)
{
    set wider   = {.capacity = s->capacity ? 2 * s->capacity : 1024};
    wider.slots = calloc(wider.capacity, sizeof *wider.slots);
    if (wider.slots == NULL) return false;
    for (size_t i = 0; i < s->capacity; i++)
        if (s->slots[i] != 0) put(&wider, s->slots[i]);
    wider.count = s->count;
    free(s->slots);
    *s = wider;
    return true;
}

/* False: out of memory. *new_out: it was not a member. */
static bool add(set *s, uint64_t key, bool *new_out)
{
    if (key == 0) key = 1;
    *new_out = !has(s, key);
    if (!*new_out) return true;
    if (2 * (s->count + 1) > s->capacity && !grow(s)) return false;
    put(s, key);
    s->count++;
    return true;
}

/* ---- one pass over the requests ---- */

typedef struct pass {
    qr_workload    *workload;
    qr_description *to;
    double         *prompts, *outputs, *encoders, *due; /* [requests], [encoder_count], [requests] s */
    size_t          prompt_count, output_count, encoder_count, due_count;
    int32_t        *tokens; /* [token_capacity] */
    size_t          token_capacity;
    set             blocks, hashes, inputs;
    uint64_t        prompt_tokens, found_tokens, repeated_inputs;
    uint64_t       *tenant_requests; /* [to->tenants] */
} pass;

static bool make_room(pass *p, uint32_t tokens)
{
    if (tokens <= p->token_capacity) return true;
    int32_t *wider = realloc(p->tokens, tokens * sizeof *wider);
    if (wider == NULL) return false;
    p->tokens         = wider;
    p->token_capacity = tokens;
    return true;
}

/* Walks the prompt's full blocks as the prefix index does: a block's identity is its tokens and all before it, within
 * a tenant. At least one token of a prompt is always computed. */
static bool take_prompt(pass *p, const qr_workload_request *request)
{
    const uint32_t size     = p->to->block_size;
    uint64_t       identity = qr_mix64(request->tenant + 1), found = 0;
    bool           all = true;
    if (!make_room(p, request->prompt_tokens)) return false;
    qr_workload_prompt(p->workload, request, p->tokens);
    for (uint32_t start = 0; start + size <= request->prompt_tokens; start += size) {
        bool is_new;
        for (uint32_t i = start; i < start + size; i++)
            identity = qr_mix64(identity * 0x9e3779b97f4a7c15u + (uint64_t)(uint32_t)p->tokens[i] + 1);
        if (!add(&p->blocks, identity, &is_new)) return false;
        all &= !is_new;
        if (all) found += size;
    }
    p->prompt_tokens += request->prompt_tokens;
    p->found_tokens += found < request->prompt_tokens ? found : request->prompt_tokens - 1;
    return true;
}

static bool take_ids(pass *p, const qr_workload_request *request)
{
    bool is_new, ok = true;
    for (uint32_t i = 0; i < request->hash_count && ok; i++) ok = add(&p->hashes, request->hash_ids[i] + 1, &is_new);
    p->to->hash_blocks += request->hash_count;
    if (request->encoder_tokens > 0 && ok) {
        ok = add(&p->inputs, request->encoder_id + 1, &is_new);
        p->repeated_inputs += ok && !is_new;
    }
    return ok;
}

static bool take_request(pass *p, const qr_workload_request *request)
{
    const uint32_t mix = request->mix < QR_MAX_CLASSES ? request->mix : QR_MAX_CLASSES - 1;
    bool           ok  = QR_ARRAY_PUSH(p->prompts, p->prompt_count, request->prompt_tokens);
    ok                 = ok && QR_ARRAY_PUSH(p->outputs, p->output_count, request->output_tokens);
    ok                 = ok && QR_ARRAY_PUSH(p->due, p->due_count, (double)request->due_ns * 1e-9);
    if (request->encoder_tokens > 0) ok = ok && QR_ARRAY_PUSH(p->encoders, p->encoder_count, request->encoder_tokens);
    p->to->class_share[mix] += 1;
    if (mix >= p->to->classes) p->to->classes = mix + 1;
    p->tenant_requests[request->tenant % p->to->tenants]++;
    return ok && take_prompt(p, request) && take_ids(p, request);
}

/* ---- numbers ---- */

static qr_spread spread_of(double *values, size_t n)
{
    qr_summary all;
    qr_summary_of(values, n, NULL, 0, &all);
    if (n == 0) return (qr_spread){0};
    return (qr_spread){.n     = n,
                       .mean  = all.mean,
                       .stdev = all.stdev * sqrt((double)(n - 1) / (double)n),
                       .min   = all.min,
                       .p50   = qr_quantile(values, n, 0.5),
                       .p90   = qr_quantile(values, n, 0.9),
                       .p99   = qr_quantile(values, n, 0.99),
                       .max   = all.max};
}

static double peak_rate(const double *due, size_t n)
{
    const double window = 10;
    size_t       most   = 0;
    for (size_t first = 0, i = 0; i < n; i++) {
        while (due[i] - due[first] >= window) first++;
        if (i - first + 1 > most) most = i - first + 1;
    }
    return (double)most / window;
}

/* due[n] is ascending and becomes the gaps. */
static void describe_times(qr_description *to, double *due, size_t n)
{
    size_t zeros  = 0;
    to->span_s    = n > 0 ? due[n - 1] - due[0] : 0;
    to->peak_rate = peak_rate(due, n);
    if (n < 2 || to->span_s <= 0) return;
    for (size_t i = 0; i + 1 < n; i++) {
        due[i] = due[i + 1] - due[i];
        zeros += due[i] <= 0;
    }
    to->rate        = (double)(n - 1) / to->span_s;
    to->prompt_rate = to->prompt.mean * (double)n / to->span_s;
    to->output_rate = to->output.mean * (double)n / to->span_s;
    to->gap         = spread_of(due, n - 1);
    to->gap_cv      = to->gap.stdev / to->gap.mean;
    to->burstiness  = to->gap_cv > 0 ? 1 / (to->gap_cv * to->gap_cv) : INFINITY;
    to->zero_gaps   = (double)zeros / (double)(n - 1);
}

static void finish(pass *p)
{
    qr_description *to     = p->to;
    uint64_t        larger = 0;
    to->requests           = (uint32_t)p->due_count;
    to->skipped            = qr_workload_skipped(p->workload);
    to->empty              = qr_workload_empty(p->workload);
    to->shortened          = qr_workload_shortened(p->workload);
    to->prompt             = spread_of(p->prompts, p->prompt_count);
    to->output             = spread_of(p->outputs, p->output_count);
    to->encoder            = spread_of(p->encoders, p->encoder_count);
    to->reuse              = p->prompt_tokens ? (double)p->found_tokens / (double)p->prompt_tokens : 0;
    to->blocks             = p->blocks.count;
    to->hash_unique        = p->hashes.count;
    to->hash_block         = to->hash_blocks ? qr_workload_hash_block(p->workload) : 0;
    to->encoder_reuse      = p->encoder_count ? (double)p->repeated_inputs / (double)p->encoder_count : 0;
    for (uint32_t i = 0; i < to->tenants; i++)
        if (p->tenant_requests[i] > larger) larger = p->tenant_requests[i];
    if (to->requests == 0) return;
    to->largest_tenant = (double)larger / to->requests;
    for (uint32_t i = 0; i < to->classes; i++) to->class_share[i] /= to->requests;
    if (to->timed) describe_times(to, p->due, p->due_count);
}

static quire_status check_end(const qr_workload *workload, uint64_t until_ns, quire_error *error)
{
    if (qr_workload_count(workload) != UINT32_MAX || (until_ns > 0 && !qr_workload_is_closed(workload)))
        return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "workload.num_prompts: 0 has an end only in a run; give a number of requests");
}

/* False: there are no more. */
static bool next(qr_workload *workload, uint32_t index, uint64_t until_ns, qr_workload_request *request_out)
{
    if (index >= qr_workload_count(workload)) return false;
    qr_workload_next(workload, request_out);
    return qr_workload_count(workload) != UINT32_MAX || request_out->due_ns < until_ns;
}

static quire_status walk(pass *p, uint64_t until_ns, quire_error *error)
{
    qr_workload_request request;
    QR_TRY(check_end(p->workload, until_ns, error));
    p->tenant_requests = calloc(p->to->tenants, sizeof *p->tenant_requests);
    bool ok            = p->tenant_requests != NULL;
    for (uint32_t i = 0; ok && next(p->workload, i, until_ns, &request); i++) ok = take_request(p, &request);
    if (!ok) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "workload: out of memory");
    finish(p);
    return QUIRE_OK;
}

quire_status qr_describe(qr_workload *workload, uint32_t block_size, uint64_t until_ns, qr_description *description_out,
                         quire_error *error)
{
    *description_out = (qr_description){
        .profile    = qr_workload_profile(workload),
        .timed      = !qr_workload_is_closed(workload) && !qr_workload_is_offline(workload),
        .block_size = block_size,
        .tenants    = qr_workload_tenants(workload),
        .seed       = qr_workload_seed(workload),
    };
    pass               p      = {.workload = workload, .to = description_out};
    const quire_status status = walk(&p, until_ns, error);
    free(p.prompts);
    free(p.outputs);
    free(p.encoders);
    free(p.due);
    free(p.tokens);
    free(p.tenant_requests);
    free(p.blocks.slots);
    free(p.hashes.slots);
    free(p.inputs.slots);
    return status;
}

/* ---- printing ---- */

static void row(const char *name, const qr_spread *s, int decimals, FILE *to)
{
    const double values[] = {s->mean, s->stdev, s->min, s->p50, s->p90, s->p99, s->max};
    if (s->n == 0) return;
    fprintf(to, "%-16s", name);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) fprintf(to, "%11.*f", decimals, values[i]);
    fputc('\n', to);
}

static void print_times(const qr_description *d, FILE *to)
{
    fprintf(to, "%.1f s, %.3f requests/s (busiest 10 s: %.2f), %.0f prompt and %.0f output tokens/s asked for\n",
            d->span_s, d->rate, d->peak_rate, d->prompt_rate, d->output_rate);
    if (d->gap.n > 0)
        fprintf(to, "gaps: CV %.2f (a gamma process with burstiness %.3g), %.1f %% are zero\n", d->gap_cv,
                d->burstiness, 100 * d->zero_gaps);
}

static void print_reuse(const qr_description *d, FILE *to)
{
    fprintf(to, "prefix reuse: %.1f %% of prompt tokens at best (blocks of %u tokens, unlimited cache: %llu blocks)\n",
            100 * d->reuse, d->block_size, (unsigned long long)d->blocks);
    if (d->hash_blocks > 0)
        fprintf(to, "hash ids: %llu of %u tokens, %llu distinct, so %.1f %% repeat an earlier one\n",
                (unsigned long long)d->hash_blocks, d->hash_block, (unsigned long long)d->hash_unique,
                100 * (1 - (double)d->hash_unique / (double)d->hash_blocks));
    if (d->encoder.n > 0) fprintf(to, "encoder inputs: %.1f %% repeat an earlier one\n", 100 * d->encoder_reuse);
}

void qr_description_print(const qr_description *d, FILE *to)
{
    fprintf(to, "%u request%s, profile %s, seed %llu", d->requests, qr_plural(d->requests), d->profile,
            (unsigned long long)d->seed);
    if (d->skipped + d->shortened > 0)
        fprintf(to, "; beyond max_model_len: %u skipped, %u shortened", d->skipped, d->shortened);
    if (d->empty > 0) fprintf(to, "; %u without tokens are played with 1 + 1", d->empty);
    fputc('\n', to);
    if (d->timed) print_times(d, to);
    fprintf(to, "\n%-16s%11s%11s%11s%11s%11s%11s%11s\n", "", "mean", "stdev", "min", "P50", "P90", "P99", "max");
    row("prompt tokens", &d->prompt, 1, to);
    row("output tokens", &d->output, 1, to);
    row("encoder tokens", &d->encoder, 1, to);
    if (d->timed) row("gap, s", &d->gap, 4, to);
    fputc('\n', to);
    print_reuse(d, to);
    if (d->tenants > 1)
        fprintf(to, "tenants: %u, the largest has %.1f %% of the requests\n", d->tenants, 100 * d->largest_tenant);
    for (uint32_t i = 0; i < d->classes && d->classes > 1; i++)
        fprintf(to, "%s%u: %.1f %%%s", i == 0 ? "classes: " : ", ", i, 100 * d->class_share[i],
                i + 1 == d->classes ? "\n" : "");
}

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *spread_json(const qr_spread *s, const char *unit)
{
    if (s->n == 0) return json_null();
    return json_pack("{s:s, s:I, s:f, s:f, s:f, s:{s:f, s:f, s:f}, s:f}", "unit", unit, "n", (json_int_t)s->n, "mean",
                     s->mean, "stdev", s->stdev, "min", s->min, "p", "50", s->p50, "90", s->p90, "99", s->p99, "max",
                     s->max);
}

static void add_times(json_t *to, const qr_description *d)
{
    json_object_set_new(to, "span_s", number(d->span_s));
    json_object_set_new(to, "requests_per_s", number(d->rate));
    json_object_set_new(to, "busiest_requests_per_s", number(d->peak_rate));
    json_object_set_new(to, "prompt_tokens_per_s", number(d->prompt_rate));
    json_object_set_new(to, "output_tokens_per_s", number(d->output_rate));
    json_object_set_new(to, "gap", spread_json(&d->gap, "s"));
    json_object_set_new(to, "gap_cv", number(d->gap_cv));
    json_object_set_new(to, "burstiness", number(d->burstiness));
    json_object_set_new(to, "zero_gaps", number(d->zero_gaps));
}

json_t *qr_description_json(const qr_description *d)
{
    json_t *classes = json_array();
    for (uint32_t i = 0; i < d->classes; i++) json_array_append_new(classes, number(d->class_share[i]));
    json_t *to = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:o}", "schema",
        "quire.workload/1", "profile", d->profile, "seed", (json_int_t)d->seed, "requests", (json_int_t)d->requests,
        "skipped", (json_int_t)d->skipped, "shortened", (json_int_t)d->shortened, "prompt_tokens",
        spread_json(&d->prompt, "tokens"), "output_tokens", spread_json(&d->output, "tokens"), "encoder_tokens",
        spread_json(&d->encoder, "tokens"), "block_size", (json_int_t)d->block_size, "prefix_reuse", d->reuse,
        "prefix_blocks", (json_int_t)d->blocks, "hash_block_size", (json_int_t)d->hash_block, "hash_ids",
        (json_int_t)d->hash_blocks, "hash_ids_distinct", (json_int_t)d->hash_unique, "encoder_reuse", d->encoder_reuse,
        "tenants", (json_int_t)d->tenants, "largest_tenant", d->largest_tenant, "classes", classes);
    if (d->timed && to != NULL) add_times(to, d);
    return to;
}

/* ---- writing ---- */

/* One line; nanoseconds stay exact. */
static void write_request(const qr_workload *workload, const qr_workload_request *r, FILE *to)
{
    fprintf(to, "{\"arrival_ms\": %llu.%06llu, \"prompt_tokens\": %u, \"output_tokens\": %u",
            (unsigned long long)(r->due_ns / 1000000), (unsigned long long)(r->due_ns % 1000000), r->prompt_tokens,
            r->output_tokens);
    if (r->encoder_tokens > 0)
        fprintf(to, ", \"encoder_tokens\": %u, \"encoder_id\": %llu", r->encoder_tokens,
                (unsigned long long)r->encoder_id);
    if (r->prefix_tokens > 0)
        fprintf(to, ", \"prefix_tokens\": %u, \"prefix_id\": %llu", r->prefix_tokens, (unsigned long long)r->prefix_id);
    for (uint32_t i = 0; i < r->hash_count; i++)
        fprintf(to, "%s%llu", i == 0 ? ", \"hash_ids\": [" : ", ", (unsigned long long)r->hash_ids[i]);
    if (r->hash_count > 0) fprintf(to, "], \"hash_block_size\": %u", qr_workload_hash_block(workload));
    if (qr_workload_tenants(workload) > 1) fprintf(to, ", \"tenant\": %u", r->tenant);
    if (r->mix > 0) fprintf(to, ", \"class\": %u", r->mix);
    if (r->priority != 0) fprintf(to, ", \"priority\": %d", r->priority);
    fputs("}\n", to);
}

quire_status qr_workload_write(qr_workload *workload, uint64_t until_ns, FILE *to, quire_error *error)
{
    qr_workload_request request;
    if (qr_workload_is_file(workload))
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "workload.source is \"file\": a trace has no token ids, and would be another workload");
    QR_TRY(check_end(workload, until_ns, error));
    for (uint32_t i = 0; next(workload, i, until_ns, &request) && !ferror(to); i++)
        write_request(workload, &request, to);
    return ferror(to) ? qr_fail(error, QUIRE_ERR_IO, "the trace could not be written") : QUIRE_OK;
}
