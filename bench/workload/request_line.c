/* One JSON object, field by field. Types and signs are checked here, because only here the JSON value is at hand; what
 * depends on model or engine is checked by quire_engine_submit(). */
#include "bench/workload/request_line.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/printable.h"

static bool reject(qr_line_error *error, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Always false: "this field could not be read". */
static bool reject(qr_line_error *error, const char *field, const char *format, ...)
{
    char    text[sizeof error->message + 4]; /* the last character that fits is whole */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error->status = QUIRE_ERR_INVALID;
    snprintf(error->field, sizeof error->field, "%s", field);
    qr_printable_copy(error->message, sizeof error->message, text);
    return false;
}

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return names[json_typeof(value)];
}

/* ---- plain values ---- */

typedef enum field_kind { FIELD_COUNT, FIELD_SIGNED, FIELD_REAL, FIELD_FLAG } field_kind;

typedef struct field {
    const char *name;
    size_t      offset; /* in quire_request */
    field_kind  kind;
    double      low, high;
} field;

#define AT(member) offsetof(quire_request, member)
static const double ABOVE_ZERO = 1e-12;

static const field fields[] = {
    {"max_tokens", AT(max_tokens), FIELD_COUNT, 1, UINT32_MAX},
    {"min_tokens", AT(min_tokens), FIELD_COUNT, 0, UINT32_MAX},
    {"ignore_eos", AT(ignore_eos), FIELD_FLAG, 0, 1},
    {"temperature", AT(sampling.temperature), FIELD_REAL, 0, 100},
    {"top_k", AT(sampling.top_k), FIELD_COUNT, 0, UINT32_MAX},
    {"top_p", AT(sampling.top_p), FIELD_REAL, ABOVE_ZERO, 1},
    {"min_p", AT(sampling.min_p), FIELD_REAL, 0, 1},
    {"repetition_penalty", AT(sampling.repetition_penalty), FIELD_REAL, 0.01, 100},
    {"presence_penalty", AT(sampling.presence_penalty), FIELD_REAL, -2, 2},
    {"frequency_penalty", AT(sampling.frequency_penalty), FIELD_REAL, -2, 2},
    {"n", AT(n), FIELD_COUNT, 1, UINT32_MAX},
    {"priority", AT(priority), FIELD_SIGNED, -1000, 1000},
    {"beam_width", AT(beam_width), FIELD_COUNT, 1, UINT32_MAX},
    {"length_penalty", AT(length_penalty), FIELD_REAL, -FLT_MAX, FLT_MAX},
    {"logprobs", AT(logprobs), FIELD_COUNT, 0, QUIRE_MAX_LOGPROBS},
    {"prompt_logprobs", AT(prompt_top_logprobs), FIELD_COUNT, 0, QUIRE_MAX_LOGPROBS},
};

typedef struct digits {
    char text[32];
} digits;

/* An integer with all its digits. */
static digits digits_of(const json_t *number)
{
    digits shown;
    if (json_is_integer(number))
        snprintf(shown.text, sizeof shown.text, "%lld", (long long)json_integer_value(number));
    else
        snprintf(shown.text, sizeof shown.text, "%.15g", json_number_value(number));
    return shown;
}

static bool in_range(const field *f, const json_t *number, qr_line_error *error)
{
    const double value = json_number_value(number);
    const digits shown = digits_of(number);
    if (value >= f->low && value <= f->high) return true;
    if (value > f->high) return reject(error, f->name, "%s is above the maximum %.10g", shown.text, f->high);
    if (f->low == ABOVE_ZERO) return reject(error, f->name, "%s is not above 0", shown.text);
    return reject(error, f->name, "%s is below the minimum %.10g", shown.text, f->low);
}

