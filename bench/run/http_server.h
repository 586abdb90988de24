/* The server at the other end: its address, what it says of its models, and plain requests to it. */
#ifndef QR_BENCH_HTTP_SERVER_H
#define QR_BENCH_HTTP_SERVER_H

#include <curl/curl.h>

#include "quire/config.h"

typedef struct qr_http_server {
    char               url[200];                  /* "http://host:port/v1" */
    char               model[512];                /* vLLM's name of a folder is its path */
    char               software[64];              /* its header Server; "": it sends none */
    uint32_t           max_model_len, vocab_size; /* 0: it does not say */
    bool               lists_models;              /* so its address is right */
    int64_t            timeout_ns;                /* without a byte from it */
    struct curl_slist *headers;                   /* of every request; owned */
} qr_http_server;

/* Asks the server of run.target for its models, and chooses run.target_model or its only one. ERR_INVALID: an address
 * that cannot be, a model that it does not have, a key (OPENAI_API_KEY) that it does not take; ERR_IO: it cannot be
 * reached; ERR_FORMAT: it speaks another language; ERR_NO_MEMORY. Deinit in any case. */
quire_status qr_http_server_init(qr_http_server *server, const quire_config *config, quire_error *error);
void         qr_http_server_deinit(qr_http_server *server);

/* What every request to it has. ERR_NO_MEMORY. */
quire_status qr_http_server_prepare(const qr_http_server *server, CURL *easy);

/* What is wrong with a connection: "Connection refused". Valid until the next call. */
const char *qr_http_connection_error(CURL *easy, CURLcode code);

/* What a body that reports an error says: "error.message" and its like, or its beginning. */
void qr_http_told(const char *body, size_t length, char *out, size_t size);

/* A reply that is no 200, as an error: 401, 403 and 404 say what to change. */
quire_status qr_http_refuse(const char *url, long status, const char *told, quire_error *error);

#endif
