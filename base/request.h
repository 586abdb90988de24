/* What follows from a request's sizes alone. */
#ifndef QR_BASE_REQUEST_H
#define QR_BASE_REQUEST_H

#include "quire/request.h"

enum { QR_FRAMES_PER_POSITION = 2 }; /* of an encoder that reads features */

/* Positions whose keys and values a sequence of it takes at most: its last token is never fed. Defaults resolved. */
static inline uint32_t qr_request_positions(const quire_request *request)
{
    return request->prompt_count + request->max_tokens - 1;
}

#endif
