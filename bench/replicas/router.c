/* One pass over the loads; of prefixes, over those that hold the longest. */
#include "bench/replicas/router.h"

#include "base/rng.h"

enum { STREAM_ROUTING = 5 }; /* beside those of the workload */

const char *const qr_routing_names[3] = {"random", "least_loaded", "prefix"};

/* Equals take turns. */
static uint32_t least_loaded(const qr_router *r)
{
    uint32_t best = (uint32_t)(r->chosen % r->count);
    for (uint32_t i = 0, at = best; i < r->count; i++, at = at + 1 < r->count ? at + 1 : 0)
        if (r->load[at] < r->load[best]) best = at;
    return best;
}

static uint32_t with_prefix(const qr_router *r, const int32_t *prompt, uint32_t prompt_count)
{
    const uint32_t idlest = least_loaded(r);
    uint32_t       best   = QR_NO_HOLDER;
    for (uint32_t at = qr_prefix_map_find(r->map, prompt, prompt_count); at != QR_NO_HOLDER;
         at          = qr_prefix_map_next(r->map, at)) {
        const uint32_t replica = r->map->holders[at].replica;
        if (best == QR_NO_HOLDER || r->load[replica] < r->load[best]) best = replica;
    }
    return best != QR_NO_HOLDER && r->load[best] <= r->load[idlest] + r->slack ? best : idlest;
}

static uint32_t choose(const qr_router *r, const int32_t *prompt, uint32_t prompt_count)
{
    switch (r->routing) {
    case QR_ROUTING_RANDOM: return qr_random_below(r->seed, STREAM_ROUTING, r->chosen, r->count);
    case QR_ROUTING_LEAST_LOADED: return least_loaded(r);
    case QR_ROUTING_PREFIX: break;
    }
    return with_prefix(r, prompt, prompt_count);
}

uint32_t qr_router_choose(qr_router *router, const int32_t *prompt, uint32_t prompt_count)
{
    const uint32_t replica = choose(router, prompt, prompt_count);
    router->chosen++;
    return replica;
}
