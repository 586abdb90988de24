/* WHATWG's event streams, of which OpenAI's interface uses "data:" alone; then the members of a chunk. */
#include "bench/run/http_answer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/printable.h"

const char *qr_counted_by_name(qr_counted_by how)
{
    static const char *const names[] = {"chunks", "total", "usage", "token_ids"};
    return names[how];
}

quire_status qr_answer_begin(qr_answer *a, uint32_t n, uint32_t max_tokens)
{
    qr_answer_choice *const choices = n > a->choice_capacity ? realloc(a->choices, n * sizeof *choices) : a->choices;
    if (choices == NULL) return QUIRE_ERR_NO_MEMORY;
    if (n > a->choice_capacity) a->choice_capacity = n;
    memset(choices, 0, n * sizeof *choices);
    *a = (qr_answer){.take_tokens     = a->take_tokens,
                     .context         = a->context,
                     .choices         = choices,
                     .n               = n,
                     .choice_capacity = a->choice_capacity,
                     .max_tokens      = max_tokens,
                     .line            = {a->line.bytes, 0, a->line.capacity},
                     .event           = {a->event.bytes, 0, a->event.capacity},
                     .counted_by      = QR_BY_TOKEN_IDS,
                     .prompt_tokens   = -1,
                     .cached_tokens   = -1,
                     .output_tokens   = -1};
    return QUIRE_OK;
}

void qr_answer_deinit(qr_answer *a)
{
    free(a->choices);
    free(a->line.bytes);
    free(a->event.bytes);
    *a = (qr_answer){0};
}

static quire_status append(qr_answer_text *to, const char *bytes, size_t length, quire_error *error)
{
    const size_t needed = to->length + length;
    if (needed > QR_ANSWER_MOST_EVENT)
        return qr_fail(error, QUIRE_ERR_FORMAT, "an event is longer than %d MiB", QR_ANSWER_MOST_EVENT >> 20);
    if (needed > to->capacity) {
        const size_t capacity = 2 * needed + 256;
        char *const  grown    = realloc(to->bytes, capacity);
        if (grown == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "out of memory");
        to->bytes    = grown;
        to->capacity = capacity;
    }
    if (length > 0) memcpy(to->bytes + to->length, bytes, length);
    to->length = needed;
    return QUIRE_OK;
}

/* ---- a chunk ---- */

static int64_t count_at(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value) : -1;
}

static void take_usage(qr_answer *a, const json_t *usage)
{
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    if (!json_is_object(usage)) return;
    a->prompt_tokens = count_at(usage, "prompt_tokens");
    a->output_tokens = count_at(usage, "completion_tokens");
    if (count_at(details, "cached_tokens") >= 0) a->cached_tokens = count_at(details, "cached_tokens");
}

static quire_finish finish_of(const char *reason)
{
    if (strcmp(reason, "length") == 0) return QUIRE_FINISH_LENGTH;
    return strcmp(reason, "abort") == 0 || strcmp(reason, "error") == 0 ? QUIRE_FINISH_ERROR : QUIRE_FINISH_STOP;
}

/* New tokens of a choice. A chunk without text is a token whose text is not complete yet, unless it ends the choice. */
static uint32_t tokens_of(qr_answer *a, const qr_answer_choice *choice, const json_t *from, bool has_usage)
{
    const json_t *ids     = json_object_get(from, "token_ids");
    const bool    is_text = json_string_length(json_object_get(from, "text")) > 0;
    if (json_is_array(ids)) return (uint32_t)json_array_size(ids);
    if (has_usage && a->n == 1 && a->output_tokens >= choice->tokens) {
        if (a->counted_by > QR_BY_USAGE) a->counted_by = QR_BY_USAGE;
        return (uint32_t)(a->output_tokens - choice->tokens);
    }
    if (!is_text && choice->finish != QUIRE_FINISH_NONE) return 0;
    a->counted_by = QR_BY_CHUNKS;
    return 1;
}

static quire_status add_tokens(qr_answer *a, uint32_t sequence, uint32_t count, quire_error *error)
{
    const uint64_t most = 2 * (uint64_t)a->max_tokens + 64; /* a server may send some chunks without a token */
    if (count > most || a->choices[sequence].tokens + count > most)
        return qr_fail(error, QUIRE_ERR_FORMAT, "more tokens come than the %u asked for", a->max_tokens);
    a->choices[sequence].tokens += count;
    a->tokens += count;
    if (count == 0 || a->take_tokens(a->context, sequence, count)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_NO_MEMORY, "out of memory");
}

static quire_status take_choice(qr_answer *a, const json_t *from, bool has_usage, quire_error *error)
{
    const json_t *index = json_object_get(from, "index"), *text = json_object_get(from, "text");
    const char   *reason   = json_string_value(json_object_get(from, "finish_reason"));
    const int64_t sequence = index != NULL ? json_integer_value(index) : 0;
    if (!json_is_object(from) || (index != NULL && !json_is_integer(index)) || sequence < 0 || sequence >= a->n)
        return qr_fail(error, QUIRE_ERR_FORMAT, "an event has no choice of those asked for");
    if (text != NULL && !json_is_string(text) && !json_is_null(text))
        return qr_fail(error, QUIRE_ERR_FORMAT, "the text of an event is no string");
    qr_answer_choice *choice = &a->choices[sequence];
    if (reason != NULL) choice->finish = finish_of(reason);
    if (choice->finish == QUIRE_FINISH_ERROR)
        return qr_fail(error, QUIRE_ERR_EXECUTION, "the server ended a request with \"%.*s\"",
                       qr_whole_length(reason, 40), reason);
    const uint32_t count = tokens_of(a, choice, from, has_usage);
    a->chunks += count > 0;
    return add_tokens(a, (uint32_t)sequence, count, error);
}

