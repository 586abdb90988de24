/* Reads keys of a parsed config.json with their ranges and defaults. The first complaint sticks, later reads return
 * their fallback; so a family lists its keys without a branch after each. Messages name the file, the key and what was
 * expected. */
#ifndef QR_CONFIG_READER_H
#define QR_CONFIG_READER_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"
#include "model/json_read.h"

enum {
    QR_MAX_VOCAB    = 1 << 24,
    QR_MAX_WIDTH    = 1 << 20, /* hidden, intermediate, heads * head_dim */
    QR_MAX_HEADS    = 4096,
    QR_MAX_HEAD_DIM = 1024,
    QR_MAX_POSITION = 1 << 24,
    QR_MAX_BUCKETS  = 4096,
};

/* As a fallback: the key must be there. */
#define QR_REQUIRED INT64_MIN
#define QR_REQUIRED_NUMBER ((double)NAN)

typedef struct qr_config_reader {
    const json_t *root;
    const char   *origin;  /* of the text, for messages */
    const char   *section; /* where objects other than the root are read: "name.", for messages; or NULL */
    quire_error  *error;
    quire_status  status;    /* of the first complaint */
    bool          synthetic; /* numbers of the text were overridden */
} qr_config_reader;

#define QR_COMPLAIN(reader, code, ...)                                                                                 \
    ((reader)->status == QUIRE_OK ? (void)((reader)->status = qr_fail((reader)->error, (code), __VA_ARGS__)) : (void)0)

/* Keys of `object`; a missing key and null are the fallback. */
int64_t qr_config_integer(qr_config_reader *reader, const json_t *object, const char *key, int64_t low, int64_t high,
                          int64_t fallback);
double  qr_config_number(qr_config_reader *reader, const json_t *object, const char *key, double low, double high,
                         double fallback);
const char *qr_config_string(qr_config_reader *reader, const json_t *object, const char *key, const char *fallback);

bool qr_config_boolean_of(qr_config_reader *reader, const json_t *object, const char *key, bool fallback);

/* An activation by its name in transformers, which `key` gave. */
qr_activation qr_config_activation(qr_config_reader *reader, const char *key, const char *name);

/* Keys of the root. A size is 1..high; object and array are NULL where the key is missing or null. */
uint32_t      qr_config_size(qr_config_reader *reader, const char *key, int64_t high, int64_t fallback);
bool          qr_config_boolean(qr_config_reader *reader, const char *key, bool fallback);
const json_t *qr_config_object(qr_config_reader *reader, const char *key);
const json_t *qr_config_array(qr_config_reader *reader, const char *key);
bool          qr_config_has(const qr_config_reader *reader, const char *key); /* and it is not null */

/* The root of a text, an object. *origin, its path, becomes what messages call it. ERR_FORMAT. */
quire_status qr_config_parse(const char *text, size_t length, const char **origin, json_t **root_out,
                             quire_error *error);

/* `eos_token_id`, one id or several, after those that *architecture has. */
void qr_config_read_eos(qr_config_reader *reader, qr_architecture *architecture);

/* ERR_UNSUPPORTED if a feature is `used` that quire does not have; `message` follows the key. */
void qr_config_refuse(qr_config_reader *reader, bool used, const char *key, const char *message);

/* What a configuration class of transformers has where config.json leaves a key out, and a checkpoint may: of its other
 * sizes they are those of one published model. */
typedef struct qr_decoder_defaults {
    uint32_t max_position_embeddings;
    uint32_t kv_heads; /* 0: as many as heads, which null is always */
    uint32_t head_dim; /* 0: hidden_size / heads, which null is always */
    double   epsilon;  /* 0: 1e-6 */
} qr_decoder_defaults;

/* The sizes of a decoder by the keys that most have, "hidden_size" and so on, from vocab_size to
 * max_position_embeddings. */
void qr_config_read_decoder(qr_config_reader *reader, const qr_decoder_defaults *defaults,
                            qr_architecture *architecture);

/* heads, kv_heads and head_dim against each other. */
void qr_config_check_heads(qr_config_reader *reader, const qr_architecture *architecture, const char *heads_key,
                           const char *dim_key);

#endif
