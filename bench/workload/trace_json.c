/* Traces as JSON Lines: Mooncake's and quire's own. */
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

static quire_status read_hashes(qr_trace_reader *r, const json_t *object, qr_trace_row *row)
{
    const json_t *ids   = json_object_get(object, "hash_ids");
    json_int_t    block = r->hash_block;
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
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return bad_value(r, "hash_ids: not whole numbers of at least 0", id);
        if (!QR_ARRAY_PUSH(r->hashes, r->hash_count, (uint64_t)json_integer_value(id)))
            return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
    }
    return check_hash_count(r, row);
}

static quire_status read_time(const qr_trace_reader *r, const json_t *object, const char *name, qr_trace_row *row)
{
    const json_t *time = json_object_get(object, name);
    char          text[60];
    snprintf(text, sizeof text, "%s: not a number of milliseconds", name);
    if (!json_is_number(time)) return bad_value(r, text, time);
    row->time_s = json_number_value(time) * 1e-3;
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

static quire_status read_object(qr_trace_reader *r, json_t *object)
{
    if (r->count == 0)
        QR_TRY(qr_trace_is(r, json_object_get(object, "timestamp") != NULL ? QR_TRACE_MOONCAKE : QR_TRACE_QUIRE));
    const bool       mooncake = r->format == QR_TRACE_MOONCAKE;
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

quire_status qr_trace_read_json(qr_trace_reader *r, const char *line)
{
    json_error_t       parse_error;
    json_t            *object = json_loads(line, JSON_REJECT_DUPLICATES, &parse_error);
    const quire_status status = json_is_object(object)
                                    ? read_object(r, object)
                                    : qr_trace_bad(r, object ? "not a JSON object" : parse_error.text, line);
    json_decref(object);
    return status;
}
