/* Traces as JSON Lines: Mooncake's and quire's own. */
#include <stdbool.h>
#include <stdio.h>

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

static quire_status whole(const qr_trace_reader *r, const json_t *object, const field *f, json_int_t *out)
{
    const json_t *value = json_object_get(object, f->name);
    char          text[120], found[60];
    if (value == NULL && !f->needed) return QUIRE_OK;
    if (json_is_integer(value) && json_integer_value(value) >= f->least && json_integer_value(value) <= f->most) {
        *out = json_integer_value(value);
        return QUIRE_OK;
    }
    snprintf(text, sizeof text, "%s: not a whole number between %lld and %lld", f->name, (long long)f->least,
             (long long)f->most);
    if (json_is_number(value))
        snprintf(found, sizeof found, "%.17g", json_number_value(value));
    else
        snprintf(found, sizeof found, "%s", value ? "something else" : "nothing");
    return qr_trace_bad(r, text, found);
}

static quire_status read_hashes(qr_trace_reader *r, const json_t *object, qr_trace_row *row)
{
    const json_t *ids   = json_object_get(object, "hash_ids");
    json_int_t    block = r->hash_block;
    size_t        index;
    json_t       *id;
    QR_TRY(whole(r, object, &(field){"hash_block_size", 1, 1048576, false}, &block));
    if (r->hash_count > 0 && block != r->hash_block)
        return qr_trace_bad(r, "hash_block_size: not that of the rows above", "another number");
    if (ids == NULL) return QUIRE_OK;
    if (!json_is_array(ids)) return qr_trace_bad(r, "hash_ids: not a list", "something else");
    r->hash_block   = (uint32_t)block;
    row->hash_start = r->hash_count;
    row->hash_count = (uint32_t)json_array_size(ids);
    json_array_foreach(ids, index, id)
    {
        if (!json_is_integer(id)) return qr_trace_bad(r, "hash_ids: not whole numbers", "something else");
        if (!QR_ARRAY_PUSH(r->hashes, r->hash_count, (uint64_t)json_integer_value(id)))
            return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
    }
    if (row->hash_count > 0 && row->hash_count != (row->prompt + r->hash_block - 1) / r->hash_block)
        return qr_trace_bad(r, "hash_ids: not one for each block of prompt tokens", "another count");
    return QUIRE_OK;
}

static quire_status read_time(const qr_trace_reader *r, const json_t *object, const char *name, qr_trace_row *row)
{
    const json_t *time = json_object_get(object, name);
    char          text[60];
    snprintf(text, sizeof text, "%s: not a number of milliseconds", name);
    if (!json_is_number(time)) return qr_trace_bad(r, text, time ? "something else" : "nothing");
    row->time_s = json_number_value(time) * 1e-3;
    return QUIRE_OK;
}

static quire_status read_object(qr_trace_reader *r, const json_t *object)
{
    if (r->count == 0)
        QR_TRY(qr_trace_is(r, json_object_get(object, "timestamp") != NULL ? QR_TRACE_MOONCAKE : QR_TRACE_QUIRE));
    const bool   mooncake = r->format == QR_TRACE_MOONCAKE;
    qr_trace_row row      = {.tenant = UINT32_MAX, .encoder_id = UINT64_MAX};
    QR_TRY(read_time(r, object, mooncake ? "timestamp" : "arrival_ms", &row));
    json_int_t prompt = 0, output = 0, encoder = 0, prefix = 0, prefix_id = 0, encoder_id = -1, tenant = -1, mix = 0,
               priority     = 0;
    const json_int_t length = QR_TRACE_MAX_LENGTH;
    const struct {
        field       is;
        json_int_t *to;
    } fields[] = {{{mooncake ? "input_length" : "prompt_tokens", 0, length, true}, &prompt},
                  {{mooncake ? "output_length" : "output_tokens", 0, length, true}, &output},
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
