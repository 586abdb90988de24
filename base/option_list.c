/* The table made from options.inc, and what can be said of an option without looking at the others. */
#include "base/option_list.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"

#define ENGINE(field) #field, QR_OF_ENGINE, offsetof(quire_engine_options, field)
#define MODEL(field) #field, QR_OF_MODEL, offsetof(quire_model_options, field)
#define TENANT(field) #field, QR_OF_TENANT, offsetof(quire_tenant_options, field)
#define OPTION(key, field, kind, fallback, least, most, words, help)                                                   \
    {key, field, QR_OPTION_##kind, fallback, least, most, words, help},

const qr_option qr_option_list[] = {
#include "base/options.inc"
};
const size_t qr_option_count = sizeof qr_option_list / sizeof *qr_option_list;

const qr_option *qr_option_find(const char *key)
{
    size_t i = 0;
    while (i < qr_option_count && (qr_option_list[i].key == NULL || strcmp(qr_option_list[i].key, key) != 0)) i++;
    qr_assert(i < qr_option_count);
    return &qr_option_list[i];
}

size_t qr_option_width(const qr_option *option)
{
    switch (option->kind) {
    case QR_OPTION_SEED:
    case QR_OPTION_SIZE:
    case QR_OPTION_DURATION: return sizeof(uint64_t);
    case QR_OPTION_TEXT: return sizeof(const char *);
    default: return sizeof(uint32_t); /* float and enums too */
    }
}

/* ---- fields as numbers ---- */

static uint64_t read_whole(const qr_option *option, const void *at)
{
    uint32_t narrow = 0;
    uint64_t wide   = 0;
    if (qr_option_width(option) == sizeof wide)
        memcpy(&wide, at, sizeof wide);
    else
        memcpy(&narrow, at, sizeof narrow);
    return wide | narrow;
}

static void write_fallback(const qr_option *option, void *at)
{
    const uint64_t wide   = (uint64_t)option->fallback;
    const uint32_t narrow = (uint32_t)wide;
    const float    real   = (float)option->fallback;
    if (option->kind == QR_OPTION_REAL)
        memcpy(at, &real, sizeof real);
    else if (qr_option_width(option) == sizeof wide)
        memcpy(at, &wide, sizeof wide);
    else
        memcpy(at, &narrow, sizeof narrow);
}

/* ---- checks ---- */

/* "[scheduler] watermark", or the field's name alone. */
static const char *shown(const qr_option *option, char text_out[64])
{
    const char *dot = option->key && option->of != QR_OF_TENANT ? strrchr(option->key, '.') : NULL;
    if (dot == NULL) return option->name;
    snprintf(text_out, 64, "[%.*s] %s", (int)(dot - option->key), option->key, dot + 1);
    return text_out;
}

static quire_status check_range(const qr_option *option, double value, quire_error *error)
{
    const bool   is_switch = option->kind == QR_OPTION_SWITCH;
    const double least     = is_switch ? QUIRE_TOGGLE_ON : option->least,
                 most      = is_switch ? QUIRE_TOGGLE_OFF : option->most;
    char name[64];
    if (value >= least && value <= most) return QUIRE_OK;
    if (value > most)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %.15g is above the maximum %.15g", shown(option, name), value,
                       most);
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: %.15g is below the minimum %.15g", shown(option, name), value, least);
}

static bool has_special(const qr_option *option)
{
    return option->words != NULL &&
           (option->kind == QR_OPTION_COUNT || option->kind == QR_OPTION_DURATION || option->kind == QR_OPTION_REAL);
}

static quire_status check_real(const qr_option *option, const void *at, quire_error *error)
{
    float real;
    memcpy(&real, at, sizeof real);
    const bool at_an_end = real == (float)option->least || real == (float)option->most; /* 0.1f is above 0.1 */
    if (at_an_end || (has_special(option) && real == -1)) return QUIRE_OK;
    return check_range(option, (double)real, error);
}

static quire_status check_whole(const qr_option *option, const void *at, quire_error *error)
{
    const uint64_t value = read_whole(option, at);
    const uint64_t ones  = qr_option_width(option) == sizeof value ? UINT64_MAX : UINT32_MAX;
    char           name[64];
    if (has_special(option) && value == ones) return QUIRE_OK;
    if (option->kind == QR_OPTION_POWER && !qr_is_power_of_two((uint32_t)value))
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u is not a power of two from %.0f to %.0f", shown(option, name),
                       (unsigned)value, option->least, option->most);
    return check_range(option, (double)value, error);
}

/* "a | b | c" has the word `text`. */
static bool has_word(const char *words, const char *text)
{
    const size_t length = strlen(text);
    for (const char *at = words; length > 0 && (at = strstr(at, text)) != NULL; at++)
        if ((at == words || at[-1] == ' ') && (at[length] == '\0' || at[length] == ' ')) return true;
    return false;
}

/* The first of the words is the default and becomes NULL, as from a file. */
static quire_status resolve_text(const qr_option *option, void *at, quire_error *error)
{
    char        name[64];
    const char *text;
    memcpy(&text, at, sizeof text);
    if (text == NULL || option->words == NULL) return QUIRE_OK;
    const size_t first = strcspn(option->words, " ");
    if (text[0] == '\0')
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: is empty; the default is %.*s", shown(option, name), (int)first,
                       option->words);
    if (strlen(text) == first && strncmp(text, option->words, first) == 0) text = NULL;
    memcpy(at, &text, sizeof text);
    if (text == NULL || strchr(option->words, '|') == NULL || has_word(option->words, text)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: \"%.32s\" is not one of %s", shown(option, name), text,
                   option->words);
}

quire_status qr_option_resolve(const qr_option *option, void *options, quire_error *error)
{
    void *at = (char *)options + option->offset;
    if (option->kind == QR_OPTION_TEXT) return resolve_text(option, at, error);
    if (read_whole(option, at) == 0) {
        if (option->fallback != 0) write_fallback(option, at);
        return QUIRE_OK;
    }
    if (option->kind == QR_OPTION_SEED) return QUIRE_OK;
    return option->kind == QR_OPTION_REAL ? check_real(option, at, error) : check_whole(option, at, error);
}

quire_status qr_option_resolve_all(qr_option_struct of, void *options, quire_error *error)
{
    for (size_t i = 0; i < qr_option_count; i++)
        if (qr_option_list[i].of == of) QR_TRY(qr_option_resolve(&qr_option_list[i], options, error));
    return QUIRE_OK;
}
