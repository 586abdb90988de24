/* Single values of config.json, each checked for its type and range. */
#include "model/config_reader.h"

#include <string.h>

static bool absent(const json_t *value) { return value == NULL || json_is_null(value); }

/* What messages put before the key. */
static const char *section_of(const qr_config_reader *r, const json_t *object)
{
    return object != r->root && r->section != NULL ? r->section : "";
}

/* The value of a key if it is there and of one of the `types` (bits by json_type). */
static const json_t *find(qr_config_reader *r, const json_t *object, const char *key, bool required, unsigned types,
                          const char *expected)
{
    const json_t *value = json_object_get(object, key);
    if (absent(value)) {
        if (required) QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s%s: missing", r->origin, section_of(r, object), key);
        return NULL;
    }
    if ((types >> json_typeof(value) & 1) != 0 && !qr_json_is_ambiguous(value)) return value;
    QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s%s: expected %s, found %s", r->origin, section_of(r, object), key, expected,
                qr_json_type_name(value));
    return NULL;
}

int64_t qr_config_integer(qr_config_reader *r, const json_t *object, const char *key, int64_t low, int64_t high,
                          int64_t fallback)
{
    const bool    required = fallback == QR_REQUIRED;
    const json_t *value    = find(r, object, key, required, 1u << JSON_INTEGER, "an integer");
    if (value == NULL) return required ? low : fallback;
    const int64_t number = json_integer_value(value);
    if (number >= low && number <= high) return number;
    QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s%s: %lld is outside %lld..%lld", r->origin, section_of(r, object), key,
                (long long)number, (long long)low, (long long)high);
    return low;
}

double qr_config_number(qr_config_reader *r, const json_t *object, const char *key, double low, double high,
                        double fallback)
{
    const bool    required = isnan(fallback);
    const json_t *value    = find(r, object, key, required, 1u << JSON_INTEGER | 1u << JSON_REAL, "a number");
    if (value == NULL) return required ? low : fallback;
    const double number = json_number_value(value);
    if (number >= low && number <= high) return number;
    QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s%s: %.15g is outside %g..%g", r->origin, section_of(r, object), key, number,
                low, high);
    return low;
}

const char *qr_config_string(qr_config_reader *r, const json_t *object, const char *key, const char *fallback)
{
    const json_t *value = find(r, object, key, false, 1u << JSON_STRING, "a string");
    if (value == NULL) return fallback;
    if (strlen(json_string_value(value)) == json_string_length(value)) return json_string_value(value);
    QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s%s: holds a NUL", r->origin, section_of(r, object), key);
    return fallback;
}

bool qr_config_boolean_of(qr_config_reader *r, const json_t *object, const char *key, bool fallback)
{
    const json_t *value = find(r, object, key, false, 1u << JSON_TRUE | 1u << JSON_FALSE, "true or false");
    return value != NULL ? json_is_true(value) : fallback;
}

bool qr_config_boolean(qr_config_reader *r, const char *key, bool fallback)
{
    return qr_config_boolean_of(r, r->root, key, fallback);
}

const json_t *qr_config_object(qr_config_reader *r, const char *key)
{
    return find(r, r->root, key, false, 1u << JSON_OBJECT, "an object");
}

const json_t *qr_config_array(qr_config_reader *r, const char *key)
{
    return find(r, r->root, key, false, 1u << JSON_ARRAY, "an array");
}

qr_activation qr_config_activation(qr_config_reader *r, const char *key, const char *name)
{
    static const struct {
        const char   *name;
        qr_activation activation;
    } known[] = {
        {"relu", QR_ACTIVATION_RELU},         {"silu", QR_ACTIVATION_SILU},
        {"swish", QR_ACTIVATION_SILU},        {"gelu", QR_ACTIVATION_GELU},
        {"gelu_new", QR_ACTIVATION_GELU_NEW}, {"gelu_pytorch_tanh", QR_ACTIVATION_GELU_NEW},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) return known[i].activation;
    QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                "%s: %s: \"%.40s\" is not supported, only relu, silu, swish, gelu, gelu_new and gelu_pytorch_tanh",
                r->origin, key, name);
    return QR_ACTIVATION_NONE;
}

