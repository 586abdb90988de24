/* A step's messages. All parts begin at multiples of 8 bytes; ranks are alike, so structs travel as they are. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/clock.h"
#include "engine/ranks.h"

enum {
    FIRST_BYTES  = 4096,    /* of a message, sent before its length is known to the others; most have no more */
    USUAL_BYTES  = 1 << 18, /* room for requests that come together; more wait for the next step */
    CALLS_A_STEP = 4,       /* but ENTER, of each record: cancelled, paused, resumed, failed */
};

typedef struct call_header {
    uint32_t call;
    int32_t  status;
    uint64_t id, time_ns;
} call_header;

static size_t padded(size_t bytes) { return qr_round_up(bytes, 8); }

/* ---- layout ---- */

/* Arrays and texts that a request brings along: where its pointers to them are. */
#define AT(member) offsetof(quire_request, member)
static const size_t parts[] = {AT(prompt),        AT(encoder_input), AT(encoder_features), AT(stop),
                               AT(logit_bias),    AT(allowed),       AT(banned),           AT(first_banned),
                               AT(first_allowed), AT(last_allowed),  AT(tenant),           AT(cache_salt)};
enum { PARTS = sizeof parts / sizeof *parts };

static size_t text_bytes(const char *text) { return text != NULL ? strlen(text) + 1 : 0; }

/* `features`: of a frame. */
static void measure(const quire_request *r, uint32_t features, size_t bytes[PARTS])
{
    const size_t all[PARTS] = {r->prompt_count * sizeof *r->prompt,
                               r->encoder_input != NULL ? r->encoder_count * sizeof *r->encoder_input : 0,
                               (size_t)r->encoder_frames * features * sizeof *r->encoder_features,
                               r->stop_count * sizeof *r->stop,
                               r->logit_bias_count * sizeof *r->logit_bias,
                               r->allowed_count * sizeof *r->allowed,
                               r->banned_count * sizeof *r->banned,
                               r->first_banned_count * sizeof *r->first_banned,
                               r->first_allowed_count * sizeof *r->first_allowed,
                               r->last_allowed_count * sizeof *r->last_allowed,
                               text_bytes(r->tenant),
                               text_bytes(r->cache_salt)};
    memcpy(bytes, all, sizeof all);
}

static size_t enter_bytes(const quire_request *request, uint32_t features)
{
    size_t bytes[PARTS], sum = sizeof(call_header) + padded(sizeof *request);
    measure(request, features, bytes);
    for (int i = 0; i < PARTS; i++) sum += sizeof(uint64_t) + padded(bytes[i]);
    return sum;
}

/* The longest request there can be. */
static size_t largest_enter(const qr_ranks_limits *limits)
{
    const quire_request none  = {0};
    const size_t        lists = sizeof(int32_t) * (4 * QUIRE_MAX_STOP_IDS + 2 * QUIRE_MAX_LISTED_IDS) +
                         sizeof(quire_logit_bias) * QUIRE_MAX_LOGIT_BIAS + QUIRE_MAX_TENANT_NAME +
                         QUIRE_MAX_CACHE_SALT + 2;
    const size_t tokens = sizeof(int32_t) * ((size_t)limits->prompt + limits->encoder);
    return enter_bytes(&none, 0) + lists + tokens + sizeof(float) * (size_t)limits->features + 8 * (size_t)PARTS;
}

typedef struct sampled_header {
    int32_t  token;
    float    logprob;
    uint32_t failed, candidates;
} sampled_header;

typedef struct results_header {
    uint64_t bytes, now_ns;
    int32_t  status;
    uint32_t count;
} results_header;

void qr_ranks_layout(qr_ranks *ranks, qr_arena *arena, const qr_ranks_limits *limits)
{
    const size_t results = sizeof(results_header) +
                           limits->samples * (sizeof(sampled_header) + limits->top * (sizeof(int32_t) + sizeof(float)));
    ranks->reserve = sizeof(call_header) * (1 + (size_t)limits->records * CALLS_A_STEP);
    ranks->capacity =
        qr_max_u64(qr_max_u64(largest_enter(limits), USUAL_BYTES) + ranks->reserve, results) + FIRST_BYTES;
    ranks->message = QR_ARENA_TAKE(arena, char, ranks->capacity);
    ranks->used    = sizeof(qr_order);
}

/* ---- sending ---- */