static bool read_plain(const field *f, const json_t *value, quire_request *request, qr_line_error *error)
{
    void *to = (char *)request + f->offset;
    if (f->kind == FIELD_FLAG) {
        if (!json_is_boolean(value))
            return reject(error, f->name, "expected true or false, found %s", type_name(value));
        *(bool *)to = json_is_true(value);
        return true;
    }
    if (f->kind == FIELD_REAL ? !json_is_number(value) : !json_is_integer(value))
        return reject(error, f->name, "expected %s, found %s", f->kind == FIELD_REAL ? "a number" : "an integer",
                      type_name(value));
    if (!in_range(f, value, error)) return false;
    if (f->kind == FIELD_REAL)
        *(float *)to = (float)json_number_value(value);
    else if (f->kind == FIELD_SIGNED)
        *(int32_t *)to = (int32_t)json_integer_value(value);
    else
        *(uint32_t *)to = (uint32_t)json_integer_value(value);
    return true;
}

/* ---- arrays of ids ---- */

static const struct list {
    const char *name;
    size_t      array, count; /* offsets in quire_request */
    size_t      limit;        /* 0: the model's and the engine's */
} lists[QR_REQUEST_LISTS] = {
    {"prompt", AT(prompt), AT(prompt_count), 0},
    {"encoder_input", AT(encoder_input), AT(encoder_count), 0},
    {"stop_token_ids", AT(stop), AT(stop_count), QUIRE_MAX_STOP_IDS},
    {"allowed_token_ids", AT(allowed), AT(allowed_count), QUIRE_MAX_LISTED_IDS},
    {"banned_token_ids", AT(banned), AT(banned_count), QUIRE_MAX_LISTED_IDS},
    {"first_banned_token_ids", AT(first_banned), AT(first_banned_count), QUIRE_MAX_STOP_IDS},
    {"first_allowed_token_ids", AT(first_allowed), AT(first_allowed_count), QUIRE_MAX_STOP_IDS},
    {"last_allowed_token_ids", AT(last_allowed), AT(last_allowed_count), QUIRE_MAX_STOP_IDS},
};
enum { FIRST_RULE = QR_REQUEST_LISTS - QR_MODEL_RULES };

/* Those from the first that is no plain id on, which stands at `before`. */
static bool read_ids(const struct list *list, size_t before, const json_t *value, int32_t *to, qr_line_error *error)
{
    size_t        i;
    const json_t *element;
    json_array_foreach(value, i, element)
    {
        if (!json_is_integer(element))
            return reject(error, list->name, "[%zu]: expected a token id, found %s", before + i, type_name(element));
        const json_int_t id = json_integer_value(element);
        if (id < 0 || id > INT32_MAX)
            return reject(error, list->name, "[%zu]: %lld is no token id", before + i, (long long)id);
        to[before + i] = (int32_t)id;
    }
    return true;
}

static bool read_list(uint32_t number, const json_t *value, struct qr_request_ids *plain, qr_request_line *line,
                      qr_line_error *error)
{
    const struct list *list = &lists[number];
    if (!json_is_array(value))
        return reject(error, list->name, "expected an array of token ids, found %s", type_name(value));
    const size_t count = plain->count + json_array_size(value);
    if (list->limit > 0 && count > list->limit)
        return reject(error, list->name, "%zu ids are above the maximum %zu", count, list->limit);
    if (count == 0 && strcmp(list->name, "allowed_token_ids") == 0)
        return reject(error, list->name, "empty: no token could be chosen");
    int32_t *ids = realloc(plain->ids, (count + 1) * sizeof *ids);
    if (ids == NULL) return reject(error, list->name, "no memory for %zu ids", count);
    plain->ids                                                        = NULL; /* the line's now */
    line->ids[number]                                                 = ids;
    *(const int32_t **)(void *)((char *)&line->request + list->array) = ids;
    *(uint32_t *)(void *)((char *)&line->request + list->count)       = (uint32_t)count;
    return read_ids(list, plain->count, value, ids, error);
}

/* ---- the others ---- */

