/* A growing text for output lines. Sticky: once memory is short, `failed` stays set and appends do nothing. */
#ifndef QR_TEXT_H
#define QR_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qr_text {
    char  *data; /* [capacity], not NUL-terminated */
    size_t length, capacity;
    bool   failed;
} qr_text;

void qr_text_append(qr_text *text, const char *bytes, size_t length);
#define QR_TEXT_LITERAL(text, literal) qr_text_append((text), "" literal, sizeof(literal) - 1)
void qr_text_format(qr_text *text, const char *format, ...) __attribute__((format(printf, 2, 3))); /* <= 255 bytes */
void qr_text_json_string(qr_text *text, const char *value);  /* with quotes; bytes that are not UTF-8 become '?' */
void qr_text_append_plain(qr_text *text, const char *value); /* as base/printable.h, but \n and \t stay */
void qr_text_deinit(qr_text *text);

#endif
