/* Traces as JSON Lines: Mooncake's, Bailian's and quire's own. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/error.h"
#include "bench/common/array.h"
#include "bench/workload/trace_reader.h"
#include "bench/workload/workload.h"

/* A whole number in least..most; `out` keeps its value where the field is absent and not needed. */
typedef struct field {
    const char *name;
    json_int_t  least, most;
    bool        needed;
} field;

/* The message says what was found, as JSON. */
static quire_status bad_value(const qr_trace_reader *r, const char *what, const json_t *value)
{
    char              *found  = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    const quire_status status = qr_trace_bad(r, what, found ? found : "nothing");
    free(found);
    return status;
}

static quire_status whole(const qr_trace_reader *r, const json_t *object, const field *f, json_int_t *out)
{
    const json_t *value = json_object_get(object, f->name);
    char          text[120];
    if (value == NULL && !f->needed) return QUIRE_OK;
    if (json_is_integer(value) && json_integer_value(value) >= f->least && json_integer_value(value) <= f->most) {
        *out = json_integer_value(value);
        return QUIRE_OK;
    }
    snprintf(text, sizeof text, "%s: not a whole number between %lld and %lld", f->name, (long long)f->least,
             (long long)f->most);
    return bad_value(r, text, value);
}

static quire_status check_hash_count(const qr_trace_reader *r, const qr_trace_row *row)
{
    const uint32_t needed = (row->prompt + r->hash_block - 1) / r->hash_block;
    char           what[120], found[32];
    if (row->hash_count == 0 || row->hash_count == needed) return QUIRE_OK;
    snprintf(what, sizeof what, "hash_ids: %u prompt tokens in blocks of %u need %u ids", row->prompt, r->hash_block,
             needed);
    snprintf(found, sizeof found, "%u", row->hash_count);
    return qr_trace_bad(r, what, found);
}

/* An id above 2^63 - 1 is a string by now. */
static bool hash_id(const qr_trace_reader *r, const json_t *id, uint64_t *out)
{
    if (json_is_integer(id)) {
        *out = (uint64_t)json_integer_value(id);
        return json_integer_value(id) >= 0;
    }
    const char *text = json_string_value(id);
    if (!r->has_quoted || text == NULL || text[0] == '\0' || text[strspn(text, "0123456789")] != '\0') return false;
    errno = 0;
    *out  = strtoull(text, NULL, 10);
    return errno == 0;
}

static quire_status read_hashes(qr_trace_reader *r, const json_t *object, qr_trace_row *row)
{
    const json_t *ids   = json_object_get(object, "hash_ids");
    json_int_t    block = r->hash_block > 0 ? r->hash_block : r->format == QR_TRACE_BAILIAN ? 16 : 512;
    size_t        index;
    json_t       *id;
    QR_TRY(whole(r, object, &(field){"hash_block_size", 1, 1048576, false}, &block));
    if (r->hash_count > 0 && block != r->hash_block) {
        char what[80], found[32];
        snprintf(what, sizeof what, "hash_block_size: the rows above have %u", r->hash_block);
        snprintf(found, sizeof found, "%lld", (long long)block);
        return qr_trace_bad(r, what, found);
    }
    if (ids == NULL) return QUIRE_OK;
    if (!json_is_array(ids)) return bad_value(r, "hash_ids: not a list", ids);
    r->hash_block   = (uint32_t)block;
    row->hash_start = r->hash_count;
    row->hash_count = (uint32_t)json_array_size(ids);
    json_array_foreach(ids, index, id)
    {
        uint64_t number;
        if (!hash_id(r, id, &number)) return bad_value(r, "hash_ids: not whole numbers from 0 to 2^64 - 1", id);
        if (!QR_ARRAY_PUSH(r->hashes, r->hash_count, number))
            return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
    }
    return check_hash_count(r, row);
}

/* Mooncake's are whole milliseconds from the start; a fraction, and a first time since 1970, may be in seconds, so that
 * the format must be asked for. */
static bool is_unit_clear(const qr_trace_reader *r, double time)
{
    const bool is_epoch = r->count == 0 && time >= 1e9 && time <= QR_TRACE_MAX_EPOCH_S;
    return r->is_asked || r->format != QR_TRACE_MOONCAKE || (time == floor(time) && !is_epoch);
}

static quire_status read_time(qr_trace_reader *r, const json_t *object, const char *name, qr_trace_row *row)
{
    const json_t *time      = json_object_get(object, name);
    const bool    is_second = r->format == QR_TRACE_BAILIAN;
    quire_status  status;
    char          text[80];
    if (json_is_string(time) && qr_trace_is_date(r, json_string_value(time), &row->time_s, &status)) return status;
    snprintf(text, sizeof text, "%s: not a number of %s", name, is_second ? "seconds" : "milliseconds");
    if (!json_is_number(time) || json_number_value(time) < 0) return bad_value(r, text, time);
    row->time_s = json_number_value(time);
    QR_TRY(qr_trace_check_dates(r, name, false));
    if (!is_unit_clear(r, row->time_s))
        return bad_value(r,
                         "timestamp: seconds or milliseconds? workload.trace.format = \"bailian\" or \"mooncake\" "
                         "says which",
                         time);
    if (is_second && r->count == 0 && row->time_s > QR_TRACE_MAX_EPOCH_S)
        return bad_value(r, "timestamp: beyond 1e11 s: milliseconds? format \"bailian\" has seconds", time);
    if (!is_second) row->time_s *= 1e-3;
    return QUIRE_OK;
}