static bool read_bias(const json_t *value, qr_request_line *line, qr_line_error *error)
{
    static const char name[] = "logit_bias";
    if (!json_is_object(value)) return reject(error, name, "expected {\"id\": bias}, found %s", type_name(value));
    if (json_object_size(value) > QUIRE_MAX_LOGIT_BIAS)
        return reject(error, name, "%zu entries are above the maximum %d", json_object_size(value),
                      QUIRE_MAX_LOGIT_BIAS);
    quire_logit_bias *bias = calloc(json_object_size(value) + 1, sizeof *bias);
    if (bias == NULL) return reject(error, name, "no memory");
    line->bias               = bias;
    line->request.logit_bias = bias;
    for (void *i = json_object_iter((json_t *)(uintptr_t)value); i != NULL;
         i       = json_object_iter_next((json_t *)(uintptr_t)value, i)) {
        const char   *key    = json_object_iter_key(i);
        const json_t *number = json_object_iter_value(i);
        char         *end;
        errno         = 0;
        const long id = strtol(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end != '\0' || errno != 0 || id > INT32_MAX)
            return reject(error, name, "\"%.40s\" is no token id", key);
        if (!json_is_number(number))
            return reject(error, name, "%ld: expected a number, found %s", id, type_name(number));
        if (!(fabs(json_number_value(number)) <= 100))
            return reject(error, name, "%ld: %.15g is outside -100..100", id, json_number_value(number));
        bias[line->request.logit_bias_count++] =
            (quire_logit_bias){.token = (int32_t)id, .bias = (float)json_number_value(number)};
    }
    return true;
}

static bool check_frame(size_t number, const json_t *frame, uint32_t size, qr_line_error *error)
{
    static const char name[] = "encoder_features";
    size_t            i;
    const json_t     *value;
    if (!json_is_array(frame) || json_array_size(frame) != size)
        return reject(error, name, "[%zu]: expected an array of %u numbers", number, size);
    json_array_foreach(frame, i, value)
    {
        if (!json_is_number(value))
            return reject(error, name, "[%zu][%zu]: expected a number, found %s", number, i, type_name(value));
    }
    return true;
}

static bool count_encoded_frames(struct qr_request_features *plain, uint32_t size, qr_line_error *error)
{
    static const char name[] = "encoder_features";
    const size_t      frame  = size * sizeof *plain->values;
    if (plain->left > 0) return reject(error, name, "character %zu is not base64", plain->cut);
    if (plain->bytes % frame != 0)
        return reject(error, name, "%zu bytes are not whole frames of %u f32, %zu bytes", plain->bytes, size, frame);
    plain->frames = (uint32_t)(plain->bytes / frame);
    return true;
}

/* What is left in the text of the frames, `value`, begins with the last that is as it should be. */
static bool check_listed_frames(const json_t *value, uint32_t size, const struct qr_request_features *plain,
                                qr_line_error *error)
{
    static const char name[] = "encoder_features";
    size_t            i;
    const json_t     *frame;
    if (!json_is_array(value))
        return reject(error, name, "expected an array of frames or their base64, found %s", type_name(value));
    if (plain->frames > 0 && plain->size != size)
        return reject(error, name, "[0]: expected an array of %u numbers", size);
    json_array_foreach(value, i, frame)
    {
        if (!check_frame(plain->frames + i, frame, size, error)) return false;
    }
    return true;
}

static bool read_features(const json_t *value, uint32_t size, struct qr_request_features *plain, qr_request_line *line,
                          qr_line_error *error)
{
    if (size == 0) return reject(error, "encoder_features", "given, but this model reads none");
    if (!(plain->encoded ? count_encoded_frames(plain, size, error) : check_listed_frames(value, size, plain, error)))
        return false;
    line->request.encoder_features = line->features = plain->values;
    line->request.encoder_frames                    = plain->frames;
    plain->values                                   = NULL; /* the line's now */
    return true;
}

