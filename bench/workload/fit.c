/* Counts the requests that the KV cache could not hold even alone, or that max_model_len cuts. */
#include "bench/workload/fit.h"

#include <stdio.h>

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
        fit->shortened += request.is_shortened;
        fit->too_long += tokens > fit->capacity + 1; /* the last token's key is never read */
        if (tokens > fit->longest) fit->longest = tokens;
    }
}

quire_status qr_workload_check_fit(const qr_workload *workload, const quire_model_info *model,
                                   const quire_stats *engine, qr_fit *fit_out, quire_error *error)
{
    *fit_out = (qr_fit){.capacity = engine->blocks * engine->block_size, .max_model_len = engine->max_model_len};
    look_at(workload, fit_out);
    if (model->window > 0 || engine->blocks == 0) fit_out->too_long = 0; /* a server's cache is not known */
    if (fit_out->too_long == 0 || fit_out->too_long < fit_out->requests) return QUIRE_OK;
    return qr_fail(
        error, QUIRE_ERR_INVALID,
        "no request fits the KV cache: the longest has %llu tokens, the cache holds %llu (%llu blocks of %u)",
        (unsigned long long)fit_out->longest, (unsigned long long)fit_out->capacity, (unsigned long long)engine->blocks,
        engine->block_size);
}

void qr_fit_warn(const qr_fit *fit, const qr_workload *workload, qr_fit_sayer *say, void *context)
{
    char sentence[192];
    if (fit->shortened > 0) {
        snprintf(sentence, sizeof sentence,
                 "%u of %u requests are shortened: prompt and output are beyond max_model_len %u", fit->shortened,
                 fit->requests, fit->max_model_len);
        say(context, sentence);
    }
    if (fit->too_long > 0) {
        snprintf(
            sentence, sizeof sentence,
            "%u of %u requests do not fit the KV cache and will be refused: the longest has %llu tokens, the cache "
            "holds %llu",
            fit->too_long, fit->requests, (unsigned long long)fit->longest, (unsigned long long)fit->capacity);
        say(context, sentence);
    }
    if (qr_workload_empty(workload) > 0) {
        snprintf(sentence, sizeof sentence,
                 "%u rows of the trace have neither input nor output tokens: they are played with 1 + 1",
                 qr_workload_empty(workload));
        say(context, sentence);
    }
}
