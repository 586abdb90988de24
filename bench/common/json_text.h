/* JSON that a person can scroll through: indented, but an array of plain values stays on one line. */
#ifndef QR_BENCH_JSON_TEXT_H
#define QR_BENCH_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* False: out of memory, nested too deeply, or the file does not take it (errno). */
bool qr_json_write(const json_t *value, FILE *to);

#endif
