/* GET /v1/models is all that is asked before the first request. */
#include "bench/run/http_server.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/printable.h"

enum { MOST_BODY = 4 << 20, CONNECT_MS = 10000, MOST_NAMES = 120 };

/* ---- the address ---- */

static bool has_part(CURLU *url, CURLUPart part)
{
    char      *text   = NULL;
    const bool is_set = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return is_set;
}

/* "http://host:port/v1/" without the last slash; the path is /v1 where there is none. */
static const char *normalise(CURLU *url, char *out, size_t size)
{
    char       *path = NULL, *text = NULL;
    const char *why = NULL;
    if (curl_url_get(url, CURLUPART_PATH, &path, 0) != CURLUE_OK) return "it cannot be read";
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/') path[--length] = '\0';
    if (length >= 12 && strcmp(path + length - 12, "/completions") == 0) why = "give what stands before /completions";
    const char *base = length > 0 ? path : "/v1";
    if (curl_url_set(url, CURLUPART_PATH, base, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_URL, &text, 0) != CURLUE_OK)
        why = "it cannot be read";
    if (why == NULL && (size_t)snprintf(out, size, "%s", text) >= size) why = "it is too long";
    curl_free(path);
    curl_free(text);
    return why;
}

/* NULL, or why it is none. */
static const char *read_address(const char *given, char *out, size_t size)
{
    CURLU      *url    = curl_url();
    char       *scheme = NULL;
    const char *why    = NULL;
    if (url == NULL || curl_url_set(url, CURLUPART_URL, given, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        why = "expected http://HOST:PORT/v1";
    else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        why = "neither http nor https";
    else if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        why = "a name or password has no place in it; the variable OPENAI_API_KEY holds a key";
    else if (has_part(url, CURLUPART_QUERY) || has_part(url, CURLUPART_FRAGMENT))
        why = "it must end with its path";
    else
        why = normalise(url, out, size);
    curl_free(scheme);
    curl_url_cleanup(url);
    return why;
}

/* ---- what it answers ---- */

void qr_http_told(const char *body, size_t length, char *out, size_t size)
{
    json_t       *root    = json_loadb(body, length, 0, NULL);
    const json_t *told    = json_object_get(root, "error");
    const json_t *message = json_is_object(told) ? json_object_get(told, "message") : told;
    if (!json_is_string(message)) message = json_object_get(root, "message");
    if (!json_is_string(message)) message = json_object_get(root, "detail");
    if (json_is_array(message)) message = json_object_get(json_array_get(message, 0), "msg");
    if (json_is_string(message))
        snprintf(out, size, "%s", json_string_value(message));
    else
        snprintf(out, size, "%.*s", (int)(length < size ? length : size), body);
    out[qr_whole_length(out, (int)strcspn(out, "\r\n"))] = '\0';
    json_decref(root);
}

quire_status qr_http_refuse(const char *url, long status, const char *told, quire_error *error)
{
    const char *colon = told[0] != '\0' ? ": " : "";
    const int   some  = qr_whole_length(told, 60);
    switch (status) {
    case 401:
    case 403:
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %ld%s%.*s; the variable OPENAI_API_KEY %s", url, status, colon,
                       some, told, getenv("OPENAI_API_KEY") != NULL ? "holds no key that it takes" : "is not set");
    case 404:
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%s: 404%s%.*s; run.target must be the address of an OpenAI-compatible "
                       "server, http://HOST:PORT/v1 as a rule",
                       url, colon, some, told);
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return qr_fail(error, QUIRE_ERR_IO, "%s: %ld: run.target must be the address that this one redirects to", url,
                       status);
    default:
        return qr_fail(error, status == 400 || status == 422 ? QUIRE_ERR_INVALID : QUIRE_ERR_IO, "%s: %ld%s%.*s", url,
                       status, colon, qr_whole_length(told, 100), told);
    }
}

typedef struct reply {
    char  *bytes;
    size_t length, capacity;
    char  *software; /* [software_size] */
    size_t software_size;
    bool   is_too_long;
} reply;

