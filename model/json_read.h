/* JSON as Python writes and reads it, which is how config.json comes about: NaN and Infinity, integers of any length, a
 * key more than once. They become values that no check of a type takes for something else, so that a key which nobody
 * reads may hold anything and one that is read must still be proper. */
#ifndef QR_JSON_READ_H
#define QR_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { QR_JSON_MAX_DEPTH = 64 };

typedef struct qr_json_problem {
    char text[JSON_ERROR_TEXT_LENGTH];
    int  line, column; /* from 1 */
} qr_json_problem;

/* NaN, Infinity and -Infinity become strings of these names, also a number beyond a double; an integer beyond 64 bits
 * becomes a real number. Of a key that appears twice with two values neither counts: see qr_json_is_ambiguous.
 * NULL: not JSON, nested too deeply, or no memory. The caller's to release. */
json_t *qr_json_read(const char *text, size_t length, qr_json_problem *problem_out);

/* The value of a key that appears twice, with different values. */
bool qr_json_is_ambiguous(const json_t *value);

/* "an object", "true": what a value is, for messages. */
const char *qr_json_type_name(const json_t *value);

#endif
