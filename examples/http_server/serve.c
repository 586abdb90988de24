/* Token ids over HTTP, by libmicrohttpd: a thread for each connection, one that hands tokens out, and the main one,
 * which computes. Usage: serve [MODEL_FOLDER|PRESET [PORT]]; SIGTERM ends it.
 *
 *   curl -N -d '{"prompt": [1, 2, 3], "max_tokens": 5}' http://localhost:8080/generate
 *   {"token": 17}            a line as soon as there is one
 *   {"finish": "length"}     the last line; a client that goes away cancels its request */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <microhttpd.h>
#include <quire/quire.h>

enum { MOST_BODY = 1 << 18, MOST_PROMPT = 32768, MOST_TOKENS = 4096, MOST_CONNECTIONS = 64, EVENTS = 64, LINE = 64 };

typedef struct stream { /* of one HTTP request; freed when the connection and the engine are done with it */
    char             body[MOST_BODY];
    size_t           length; /* beyond MOST_BODY: the body was */
    int32_t          prompt[MOST_PROMPT], tokens[MOST_TOKENS];
    uint32_t         count, sent; /* tokens; sent one more: the end, too */
    quire_request_id id;          /* 0: there is none in the engine */
    quire_finish     finish;      /* NONE: it still runs */
    int              users;
} stream;

static quire_engine   *engine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of all streams */
static pthread_cond_t  news = PTHREAD_COND_INITIALIZER;
static int             is_ending;
static _Atomic int     live; /* streams */

static void drop(stream *s) { s->users > 1 ? (void)s->users-- : (free(s), (void)live--); }

static void *hand_out(void *unused)
{
    quire_event events[EVENTS];
    for (size_t count; (count = quire_engine_wait(engine, events, EVENTS, UINT64_MAX)) > 0;) {
        pthread_mutex_lock(&lock);
        for (size_t i = 0; i < count; i++) {
            stream *s = events[i].user_data;
            if (events[i].kind == QUIRE_EVENT_TOKEN) s->tokens[s->count++] = events[i].token;
            if (events[i].kind != QUIRE_EVENT_FINISHED) continue;
            s->finish = events[i].finish;
            drop(s);
        }
        pthread_cond_broadcast(&news), pthread_mutex_unlock(&lock);
    }
    return unused; /* quire_engine_stop() was called */
}

static ssize_t write_lines(void *context, uint64_t position, char *to, size_t room)
{
    static const char *const ends[] = {"cancelled", "stop", "length", "cancelled", "error", "timeout"};
    stream                  *s      = context;
    size_t                   used   = 0;
    (void)position;
    pthread_mutex_lock(&lock);
    while (s->sent == s->count && s->finish == QUIRE_FINISH_NONE && !is_ending) pthread_cond_wait(&news, &lock);
    for (; s->sent < s->count && room - used >= LINE; s->sent++)
        used += (size_t)snprintf(to + used, LINE, "{\"token\": %d}\n", s->tokens[s->sent]);
    if (s->sent == s->count && (s->finish != QUIRE_FINISH_NONE || is_ending) && room - used >= LINE)
        used += (size_t)snprintf(to + used, LINE, "{\"finish\": \"%s\"}\n", ends[s->finish]), s->sent++;
    pthread_mutex_unlock(&lock);
    return used > 0 ? (ssize_t)used : MHD_CONTENT_READER_END_OF_STREAM;
}

/* One JSON value, or the lines of a stream. */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, json_t *what, stream *s)
{
    char *text = what != NULL ? json_dumps(what, 0) : NULL;
    json_decref(what);
    if (what != NULL && text == NULL) return MHD_NO; /* no memory: the connection is closed */
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE)
             : MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, write_lines, s, NULL);
    MHD_add_response_header(response, "Content-Type", "application/json");
    const enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

/* NULL, or what is wrong with the body. */
static const char *read_body(stream *s, quire_request *request, json_error_t *at)
{
    json_int_t  tokens = 16;
    json_t     *list, *body = json_loadb(s->body, s->length, JSON_REJECT_DUPLICATES, at);
    const char *why = NULL;
    if (body == NULL || json_unpack_ex(body, at, 0, "{s:o, s?I !}", "prompt", &list, "max_tokens", &tokens) != 0)
        return json_decref(body), at->text;
    if (tokens < 1 || tokens > MOST_TOKENS) why = "max_tokens: expected 1 to 4096";
    if (json_array_size(list) < 1 || json_array_size(list) > MOST_PROMPT) why = "prompt: expected 1 to 32768 token ids";
    for (size_t i = 0; i < json_array_size(list) && why == NULL; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) != (int32_t)json_integer_value(id))
            why = "prompt: a token id is an integer of 32 bits";
        if (why == NULL) s->prompt[request->prompt_count++] = (int32_t)json_integer_value(id);
    }
    request->max_tokens = (uint32_t)tokens;
    return json_decref(body), why;
}

