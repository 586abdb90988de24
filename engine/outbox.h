/* Events on their way to the reader: one bounded ring with an eventfd. Nothing is ever dropped: what does not fit stays
 * with the scheduler and holds the engine back.
 *
 *   slots in [released, head): in use        [released, tail): with the reader until its next poll
 *   slot_count = token_capacity + the ledger's finish_capacity, so that the FINISHED events always fit
 *
 * A request that has `hold_above` unread tokens per sequence is paused, and goes on when half of them are read; one
 * whose next tokens may need more logits slots than are free is paused until the reader gives some back. */
#ifndef QR_ENGINE_OUTBOX_H
#define QR_ENGINE_OUTBOX_H

#include "engine/ledger.h"
#include "scheduler/scheduler.h"

typedef struct qr_outbox_slot {
    quire_event event;
    uint32_t    record;
    uint32_t    logits; /* slot of the logits pool, or QR_NO_LOGITS */
    union {
        struct {
            quire_token_detail detail;
            int32_t            top_tokens[QUIRE_MAX_LOGPROBS];
            float              top_logprobs[QUIRE_MAX_LOGPROBS];
        } token;
        quire_finish_detail finish;
    } u;
} qr_outbox_slot;

#define QR_NO_LOGITS UINT32_MAX

typedef struct qr_outbox_limits {
    uint32_t max_sequences;   /* running at once */
    uint32_t tokens_per_step; /* of one sequence: 1 + drafts */
    uint32_t given_per_step;  /* tokens of prompts, of all sequences */
    uint32_t logits_slots, vocab_size;
    uint64_t consumer_timeout_ns;
} qr_outbox_limits;

typedef struct qr_outbox {
    qr_ledger       *ledger;
    qr_outbox_limits limits;
    qr_outbox_slot  *slots; /* ring */
    uint64_t         head, tail, released;
    uint32_t         slot_count, token_capacity, tokens; /* slots in use by TOKEN and PROMPT */
    uint32_t         hold_above;
    float           *logits;      /* [logits_slots][vocab_size] */
    uint32_t        *logits_free; /* stack [logits_free_count] */
    uint32_t         logits_free_count;
    uint32_t         held;          /* records with holds */
    uint32_t         logits_wanted; /* LIVE records with logits due */
    bool             crossed;       /* a record passed hold_above since the last regulate */
    bool             stuck;         /* the driver could not go on for lack of room here */
    bool             ready;
    int              event_fd;
} qr_outbox;

/* Layout; the ledger's layout comes first. */
void         qr_outbox_layout(qr_outbox *outbox, qr_arena *arena, const qr_outbox_limits *limits, qr_ledger *ledger);
quire_status qr_outbox_init(qr_outbox *outbox, quire_error *error); /* ERR_IO: no descriptor left */
void         qr_outbox_deinit(qr_outbox *outbox);

/* As quire_engine_poll. Thread: reader. */
size_t qr_outbox_poll(qr_outbox *outbox, quire_event *events, size_t capacity, uint64_t now_ns);

/* Sleeps until event_fd is readable, for a signal, or until that time; false: the time is over. Thread: reader. */
bool qr_outbox_sleep(qr_outbox *outbox, uint64_t until_ns);

/* ---- Thread: the driver, ledger locked ---- */

/* As the public interface shows it, without detail. */
quire_event qr_event_of(const qr_scheduler_event *event, void *user_data, uint64_t time_ns);

/* What the reader asked to see of a token. */
typedef struct qr_token_extra {
    const float   *logits; /* [vocab_size] copied, or NULL */
    uint32_t       top_count;
    const int32_t *top_tokens;
    const float   *top_logprobs;
} qr_token_extra;

/* False: no room (tokens, or a logits slot); nothing was done. */
bool qr_outbox_put_token(qr_outbox *outbox, const qr_scheduler_event *event, const qr_token_extra *extra,
                         uint64_t now_ns);
bool qr_outbox_put_finished(qr_outbox *outbox, const qr_scheduler_event *event, uint64_t now_ns);
/* All ends of a request that the scheduler has never seen. */
void qr_outbox_end_unstarted(qr_outbox *outbox, qr_record *record, quire_finish finish, quire_status status,
                             uint64_t now_ns);
/* After putting: makes event_fd readable if there are events, or if slots with the reader are needed back; `waiting`:
 * an event found no room. */
void qr_outbox_signal(qr_outbox *outbox, bool waiting);

/* Room for the tokens of any one step; false also marks the outbox as stuck until the reader makes room. */
bool qr_outbox_has_room(qr_outbox *outbox);

typedef enum qr_change { QR_PAUSE, QR_RESUME, QR_FAIL } qr_change;
typedef void qr_apply_change(void *context, quire_request_id id, qr_change change);

/* Decides who is held back and who goes on, oldest request first; ends requests whose reader has timed out. */
void qr_outbox_regulate(qr_outbox *outbox, uint64_t now_ns, qr_apply_change *apply, void *context);

void qr_outbox_make_live(qr_outbox *outbox, qr_record *record); /* the scheduler has it now */

#endif
