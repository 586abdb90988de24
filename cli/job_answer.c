/* Events become a line of JSON. The numbers are written by hand: a row of logits is a hundred thousand of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/array.h"
#include "bench/run/run.h"
#include "cli/command.h"
#include "cli/job.h"

/* ---- collecting ---- */

/* Room for one more token. */
static bool grow(qr_job_sequence *s)
{
    return qr_array_reserve((void **)&s->tokens, s->count, sizeof *s->tokens) &&
           qr_array_reserve((void **)&s->logprobs, s->count, sizeof *s->logprobs);
}

/* 9 digits give a float back exactly; JSON has no infinities. */
static void append_float(qr_text *out, float value)
{
    if (isfinite(value))
        qr_text_format(out, "%.9g", (double)value);
    else
        QR_TEXT_LITERAL(out, "null");
}

static void append_floats(qr_text *out, const float *values, uint32_t count)
{
    QR_TEXT_LITERAL(out, "[");
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) QR_TEXT_LITERAL(out, ", ");
        append_float(out, values[i]);
    }
    QR_TEXT_LITERAL(out, "]");
}

static void append_tops(qr_text *out, const quire_token_detail *detail)
{
    if (out->length > 0) QR_TEXT_LITERAL(out, ", ");
    QR_TEXT_LITERAL(out, "[");
    for (uint32_t i = 0; detail != NULL && i < detail->top_count; i++) {
        qr_text_format(out, "%s[%d, ", i ? ", " : "", detail->top_tokens[i]);
        append_float(out, detail->top_logprobs[i]);
        QR_TEXT_LITERAL(out, "]");
    }
    QR_TEXT_LITERAL(out, "]");
}

static bool keep(float **to, const float *logits, uint32_t vocab_size)
{
    if (*to == NULL) *to = malloc(vocab_size * sizeof **to);
    if (*to != NULL) memcpy(*to, logits, vocab_size * sizeof **to);
    return *to != NULL;
}

static void take_logits(const qr_job *job, qr_job_sequence *s, uint32_t index, const float *logits, uint32_t vocab_size)
{
    const uint32_t wanted = job->from.request.logits;
    bool           kept   = true;
    if ((wanted & QUIRE_LOGITS_FIRST) && index == 0) kept &= keep(&s->first_logits, logits, vocab_size);
    if (wanted & QUIRE_LOGITS_LAST) kept &= keep(&s->last_logits, logits, vocab_size);
    if (wanted & QUIRE_LOGITS_ALL) {
        if (s->logits.length > 0) QR_TEXT_LITERAL(&s->logits, ", ");
        append_floats(&s->logits, logits, vocab_size);
    }
    s->failed |= !kept;
}

static void take_token(qr_job *job, qr_job_sequence *s, const quire_event *event, uint32_t vocab_size)
{
    const quire_token_detail *detail = event->detail;
    if (!grow(s)) {
        s->failed = true;
        return;
    }
    s->tokens[s->count]     = event->token;
    s->logprobs[s->count++] = event->logprob;
    if (job->from.logprobs && job->from.request.logprobs > 0) append_tops(&s->tops, detail);
    if (detail != NULL && detail->logits != NULL) take_logits(job, s, event->index, detail->logits, vocab_size);
}

/* An empty prompt is the token that the model's decoder starts with. */
static uint32_t prompt_count(const qr_job *job)
{
    return job->from.request.prompt_count ? job->from.request.prompt_count : 1;
}

static void take_prompt_token(qr_job *job, const quire_event *event)
{
    const uint32_t count = prompt_count(job);
    if (job->prompt_logprobs == NULL) {
        job->prompt_logprobs = malloc(count * sizeof *job->prompt_logprobs);
        for (uint32_t i = 0; job->prompt_logprobs != NULL && i < count; i++) job->prompt_logprobs[i] = NAN;
    }
    job->prompt_taken++;
    if (job->prompt_logprobs != NULL)
        job->prompt_logprobs[event->index] = event->logprob;
    else
        job->sequences[0].failed = true;
    if (job->from.request.prompt_top_logprobs > 0) append_tops(&job->prompt_tops, event->detail);
}