/* {"error": {"message": ...}} in the middle of a stream. */
static quire_status fail_as_told(const json_t *told, quire_error *error)
{
    const json_t *message = json_is_object(told) ? json_object_get(told, "message") : told;
    const char   *why     = json_is_string(message) ? json_string_value(message) : "it does not say why";
    return qr_fail(error, QUIRE_ERR_EXECUTION, "the server stops the stream: %.*s", qr_whole_length(why, 120), why);
}

static quire_status take_chunk(qr_answer *a, const json_t *chunk, quire_error *error)
{
    const json_t *told = json_object_get(chunk, "error"), *choices = json_object_get(chunk, "choices"), *choice;
    const json_t *usage = json_object_get(chunk, "usage");
    size_t        i;
    if (told != NULL && !json_is_null(told)) return fail_as_told(told, error);
    if (!json_is_array(choices)) return qr_fail(error, QUIRE_ERR_FORMAT, "an event has no \"choices\"");
    take_usage(a, usage);
    a->has_chunk_usage |= json_is_object(usage) && json_array_size(choices) > 0;
    json_array_foreach(choices, i, choice) QR_TRY(take_choice(a, choice, json_is_object(usage), error));
    return QUIRE_OK;
}

/* ---- the stream ---- */

static quire_status take_event(qr_answer *a, quire_error *error)
{
    const qr_answer_text *event  = &a->event;
    const size_t          length = event->length;
    json_error_t          at;
    if (length == 0 || a->is_done) return QUIRE_OK;
    a->event.length = 0;
    if (length == 6 && memcmp(event->bytes, "[DONE]", 6) == 0) {
        a->is_done = true;
        return QUIRE_OK;
    }
    json_t *chunk = json_loadb(event->bytes, length, 0, &at);
    if (chunk == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "an event is not JSON: %.*s: %s",
                       qr_whole_length(event->bytes, length < 40 ? (int)length : 40), event->bytes, at.text);
    const quire_status status = take_chunk(a, chunk, error);
    json_decref(chunk);
    return status;
}

static quire_status take_line(qr_answer *a, quire_error *error)
{
    static const char field[] = "data:";
    const char       *line    = a->line.bytes;
    size_t            length = a->line.length, skip = sizeof field - 1;
    a->line.length = 0;
    if (length > 0 && line[length - 1] == '\r') length--;
    if (length == 0) return take_event(a, error);
    if (length < skip || memcmp(line, field, skip) != 0) return QUIRE_OK; /* a comment, or another field */
    a->lines++;
    if (length > skip && line[skip] == ' ') skip++;
    if (a->event.length > 0) QR_TRY(append(&a->event, "\n", 1, error));
    return append(&a->event, line + skip, length - skip, error);
}

quire_status qr_answer_take(qr_answer *a, const char *bytes, size_t length, quire_error *error)
{
    while (length > 0) {
        const char  *end  = memchr(bytes, '\n', length);
        const size_t part = end != NULL ? (size_t)(end - bytes) : length;
        QR_TRY(append(&a->line, bytes, part, error));
        if (end == NULL) return QUIRE_OK;
        QR_TRY(take_line(a, error));
        bytes += part + 1;
        length -= part + 1;
    }
    return QUIRE_OK;
}

static bool has_all_ends(const qr_answer *a)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (a->choices[i].finish == QUIRE_FINISH_NONE) return false;
    return true;
}

/* What the usage at the end says beyond the chunks, or less. */
static quire_status take_total(qr_answer *a, quire_error *error)
{
    const int64_t missing = a->output_tokens - a->tokens;
    if (a->tokens == 0 && missing <= 0) return qr_fail(error, QUIRE_ERR_FORMAT, "the stream has no token");
    if (a->output_tokens < 0) return QUIRE_OK;
    if (a->counted_by == QR_BY_CHUNKS) a->counted_by = QR_BY_TOTAL;
    if (missing < 0) a->excess = (uint32_t)-missing;
    if (missing <= 0) return QUIRE_OK;
    a->missing = missing < UINT32_MAX ? (uint32_t)missing : UINT32_MAX;
    return add_tokens(a, 0, a->missing, error);
}

quire_status qr_answer_end(qr_answer *a, quire_error *error)
{
    if (a->line.length > 0) QR_TRY(take_line(a, error)); /* the last line may lack its end */
    QR_TRY(take_event(a, error));
    if (!a->is_done && !has_all_ends(a)) return qr_fail(error, QUIRE_ERR_IO, "the stream breaks off in the middle");
    return take_total(a, error);
}