static size_t take_bytes(char *bytes, size_t size, size_t count, void *context)
{
    reply       *r      = context;
    const size_t length = size * count, needed = r->length + length;
    r->is_too_long = needed > MOST_BODY;
    if (r->is_too_long) return 0;
    if (needed > r->capacity) {
        char *const grown = realloc(r->bytes, 2 * needed);
        if (grown == NULL) return 0;
        r->bytes    = grown;
        r->capacity = 2 * needed;
    }
    memcpy(r->bytes + r->length, bytes, length);
    r->length = needed;
    return length;
}

static size_t take_header(char *bytes, size_t size, size_t count, void *context)
{
    static const char name[] = "server:";
    reply            *r      = context;
    const size_t      length = size * count, skip = sizeof name - 1;
    if (length < skip || strncasecmp(bytes, name, skip) != 0) return length;
    size_t first = skip, end = length;
    while (first < end && bytes[first] == ' ') first++;
    while (end > first && strchr("\r\n ", bytes[end - 1]) != NULL) end--;
    snprintf(r->software, r->software_size, "%.*s", (int)(end - first), bytes + first);
    return length;
}

quire_status qr_http_server_prepare(const qr_http_server *server, CURL *easy)
{
    const long connect_ms =
        server->timeout_ns < CONNECT_MS * INT64_C(1000000) ? (long)(server->timeout_ns / 1000000) : CONNECT_MS;
    const bool ok = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, server->headers) == CURLE_OK &&
                    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
                    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) == CURLE_OK &&
                    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
                    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms > 0 ? connect_ms : 1L) == CURLE_OK;
    return ok ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

const char *qr_http_connection_error(CURL *easy, CURLcode code)
{
    long number = 0;
    if (code == CURLE_OPERATION_TIMEDOUT) return "it does not answer in time";
    if (code == CURLE_COULDNT_CONNECT) curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    return number != 0 ? strerror((int)number) : curl_easy_strerror(code);
}

/* *status_out is the reply's; the error is that of a connection without one. */
static quire_status get(const qr_http_server *server, const char *url, reply *to, long *status_out, quire_error *error)
{
    CURL        *easy   = curl_easy_init();
    quire_status status = QUIRE_OK;
    *status_out         = 0;
    if (easy == NULL || qr_http_server_prepare(server, easy) != QUIRE_OK ||
        curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK) {
        curl_easy_cleanup(easy);
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", url);
    }
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, to);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, to);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(server->timeout_ns / 1000000));
    const CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status_out);
    if (to->is_too_long)
        status = qr_fail(error, QUIRE_ERR_FORMAT, "%s: the reply is longer than %d MiB", url, MOST_BODY >> 20);
    else if (code != CURLE_OK)
        status = qr_fail(error, QUIRE_ERR_IO, "%s: %s", url, qr_http_connection_error(easy, code));
    curl_easy_cleanup(easy);
    return status;
}

/* ---- its models ---- */

static uint32_t number_of(const json_t *from, const char *name)
{
    const json_int_t value = json_integer_value(json_object_get(from, name));
    return value > 0 && value < INT32_MAX ? (uint32_t)value : 0;
}

static quire_status take_name(qr_http_server *server, const char *url, const char *name, quire_error *error)
{
    if ((size_t)snprintf(server->model, sizeof server->model, "%s", name) < sizeof server->model) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: the name of its model is longer than %zu bytes", url,
                   sizeof server->model - 1);
}

/* vLLM says max_model_len, llama-server has n_vocab and n_ctx_train in meta. */
static void take_limits(qr_http_server *server, const json_t *entry)
{
    const json_t *meta    = json_object_get(entry, "meta");
    server->max_model_len = number_of(entry, "max_model_len");
    server->vocab_size    = number_of(entry, "vocab_size");
    if (server->max_model_len == 0) server->max_model_len = number_of(meta, "n_ctx_train");
    if (server->vocab_size == 0) server->vocab_size = number_of(meta, "n_vocab");
}

