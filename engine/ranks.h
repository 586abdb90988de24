/* An engine that is one rank of several. Rank 0 has the host's requests and events; the scheduler runs on every rank,
 * with the same calls in the same order and the same times, and so decides the same. In each step rank 0 tells the
 * others, in one message of bounded size, what is new; after the forward pass it chooses the tokens and tells them too.
 *
 *   ranks.c          joining: all ranks are alike, or the engine is not created
 *   ranks_message.c  a step's messages */
#ifndef QR_ENGINE_RANKS_H
#define QR_ENGINE_RANKS_H

#include "base/memory.h"
#include "topology/placement.h"

#include "quire/comm.h"
#include "quire/plan.h"

/* A call that changes the scheduler. */
typedef enum qr_rank_call {
    QR_CALL_FLUSH,
    QR_CALL_ENTER, /* its request follows */
    QR_CALL_CANCEL,
    QR_CALL_PAUSE,
    QR_CALL_RESUME,
    QR_CALL_FAIL,
} qr_rank_call;

/* What a step begins with. */
typedef struct qr_order {
    uint64_t bytes; /* of the message, with this */
    uint64_t now_ns;
    uint32_t call_count;
    bool     end, plan, drafts_allowed;
} qr_order;

typedef struct qr_ranks {
    quire_comm comm;    /* ranks 0 or 1: this engine is alone */
    char      *message; /* [capacity] of a step: order, calls; then the results */
    size_t     capacity, used, reserve;
    uint32_t   call_count;
    bool       joined;                   /* all ranks have an engine */
    bool       ended;                    /* rank 0 has destroyed its engine */
    bool       lost;                     /* a rank cannot be reached, or has decided otherwise */
    uint64_t   bytes, messages, wait_ns; /* of all steps */
} qr_ranks;

static inline bool qr_ranks_several(const qr_ranks *ranks) { return ranks->comm.ranks > 1; }
static inline bool qr_ranks_follows(const qr_ranks *ranks) { return ranks->comm.rank > 0; }

/* ---- create ---- */

/* Takes a caller's comm, NULL: none. ERR_INVALID: it makes no sense. */
quire_status qr_ranks_take(qr_ranks *ranks, const quire_comm *comm, quire_error *error);

/* ERR_INVALID: a rank differs from rank 0 in what must be alike, or runs on CPUs of another; the message names the
 * first difference. `facts`: lines of "name is value". All return the same. */
enum { QR_RANK_FACTS = 8192 };
quire_status qr_ranks_compare(const qr_ranks *ranks, const char facts[QR_RANK_FACTS], const qr_placement *placement,
                              quire_error *error);

/* Names this library's code, "build ID"; of another build it is another. "" where the linker left none. */
void qr_ranks_binary(char *text, size_t capacity);

/* Layout for an arena, counting or taking. */
typedef struct qr_ranks_limits {
    uint32_t records;                   /* requests that may be unfinished at once */
    uint32_t prompt, encoder, features; /* most of a request: tokens; values of its frames */
    uint32_t samples, top;              /* of a step; candidates of each */
} qr_ranks_limits;
void qr_ranks_layout(qr_ranks *ranks, qr_arena *arena, const qr_ranks_limits *limits);

/* ---- rank 0's side of a step. False: a rank was lost ---- */

bool qr_ranks_has_room(const qr_ranks *ranks, const quire_request *request, uint32_t features); /* for its call */
void qr_ranks_note(qr_ranks *ranks, qr_rank_call call, quire_request_id id, quire_status status, uint64_t time_ns);
void qr_ranks_note_enter(qr_ranks *ranks, const quire_request *request, uint32_t features, quire_request_id id,
                         uint64_t arrival_ns);
bool qr_ranks_send_order(qr_ranks *ranks, qr_order *order);

/* ---- the others' ---- */

bool qr_ranks_receive_order(qr_ranks *ranks, qr_order *order_out);

typedef struct qr_noted_call {
    qr_rank_call     call;
    quire_status     status;
    quire_request_id id;
    uint64_t         time_ns;
    quire_request    request; /* ENTER; its arrays are in the message */
} qr_noted_call;
void qr_ranks_next_call(qr_ranks *ranks, qr_noted_call *call_out); /* call_count times, in order */

/* ---- the end of a step, of all ranks ---- */

/* How the rank fared and what it has decided since create, told to rank 0, which tells all how the step ended, the time
 * and its `sampled`. On the others *results are filled, candidates go to top_tokens and top_logprobs [samples][top].
 * `why` (256 bytes) says what is wrong when false is returned. */
typedef struct qr_conclusion {
    quire_status    status;
    uint64_t        hash, now_ns, step;
    quire_sampled  *results; /* [count] */
    uint32_t        count, top;
    int32_t        *top_tokens;
    float          *top_logprobs;
    const uint32_t *candidate_counts; /* [count] of beam searches; 0: none */
} qr_conclusion;
bool qr_ranks_conclude(qr_ranks *ranks, qr_conclusion *conclusion, char *why);

/* Nothing more can be done together: says why and ends all ranks, where the comm can. */
void qr_ranks_lose(qr_ranks *ranks, const char *why);

#endif
