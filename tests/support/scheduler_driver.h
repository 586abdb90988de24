/* Plays everything around a scheduler: a model whose next token is a hash of the prefix, a KV memory in which each slot
 * holds a hash of all tokens up to it and is compared whenever a row reads it, and a reader that checks each token
 * against the prefix it should follow. qr_scheduler_check() runs after every plan and commit. */
#ifndef SCHEDULER_DRIVER_H
#define SCHEDULER_DRIVER_H

#include "scheduler/state.h"

enum { DRIVER_REQUESTS = 512, DRIVER_SEQUENCES = 8, DRIVER_TOKENS = 320, DRIVER_BEAMS = 8 };

typedef struct driver_stream {
    int32_t             tokens[DRIVER_TOKENS];
    uint32_t            count;
    uint32_t            ends; /* FINISHED events */
    quire_finish        finish;
    quire_status        status;
    quire_finish_detail detail;
} driver_stream;

typedef struct driver_request {
    quire_request_id id;
    int32_t          prompt[DRIVER_TOKENS], encoder[DRIVER_TOKENS];
    uint32_t         prompt_count, encoder_count, beam_width;
    uint64_t         tenant_hash;
    quire_request    parameters; /* as submitted; its pointers are not valid any more */
    driver_stream    streams[DRIVER_SEQUENCES];
    bool             last_seen;
} driver_request;

typedef struct driver {
    qr_scheduler_options options;
    qr_scheduler        *scheduler;
    uint64_t             now_ns;
    const quire_plan    *plan;
    uint64_t            *slots; /* [num_blocks + num_local_blocks][block_size] */
    driver_request      *requests;
    uint32_t             request_count;
    quire_sampled       *results;
    int32_t             *candidates;
    float               *candidate_logprobs;
    int32_t              token_below; /* tokens are drawn from [0, this); 0 = the whole vocabulary */
    quire_request_id     poison;      /* a request whose rows make the step fail */
    quire_request_id     not_finite;  /* a request whose logits are not finite */
    uint64_t             steps;
} driver;

/* Small and simple: no watermark, no threshold, extents off, prefix caching off; change before driver_start(). */
qr_scheduler_options driver_options(uint32_t num_blocks, uint32_t block_size);
qr_scheduler_options driver_caching_options(uint32_t num_blocks); /* with prefix caching, block_size 4 */
qr_scheduler_options driver_priority_options(uint32_t num_blocks, uint64_t ageing_ns);
void                 driver_start(driver *d, const qr_scheduler_options *options);
void                 driver_start_blocks(driver *d, uint32_t num_blocks); /* driver_options(), block_size 4 */
void                 driver_stop(driver *d);
void                 driver_stop_empty(driver *d); /* asserts that nothing lives and all blocks are FREE */
void                 driver_finish(driver *d);     /* runs until idle, then stops */

/* tokens: prompt_count of them from a stream named by `seed`; equal seeds give equal prompts. */
void          driver_fill(int32_t *tokens, uint32_t count, uint64_t seed, uint32_t vocab);
quire_request driver_request_of(uint32_t max_tokens);
/* The id, or 0 and the status in *status_out. The request's prompt (and encoder input) are made from seeds. */
quire_request_id driver_submit(driver *d, quire_request request, uint32_t prompt_count, uint64_t prompt_seed,
                               quire_status *status_out);
quire_request_id driver_submit_encoder(driver *d, quire_request request, uint32_t encoder_count, uint64_t encoder_seed,
                                       uint32_t prompt_count, uint64_t prompt_seed);
/* A prompt that no other request of this driver has; for a tenant; with a priority. */
quire_request_id driver_submit_new(driver *d, uint32_t prompt_count, uint32_t max_tokens);
quire_request_id driver_submit_for(driver *d, const char *tenant, uint32_t prompt_count, uint32_t max_tokens);
quire_request_id driver_submit_priority(driver *d, int32_t priority, uint32_t prompt_count, uint32_t max_tokens);
/* Submitted, and RUNNING after one step. */
quire_request_id driver_running(driver *d, uint32_t max_tokens, uint32_t prompt_count, uint64_t prompt_seed);
/* On 6 blocks: two requests, of which the younger, which is returned, has been preempted and has lost its tail. */
quire_request_id driver_preempt(driver *d, quire_request_id *senior_out);
quire_status driver_submit_raw(driver *d, const quire_request *request, quire_error *error, quire_request_id *id_out);
driver_request *driver_find(driver *d, quire_request_id id);

const quire_plan *driver_plan(driver *d); /* plan, check */
void driver_commit(driver *d);            /* copies, encoders, rows, samples; commit or commit_failed; events; check */
void driver_take_events(driver *d);
bool driver_step(driver *d);                    /* both; false: nothing was planned */
void driver_run(driver *d, uint32_t max_steps); /* until idle; fails the test if it takes longer */
void driver_check(driver *d);

/* The plan's entry of a request's sequence; NULL: not in it. */
const quire_plan_sequence *driver_entry(const driver *d, quire_request_id id, uint32_t index);
/* The record of a live sequence; asserts that it exists. */
typedef struct driver_sequence {
    const quire_request *request;
    const int32_t       *tokens; /* [length] */
    uint32_t             length, prompt_count, output_count;
    const uint32_t      *blocks;
    uint32_t             block_count, computed;
    qr_sequence_state    state;
} driver_sequence;
driver_sequence   driver_view(const driver *d, quire_request_id id, uint32_t index);
quire_stats       driver_stats(const driver *d);
quire_wait_reason driver_reason(const driver *d, quire_request_id id);

uint32_t driver_cached_tokens(driver *d, quire_request_id id); /* of its first sequence, at its end */
uint64_t driver_first_planned(driver *d, quire_request_id id);
/* ASSERT_TABLE(&d, id, index, 0, 1, 2): the sequence's self blocks. */
void driver_assert_table(const driver *d, quire_request_id id, uint32_t index, uint32_t count, const uint32_t *blocks);
#define ASSERT_TABLE(d, id, index, ...)                                                                                \
    driver_assert_table(d, id, index, sizeof((uint32_t[]){__VA_ARGS__}) / 4, (uint32_t[]){__VA_ARGS__})
/* Its first sequence has ended as cancelled after so many tokens, and the request is gone. */
void driver_assert_cancelled(driver *d, quire_request_id id, uint32_t tokens);

/* The token that the model gives to a prefix. */
int32_t driver_next_token(const driver *d, const driver_request *r, const int32_t *output, uint32_t output_count,
                          uint32_t index);
/* The 2 * width best continuations of a prefix, for beam searches. */
void driver_candidates(const driver *d, const driver_request *r, const int32_t *output, uint32_t output_count,
                       uint32_t count, int32_t *tokens, float *logprobs);

#endif
