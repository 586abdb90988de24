/* Text from files and callers in messages: one line, nothing that a terminal or a log would obey. */
#ifndef QR_BASE_PRINTABLE_H
#define QR_BASE_PRINTABLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the UTF-8 character at the NUL-terminated `at`. 0: it is none (RFC 3629), or not to be shown as it is: a
 * control character, a separator of lines or paragraphs, a change of direction. */
size_t qr_printable_length(const char *at);

/* Copies `text`, with each byte that is not part of a printable character as \xNN, as far as whole characters and
 * escapes fit into `capacity` >= 1 with the final NUL. */
void qr_printable_copy(char *out, size_t capacity, const char *text);

/* Bytes of `text`, at most `most`, without a character of UTF-8 that is cut in its middle: for "%.*s". */
int qr_whole_length(const char *text, int most);

/* What a noun behind `count` has at its end: "1 step", "2 steps". */
static inline const char *qr_plural(uint64_t count) { return count == 1 ? "" : "s"; }

#ifdef __cplusplus
}
#endif

#endif