static void *take(qr_ranks *ranks, size_t bytes)
{
    char *at = ranks->message + ranks->used;
    ranks->used += padded(bytes);
    qr_assert(ranks->used <= ranks->capacity);
    return at;
}

static void put(qr_ranks *ranks, const void *from, size_t bytes)
{
    void *at = take(ranks, bytes);
    if (bytes > 0) memcpy(at, from, bytes);
}

bool qr_ranks_has_room(const qr_ranks *ranks, const quire_request *request, uint32_t features)
{
    return ranks->used + enter_bytes(request, features) + ranks->reserve <= ranks->capacity;
}

void qr_ranks_note(qr_ranks *ranks, qr_rank_call call, quire_request_id id, quire_status status, uint64_t time_ns)
{
    if (!qr_ranks_several(ranks)) return;
    put(ranks, &(call_header){.call = call, .status = status, .id = id, .time_ns = time_ns}, sizeof(call_header));
    ranks->call_count++;
}

void qr_ranks_note_enter(qr_ranks *ranks, const quire_request *request, uint32_t features, quire_request_id id,
                         uint64_t arrival_ns)
{
    size_t bytes[PARTS];
    if (!qr_ranks_several(ranks)) return;
    qr_ranks_note(ranks, QR_CALL_ENTER, id, QUIRE_OK, arrival_ns);
    put(ranks, request, sizeof *request);
    measure(request, features, bytes);
    for (int i = 0; i < PARTS; i++) {
        const void *from;
        memcpy(&from, (const char *)request + parts[i], sizeof from);
        put(ranks, &(uint64_t){bytes[i]}, sizeof(uint64_t));
        put(ranks, from, bytes[i]);
    }
}

/* Both sides: the first part, whose first word says how long the message is, and the rest if there is one. */
static bool broadcast(qr_ranks *ranks)
{
    const quire_comm *comm  = &ranks->comm;
    const uint64_t    start = qr_now_ns();
    uint64_t          bytes;
    if (comm->broadcast(comm->context, ranks->message, FIRST_BYTES) != 0) return false;
    memcpy(&bytes, ranks->message, sizeof bytes);
    qr_assert(bytes <= ranks->capacity);
    ranks->messages++;
    ranks->bytes += comm->rank > 0 ? qr_max_u64(bytes, FIRST_BYTES) : 0;
    if (comm->rank == 0) ranks->wait_ns += qr_now_ns() - start;
    if (bytes <= FIRST_BYTES) return true;
    ranks->messages++;
    return comm->broadcast(comm->context, ranks->message + FIRST_BYTES, bytes - FIRST_BYTES) == 0;
}

bool qr_ranks_send_order(qr_ranks *ranks, qr_order *order)
{
    order->bytes      = ranks->used;
    order->call_count = ranks->call_count;
    memcpy(ranks->message, order, sizeof *order);
    const bool sent   = broadcast(ranks);
    ranks->used       = sizeof *order;
    ranks->call_count = 0;
    return sent;
}

/* ---- receiving ---- */

bool qr_ranks_receive_order(qr_ranks *ranks, qr_order *order_out)
{
    if (!broadcast(ranks)) return false;
    memcpy(order_out, ranks->message, sizeof *order_out);
    ranks->used = sizeof *order_out;
    return true;
}

static void get(qr_ranks *ranks, void *to, size_t bytes) { memcpy(to, take(ranks, bytes), bytes); }

static void get_request(qr_ranks *ranks, quire_request *request)
{
    get(ranks, request, sizeof *request);
    request->user_data = NULL; /* rank 0's, as its pointers are */
    for (int i = 0; i < PARTS; i++) {
        uint64_t bytes;
        get(ranks, &bytes, sizeof bytes);
        const void *at = take(ranks, bytes);
        if (bytes == 0) at = NULL;
        memcpy((char *)request + parts[i], &at, sizeof at);
    }
}

void qr_ranks_next_call(qr_ranks *ranks, qr_noted_call *call_out)
{
    call_header header;
    get(ranks, &header, sizeof header);
    *call_out =
        (qr_noted_call){.call = header.call, .status = header.status, .id = header.id, .time_ns = header.time_ns};
    if (call_out->call == QR_CALL_ENTER) get_request(ranks, &call_out->request);
}

/* ---- the end of a step ---- */

typedef struct report {
    uint64_t hash;
    int64_t  status;
} report;