void qr_job_take(qr_job *job, const quire_event *event, uint32_t vocab_size)
{
    if (job->sequences == NULL) job->sequences = calloc(job->sequence_count, sizeof *job->sequences);
    if (job->sequences == NULL || event->sequence >= job->sequence_count) return;
    qr_job_sequence *s = &job->sequences[event->sequence];
    if (event->kind == QUIRE_EVENT_PROMPT) {
        take_prompt_token(job, event);
        return;
    }
    if (event->kind == QUIRE_EVENT_TOKEN) {
        take_token(job, s, event, vocab_size);
        return;
    }
    s->finished = true;
    s->finish   = event->finish;
    s->status   = event->status;
    if (event->detail != NULL) s->detail = *(const quire_finish_detail *)event->detail;
}

void qr_job_destroy(qr_job *job)
{
    if (job == NULL) return;
    for (uint32_t i = 0; job->sequences != NULL && i < job->sequence_count; i++) {
        qr_job_sequence *s = &job->sequences[i];
        free(s->tokens);
        free(s->logprobs);
        free(s->first_logits);
        free(s->last_logits);
        qr_text_deinit(&s->tops);
        qr_text_deinit(&s->logits);
    }
    free(job->sequences);
    free(job->prompt_logprobs);
    qr_text_deinit(&job->prompt_tops);
    qr_request_line_deinit(&job->from);
    free(job);
}

/* ---- answering ---- */

static void append_id(qr_text *out, const json_t *id)
{
    QR_TEXT_LITERAL(out, "{\"id\": ");
    if (json_is_string(id))
        qr_text_json_string(out, json_string_value(id));
    else if (json_is_integer(id))
        qr_text_format(out, "%lld", (long long)json_integer_value(id));
    else
        QR_TEXT_LITERAL(out, "null");
}

static void append_error(qr_text *out, const qr_line_error *error)
{
    qr_text_format(out, "\"error\": {\"status\": \"%s\", ", qr_status_name(error->status));
    if (error->field[0] != '\0') {
        QR_TEXT_LITERAL(out, "\"field\": ");
        qr_text_json_string(out, error->field);
        QR_TEXT_LITERAL(out, ", ");
    }
    QR_TEXT_LITERAL(out, "\"message\": ");
    qr_text_json_string(out, error->message);
    QR_TEXT_LITERAL(out, "}");
}

void qr_job_answer_error(const json_t *id, uint64_t line, const qr_line_error *error, qr_text *out)
{
    append_id(out, id);
    qr_text_format(out, ", \"line\": %llu, \"finish_reason\": \"error\", ", (unsigned long long)line);
    append_error(out, error);
    QR_TEXT_LITERAL(out, "}\n");
}

static void append_named(qr_text *out, const char *name, const float *values, uint32_t count)
{
    if (values == NULL) return;
    qr_text_format(out, ", \"%s\": ", name);
    append_floats(out, values, count);
}

/* What belongs to one sequence. */
static void append_sequence(qr_text *out, const qr_job *job, const qr_job_sequence *s, uint32_t vocab_size)
{
    QR_TEXT_LITERAL(out, "\"tokens\": [");
    for (uint32_t i = 0; i < s->count; i++) qr_text_format(out, "%s%d", i ? ", " : "", s->tokens[i]);
    qr_text_format(out, "], \"finish_reason\": \"%s\"", s->failed ? "error" : qr_finish_name(s->finish));
    if (s->failed || s->finish == QUIRE_FINISH_ERROR) {
        qr_line_error error = {.status = s->failed ? QUIRE_ERR_NO_MEMORY : s->status};
        /* a request fails alone, in a step that went well, only by its logits */
        const char *why = error.status == QUIRE_ERR_EXECUTION ? "the logits of this request are not finite"
                                                              : quire_status_text(error.status);
        strncpy(error.message, why, sizeof error.message - 1);
        QR_TEXT_LITERAL(out, ", ");
        append_error(out, &error);
    }
    if (job->from.request.beam_width > 1) {
        QR_TEXT_LITERAL(out, ", \"score\": ");
        append_float(out, s->detail.score);
    }
    append_named(out, "first_logits", s->first_logits, vocab_size);
    append_named(out, "last_logits", s->last_logits, vocab_size);
    if (job->from.request.logits & QUIRE_LOGITS_ALL) {
        QR_TEXT_LITERAL(out, ", \"logits\": [");
        qr_text_append(out, s->logits.data, s->logits.length);
        QR_TEXT_LITERAL(out, "]");
    }
    if (!job->from.logprobs) return;
    append_named(out, "logprobs", s->logprobs ? s->logprobs : (const float[]){0}, s->count);
    if (job->from.request.logprobs == 0) return;
    QR_TEXT_LITERAL(out, ", \"top_logprobs\": [");
    qr_text_append(out, s->tops.data, s->tops.length);
    QR_TEXT_LITERAL(out, "]");
}

