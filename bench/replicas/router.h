/* Which of several replicas gets a request. */
#ifndef QR_BENCH_ROUTER_H
#define QR_BENCH_ROUTER_H

#include "bench/replicas/prefix_map.h"

/* The load of a replica is the number of its requests that have not ended.
 *
 *   random        any, all equally likely
 *   least_loaded  one with the least load
 *   prefix        of those that hold the longest prefix of the prompt the one with the least load, unless that is more
 *                 than `slack` above the least of all: then, and where nobody holds any, as least_loaded */
typedef enum qr_routing { QR_ROUTING_RANDOM, QR_ROUTING_LEAST_LOADED, QR_ROUTING_PREFIX } qr_routing;

extern const char *const qr_routing_names[3];

typedef struct qr_router {
    qr_routing           routing;
    uint32_t             count, slack;
    const uint32_t      *load; /* [count] kept up to date by the owner */
    const qr_prefix_map *map;  /* of routing prefix */
    uint64_t             seed, chosen;
} qr_router;

uint32_t qr_router_choose(qr_router *router, const int32_t *prompt, uint32_t prompt_count);

#endif
