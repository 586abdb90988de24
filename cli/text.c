#include "cli/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/printable.h"

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

void qr_text_append_plain(qr_text *text, const char *value)
{
    for (const char *at = value; *at != '\0';) {
        const size_t length = *at == '\n' || *at == '\t' ? 1 : qr_printable_length(at);
        if (length > 0)
            qr_text_append(text, at, length);
        else
            qr_text_format(text, "\\x%02x", (unsigned char)*at);
        at += length ? length : 1;
    }
}

void qr_text_deinit(qr_text *text)
{
    free(text->data);
    *text = (qr_text){0};
}
