/* How many blocks the KV cache has: one answer for the engine, for the forecast of `quire check` and, as
 * quire_kv_pool_plan(), for hosts that plan or simulate an engine. docs/CACHE.md, How many blocks. */
#ifndef QR_ENGINE_POOL_SIZE_H
#define QR_ENGINE_POOL_SIZE_H

#include "model/model.h"
#include "scheduler/scheduler.h"

#include "quire/plan.h"

/* `options` are resolved. `available_bytes`: what this process can still take. ERR_INVALID: what was asked for is above
 * that, or less than one block. Pure. */
quire_status qr_pool_size(const quire_engine_options *options, const qr_model_facts *facts, uint64_t available_bytes,
                          uint32_t node_count, quire_kv_pool *pool_out, quire_error *error);

/* Of so many blocks and local ones: their keys and values. */
uint64_t qr_pool_bytes(const quire_kv_pool *pool, uint64_t blocks, uint64_t local_blocks);

/* Does the pool hold fewer tokens than the longest request needs, max_model_len beside the longest encoder input? Then
 * with a warning for people that has both numbers. */
bool qr_pool_is_short(const qr_scheduler_options *options, char *warning_out, size_t size);

/* Which share of the pool each node should hold, in parts of any size: as many threads it has, but at most nine tenths
 * of its free bytes; what does not fit goes to the others likewise. With less free in all, in proportion to what is
 * free. */
void qr_pool_share(uint64_t pool_bytes, uint32_t node_count, const uint32_t *threads, const uint64_t *free_bytes,
                   uint32_t *share_out);

#endif