/* As in vLLM, the first token has none; nor has one that a failure kept from being computed. */
static void append_prompt(qr_text *out, const qr_job *job)
{
    const uint32_t count = prompt_count(job);
    if (!job->from.request.prompt_logprobs) return;
    QR_TEXT_LITERAL(out, ", \"prompt_logprobs\": [");
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) QR_TEXT_LITERAL(out, ", ");
        append_float(out, job->prompt_logprobs ? job->prompt_logprobs[i] : NAN);
    }
    QR_TEXT_LITERAL(out, "]");
    if (job->from.request.prompt_top_logprobs == 0) return;
    QR_TEXT_LITERAL(out, ", \"prompt_top_logprobs\": [null");
    if (job->prompt_tops.length > 0) QR_TEXT_LITERAL(out, ", ");
    qr_text_append(out, job->prompt_tops.data, job->prompt_tops.length);
    for (uint32_t i = job->prompt_taken + 1; i < count; i++) QR_TEXT_LITERAL(out, ", null");
    QR_TEXT_LITERAL(out, "]");
}

/* Of all sequences together: the sooner first token, the later end. */
static void append_totals(qr_text *out, const qr_job *job, bool encoder_decoder)
{
    const quire_finish_detail *d           = &job->sequences[0].detail;
    uint64_t                   preemptions = 0, first_ns = 0, end_ns = 0;
    for (uint32_t i = 0; i < job->sequence_count; i++) {
        const quire_finish_detail *other = &job->sequences[i].detail;
        preemptions += other->preemptions;
        if (other->first_token_ns != 0 && (first_ns == 0 || other->first_token_ns < first_ns))
            first_ns = other->first_token_ns;
        if (other->finish_ns > end_ns) end_ns = other->finish_ns;
    }
    qr_text_format(out, ", \"num_prompt_tokens\": %u, \"num_encoder_tokens\": %u, \"num_cached_tokens\": %u",
                   d->prompt_tokens, d->encoder_tokens, d->cached_tokens);
    qr_text_format(out, ", \"num_preemptions\": %llu", (unsigned long long)preemptions);
    if (encoder_decoder) qr_text_format(out, ", \"encoder_shared\": %s", d->encoder_shared ? "true" : "false");
    if (first_ns != 0) qr_text_format(out, ", \"ttft_ms\": %.3f", (double)(first_ns - d->submit_ns) / 1e6);
    if (end_ns != 0) qr_text_format(out, ", \"e2el_ms\": %.3f", (double)(end_ns - d->submit_ns) / 1e6);
}

bool qr_job_answer(const qr_job *job, uint32_t vocab_size, bool encoder_decoder, qr_text *out)
{
    append_id(out, job->from.id);
    if (job->sequences == NULL) {
        const qr_line_error error = {.status = QUIRE_ERR_NO_MEMORY, .message = "no memory for the answer"};
        QR_TEXT_LITERAL(out, ", \"finish_reason\": \"error\", ");
        append_error(out, &error);
        QR_TEXT_LITERAL(out, "}\n");
        return false;
    }
    const bool several = job->sequence_count > 1;
    bool       well    = true;
    QR_TEXT_LITERAL(out, ", ");
    if (several) QR_TEXT_LITERAL(out, "\"outputs\": [");
    for (uint32_t i = 0; i < job->sequence_count; i++) {
        const qr_job_sequence *s = &job->sequences[i];
        well &= !s->failed && s->finish != QUIRE_FINISH_ERROR;
        if (several) qr_text_format(out, "%s{\"index\": %u, ", i ? ", " : "", i);
        append_sequence(out, job, s, vocab_size);
        if (several) QR_TEXT_LITERAL(out, "}");
    }
    if (several) QR_TEXT_LITERAL(out, "]");
    append_prompt(out, job);
    append_totals(out, job, encoder_decoder);
    QR_TEXT_LITERAL(out, "}\n");
    return well;
}
