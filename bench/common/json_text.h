/* Numbers as JSON, values by their paths, and JSON that a person can scroll through: indented, but an array of plain
 * values on one line. */
#ifndef QR_BENCH_JSON_TEXT_H
#define QR_BENCH_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

json_t *qr_json_number(double value);     /* null: not finite */
json_t *qr_json_string(const char *text); /* bytes that are not UTF-8, as names of files may have, as \xNN */
json_t *qr_json_whole(uint64_t value);

/* The value at "member/member/...", or NULL; the last member may hold dots. */
const json_t *qr_json_at(const json_t *from, const char *path);
double        qr_json_number_at(const json_t *from, const char *path); /* NAN: none */
const char   *qr_json_text_at(const json_t *from, const char *path);   /* "": none */

/* False: out of memory, nested too deeply, or the file does not take it (errno). */
bool qr_json_write(const json_t *value, FILE *to);

#endif
