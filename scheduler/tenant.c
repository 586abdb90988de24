/* Tenants: limits, the queue of each, and virtual token counters (Sheng et al., "Fairness in Serving Large Language
 * Models", OSDI 2024, arXiv:2401.00588): who has been served least, by weight, comes first. */
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "scheduler/state.h"

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a: only speeds the search up, names are compared */
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

static qr_links links_of(const qr_scheduler *s) { return QR_LINKS(s->tenants, link); }

static void set_options(qr_scheduler *s, uint32_t tenant, const quire_tenant_options *o)
{
    qr_tenant   *t         = &s->tenants[tenant];
    const double weight    = o->weight > 0 ? (double)o->weight : 1;
    const double fraction  = o->max_kv_fraction > 0 ? (double)o->max_kv_fraction : 1;
    t->counter_per_token   = (uint64_t)((double)(1u << QR_COUNTER_BITS) / weight);
    t->kv_limit            = fraction < 1 ? (uint32_t)((double)s->options.num_blocks * fraction) : UINT32_MAX;
    t->max_num_seqs        = o->max_num_seqs ? o->max_num_seqs : s->options.max_num_seqs;
    t->max_num_queued_reqs = o->max_num_queued_reqs ? o->max_num_queued_reqs : s->options.max_num_queued_reqs;
    qr_block_pool_set_weight(&s->cache.pool, tenant, (uint32_t)(weight + 0.5));
}

static void set_name(qr_tenant *t, const char *name)
{
    const size_t length = strlen(name);
    memcpy(t->name, name, length + 1);
    t->hash = hash_name(name);
    t->used = true;
}

void qr_tenants_init(qr_scheduler *s)
{
    s->active = s->idle = QR_LIST_EMPTY;
    for (uint32_t i = 0; i < s->tenant_count; i++) {
        const bool                 listed  = i < s->options.tenant_count;
        const quire_tenant_options options = listed ? s->options.tenants[i] : (quire_tenant_options){0};
        set_options(s, i, &options);
        s->tenants[i].listed = listed;
        if (listed) set_name(&s->tenants[i], options.name ? options.name : "");
        qr_list_append(&s->idle, links_of(s), i);
    }
}

uint32_t qr_tenant_find(const qr_scheduler *s, const char *name)
{
    const uint64_t hash = hash_name(name);
    for (uint32_t i = 0; i < s->tenant_count; i++)
        if (s->tenants[i].used && s->tenants[i].hash == hash && strcmp(s->tenants[i].name, name) == 0) return i;
    return QR_NONE;
}

uint32_t qr_tenant_open(qr_scheduler *s, const char *name)
{
    uint32_t tenant = qr_tenant_find(s, name);
    if (tenant != QR_NONE) return tenant;
    for (tenant = s->idle.head; tenant != QR_NONE && s->tenants[tenant].listed;) tenant = s->tenants[tenant].link.next;
    if (tenant == QR_NONE) return QR_NONE;
    if (s->tenants[tenant].used) qr_block_pool_forget_tenant(&s->cache.pool, tenant);
    set_name(&s->tenants[tenant], name);
    s->tenants[tenant].counter    = 0;
    s->tenants[tenant].rows       = 0;
    s->tenants[tenant].skipped_in = 0;
    return tenant;
}

void qr_tenant_request_opened(qr_scheduler *s, uint32_t tenant)
{
    if (s->tenants[tenant].live++ == 0) qr_list_remove(&s->idle, links_of(s), tenant);
}

void qr_tenant_request_closed(qr_scheduler *s, uint32_t tenant)
{
    if (--s->tenants[tenant].live == 0) qr_list_append(&s->idle, links_of(s), tenant);
}

/* A tenant that was idle gets no credit for service that it did not ask for. */
static void lift(qr_scheduler *s, qr_tenant *t)
{
    uint64_t floor = UINT64_MAX;
    for (uint32_t i = s->active.head; i != QR_NONE; i = s->tenants[i].link.next)
        floor = qr_min_u64(floor, s->tenants[i].counter);
    if (floor == UINT64_MAX) floor = s->last_admitted_counter;
    t->counter = qr_max_u64(t->counter, floor);
}

void qr_tenant_enqueue(qr_scheduler *s, uint32_t group)
{
    const uint32_t tenant = qr_request_of(s, group)->tenant;
    qr_tenant     *t      = &s->tenants[tenant];
    if (t->waiting++ == 0) {
        lift(s, t);
        qr_list_append(&s->active, links_of(s), tenant);
    }
    qr_heap_push(&t->heap, &s->sequences[group].rank, group);
    s->waiting_groups++;
}

void qr_tenant_dequeue(qr_scheduler *s, uint32_t group)
{
    const uint32_t tenant = qr_request_of(s, group)->tenant;
    qr_tenant     *t      = &s->tenants[tenant];
    qr_heap_remove(&t->heap, group);
    if (--t->waiting == 0) qr_list_remove(&s->active, links_of(s), tenant);
    s->waiting_groups--;
}

void qr_tenant_charge(qr_scheduler *s, uint32_t tenant, uint64_t tokens)
{
    s->tenants[tenant].counter += tokens * s->tenants[tenant].counter_per_token;
    s->tenants[tenant].rows += tokens;
}

uint32_t qr_tenant_head(const qr_scheduler *s, bool skip_quota)
{
    uint32_t best = QR_NONE;
    for (uint32_t i = s->active.head; i != QR_NONE; i = s->tenants[i].link.next) {
        const qr_tenant *t = &s->tenants[i];
        if (t->heap.count == 0 || (skip_quota && t->skipped_in == s->plan.number)) continue;
        const uint32_t group = t->heap.nodes[0].item;
        if (best == QR_NONE || qr_fair_counter(s, group) < qr_fair_counter(s, best) ||
            (qr_fair_counter(s, group) == qr_fair_counter(s, best) &&
             qr_rank_before(&s->sequences[group].rank, &s->sequences[best].rank)))
            best = group;
    }
    return best;
}
