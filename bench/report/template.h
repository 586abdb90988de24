/* Fills the tags of a text with values of a JSON document.
 *
 *   {{PATH}} {{PATH:FORMAT}}   a value, see html.h
 *   {{#PATH}} ... {{/}}        for each element of an array; else once where there is something: not null, false or
 * empty
 *   {{#PATH=TEXT}} ... {{/}}   once where the value is TEXT
 *   {{^PATH}} {{^PATH=TEXT}}   where the one above writes nothing
 *   {{*PATH}} ... {{/}}        for each member of an object
 *   {{table PATH               a table with a row for each element of an array, or member of an object; a column
 *   HEAD = PATH:FORMAT          without values is left out, one with "?" before its head also if all are 0
 *   ...}}
 *   {{facts TITLE              a table of two columns; what has no value is left out
 *   NAME = PATH:FORMAT
 *   ...}}
 *
 * PATH is member/member/..., in the innermost element that has it; numbers count in arrays. "." is the element itself,
 * "@" its number or its member's name, also as a part of a path. */
#ifndef QR_BENCH_TEMPLATE_H
#define QR_BENCH_TEMPLATE_H

#include <jansson.h>
#include <stdio.h>

/* NULL: there is no such value. */
typedef void qr_value_writer(const json_t *value, const char *format, FILE *to);

/* `text` must be well formed: it is the tool's own. Its tables and facts are HTML. */
void qr_template_fill(const char *text, size_t size, const json_t *root, qr_value_writer *write, FILE *to);

#endif