uint32_t qr_config_size(qr_config_reader *r, const char *key, int64_t high, int64_t fallback)
{
    return (uint32_t)qr_config_integer(r, r->root, key, 1, high, fallback);
}

bool qr_config_has(const qr_config_reader *r, const char *key) { return !absent(json_object_get(r->root, key)); }

void qr_config_refuse(qr_config_reader *r, bool used, const char *key, const char *message)
{
    if (used) QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: %s", r->origin, key, message);
}

void qr_config_check_heads(qr_config_reader *r, const qr_architecture *a, const char *heads_key, const char *dim_key)
{
    if (a->heads % a->kv_heads != 0)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %u is not a multiple of num_key_value_heads %u", r->origin, heads_key,
                    a->heads, a->kv_heads);
    if ((uint64_t)a->heads * a->head_dim > QR_MAX_WIDTH)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s %u times %s %u is above %d", r->origin, heads_key, a->heads,
                    dim_key, a->head_dim, QR_MAX_WIDTH);
}

/* Null is not the class's default, but a value of its own. */
static bool is_left_out(const qr_config_reader *r, const char *key) { return json_object_get(r->root, key) == NULL; }

static uint32_t read_head_dim(qr_config_reader *r, uint32_t fallback, const qr_architecture *a)
{
    const bool given = qr_config_has(r, "head_dim");
    if (fallback > 0 && is_left_out(r, "head_dim")) return fallback;
    if (!given && a->hidden_size % a->heads != 0)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: hidden_size: %u is not a multiple of num_attention_heads %u", r->origin,
                    a->hidden_size, a->heads);
    const uint32_t head_dim =
        given ? qr_config_size(r, "head_dim", QR_MAX_HEAD_DIM, QR_REQUIRED) : a->hidden_size / a->heads;
    if (head_dim % 2 != 0 || head_dim > QR_MAX_HEAD_DIM)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: head_dim: %u, rotary embedding needs an even number of at most %d",
                    r->origin, head_dim, QR_MAX_HEAD_DIM);
    return head_dim;
}

void qr_config_read_decoder(qr_config_reader *r, const qr_decoder_defaults *defaults, qr_architecture *a)
{
    const bool kv_default = defaults->kv_heads > 0 && is_left_out(r, "num_key_value_heads");
    a->vocab_size         = qr_config_size(r, "vocab_size", QR_MAX_VOCAB, QR_REQUIRED);
    a->hidden_size        = qr_config_size(r, "hidden_size", QR_MAX_WIDTH, QR_REQUIRED);
    a->intermediate_size  = qr_config_size(r, "intermediate_size", QR_MAX_WIDTH, QR_REQUIRED);
    a->layers             = qr_config_size(r, "num_hidden_layers", QR_MAX_LAYERS, QR_REQUIRED);
    a->heads              = qr_config_size(r, "num_attention_heads", QR_MAX_HEADS, QR_REQUIRED);
    a->kv_heads = qr_config_size(r, "num_key_value_heads", QR_MAX_HEADS, kv_default ? defaults->kv_heads : a->heads);
    a->head_dim = read_head_dim(r, defaults->head_dim, a);
    qr_config_check_heads(r, a, "num_attention_heads", "head_dim");
    const double epsilon = defaults->epsilon > 0 ? defaults->epsilon : 1e-6;
    a->norm_epsilon      = (float)qr_config_number(r, r->root, "rms_norm_eps", 1e-12, 1, epsilon);
    a->max_position_embeddings =
        qr_config_size(r, "max_position_embeddings", QR_MAX_POSITION, defaults->max_position_embeddings);
}
