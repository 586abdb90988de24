/* Rotary embedding: settings in both forms that config.json files have, frequencies, tables. */
#include "model/rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config_reader.h"
#include "model/declare.h"

/* ---- settings ---- */

static void contradicts(qr_config_reader *r, const char *key, double root, const json_t *settings, double own)
{
    if (qr_config_has(r, key) && json_is_number(json_object_get(settings, key)) && root != own)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %.15g contradicts %.15g of the rope settings", r->origin, key, root,
                    own);
}

/* Of the settings or the file itself (Phi-3 has only the latter), which must agree where both are there. */
static uint32_t read_original_length(qr_config_reader *r, const json_t *settings, int64_t fallback)
{
    static const char key[] = "original_max_position_embeddings";
    const int64_t     own   = qr_config_integer(r, settings, key, 1, QR_MAX_POSITION, fallback);
    const int64_t     root  = qr_config_integer(r, r->root, key, 1, QR_MAX_POSITION, own);
    contradicts(r, key, (double)root, settings, (double)own);
    return (uint32_t)root;
}

static void read_llama3(qr_config_reader *r, const json_t *settings, qr_rope *rope)
{
    rope->factor           = qr_config_number(r, settings, "factor", 1, 1e6, QR_REQUIRED_NUMBER);
    rope->low_freq_factor  = qr_config_number(r, settings, "low_freq_factor", 1e-3, 1e6, QR_REQUIRED_NUMBER);
    rope->high_freq_factor = qr_config_number(r, settings, "high_freq_factor", 1e-3, 1e6, QR_REQUIRED_NUMBER);
    rope->original_max_position_embeddings = read_original_length(r, settings, QR_REQUIRED);
    if (!(rope->high_freq_factor > rope->low_freq_factor))
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %shigh_freq_factor: %g is not above low_freq_factor %g", r->origin,
                    r->section, rope->high_freq_factor, rope->low_freq_factor);
}

/* As vLLM has it: a length before scaling, times the factor. */
static uint32_t scaled_length(uint32_t length, double factor)
{
    return (uint32_t)fmin(length * factor, QR_MAX_POSITION);
}

static void read_linear(qr_config_reader *r, const json_t *settings, qr_architecture *a)
{
    a->rope.factor             = qr_config_number(r, settings, "factor", 1, 1e6, QR_REQUIRED_NUMBER);
    a->max_position_embeddings = scaled_length(a->max_position_embeddings, a->rope.factor);
}

/* The factor is what the file's two lengths say, unless it is given. */
static void read_lengths(qr_config_reader *r, const json_t *settings, uint32_t original, qr_architecture *a)
{
    qr_rope *rope = &a->rope;
    rope->original_max_position_embeddings =
        read_original_length(r, settings, original > 0 ? original : a->max_position_embeddings);
    const double ratio = (double)a->max_position_embeddings / rope->original_max_position_embeddings;
    rope->factor       = qr_config_number(r, settings, "factor", 1, 1e6, fmax(1, ratio));
}

/* arXiv:2309.00071, eq. 22: what the scores are sharpened by, spread over q and k. */
static double yarn_magnitude(double factor, double scale) { return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1; }

static double read_magnitude(qr_config_reader *r, const json_t *settings, double factor)
{
    const double one = qr_config_number(r, settings, "mscale", 0, 1e3, 0);
    const double all = qr_config_number(r, settings, "mscale_all_dim", 0, 1e3, 0);
    const double own =
        one > 0 && all > 0 ? yarn_magnitude(factor, one) / yarn_magnitude(factor, all) : yarn_magnitude(factor, 1);
    return qr_config_number(r, settings, "attention_factor", 1e-3, 1e3, own);
}

static void read_yarn(qr_config_reader *r, const json_t *settings, qr_architecture *a)
{
    qr_rope *rope = &a->rope;
    read_lengths(r, settings, 0, a);
    const double fast          = qr_config_number(r, settings, "beta_fast", 0, 1e6, 32);
    const double slow          = qr_config_number(r, settings, "beta_slow", 0, 1e6, 1);
    rope->beta_fast            = fast > 0 ? fast : 32;
    rope->beta_slow            = slow > 0 ? slow : 1;
    rope->truncate             = qr_config_boolean_of(r, settings, "truncate", true);
    rope->magnitude            = (float)read_magnitude(r, settings, rope->factor);
    a->max_position_embeddings = scaled_length(rope->original_max_position_embeddings, rope->factor);
    if (!(rope->theta > 1)) /* its logarithm divides */
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: rope_theta: %g, yarn needs a number above 1", r->origin, rope->theta);
}