static quire_status refuse_model(const char *url, const char *wanted, const json_t *list, quire_error *error)
{
    char          names[MOST_NAMES] = "";
    size_t        used              = 0, i;
    const json_t *entry;
    json_array_foreach(list, i, entry)
    {
        const char *id = json_string_value(json_object_get(entry, "id"));
        if (id != NULL && used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", id);
    }
    if (wanted == NULL && used == 0) return qr_fail(error, QUIRE_ERR_FORMAT, "%s: it lists no model", url);
    if (wanted == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "%.80s: it has several models, --model chooses: %s", url, names);
    return qr_fail(error, QUIRE_ERR_INVALID, "%.80s: no model \"%.*s\"; it has: %s", url, qr_whole_length(wanted, 40),
                   wanted, used > 0 ? names : "none");
}

static quire_status choose_model(qr_http_server *server, const char *url, const char *wanted, const json_t *list,
                                 quire_error *error)
{
    const json_t *entry, *chosen = NULL;
    size_t        i;
    json_array_foreach(list, i, entry)
    {
        const char *id = json_string_value(json_object_get(entry, "id"));
        if (id != NULL && (wanted == NULL || strcmp(id, wanted) == 0)) chosen = entry;
    }
    if (chosen == NULL || (wanted == NULL && json_array_size(list) > 1)) return refuse_model(url, wanted, list, error);
    server->lists_models = true;
    take_limits(server, chosen);
    return take_name(server, url, json_string_value(json_object_get(chosen, "id")), error);
}

static quire_status read_models(qr_http_server *server, const char *url, const char *wanted, const reply *from,
                                quire_error *error)
{
    json_t            *root = json_loadb(from->bytes ? from->bytes : "", from->length, 0, NULL);
    const json_t      *list = json_object_get(root, "data");
    const quire_status status =
        json_is_array(list) ? choose_model(server, url, wanted, list, error)
                            : qr_fail(error, QUIRE_ERR_FORMAT,
                                      "%s: not an OpenAI-compatible server: the answer is no list of models", url);
    json_decref(root);
    return status;
}

static quire_status ask_models(qr_http_server *server, const char *wanted, quire_error *error)
{
    char  url[sizeof server->url + 16], told[128];
    long  http;
    reply r = {.software = server->software, .software_size = sizeof server->software};
    snprintf(url, sizeof url, "%s/models", server->url);
    quire_status status = get(server, url, &r, &http, error);
    if (status == QUIRE_OK && http == 200) {
        status = read_models(server, url, wanted, &r, error);
    } else if (status == QUIRE_OK && (http == 404 || http == 405) && wanted != NULL) { /* it does not list them */
        status = take_name(server, url, wanted, error);
    } else if (status == QUIRE_OK) {
        qr_http_told(r.bytes ? r.bytes : "", r.length, told, sizeof told);
        status = qr_http_refuse(url, http, told, error);
    }
    free(r.bytes);
    return status;
}

/* ---- all ---- */

static bool add_header(qr_http_server *server, const char *line)
{
    struct curl_slist *const longer = curl_slist_append(server->headers, line);
    if (longer != NULL) server->headers = longer;
    return longer != NULL;
}

static quire_status add_headers(qr_http_server *server, quire_error *error)
{
    const char *key = getenv("OPENAI_API_KEY");
    char        line[4096];
    bool        ok = add_header(server, "Content-Type: application/json") && add_header(server, "Expect:");
    if (key != NULL && key[0] != '\0') {
        const int length = snprintf(line, sizeof line, "Authorization: Bearer %s", key);
        if ((size_t)length >= sizeof line || strpbrk(key, "\r\n") != NULL)
            return qr_fail(error, QUIRE_ERR_INVALID, "OPENAI_API_KEY: no key has line ends or 4 KiB");
        ok &= add_header(server, line);
    }
    return ok ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "run.target: out of memory");
}

quire_status qr_http_server_init(qr_http_server *server, const quire_config *config, quire_error *error)
{
    const char *address = quire_config_string(config, "run.target");
    *server             = (qr_http_server){.timeout_ns = quire_config_integer(config, "run.target_timeout")};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "run.target: out of memory");
    const char *why = read_address(address, server->url, sizeof server->url);
    if (why != NULL) return quire_config_refuse(config, "run.target", error, "\"%.80s\": %s", address, why);
    QR_TRY(add_headers(server, error));
    return ask_models(server, quire_config_string(config, "run.target_model"), error);
}

void qr_http_server_deinit(qr_http_server *server)
{
    curl_slist_free_all(server->headers);
    *server = (qr_http_server){0};
}
