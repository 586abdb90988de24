/* Rotary embedding: settings in both forms that config.json files have, frequencies, tables. */
#include "model/rope.h"

#include <math.h>
#include <string.h>

#include "model/config_reader.h"
#include "model/declare.h"

/* ---- settings ---- */

static void read_llama3(qr_config_reader *r, const json_t *settings, qr_rope *rope)
{
    rope->llama3           = true;
    rope->factor           = qr_config_number(r, settings, "factor", 1, 1e6, QR_REQUIRED_NUMBER);
    rope->low_freq_factor  = qr_config_number(r, settings, "low_freq_factor", 1e-3, 1e6, QR_REQUIRED_NUMBER);
    rope->high_freq_factor = qr_config_number(r, settings, "high_freq_factor", 1e-3, 1e6, QR_REQUIRED_NUMBER);
    rope->original_max_position_embeddings =
        (uint32_t)qr_config_integer(r, settings, "original_max_position_embeddings", 1, QR_MAX_POSITION, QR_REQUIRED);
    if (!(rope->high_freq_factor > rope->low_freq_factor))
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: high_freq_factor: %g is not above low_freq_factor %g", r->origin,
                    rope->high_freq_factor, rope->low_freq_factor);
}

static const char *rope_type(qr_config_reader *r, const json_t *settings)
{
    return qr_config_string(r, settings, "rope_type", qr_config_string(r, settings, "type", NULL));
}

/* Beside `rope_parameters` the older form may repeat it, and must not say anything else. */
static void check_rope_scaling(qr_config_reader *r, const char *type)
{
    const json_t *old = qr_config_object(r, "rope_scaling");
    if (old == NULL) return;
    const char *old_type = rope_type(r, old);
    if (old_type == NULL) old_type = json_object_size(old) > 0 ? "missing" : "default";
    if (strcmp(old_type, type ? type : "default") == 0) return;
    QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                "%s: rope_scaling: rope_type \"%.40s\" is not that of rope_parameters, \"%.40s\"", r->origin, old_type,
                type ? type : "default");
}

static void refuse_partial(qr_config_reader *r, const json_t *object)
{
    const char *key = "partial_rotary_factor";
    qr_config_refuse(r, qr_config_number(r, object, key, 0, 1, 1) != 1, key, "only 1 is supported");
}

static void read_settings(qr_config_reader *r, const char *key, const json_t *settings, qr_rope *rope)
{
    rope->theta      = qr_config_number(r, settings, "rope_theta", 1, 1e12, rope->theta);
    const char *type = rope_type(r, settings);
    if (strcmp(key, "rope_parameters") == 0) check_rope_scaling(r, type);
    qr_config_refuse(r, json_object_get(settings, "full_attention") || json_object_get(settings, "sliding_attention"),
                     key, "settings by layer type are not supported");
    refuse_partial(r, settings);
    if (type == NULL && json_object_get(settings, "factor") != NULL)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: rope_type: missing", r->origin, key);
    if (type == NULL || strcmp(type, "default") == 0) return;
    if (strcmp(type, "llama3") == 0)
        read_llama3(r, settings, rope);
    else
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: rope_type \"%.40s\" is not supported, only default and llama3",
                    r->origin, key, type);
}

/* Both forms: `rope_parameters` (transformers 5) holds the theta as well; before it, `rope_theta` stood beside
 * `rope_scaling`, whose type was called `type` before `rope_type`. */
void qr_rope_read(qr_config_reader *r, qr_rope *rope)
{
    const char   *key      = qr_config_has(r, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *settings = qr_config_object(r, key);
    rope->theta            = qr_config_number(r, r->root, "rope_theta", 1, 1e12, 10000);
    refuse_partial(r, r->root);
    if (settings != NULL) read_settings(r, key, settings, rope);
}

/* ---- tables ---- */

/* Frequency of pair i, in f32 as Hugging Face computes it. */
static float frequency_of(const qr_rope *rope, uint32_t i, uint32_t head_dim)
{
    const float frequency = 1.0f / powf((float)rope->theta, (float)(2 * i) / (float)head_dim);
    if (!rope->llama3) return frequency;
    const double low = rope->low_freq_factor, high = rope->high_freq_factor;
    const float  length = (float)rope->original_max_position_embeddings, wavelength = 6.2831853071795865f / frequency;
    if (wavelength < length / (float)high) return frequency;
    if (wavelength > length / (float)low) return frequency / (float)rope->factor;
    const float smooth = (length / wavelength - (float)low) / (float)(high - low);
    return (1 - smooth) * frequency / (float)rope->factor + smooth * frequency;
}

void qr_rope_declare(qr_declaration *d)
{
    const qr_architecture *a    = d->architecture;
    const uint32_t         half = a->head_dim / 2, positions = d->max_model_len;
    float                 *cosines = qr_declare_floats(d, (size_t)positions * half);
    float                 *sines   = qr_declare_floats(d, (size_t)positions * half);
    for (uint32_t i = 0; i < half && cosines != NULL; i++) {
        const float frequency = frequency_of(&a->rope, i, a->head_dim);
        for (uint32_t position = 0; position < positions; position++) {
            const float angle                    = (float)position * frequency;
            cosines[(size_t)position * half + i] = (float)cos((double)angle);
            sines[(size_t)position * half + i]   = (float)sin((double)angle);
        }
    }
    d->parameters->rope_cos = cosines;
    d->parameters->rope_sin = sines;
}
