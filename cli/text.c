#include "cli/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static bool reserve(qr_text *text, size_t more)
{
    if (text->failed) return false;
    if (text->capacity - text->length >= more) return true;
    size_t capacity = text->capacity ? text->capacity : 4096;
    while (capacity - text->length < more) capacity *= 2;
    char *data   = realloc(text->data, capacity);
    text->failed = data == NULL;
    if (text->failed) return false;
    text->data     = data;
    text->capacity = capacity;
    return true;
}

void qr_text_append(qr_text *text, const char *bytes, size_t length)
{
    if (length == 0 || !reserve(text, length)) return;
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
}

void qr_text_format(qr_text *text, const char *format, ...)
{
    if (!reserve(text, 256)) return;
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text->data + text->length, 256, format, arguments);
    va_end(arguments);
    if (length > 0) text->length += length < 256 ? (size_t)length : 255;
}

void qr_text_json_string(qr_text *text, const char *value)
{
    json_t *string = json_string(value);
    if (string == NULL) { /* a message may quote bytes of a file */
        char *clean = strdup(value);
        for (char *c = clean; c != NULL && *c != '\0'; c++)
            if (*c & 0x80) *c = '?';
        string = json_string(clean ? clean : "");
        free(clean);
    }
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted != NULL)
        qr_text_append(text, quoted, strlen(quoted));
    else
        text->failed = true;
    free(quoted);
    json_decref(string);
}

/* Bytes of the UTF-8 character at `at` (RFC 3629, table 3-7 of Unicode); 0: it is none, or a control character. */
static size_t character_length(const unsigned char *at)
{
    if (at[0] < 0x80) return at[0] == '\n' || at[0] == '\t' || (at[0] >= 0x20 && at[0] != 0x7f);
    const size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    const bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    const bool beyond   = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
    return overlong || beyond || (at[0] == 0xc2 && at[1] < 0xa0) ? 0 : length;
}

void qr_text_append_plain(qr_text *text, const char *value)
{
    const unsigned char *at = (const unsigned char *)value;
    for (size_t length; *at != '\0'; at += length) {
        length = character_length(at);
        if (length > 0) {
            qr_text_append(text, (const char *)at, length);
        } else {
            qr_text_format(text, "\\x%02x", *at);
            length = 1;
        }
    }
}

void qr_text_deinit(qr_text *text)
{
    free(text->data);
    *text = (qr_text){0};
}
