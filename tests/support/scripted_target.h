/* A benchmark target that does what a script says, on a clock that moves only while somebody waits. */
#ifndef QR_TESTS_SCRIPTED_TARGET_H
#define QR_TESTS_SCRIPTED_TARGET_H

#include "bench/run/target.h"

enum { SCRIPTED_MAX_REQUESTS = 256 };

/* The first token comes `ttft_ns` after the submit, then one every `gap_ns`; token k of a request is k. */
typedef struct scripted_request {
    uint64_t     ttft_ns, gap_ns;
    uint32_t     tokens;
    quire_status refusal; /* OK: accepted */
} scripted_request;

typedef struct scripted_target {
    const scripted_request *script; /* request r follows script[r % script_count] */
    uint32_t                script_count;
    uint32_t                queue;       /* so many in flight, more are ERR_FULL; 0: no limit */
    bool                    lies_after;  /* after stop the second token of each request differs */
    quire_status            wait_status; /* that `wait` fails with from `fails_at_ns` on */
    uint64_t                fails_at_ns;
    /* what happened */
    uint64_t            now_ns;
    uint32_t            submitted, in_flight, starts, stops, flushes, cancels;
    uint64_t            submit_ns[SCRIPTED_MAX_REQUESTS];
    uint32_t            sent[SCRIPTED_MAX_REQUESTS]; /* events */
    void               *user_data[SCRIPTED_MAX_REQUESTS];
    bool                is_cancelled[SCRIPTED_MAX_REQUESTS];
    quire_finish_detail detail; /* of the event handed out last */
} scripted_target;

qr_target scripted_target_of(scripted_target *scripted);

#endif
