/* A request as the body of /v1/completions: OpenAI's members, and where the server takes them those of vLLM. */
#ifndef QR_BENCH_HTTP_REQUEST_H
#define QR_BENCH_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "quire/request.h"

typedef struct qr_http_form { /* what the server takes */
    const char *model;
    bool        takes_ids;        /* prompts as token ids; else words, one for each id */
    bool        takes_extensions; /* vLLM's members: ignore_eos, top_k, priority, ... */
    bool        wants_ids;        /* ask for the token ids of each chunk */
} qr_http_form;

/* NULL; or what of the request a completion of OpenAI's interface does not have: "beam search". */
const char *qr_http_obstacle(const quire_request *request);

/* JSON, free() it. An encoder's input is the prompt. NULL: out of memory. */
char *qr_http_body(const qr_http_form *form, const quire_request *request, size_t *length_out);

#endif
