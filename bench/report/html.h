/* Values of JSON as HTML, where every text passes through qr_html_text(), and as plain text. */
#ifndef QR_BENCH_HTML_H
#define QR_BENCH_HTML_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

void qr_html_text(const char *text, FILE *to); /* with < > & " ' as references */

/* By `format`:
 *   ""      numbers of three or four significant digits, thin spaces between thousands; texts, yes and no,
 *           [a, b] as "a, b", {"a": 1} as "a 1"; null or NULL: an en dash
 *   plain   the same, but numbers as they are written in a configuration
 *   B  %    a number of bytes, "32 MiB"; times 100
 *   N       how many: "1.10 G", "352 k"
 *   share   "97.5 %"
 *   range   [low, high] as "12.3 to 14.5", nothing when one of them is missing
 *   ratio   "0.974", "1 484"
 *   check   the value of a check with its unit: "11.7 %", "yes"
 *   name    of a member of a result: "read_gbs" as "Memory read bandwidth (R)"
 *   shell   a word of a command, quoted where it must be
 *   json    for a <script>: no "<" comes out
 *   %...    a conversion of printf, f, g or s, with the sign, width and precision of one; behind it *FACTOR, "%.1f*100"
 * Any other format is a unit, written behind the number. */
void qr_html_value(const json_t *value, const char *format, FILE *to);

/* The same, but text is not escaped, a number without format is plain and what is missing is "-". */
void qr_text_value(const json_t *value, const char *format, FILE *to);

#endif