static void read_pairs(qr_config_reader *r, const json_t *settings, const char *key, uint32_t pairs, float *factors)
{
    const json_t *array = json_object_get(settings, key);
    if (json_array_size(array) != pairs || pairs > QR_ROPE_MAX_PAIRS) {
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT,
                    "%s: %s%s: expected an array of %u numbers, one per rotated pair, found %zu; the limit is %d",
                    r->origin, r->section, key, pairs, json_array_size(array), QR_ROPE_MAX_PAIRS);
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        factors[i] = (float)json_number_value(json_array_get(array, i));
        if (!(factors[i] > 0 && factors[i] < 1e6f))
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s%s[%u]: expected a number above 0 and below 1e6", r->origin,
                        r->section, key, i);
    }
}

static void read_longrope(qr_config_reader *r, const json_t *settings, uint32_t original, qr_architecture *a)
{
    qr_rope *rope = &a->rope;
    read_lengths(r, settings, original, a);
    const double longer = log(rope->factor) / log(fmax(2, rope->original_max_position_embeddings));
    rope->magnitude     = (float)qr_config_number(r, settings, "attention_factor", 1e-3, 1e3, sqrt(1 + longer));
    read_pairs(r, settings, "short_factor", rope->rotary_dim / 2, rope->short_factor);
    read_pairs(r, settings, "long_factor", rope->rotary_dim / 2, rope->long_factor);
}

static const char *rope_type(qr_config_reader *r, const json_t *settings)
{
    return qr_config_string(r, settings, "rope_type", qr_config_string(r, settings, "type", NULL));
}

static bool differ(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) != json_number_value(b);
    return a != b && !json_equal(a, b);
}

/* A theta that the settings leave out is the root's. */
static const json_t *setting(const qr_config_reader *r, const json_t *settings, const char *key)
{
    const json_t *value = json_object_get(settings, key);
    if (value == NULL && strcmp(key, "rope_theta") == 0) value = json_object_get(r->root, key);
    return json_is_null(value) ? NULL : value;
}

/* The first key about which the two forms disagree, or NULL. */
static const char *find_contradiction(qr_config_reader *r, const json_t *scaling, const json_t *parameters)
{
    static const char *const keys[] = {"rope_theta",      "factor",           "original_max_position_embeddings",
                                       "low_freq_factor", "high_freq_factor", "beta_fast",
                                       "beta_slow",       "truncate",         "attention_factor",
                                       "mscale",          "mscale_all_dim",   "short_factor",
                                       "long_factor"};
    const char              *one = rope_type(r, scaling), *other = rope_type(r, parameters);
    if (strcmp(one ? one : "default", other ? other : "default") != 0) return "rope_type";
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (differ(setting(r, scaling, keys[i]), setting(r, parameters, keys[i]))) return keys[i];
    return NULL;
}

/* As the settings have it, or before them the root. */
static uint32_t read_rotary_dim(qr_config_reader *r, const json_t *settings, bool partial, uint32_t head_dim)
{
    static const char key[]  = "partial_rotary_factor";
    const double      root   = qr_config_number(r, r->root, key, 0, 1, 1);
    const double      factor = qr_config_number(r, settings, key, 0, 1, root);
    contradicts(r, key, root, settings, factor);
    qr_config_refuse(r, factor != 1 && !partial, key, "only 1 is supported");
    const uint32_t rotary_dim = (uint32_t)(head_dim * factor);
    if (rotary_dim == 0 || rotary_dim % 2 != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: %g of head_dim %u is %u, which must be even and above 0",
                    r->origin, key, factor, head_dim, rotary_dim);
    return rotary_dim;
}