static bool logits_of(const char *text, uint32_t *logits_out)
{
    static const struct {
        const char *text;
        uint32_t    bits;
    } known[] = {{"none", QUIRE_LOGITS_NONE},
                 {"first", QUIRE_LOGITS_FIRST},
                 {"last", QUIRE_LOGITS_LAST},
                 {"first,last", QUIRE_LOGITS_FIRST | QUIRE_LOGITS_LAST},
                 {"all", QUIRE_LOGITS_ALL}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i].text) == 0) {
            *logits_out = known[i].bits;
            return true;
        }
    return false;
}

static bool read_logits(const json_t *value, quire_request *request, qr_line_error *error)
{
    if (json_is_true(value)) return logits_of("first,last", &request->logits);
    if (json_is_false(value)) return logits_of("none", &request->logits);
    if (json_is_string(value) && logits_of(json_string_value(value), &request->logits)) return true;
    return reject(error, "logits", "expected \"first\", \"last\", \"first,last\", \"all\" or true");
}

static bool read_early_stopping(const json_t *value, quire_request *request, qr_line_error *error)
{
    if (json_is_boolean(value)) {
        request->early_stopping = json_is_true(value) ? QUIRE_EARLY_STOPPING_TRUE : QUIRE_EARLY_STOPPING_FALSE;
        return true;
    }
    request->early_stopping = QUIRE_EARLY_STOPPING_NEVER;
    if (json_is_string(value) && strcmp(json_string_value(value), "never") == 0) return true;
    return reject(error, "early_stopping", "expected true, false or \"never\"");
}

enum { DAY_MS = 86400000 };

static bool read_milliseconds(const char *name, const json_t *value, double most, double *to, qr_line_error *error)
{
    if (!json_is_number(value)) return reject(error, name, "expected a number, found %s", type_name(value));
    *to = json_number_value(value);
    if (*to >= 0 && *to <= most) return true;
    return reject(error, name, "%s is outside 0..%.0f", digits_of(value).text, most);
}

static bool read_tenant(const json_t *value, quire_request *request, qr_line_error *error)
{
    if (!json_is_string(value)) return reject(error, "tenant", "expected a string, found %s", type_name(value));
    if (json_string_length(value) > QUIRE_MAX_TENANT_NAME)
        return reject(error, "tenant", "%zu bytes are above the maximum %d", json_string_length(value),
                      QUIRE_MAX_TENANT_NAME);
    request->tenant = strdup(json_string_value(value));
    return request->tenant != NULL || reject(error, "tenant", "no memory");
}

static bool read_special(const char *name, const json_t *value, qr_request_line *line, qr_line_error *error)
{
    double ms = 0;
    if (strcmp(name, "logits") == 0) return read_logits(value, &line->request, error);
    if (strcmp(name, "logit_bias") == 0) return read_bias(value, line, error);
    if (strcmp(name, "early_stopping") == 0) return read_early_stopping(value, &line->request, error);
    if (strcmp(name, "tenant") == 0) return read_tenant(value, &line->request, error);
    if (strcmp(name, "arrival_ms") == 0) return read_milliseconds(name, value, 1e12, &line->arrival_ms, error);
    if (strcmp(name, "timeout_ms") == 0) {
        if (!read_milliseconds(name, value, DAY_MS, &ms, error)) return false;
        line->request.timeout_ns = (uint64_t)(ms * 1e6);
        return line->request.timeout_ns > 0 || reject(error, name, "%.15g is not above 0", ms);
    }
    if (strcmp(name, "seed") == 0) {
        if (!json_is_integer(value)) return reject(error, name, "expected an integer, found %s", type_name(value));
        if (json_integer_value(value) < 0)
            return reject(error, name, "%lld is below the minimum 0", (long long)json_integer_value(value));
        line->request.sampling.seed = (uint64_t)json_integer_value(value);
        return true;
    }
    return reject(error, name, "unknown field");
}