/* Published traces have columns of their own; in ours an unknown one is a slip that would change what is played. */
static quire_status check_names(const qr_trace_reader *r, json_t *object)
{
    static const char *const known[] = {"arrival_ms",      "prompt_tokens", "output_tokens", "hash_ids",
                                        "hash_block_size", "prefix_tokens", "prefix_id",     "encoder_tokens",
                                        "encoder_id",      "tenant",        "class",         "priority"};
    const char              *name;
    json_t                  *value;
    json_object_foreach(object, name, value)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found |= strcmp(name, known[i]) == 0;
        if (!found) return qr_trace_bad(r, "unknown field", name);
    }
    return QUIRE_OK;
}

/* Mooncake's and Bailian's rows differ by a conversation's fields; which of both it is may also be asked for. */
static qr_trace_format format_of(const qr_trace_reader *r, const json_t *object)
{
    if (json_object_get(object, "timestamp") == NULL) return QR_TRACE_QUIRE;
    if (r->format == QR_TRACE_MOONCAKE || r->format == QR_TRACE_BAILIAN) return r->format;
    return json_object_get(object, "chat_id") && json_object_get(object, "parent_chat_id") ? QR_TRACE_BAILIAN
                                                                                           : QR_TRACE_MOONCAKE;
}

static quire_status read_object(qr_trace_reader *r, json_t *object)
{
    if (r->count == 0) QR_TRY(qr_trace_is(r, format_of(r, object)));
    const bool       mooncake = r->format != QR_TRACE_QUIRE; /* or Bailian's, whose names are the same */
    const json_int_t least    = mooncake ? 0 : 1;
    if (!mooncake) QR_TRY(check_names(r, object));
    qr_trace_row row = {.tenant = UINT32_MAX, .encoder_id = UINT64_MAX};
    QR_TRY(read_time(r, object, mooncake ? "timestamp" : "arrival_ms", &row));
    json_int_t prompt = 0, output = 0, encoder = 0, prefix = 0, prefix_id = 0, encoder_id = -1, tenant = -1, mix = 0,
               priority     = 0;
    const json_int_t length = QR_TRACE_MAX_LENGTH;
    const struct {
        field       is;
        json_int_t *to;
    } fields[] = {{{mooncake ? "input_length" : "prompt_tokens", least, length, true}, &prompt},
                  {{mooncake ? "output_length" : "output_tokens", least, length, true}, &output},
                  {{"encoder_tokens", 0, QR_WORKLOAD_MAX_ENCODER, false}, &encoder},
                  {{"encoder_id", 0, INT64_MAX, false}, &encoder_id},
                  {{"prefix_tokens", 0, length, false}, &prefix},
                  {{"prefix_id", 0, INT64_MAX, false}, &prefix_id},
                  {{"tenant", 0, QR_TRACE_MAX_TENANTS - 1, false}, &tenant},
                  {{"class", 0, INT32_MAX, false}, &mix},
                  {{"priority", INT32_MIN, INT32_MAX, false}, &priority}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) QR_TRY(whole(r, object, &fields[i].is, fields[i].to));
    row.prompt = (uint32_t)prompt, row.output = (uint32_t)output, row.encoder = (uint32_t)encoder;
    row.prefix = (uint32_t)prefix, row.prefix_id = (uint64_t)prefix_id, row.encoder_id = (uint64_t)encoder_id;
    row.tenant = (uint32_t)tenant, row.mix = (uint32_t)mix, row.priority = (int32_t)priority;
    QR_TRY(read_hashes(r, object, &row));
    return qr_trace_push(r, &row);
}

/* Puts quotes around what the JSON library refuses as too big an integer. NULL: no memory. */
static char *quote_big_integers(const char *line)
{
    enum { MOST_DIGITS = 18 };
    char *copy = malloc(2 * strlen(line) + 1), *to = copy;
    bool  in_string = false;
    while (copy != NULL && *line != '\0') {
        const size_t digits = in_string ? 0 : strspn(line, "0123456789");
        const bool   big    = digits > MOST_DIGITS && strchr(".eE", line[digits]) == NULL;
        if (big) *to++ = '"';
        const size_t step = digits > 0 ? digits : in_string && line[0] == '\\' && line[1] != '\0' ? 2 : 1;
        if (*line == '"') in_string = !in_string;
        memcpy(to, line, step);
        to += step, line += step;
        if (big) *to++ = '"';
    }
    if (copy != NULL) *to = '\0';
    return copy;
}

static json_t *load(qr_trace_reader *r, const char *line, json_error_t *error)
{
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, error);
    r->has_quoted  = object == NULL && json_error_code(error) == json_error_numeric_overflow;
    if (!r->has_quoted) return object;
    char *quoted = quote_big_integers(line);
    if (quoted != NULL) object = json_loads(quoted, JSON_REJECT_DUPLICATES, error);
    free(quoted);
    return object;
}

quire_status qr_trace_read_json(qr_trace_reader *r, const char *line)
{
    json_error_t       parse_error;
    json_t            *object = load(r, line, &parse_error);
    const quire_status status = json_is_object(object)
                                    ? read_object(r, object)
                                    : qr_trace_bad(r, object ? "not a JSON object" : parse_error.text, line);
    json_decref(object);
    return status;
}
