/* Walks the members of one large JSON object without building it: keys and values come as slices of the text, so that
 * a hostile header of a hundred megabytes costs no more memory than itself. Each slice is small and goes to Jansson. */
#ifndef QR_JSON_SCAN_H
#define QR_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qr_json_slice {
    const char *text;
    size_t      length;
} qr_json_slice;

typedef struct qr_json_scan {
    const char *text;
    size_t      length, at;
    uint32_t    max_depth; /* of a value's nesting */
    bool        started;
    const char *problem; /* static text, NULL: none; `at` is where */
} qr_json_scan;

qr_json_scan qr_json_scan_of(const char *text, size_t length, uint32_t max_depth);

/* The next member; the key with its quotes. False at the closing brace, and at a problem: then *key_out is still the
 * last key that was read, for the message. */
bool qr_json_scan_next(qr_json_scan *scan, qr_json_slice *key_out, qr_json_slice *value_out);

/* After the closing brace: whether only white space follows; else a problem. */
bool qr_json_scan_ended(qr_json_scan *scan);

/* Decodes a slice that is a JSON string into buffer[capacity], NUL-terminated. False: not a string, not UTF-8, holds a
 * NUL, or does not fit. */
bool qr_json_slice_string(qr_json_slice slice, char *buffer, size_t capacity);

#endif
