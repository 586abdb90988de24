/* The text of a request without the token ids of its lists and the features of its encoder input. A line can hold
 * millions of them, and as JSON values each would take a hundred bytes; what is left is small. */
#ifndef QR_BENCH_REQUEST_TEXT_H
#define QR_BENCH_REQUEST_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QR_REQUEST_LISTS = 8, QR_MOST_REQUEST_REST = 64 << 10 };

typedef struct qr_request_text {
    char  *rest; /* [length] the line; of each list the first `count` ids are missing */
    size_t length;
    bool   is_too_long; /* the rest would have more than QR_MOST_REQUEST_REST bytes: it ends early */
    struct qr_request_ids {
        int32_t *ids; /* [count] NULL: the line has no such list */
        uint32_t count;
        size_t   cut_at, cut; /* before this byte of the rest, so many bytes of the line are missing */
    } lists[QR_REQUEST_LISTS];
    struct qr_request_features { /* of "encoder_features": the first frames, all of the same size */
        float   *values;         /* [frames][size] NULL: the line has none */
        uint32_t frames;
        size_t   size, cut_at, cut;
        bool     encoded;     /* as base64 of little-endian f32: values[bytes / 4], and frames is 0 */
        size_t   bytes, left; /* left: characters of the string in the rest, from the first that is not base64 on */
    } features;
} qr_request_text;

/* names[i] is the member of the line's object that becomes lists[i]. What is wrong with the line is left in the rest.
 * False: out of memory. Deinit in any case. */
bool qr_request_text_read(const char *line, size_t length, const char *const names[QR_REQUEST_LISTS],
                          qr_request_text *text_out);
void qr_request_text_deinit(qr_request_text *text);

/* The place in the line of a place in the rest. */
size_t qr_request_text_place(const qr_request_text *text, size_t place);

#endif