static const char *text_of(uint64_t hash, char text[20])
{
    snprintf(text, 20, "%016llx", (unsigned long long)hash);
    return text;
}

/* Rank 0, of all reports: the first failure, and whether all decided alike. */
static bool judge(const qr_ranks *ranks, const report *reports, qr_conclusion *c, char *why)
{
    char ours[20], theirs[20];
    for (uint32_t i = 0; i < ranks->comm.ranks; i++) {
        if (c->status == QUIRE_OK) c->status = (quire_status)reports[i].status;
        if (reports[i].hash == reports[0].hash) continue;
        snprintf(why, 256, "step %llu: ranks 0 and %u have decided differently: decision hashes %s and %s",
                 (unsigned long long)c->step, i, text_of(reports[0].hash, ours), text_of(reports[i].hash, theirs));
        return false;
    }
    return true;
}

static bool collect_reports(qr_ranks *ranks, qr_conclusion *c, char *why)
{
    const quire_comm *comm = &ranks->comm;
    report            reports[QUIRE_MAX_RANKS];
    size_t            offsets[QUIRE_MAX_RANKS + 1];
    const uint64_t    start = qr_now_ns();
    for (uint32_t i = 0; i <= comm->ranks; i++) offsets[i] = i * sizeof *reports;
    reports[comm->rank] = (report){.hash = c->hash, .status = c->status};
    ranks->messages++;
    ranks->bytes += comm->rank == 0 ? (comm->ranks - 1) * sizeof *reports : 0;
    if (comm->gather(comm->context, reports, offsets) != 0) return false;
    ranks->wait_ns += qr_now_ns() - start;
    return comm->rank > 0 || judge(ranks, reports, c, why);
}

static void put_results(qr_ranks *ranks, const qr_conclusion *c)
{
    const bool ran = c->status == QUIRE_OK;
    ranks->used    = sizeof(results_header);
    for (uint32_t i = 0; ran && i < c->count; i++) {
        const quire_sampled *s     = &c->results[i];
        const uint32_t       count = s->candidates != NULL ? c->candidate_counts[i] : 0;
        put(ranks, &(sampled_header){s->token, s->logprob, s->failed, count}, sizeof(sampled_header));
        put(ranks, s->candidates, count * sizeof *s->candidates);
        put(ranks, s->candidate_logprobs, count * sizeof *s->candidate_logprobs);
    }
    const results_header header = {
        .bytes = ranks->used, .now_ns = c->now_ns, .status = c->status, .count = ran ? c->count : 0};
    memcpy(ranks->message, &header, sizeof header);
}

static bool get_results(qr_ranks *ranks, qr_conclusion *c)
{
    results_header header;
    memcpy(&header, ranks->message, sizeof header);
    ranks->used = sizeof header;
    c->status   = header.status;
    c->now_ns   = header.now_ns;
    if (c->status == QUIRE_OK && header.count != c->count) return false;
    for (uint32_t i = 0; i < header.count; i++) {
        sampled_header s;
        const size_t   at = (size_t)i * c->top;
        get(ranks, &s, sizeof s);
        if (s.candidates > c->top) return false;
        get(ranks, c->top_tokens + at, s.candidates * sizeof *c->top_tokens);
        get(ranks, c->top_logprobs + at, s.candidates * sizeof *c->top_logprobs);
        c->results[i] = (quire_sampled){.token              = s.token,
                                        .logprob            = s.logprob,
                                        .failed             = s.failed != 0,
                                        .candidates         = s.candidates > 0 ? c->top_tokens + at : NULL,
                                        .candidate_logprobs = s.candidates > 0 ? c->top_logprobs + at : NULL};
    }
    return true;
}

bool qr_ranks_conclude(qr_ranks *ranks, qr_conclusion *c, char *why)
{
    snprintf(why, 256, "step %llu: another rank cannot be reached", (unsigned long long)c->step);
    if (!collect_reports(ranks, c, why)) return false;
    if (ranks->comm.rank == 0) {
        c->now_ns = qr_now_ns();
        put_results(ranks, c);
    }
    const bool told = broadcast(ranks);
    const bool read = told && (ranks->comm.rank == 0 || get_results(ranks, c));
    if (told && !read) snprintf(why, 256, "step %llu: rank 0 has planned another step", (unsigned long long)c->step);
    ranks->used = sizeof(qr_order);
    return read;
}