static void read_type(qr_config_reader *r, const char *key, const json_t *settings, const char *type,
                      const qr_rope_rules *rules, qr_architecture *a)
{
    static const struct {
        const char  *name;
        qr_rope_type type;
    } known[] = {{"default", QR_ROPE_DEFAULT}, {"linear", QR_ROPE_LINEAR},     {"llama3", QR_ROPE_LLAMA3},
                 {"yarn", QR_ROPE_YARN},       {"longrope", QR_ROPE_LONGROPE}, {"su", QR_ROPE_LONGROPE}};
    size_t i  = 0;
    while (i < sizeof known / sizeof *known && strcmp(known[i].name, type) != 0) i++;
    if (i == sizeof known / sizeof *known) {
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                    "%s: %s: rope_type \"%.40s\" is not supported, only default, linear, llama3, yarn and longrope",
                    r->origin, key, type);
        return;
    }
    a->rope.type = known[i].type;
    if (a->rope.type == QR_ROPE_YARN && rules->yarn_is_longrope) a->rope.type = QR_ROPE_LONGROPE;
    if (a->rope.type == QR_ROPE_LINEAR) read_linear(r, settings, a);
    if (a->rope.type == QR_ROPE_LLAMA3) read_llama3(r, settings, &a->rope);
    if (a->rope.type == QR_ROPE_YARN) read_yarn(r, settings, a);
    if (a->rope.type == QR_ROPE_LONGROPE) read_longrope(r, settings, rules->original_length, a);
}

static void read_settings(qr_config_reader *r, const char *key, const json_t *settings, const qr_rope_rules *rules,
                          qr_architecture *a)
{
    char section[64];
    snprintf(section, sizeof section, "%s.", key);
    r->section       = section;
    a->rope.theta    = qr_config_number(r, settings, "rope_theta", 1, 1e12, a->rope.theta);
    const char *type = rope_type(r, settings);
    if (type == NULL && json_object_get(settings, "factor") != NULL)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: rope_type: missing", r->origin, key);
    if (type != NULL) read_type(r, key, settings, type, rules, a);
    r->section = NULL;
}

/* The settings of one type of layer, where they are given by type; NULL where they are not. */
static const json_t *settings_by_type(qr_config_reader *r, const char *key, const json_t *settings, const char *type,
                                      bool supported)
{
    const json_t *own = json_object_get(settings, type);
    if (own == NULL) return NULL;
    qr_config_refuse(r, !supported, key, "settings by layer type are not supported");
    if (!json_is_object(own))
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s.%s: expected an object, found %s", r->origin, key, type,
                    qr_json_type_name(own));
    return own;
}

/* Of windowed layers: a theta, as the root has it or, newer, the settings. */
static void read_local(qr_config_reader *r, const char *key, const json_t *own, const qr_rope_rules *rules,
                       qr_architecture *a)
{
    const double root  = qr_config_number(r, r->root, "rope_local_base_freq", 1, 1e12, rules->local_theta);
    const double theta = qr_config_number(r, own, "rope_theta", 1, 1e12, root);
    const char  *type  = rope_type(r, own);
    qr_config_refuse(r, type != NULL && strcmp(type, "default") != 0, key,
                     "a scaled sliding_attention is not supported");
    a->local_rope = (qr_rope){.theta = theta, .rotary_dim = a->rope.rotary_dim, .factor = 1, .magnitude = 1};
}

/* Both forms: `rope_parameters` (transformers 5) holds the theta as well; before it, `rope_theta` stood beside
 * `rope_scaling`, whose type was called `type` before `rope_type`. Where a file has both, `rope_scaling` is taken
 * unless it is empty, as in transformers 5. */
void qr_rope_read(qr_config_reader *r, const qr_rope_rules *rules, qr_architecture *a)
{
    const json_t *scaling = qr_config_object(r, "rope_scaling"), *parameters = qr_config_object(r, "rope_parameters");
    json_t       *fallback   = NULL;
    const bool    is_scaling = json_object_size(scaling) > 0, is_both = is_scaling && json_object_size(parameters) > 0;
    const char   *key      = is_scaling ? "rope_scaling" : "rope_parameters";
    const json_t *settings = is_scaling ? scaling : parameters;
    if (settings == NULL && rules->parameters != NULL) {
        settings = fallback = json_loads(rules->parameters, 0, NULL);
        if (fallback == NULL) QR_COMPLAIN(r, QUIRE_ERR_NO_MEMORY, "%s: no memory", r->origin);
    }
    const double theta    = qr_config_number(r, r->root, "rope_theta", 1, 1e12, rules->theta > 0 ? rules->theta : 1e4);
    a->rope               = (qr_rope){.theta = theta, .factor = 1, .magnitude = 1};
    a->rope.rotary_dim    = read_rotary_dim(r, settings, rules->partial, a->head_dim);
    const bool    by_type = rules->local_theta > 0;
    const json_t *local   = settings_by_type(r, key, settings, "sliding_attention", by_type);
    const json_t *global  = settings_by_type(r, key, settings, "full_attention", by_type);
    if (by_type) read_local(r, key, local, rules, a);
    if (global != NULL) settings = global;
    if (is_both) a->rope.contradiction = find_contradiction(r, scaling, parameters);
    if (settings != NULL) read_settings(r, key, settings, rules, a);
    json_decref(fallback);
}