static bool read_field(const char *name, const json_t *value, qr_request_text *text, qr_request_line *line,
                       qr_line_error *error)
{
    if (json_is_null(value) || strcmp(name, "id") == 0) return true; /* null: as if left out */
    if (strcmp(name, "logprobs") == 0) line->logprobs = true;
    if (strcmp(name, "prompt_logprobs") == 0) line->request.prompt_logprobs = true;
    if (strcmp(name, "max_tokens") == 0) line->has_max_tokens = true;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(name, fields[i].name) == 0) return read_plain(&fields[i], value, &line->request, error);
    for (uint32_t i = 0; i < QR_REQUEST_LISTS; i++)
        if (strcmp(name, lists[i].name) == 0) return read_list(i, value, &text->lists[i], line, error);
    return read_special(name, value, line, error);
}

/* ---- the line ---- */

/* Lists that a line leaves out, an empty one is a list, are the model's. */
static void take_rules(const qr_request_defaults *defaults, qr_request_line *line)
{
    quire_request *request = &line->request;
    for (uint32_t i = 0; i < QR_MODEL_RULES; i++) {
        const struct list  *list = &lists[FIRST_RULE + i];
        const qr_model_rule rule = defaults->rules[i];
        if (line->ids[FIRST_RULE + i] != NULL || rule.count == 0) continue;
        if (list->count == AT(first_allowed_count) && request->prompt_count > 1) continue;
        if (list->count == AT(last_allowed_count) && request->ignore_eos) continue;
        *(const int32_t **)(void *)((char *)request + list->array) = rule.ids;
        *(uint32_t *)(void *)((char *)request + list->count)       = rule.count;
    }
}

static bool read_id(const json_t *root, qr_request_line *line, qr_line_error *error)
{
    json_t *id = json_object_get(root, "id");
    if (id == NULL || json_is_null(id)) {
        char number[24];
        snprintf(number, sizeof number, "%llu", (unsigned long long)line->line);
        line->id = json_string(number);
        return true;
    }
    if (!json_is_string(id) && !json_is_integer(id))
        return reject(error, "id", "expected a string or an integer, found %s", type_name(id));
    line->id = json_incref(id);
    return true;
}

static bool read_all(json_t *root, const qr_request_defaults *defaults, qr_request_text *text, qr_request_line *line,
                     qr_line_error *error)
{
    if (!json_is_object(root)) return reject(error, "", "expected an object, found %s", type_name(root));
    if (!read_id(root, line, error)) return false;
    if (json_integer_value(json_object_get(root, "beam_width")) > 1) line->request.sampling = defaults->beam_sampling;
    line->request.sampling.seed = defaults->seed + line->line;
    const char *name;
    json_t     *value;
    json_object_foreach(root, name, value)
    {
        const bool features = strcmp(name, "encoder_features") == 0 && !json_is_null(value);
        if (!(features ? read_features(value, defaults->encoder_feature_size, &text->features, line, error)
                       : read_field(name, value, text, line, error)))
            return false;
    }
    take_rules(defaults, line);
    return true;
}

/* ---- JSON that cannot be taken ---- */

/* 99999999999999999999 or 1e400, which ends at byte `end`, becomes null. */
static size_t blank_number(char *text, size_t end)
{
    size_t start = end;
    while (start > 0 && strchr("+-.0123456789Ee", text[start - 1]) != NULL) start--;
    if (end - start < 4) return end; /* no number is too large with so few digits */
    memset(text + start, ' ', end - start);
    memcpy(text + start, "null", 4);
    return start;
}

