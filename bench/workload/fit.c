/* Counts the requests that the KV cache could not hold even alone. */
#include "bench/workload/fit.h"

#include "base/error.h"

enum { MOST_LOOKED_AT = 1000 };

static void look_at(const qr_workload *workload, qr_fit *fit)
{
    const uint32_t count = qr_workload_count(workload);
    for (uint32_t i = 0; i < count && i < MOST_LOOKED_AT; i++) {
        qr_workload_request request;
        qr_workload_peek(workload, i, &request);
        const uint64_t tokens = (uint64_t)request.prompt_tokens + request.output_tokens;
        fit->requests++;
        fit->too_long += tokens > fit->capacity + 1; /* the last token's key is never read */
        if (tokens > fit->longest) fit->longest = tokens;
    }
}

quire_status qr_workload_check_fit(const qr_workload *workload, const quire_model_info *model,
                                   const quire_stats *engine, qr_fit *fit_out, quire_error *error)
{
    *fit_out = (qr_fit){.capacity = engine->blocks * engine->block_size};
    if (model->window > 0) return QUIRE_OK;
    look_at(workload, fit_out);
    if (fit_out->too_long == 0 || fit_out->too_long < fit_out->requests) return QUIRE_OK;
    return qr_fail(
        error, QUIRE_ERR_INVALID,
        "no request fits the KV cache: the longest has %llu tokens, the cache holds %llu (%llu blocks of %u)",
        (unsigned long long)fit_out->longest, (unsigned long long)fit_out->capacity, (unsigned long long)engine->blocks,
        engine->block_size);
}