/* ---- tables ---- */

static float llama3_frequency(const qr_rope *rope, float frequency)
{
    const double low = rope->low_freq_factor, high = rope->high_freq_factor;
    const float  length = (float)rope->original_max_position_embeddings, wavelength = 6.2831853071795865f / frequency;
    if (wavelength < length / (float)high) return frequency;
    if (wavelength > length / (float)low) return frequency / (float)rope->factor;
    const float smooth = (length / wavelength - (float)low) / (float)(high - low);
    return (1 - smooth) * frequency / (float)rope->factor + smooth * frequency;
}

/* The pair that turns `rotations` times over the original length: eq. 17 of arXiv:2309.00071, solved for d. */
static double yarn_pair(const qr_rope *rope, double rotations)
{
    const double turns = rope->original_max_position_embeddings / (rotations * 2 * 3.14159265358979323846);
    return rope->rotary_dim * log(turns) / (2 * log(rope->theta));
}

/* Equations 19 and 20: interpolated where a pair turns less than beta_slow times over the original length, as it is
 * where it turns more than beta_fast times. Between them the ramp is by pairs, as in the authors' code, where eq. 18
 * has one by turns. */
static float yarn_frequency(const qr_rope *rope, float wavelength, uint32_t i)
{
    double low = yarn_pair(rope, rope->beta_fast), high = yarn_pair(rope, rope->beta_slow);
    if (rope->truncate) low = floor(low), high = ceil(high);
    low  = fmax(low, 0);
    high = fmin(high, rope->rotary_dim - 1);
    if (low == high) high += 0.001;
    const float ramp = fminf(fmaxf(((float)i - (float)low) / (float)(high - low), 0), 1);
    return 1.0f / ((float)rope->factor * wavelength) * ramp + 1.0f / wavelength * (1 - ramp);
}

/* Frequency of pair i, in f32 as Hugging Face computes it. */
static float frequency_of(const qr_rope *rope, uint32_t i, bool is_long)
{
    const float wavelength = powf((float)rope->theta, (float)(2 * i) / (float)rope->rotary_dim); /* but for 2 pi */
    switch (rope->type) {
    case QR_ROPE_LINEAR: return 1.0f / wavelength / (float)rope->factor;
    case QR_ROPE_LLAMA3: return llama3_frequency(rope, 1.0f / wavelength);
    case QR_ROPE_YARN: return yarn_frequency(rope, wavelength, i);
    case QR_ROPE_LONGROPE: return 1.0f / ((is_long ? rope->long_factor : rope->short_factor)[i] * wavelength);
    default: return 1.0f / wavelength;
    }
}

static void fill_tables(const qr_rope *rope, uint32_t positions, bool is_long, float *cosines, float *sines)
{
    const uint32_t half = rope->rotary_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        const float frequency = frequency_of(rope, i, is_long);
        for (uint32_t position = 0; position < positions; position++) {
            const float angle                    = (float)position * frequency;
            cosines[(size_t)position * half + i] = (float)cos((double)angle) * rope->magnitude;
            sines[(size_t)position * half + i]   = (float)sin((double)angle) * rope->magnitude;
        }
    }
}

static qr_rope_tables declare_tables(qr_declaration *d, const qr_rope *rope, uint32_t tables)
{
    const size_t floats  = (size_t)d->max_model_len * (rope->rotary_dim / 2);
    float       *cosines = qr_declare_floats(d, tables * floats), *sines = qr_declare_floats(d, tables * floats);
    for (uint32_t t = 0; t < tables && cosines != NULL; t++)
        fill_tables(rope, d->max_model_len, t == 1, cosines + t * floats, sines + t * floats);
    return (qr_rope_tables){cosines, sines};
}

void qr_rope_declare(qr_declaration *d)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         longer = qr_rope_long_length(&a->rope);
    const uint32_t         tables = longer > 0 && d->max_model_len > longer ? 2 : 1;
    d->parameters->rope           = declare_tables(d, &a->rope, tables);
    if (a->local_rope.theta > 0) d->parameters->local_rope = declare_tables(d, &a->local_rope, tables);
}