/* The id of a line whose JSON is well formed but holds what is refused, so that its answer can be told from others. */
static void recover_id(const char *text, size_t length, qr_request_line *line)
{
    enum { MOST_NUMBERS = 16 };
    qr_line_error ignored;
    json_error_t  where;
    json_t       *root = NULL;
    char         *copy = malloc(length + 1);
    if (copy == NULL) return;
    memcpy(copy, text, length);
    for (int i = 0; i < MOST_NUMBERS && root == NULL; i++) {
        root = json_loadb(copy, length, JSON_ALLOW_NUL, &where);
        if (root == NULL && json_error_code(&where) != json_error_numeric_overflow) break;
        if (root == NULL) (void)blank_number(copy, (size_t)where.position);
    }
    const json_t *id = json_object_get(root, "id");
    if (!json_is_string(id) || strlen(json_string_value(id)) == json_string_length(id))
        if (json_is_object(root)) (void)read_id(root, line, &ignored);
    json_decref(root);
    free(copy);
}

/* A name is quoted in the parser's message: near '"seed"'. */
static void reject_twice(const char *message, qr_line_error *error)
{
    const char  *open   = strchr(message, '"');
    const char  *close  = open ? strrchr(message, '"') : NULL;
    const size_t length = open ? (size_t)(close - open) + 1 : 0;
    reject(error, "", "the name %.*s appears twice", (int)qr_min_u64(length, 100), open ? open : "");
}

static void reject_json(const qr_request_text *text, const json_error_t *where, qr_request_line *line,
                        qr_line_error *error)
{
    const size_t byte = qr_request_text_place(text, (size_t)where->position);
    switch (json_error_code(where)) {
    case json_error_numeric_overflow:
        reject(error, "", "the number that ends at byte %zu is out of range", byte);
        break;
    case json_error_null_character:
    case json_error_null_byte_in_key:
        reject(error, "", "the string that ends at byte %zu has the character \\u0000, which is not allowed", byte);
        break;
    case json_error_duplicate_key: reject_twice(where->text, error); break;
    case json_error_stack_overflow: reject(error, "", "nested too deeply at byte %zu", byte); return;
    default: reject(error, "", "not JSON at byte %zu: %.150s", byte, where->text); return;
    }
    if (strstr(where->text, "key near '\"id\"'") == NULL) recover_id(text->rest, text->length, line);
}

static void read_text(qr_request_text *text, const qr_request_defaults *defaults, qr_request_line *line,
                      qr_line_error *error)
{
    json_error_t where;
    json_t      *root = NULL;
    if (text->is_too_long && text->features.left > 0)
        (void)count_encoded_frames(&text->features, defaults->encoder_feature_size, error);
    else if (text->is_too_long)
        reject(error, "", "more than %d bytes besides token ids and features", QR_MOST_REQUEST_REST);
    else if ((root = json_loadb(text->rest, text->length, JSON_REJECT_DUPLICATES, &where)) != NULL)
        (void)read_all(root, defaults, text, line, error);
    else
        reject_json(text, &where, line, error);
    json_decref(root);
}

void qr_request_line_read(const char *text, size_t length, uint64_t number, const qr_request_defaults *defaults,
                          qr_request_line *line_out, qr_line_error *error_out)
{
    *error_out = (qr_line_error){.status = QUIRE_OK};
    *line_out  = (qr_request_line){.line    = number,
                                   .request = {.size           = sizeof line_out->request,
                                               .max_tokens     = defaults->max_tokens,
                                               .sampling       = defaults->sampling,
                                               .logits         = defaults->logits,
                                               .length_penalty = 1}};
    const char     *names[QR_REQUEST_LISTS];
    qr_request_text rest;
    for (size_t i = 0; i < QR_REQUEST_LISTS; i++) names[i] = lists[i].name;
    if (qr_request_text_read(text, length, names, &rest))
        read_text(&rest, defaults, line_out, error_out);
    else
        *error_out = (qr_line_error){.status = QUIRE_ERR_NO_MEMORY, .message = "no memory for the request"};
    qr_request_text_deinit(&rest);
}