static unsigned submit(stream *s, quire_error *error)
{
    quire_request request = {.size = sizeof request, .prompt = s->prompt, .user_data = s};
    json_error_t  at;
    const char   *why = s->length > MOST_BODY ? "the body is longer than 256 KiB" : read_body(s, &request, &at);
    if (why != NULL) return snprintf(error->message, sizeof error->message, "%s", why), 400;
    pthread_mutex_lock(&lock); /* its events may come before submit has returned */
    const quire_status status = quire_engine_submit(engine, &request, &s->id, error);
    s->users += status == QUIRE_OK;
    pthread_mutex_unlock(&lock);
    return status == QUIRE_OK ? 200 : status == QUIRE_ERR_FULL ? 503 : 400;
}

static enum MHD_Result answer(void *unused, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **context)
{
    stream     *s      = *context;
    json_t     *what   = NULL;
    unsigned    status = 200;
    quire_error error  = {0};
    quire_stats stats  = {.size = sizeof stats};
    (void)unused, (void)version;
    if (s == NULL) { /* the head; the body comes in pieces, the last of none */
        if ((*context = s = calloc(1, sizeof *s)) == NULL) return MHD_NO;
        s->users = 1, live++;
        return MHD_YES;
    }
    if (*size > 0) {
        if (s->length + *size <= MOST_BODY) memcpy(s->body + s->length, data, *size);
        s->length += *size;
        return *size = 0, MHD_YES;
    }
    if (strcmp(url, "/stats") == 0) {
        quire_engine_stats(engine, &stats);
        what = json_pack("{s:i, s:i}", "running", (int)stats.running, "cancelled",
                         (int)stats.finished_by[QUIRE_FINISH_CANCELLED]);
    } else if (strcmp(url, "/generate") != 0 || strcmp(method, "POST") != 0) {
        status = 404, what = json_pack("{s:s}", "error", "expected POST /generate or GET /stats");
    } else if ((status = submit(s, &error)) != 200) {
        what = json_pack("{s:s}", "error", error.message);
    }
    return reply(connection, status, what, s);
}

static void forget(void *unused, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why)
{
    stream *s = *context;
    (void)unused, (void)connection, (void)why;
    if (s == NULL) return;
    if (s->id != 0) quire_engine_cancel(engine, s->id); /* where it has not ended */
    pthread_mutex_lock(&lock);
    if (is_ending) s->users = 1; /* no more events come */
    drop(s);
    pthread_mutex_unlock(&lock);
}

static void end(int number) { (void)number, quire_engine_stop(engine); /* ends run and wait */ }

int main(int argc, char **argv)
{
    const char                *name      = argc > 1 ? argv[1] : "tiny";
    const quire_model_options  as_stored = {.size = sizeof as_stored};
    const quire_engine_options defaults  = {.size = sizeof defaults};
    const struct sockaddr_in   at        = {.sin_family      = AF_INET, /* port 0: any that is free */
                                            .sin_port        = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 8080)),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    quire_model               *model     = NULL;
    quire_error                error;
    pthread_t                  reader;
    quire_status               status = quire_model_load(name, &as_stored, &model, &error);
    if (status == QUIRE_ERR_IO) status = quire_model_synthetic(name, &as_stored, &model, &error);
    if (status == QUIRE_OK) status = quire_engine_create(&defaults, model, &engine, &error);
    if (status != QUIRE_OK) return fprintf(stderr, "serve: %s\n", error.message), 1;
    signal(SIGTERM, end), signal(SIGINT, end);
    struct MHD_Daemon *server =
        MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer, NULL,
                         MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_CONNECTION_LIMIT, MOST_CONNECTIONS,
                         MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_END);
    if (server == NULL || pthread_create(&reader, NULL, hand_out, NULL) != 0)
        return fprintf(stderr, "serve: the port is not free, or no thread is left\n"), 1;
    printf("port %u\n", MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT)->port), fflush(stdout);
    status = quire_engine_run(engine);
    pthread_join(reader, NULL);
    pthread_mutex_lock(&lock);
    is_ending = 1; /* streams end with what they have, and clients have five seconds to read that */
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
    for (int ms = 0; live > 0 && ms < 5000; ms++) usleep(1000);
    MHD_stop_daemon(server);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return status != QUIRE_OK;
}