void qr_request_line_clip_default(qr_request_line *line, uint32_t max_model_len)
{
    quire_request *r      = &line->request;
    const uint32_t prompt = r->prompt_count > 0 ? r->prompt_count : 1; /* the decoder's start token */
    if (line->has_max_tokens || prompt >= max_model_len) return;
    r->max_tokens = qr_min_u32(qr_max_u32(r->max_tokens, r->min_tokens), max_model_len - prompt);
}

static bool is_built_in(const quire_config *config, const char *key)
{
    return strcmp(quire_config_origin(config, key), "built-in") == 0;
}

/* What generation_config.json says and nobody else. */
static void take_from_model(const quire_config *config, const quire_model_info *model, qr_request_defaults *defaults)
{
    quire_sampling *to = &defaults->sampling, *beams = &defaults->beam_sampling;
#define TAKE(key, field, value)                                                                                        \
    if ((value) > 0 && is_built_in(config, "generate." key)) (field) = (value)
    TAKE("max_tokens", defaults->max_tokens, model->max_new_tokens);
    TAKE("temperature", to->temperature, model->sampling.temperature);
    TAKE("top_k", to->top_k, model->sampling.top_k);
    TAKE("top_p", to->top_p, model->sampling.top_p);
    TAKE("min_p", to->min_p, model->sampling.min_p);
    TAKE("repetition_penalty", to->repetition_penalty, model->sampling.repetition_penalty);
    TAKE("repetition_penalty", beams->repetition_penalty, model->sampling.repetition_penalty);
#undef TAKE
    defaults->encoder_feature_size = model->encoder_feature_size;
    defaults->rules[0]             = (qr_model_rule){model->banned, model->banned_count};
    defaults->rules[1]             = (qr_model_rule){model->first_banned, model->first_banned_count};
    defaults->rules[2]             = (qr_model_rule){model->first_allowed, model->first_allowed_count};
    defaults->rules[3]             = (qr_model_rule){model->last_allowed, model->last_allowed_count};
}

quire_status qr_request_defaults_of(const quire_config *config, const quire_model_info *model,
                                    qr_request_defaults *defaults_out, quire_error *error)
{
#define REAL(key) ((float)quire_config_number(config, "generate." key))
    *defaults_out = (qr_request_defaults){
        .max_tokens = (uint32_t)quire_config_integer(config, "generate.max_tokens"),
        .seed       = (uint64_t)quire_config_integer(config, "generate.seed"),
        .sampling   = {.temperature        = REAL("temperature"),
                       .top_p              = REAL("top_p"),
                       .min_p              = REAL("min_p"),
                       .top_k              = (uint32_t)quire_config_integer(config, "generate.top_k"),
                       .repetition_penalty = REAL("repetition_penalty"),
                       .presence_penalty   = REAL("presence_penalty"),
                       .frequency_penalty  = REAL("frequency_penalty")},
    };
#undef REAL
    defaults_out->beam_sampling = defaults_out->sampling;
    take_from_model(config, model, defaults_out);
    const char *logits = quire_config_string(config, "generate.logits");
    if (logits == NULL || logits_of(logits, &defaults_out->logits)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "generate.logits: \"%.40s\" is not none, first, last, first,last, all",
                   logits);
}

void qr_request_line_drop_lists(qr_request_line *line)
{
    quire_request *r = &line->request;
    for (uint32_t i = 0; i < QR_REQUEST_LISTS; i++) free(line->ids[i]);
    memset(line->ids, 0, sizeof line->ids);
    free(line->bias);
    free(line->features);
    free((void *)(uintptr_t)r->tenant);
    line->bias     = NULL;
    line->features = NULL;
    r->tenant      = NULL;
    r->prompt = r->encoder_input = r->stop = r->allowed = r->banned = NULL;
    r->first_banned = r->first_allowed = r->last_allowed = NULL;
    r->logit_bias                                        = NULL;
    r->encoder_features                                  = NULL;
}

void qr_request_line_deinit(qr_request_line *line)
{
    qr_request_line_drop_lists(line);
    json_decref(line->id);
    line->id = NULL;
}
