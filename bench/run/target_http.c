/* One thread does all: libcurl moves bytes in `wait`, answers become events there, and a timer wakes it when a request
 * is due, to the microsecond, where libcurl's own wait knows milliseconds. */
#include "bench/run/target_http.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/printable.h"
#include "bench/common/array.h"
#include "bench/run/http_request.h"
#include "bench/run/http_server.h"
#include "bench/run/punctual.h"

enum {
    MAX_WAIT_MS   = 100,
    RETRY_NS      = 1000000,
    IDLE_NS       = 20000000,
    PAUSE_NS      = 10000000, /* after a 429, so that a closed loop does not ask without end */
    MOST_IN_A_ROW = 16,       /* failures, after which the server counts as gone */
    MOST_TOLD     = 4096,     /* bytes of a reply that reports an error */
    SPARE_FILES   = 64
};

typedef struct http_target http_target;

typedef struct slot { /* a request in flight, and the handle that keeps its connection */
    http_target        *target;
    CURL               *easy;
    uint32_t            index;
    quire_request_id    id; /* 0: free */
    void               *user_data;
    char               *body;
    uint64_t            last_ns; /* when something came last */
    qr_answer           answer;
    quire_error         error; /* of the answer */
    char                told[MOST_TOLD];
    size_t              told_length;
    quire_finish_detail detail;
} slot;

struct http_target {
    qr_http_server   server;
    qr_http_facts    facts;
    qr_http_form     form;
    qr_http_counts   counts;
    char             url[sizeof((qr_http_server *)0)->url + 16];
    qr_log           log;
    CURLM           *multi;
    int              timer;
    slot            *slots;      /* [slot_count] */
    uint32_t        *free_slots; /* [free_count] */
    uint32_t         slot_count, free_count;
    quire_event     *events; /* [event_count] those before `first_event` were polled */
    size_t           event_count, first_event;
    quire_request_id last_id;
    uint64_t         pause_until_ns, look_ns; /* look: when to look for requests that wait too long */
    uint64_t         tokens, refused;
    uint32_t         failed_in_a_row;
    bool             is_short_of_memory, is_probing;
    bool             has_chunk_usage; /* an answer had */
    char             last_problem[sizeof((qr_http_problem *)0)->what];
    char             last_told[120]; /* by the last reply that was no stream, and its status; 0: the last was one */
    long             last_status;
};

/* ---- events ---- */

static bool push(http_target *t, const quire_event *event) { return QR_ARRAY_PUSH(t->events, t->event_count, *event); }

static bool take_tokens(void *context, uint32_t sequence, uint32_t count)
{
    slot       *s     = context;
    quire_event event = {.request   = s->id,
                         .user_data = s->user_data,
                         .time_ns   = s->last_ns,
                         .kind      = QUIRE_EVENT_TOKEN,
                         .sequence  = sequence,
                         .token     = -1,
                         .index     = s->answer.choices[sequence].tokens - count};
    s->target->tokens += count;
    for (uint32_t i = 0; i < count; i++, event.index++)
        if (!push(s->target, &event)) return false;
    return true;
}

static void release(slot *s)
{
    http_target *t = s->target;
    curl_multi_remove_handle(t->multi, s->easy);
    free(s->body);
    s->body                        = NULL;
    s->id                          = 0;
    t->free_slots[t->free_count++] = s->index;
}

static void tell_end(slot *s, quire_finish finish, quire_status status)
{
    const qr_answer *a = &s->answer;
    s->detail          = (quire_finish_detail){.size          = sizeof s->detail,
                                               .prompt_tokens = a->prompt_tokens > 0 ? (uint32_t)a->prompt_tokens : 0,
                                               .cached_tokens = a->cached_tokens > 0 ? (uint32_t)a->cached_tokens : 0};
    for (uint32_t i = 0; i < a->n; i++) {
        const quire_finish own   = a->choices[i].finish != QUIRE_FINISH_NONE ? a->choices[i].finish : QUIRE_FINISH_STOP;
        const quire_event  event = {.request   = s->id,
                                    .user_data = s->user_data,
                                    .time_ns   = s->last_ns,
                                    .detail    = i == 0 ? &s->detail : NULL,
                                    .kind      = QUIRE_EVENT_FINISHED,
                                    .sequence  = i,
                                    .finish    = finish != QUIRE_FINISH_NONE ? finish : own,
                                    .status    = status,
                                    .last      = i + 1 == a->n};
        if (!push(s->target, &event)) s->target->is_short_of_memory = true;
    }
    release(s);
}

/* ---- outcomes ---- */

static void count_problem(http_target *t, const char *what)
{
    qr_http_counts *c = &t->counts;
    uint32_t        i = 0;
    while (i < c->problem_count && strcmp(c->problems[i].what, what) != 0) i++;
    if (i == c->problem_count && i < QR_HTTP_PROBLEMS) {
        const bool is_rest = i == QR_HTTP_PROBLEMS - 1;
        snprintf(c->problems[i].what, sizeof c->problems[i].what, "%s", is_rest ? "others" : what);
        c->problem_count++;
        if (!t->is_probing) qr_log_write(&t->log, QUIRE_LOG_WARN, "%s: %s", t->url, is_rest ? "other errors" : what);
    }
    c->problems[i < QR_HTTP_PROBLEMS ? i : QR_HTTP_PROBLEMS - 1].count++;
    snprintf(t->last_problem, sizeof t->last_problem, "%s", what);
}

static void fail(slot *s, quire_finish finish, quire_status status, const char *what)
{
    http_target *t = s->target;
    t->failed_in_a_row += status != QUIRE_ERR_FULL;
    t->is_short_of_memory |= status == QUIRE_ERR_NO_MEMORY;
    count_problem(t, what);
    tell_end(s, finish, status);
}

/* 429: the server's queue is full. Other replies of 4xx are about the request. */
static void fail_by_status(slot *s, long http)
{
    http_target *t    = s->target;
    char        *told = t->last_told, what[sizeof t->last_problem];
    qr_http_told(s->told, s->told_length, told, sizeof t->last_told);
    t->last_status = http;
    snprintf(what, sizeof what, "%ld%s%s", http, told[0] != '\0' ? ": " : "", told);
    if (http == 429) t->pause_until_ns = qr_now_ns() + PAUSE_NS;
    if (http == 200) snprintf(what, sizeof what, "the answer is no stream of events: %s", told);
    fail(s, QUIRE_FINISH_ERROR,
         http == 429   ? QUIRE_ERR_FULL
         : http >= 500 ? QUIRE_ERR_EXECUTION
         : http >= 400 ? QUIRE_ERR_INVALID
                       : QUIRE_ERR_FORMAT,
         what);
}

static void fail_by_connection(slot *s, CURLcode code)
{
    char what[sizeof s->target->last_problem];
    snprintf(what, sizeof what, "%s%s", s->answer.tokens > 0 ? "the stream breaks off in the middle: " : "",
             qr_http_connection_error(s->easy, code));
    fail(s, QUIRE_FINISH_ERROR, QUIRE_ERR_IO, what);
}

static void succeed(slot *s)
{
    http_target *t     = s->target;
    t->failed_in_a_row = 0;
    t->has_chunk_usage |= s->answer.has_chunk_usage;
    t->counts.answers[s->answer.counted_by]++;
    t->counts.chunks += s->answer.chunks;
    t->counts.tokens += s->answer.tokens;
    t->counts.missing += s->answer.missing;
    t->counts.excess += s->answer.excess;
    t->counts.cached_answers += s->answer.cached_tokens >= 0;
    tell_end(s, QUIRE_FINISH_NONE, QUIRE_OK);
}

static bool is_stream(CURL *easy)
{
    const char *type = NULL;
    long        http = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
    return http == 200 && type != NULL && strncmp(type, "text/event-stream", 17) == 0;
}

static void conclude(slot *s, CURLcode code)
{
    long http = 0, connections = 0;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(s->easy, CURLINFO_NUM_CONNECTS, &connections);
    s->target->counts.connections += (uint64_t)connections;
    const bool is_told  = s->told_length == sizeof s->told; /* more was not taken */
    const bool has_come = code == CURLE_OK || s->answer.is_done || is_told, streams = is_stream(s->easy);
    if (s->error.status == QUIRE_OK && has_come && streams) (void)qr_answer_end(&s->answer, &s->error);
    if (s->error.status != QUIRE_OK)
        fail(s, QUIRE_FINISH_ERROR, s->error.status, s->error.message);
    else if (!has_come)
        fail_by_connection(s, code);
    else if (!streams)
        fail_by_status(s, http);
    else
        succeed(s);
}

/* ---- bytes ---- */

static size_t take_bytes(char *bytes, size_t size, size_t count, void *context)
{
    slot        *s      = context;
    const size_t length = size * count, room = sizeof s->told - s->told_length;
    if (s->answer.is_done) return length;
    const uint64_t before_ns = s->last_ns, lines = s->answer.lines;
    s->last_ns = qr_now_ns();
    if (is_stream(s->easy)) {
        const quire_status status = qr_answer_take(&s->answer, bytes, length, &s->error);
        if (s->answer.lines == lines) s->last_ns = before_ns;
        return status == QUIRE_OK ? length : 0;
    }
    memcpy(s->told + s->told_length, bytes, length < room ? length : room);
    s->told_length += length < room ? length : room;
    return length < room ? length : 0; /* it may have no end */
}

static void take_ends(http_target *t)
{
    const CURLMsg *message;
    int            left;
    while ((message = curl_multi_info_read(t->multi, &left)) != NULL) {
        slot          *s    = NULL;
        const CURLcode code = message->data.result; /* the message goes with the handle */
        if (message->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        s->last_ns = qr_now_ns(); /* so events keep the order of time */
        conclude(s, code);
    }
}

/* A server that says nothing for too long. */
static void end_overdue(http_target *t)
{
    const uint64_t now = qr_now_ns();
    if (now < t->look_ns) return;
    t->look_ns = now + MAX_WAIT_MS * UINT64_C(1000000);
    for (uint32_t i = 0; i < t->slot_count; i++) {
        slot *s = &t->slots[i];
        char  what[96];
        if (s->id == 0 || now < s->last_ns + (uint64_t)t->server.timeout_ns) continue;
        if (s->answer.is_done) { /* only the connection lingers */
            conclude(s, CURLE_OK);
            continue;
        }
        s->last_ns = now;
        snprintf(what, sizeof what, "nothing came for %.3g s (run.target_timeout)",
                 (double)t->server.timeout_ns * 1e-9);
        fail(s, QUIRE_FINISH_TIMEOUT, QUIRE_OK, what);
    }
}

static quire_status perform(http_target *t, quire_error *error)
{
    int             running;
    const CURLMcode code = curl_multi_perform(t->multi, &running);
    if (code != CURLM_OK) return qr_fail(error, QUIRE_ERR_IO, "%s: %s", t->url, curl_multi_strerror(code));
    take_ends(t);
    end_overdue(t);
    if (t->is_short_of_memory) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", t->url);
    if (t->failed_in_a_row < MOST_IN_A_ROW) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_IO, "%.100s: %d requests in a row failed, the last: %s", t->url, MOST_IN_A_ROW,
                   t->last_problem);
}

static void sleep_until(http_target *t, uint64_t until_ns)
{
    const uint64_t          now = qr_now_ns(), at = until_ns > now ? until_ns : now + 1;
    const struct itimerspec when  = {.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}};
    struct curl_waitfd      timer = {.fd = t->timer, .events = CURL_WAIT_POLLIN};
    const bool              soon  = at - now < MAX_WAIT_MS * UINT64_C(1000000);
    if (soon) timerfd_settime(t->timer, TFD_TIMER_ABSTIME, &when, NULL);
    curl_multi_poll(t->multi, soon ? &timer : NULL, soon, MAX_WAIT_MS, NULL);
}

/* ---- the target ---- */

static void clear(http_target *t)
{
    for (uint32_t i = 0; i < t->slot_count; i++)
        if (t->slots[i].id != 0) release(&t->slots[i]);
    t->event_count = t->first_event = 0;
    t->failed_in_a_row              = 0;
    t->pause_until_ns               = 0;
}

static quire_status start(void *self, const qr_step_listener *listener, quire_error *error)
{
    (void)listener;
    (void)error;
    clear(self); /* what a run that stopped has left */
    qr_punctual(true);
    return QUIRE_OK;
}

static void stop(void *self)
{
    (void)self;
    qr_punctual(false);
}

static uint64_t now(const void *self)
{
    (void)self;
    return qr_now_ns();
}

static quire_status refuse(http_target *t, quire_status status, const char *what)
{
    count_problem(t, what);
    t->refused++;
    return status;
}

/* Nothing is sent before the next wait. */
static quire_status begin(slot *s, const quire_request *request)
{
    http_target *t = s->target;
    size_t       length;
    QR_TRY(qr_answer_begin(&s->answer, request->n > 1 ? request->n : 1, request->max_tokens));
    s->body = qr_http_body(&t->form, request, &length);
    if (s->body == NULL) return QUIRE_ERR_NO_MEMORY;
    s->id          = ++t->last_id;
    s->user_data   = request->user_data;
    s->last_ns     = qr_now_ns();
    s->error       = (quire_error){0};
    s->told_length = 0;
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, s->body);
    return curl_multi_add_handle(t->multi, s->easy) == CURLM_OK ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

static quire_status submit(void *self, const quire_request *request, quire_request_id *id_out)
{
    http_target *t        = self;
    const char  *obstacle = qr_http_obstacle(request);
    char         what[96];
    if (t->free_count == 0 || qr_now_ns() < t->pause_until_ns) return QUIRE_ERR_FULL;
    snprintf(what, sizeof what, "a completion has no place for %s", obstacle ? obstacle : "");
    if (obstacle != NULL) return refuse(t, QUIRE_ERR_INVALID, what);
    slot              *s      = &t->slots[t->free_slots[--t->free_count]];
    const quire_status status = begin(s, request);
    if (status != QUIRE_OK) {
        release(s);
        return refuse(t, status, "out of memory");
    }
    *id_out = s->id;
    return QUIRE_OK;
}

static void cancel(void *self, quire_request_id id)
{
    http_target *t = self;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        if (t->slots[i].id != id) continue;
        t->slots[i].last_ns = qr_now_ns();
        tell_end(&t->slots[i], QUIRE_FINISH_CANCELLED, QUIRE_OK);
    }
}

static size_t poll_events(void *self, quire_event *events, size_t capacity)
{
    http_target *t     = self;
    const size_t left  = t->event_count - t->first_event;
    const size_t count = left < capacity ? left : capacity;
    if (count > 0) memcpy(events, t->events + t->first_event, count * sizeof *events);
    t->first_event += count;
    if (t->first_event == t->event_count) t->first_event = t->event_count = 0;
    return count;
}

static quire_status wait_until(void *self, uint64_t until_ns, quire_error *error)
{
    http_target *t = self;
    QR_TRY(perform(t, error));
    if (t->event_count > 0) return QUIRE_OK;
    sleep_until(t, until_ns);
    return perform(t, error);
}

static void stats_of(const void *self, quire_stats *stats)
{
    const http_target *t    = self;
    const size_t       size = stats->size;
    *stats                  = (quire_stats){.size               = size,
                                            .requests_submitted = t->last_id,
                                            .requests_refused   = t->refused,
                                            .tokens_output      = t->tokens,
                                            .running            = t->slot_count - t->free_count,
                                            .max_model_len      = t->facts.max_model_len};
    if (stats->max_model_len == 0) stats->max_model_len = QR_HTTP_UNKNOWN_LENGTH;
}

static void flush_cache(void *self) { (void)self; } /* OpenAI's interface has no such call */

static void destroy(void *self)
{
    http_target *t = self;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        slot *s = &t->slots[i];
        if (s->id != 0) release(s);
        curl_easy_cleanup(s->easy);
        qr_answer_deinit(&s->answer);
    }
    curl_multi_cleanup(t->multi);
    if (t->timer >= 0) close(t->timer);
    qr_http_server_deinit(&t->server);
    qr_log_deinit(&t->log);
    free(t->slots);
    free(t->free_slots);
    free(t->events);
    free(t);
}

/* ---- creation ---- */

static bool prepare_slot(http_target *t, uint32_t index)
{
    slot *s = &t->slots[index];
    CURL *e = s->easy = curl_easy_init();
    *s = (slot){.target = t, .easy = e, .index = index, .answer = {.take_tokens = take_tokens, .context = s}};
    t->free_slots[t->free_count++] = index;
    t->slot_count++;
    return e != NULL && qr_http_server_prepare(&t->server, e) == QUIRE_OK &&
           curl_easy_setopt(e, CURLOPT_URL, t->url) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_bytes) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEDATA, s) == CURLE_OK && curl_easy_setopt(e, CURLOPT_PRIVATE, s) == CURLE_OK;
}

/* Each connection is a file. */
static quire_status allow_files(const quire_config *config, uint32_t connections, quire_error *error)
{
    const rlim_t  needed = (rlim_t)connections + SPARE_FILES;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return QUIRE_OK;
    if (limit.rlim_max < needed)
        return quire_config_refuse(config, "run.target_connections", error,
                                   "%u connections are more than the %llu open files that the system allows",
                                   connections, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = needed;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* where it fails, connections will, and say so */
    return QUIRE_OK;
}

static quire_status open_slots(http_target *t, uint32_t connections, quire_error *error)
{
    bool ok = (t->multi = curl_multi_init()) != NULL && (t->slots = calloc(connections, sizeof *t->slots)) != NULL &&
              (t->free_slots = calloc(connections, sizeof *t->free_slots)) != NULL &&
              curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)connections) == CURLM_OK;
    for (uint32_t i = 0; i < connections && ok; i++) ok = prepare_slot(t, i);
    if (!ok) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", t->url);
    t->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return t->timer >= 0 ? QUIRE_OK : qr_fail(error, QUIRE_ERR_IO, "%s: no file descriptor is left", t->url);
}

static void describe(const qr_http_server *server, const quire_config *config, uint32_t vocab_size,
                     qr_http_facts *facts)
{
    const uint32_t asked_vocab  = (uint32_t)quire_config_integer(config, "run.target_vocab_size");
    const uint32_t asked_length = (uint32_t)quire_config_integer(config, "model.max_model_len");
    snprintf(facts->url, sizeof facts->url, "%s", server->url);
    snprintf(facts->model, sizeof facts->model, "%s", server->model);
    snprintf(facts->software, sizeof facts->software, "%s", server->software);
    facts->max_model_len = server->max_model_len;
    if (asked_length > 0 && (facts->max_model_len == 0 || asked_length < facts->max_model_len))
        facts->max_model_len = asked_length;
    facts->vocab_size = asked_vocab > 0 ? asked_vocab : vocab_size > 0 ? vocab_size : server->vocab_size;
}

/* ---- the first requests ---- */

static quire_status try_form(http_target *t, int32_t last_id, quire_error *error)
{
    const int32_t       ids[]   = {1, 2, 3, last_id};
    const quire_request request = {
        .size = sizeof request, .prompt = ids, .prompt_count = 4, .max_tokens = 2, .ignore_eos = true};
    quire_request_id id;
    quire_event      event = {0};
    t->last_status         = 0;
    if (submit(t, &request, &id) != QUIRE_OK)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%.110s: out of memory", t->url);
    while (!event.last) {
        QR_TRY(wait_until(t, UINT64_MAX, error));
        while (!event.last && poll_events(t, &event, 1) > 0) {
        }
    }
    if (event.finish == QUIRE_FINISH_STOP || event.finish == QUIRE_FINISH_LENGTH) return QUIRE_OK;
    if (t->last_status == 404 && t->server.lists_models)
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%.110s: 404: %.*s; the server lists its models, but has no completions here", t->url,
                       qr_whole_length(t->last_told, 60), t->last_told);
    if (t->last_status > 0 && t->last_status != 200) return qr_http_refuse(t->url, t->last_status, t->last_told, error);
    return qr_fail(error, event.status != QUIRE_OK ? event.status : QUIRE_ERR_IO, "%.110s: %s", t->url,
                   t->last_problem);
}

static bool is_refused(const http_target *t) { return t->last_status == 400 || t->last_status == 422; }

/* Where nobody says how many tokens there are: a number that most vocabularies exceed, or the part of it that the
 * server takes. */
static quire_status find_vocabulary(http_target *t, quire_error *error)
{
    uint32_t    *size   = &t->facts.vocab_size;
    quire_status status = QUIRE_OK;
    if (*size > 0) return QUIRE_OK;
    for (*size = QR_HTTP_DEFAULT_VOCABULARY; *size > QR_HTTP_LEAST_VOCABULARY && t->form.takes_ids; *size /= 2) {
        status = try_form(t, (int32_t)*size - 1, error);
        if (!is_refused(t)) return status;
    }
    return QUIRE_OK;
}

/* From the most that is hoped for to what every server takes. 400 and 422: not in this form. Ids of the tokens are not
 * asked for where the usage of each chunk counts them, since the first chunk then repeats those of the prompt. */
static quire_status probe(http_target *t, quire_error *error)
{
    static const bool forms[][2] = {{true, true}, {true, false}, {false, true}, {false, false}};
    quire_status      status     = QUIRE_OK;
    t->is_probing                = true;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        t->form.takes_ids        = forms[i][0];
        t->form.takes_extensions = forms[i][1];
        status                   = try_form(t, 4, error);
        if (!is_refused(t)) break;
    }
    if (status == QUIRE_OK) status = find_vocabulary(t, error);
    t->is_probing             = false;
    t->form.wants_ids         = !t->has_chunk_usage;
    t->facts.takes_ids        = t->form.takes_ids;
    t->facts.takes_extensions = t->form.takes_extensions;
    t->counts                 = (qr_http_counts){0};
    t->last_id = t->tokens = 0;
    return status;
}

bool qr_target_is_http(const quire_config *config) { return quire_config_string(config, "run.target") != NULL; }

quire_status qr_target_http_look(const quire_config *config, qr_http_facts *facts_out, quire_error *error)
{
    qr_http_server     server;
    const quire_status status = qr_http_server_init(&server, config, error);
    *facts_out                = (qr_http_facts){0};
    describe(&server, config, 0, facts_out);
    if (facts_out->vocab_size == 0) facts_out->vocab_size = QR_HTTP_DEFAULT_VOCABULARY;
    qr_http_server_deinit(&server);
    return status;
}

static quire_status open_target(http_target *t, const quire_config *config, uint32_t vocab_size, quire_error *error)
{
    const uint32_t connections = (uint32_t)quire_config_integer(config, "run.target_connections");
    QR_TRY(qr_http_server_init(&t->server, config, error));
    describe(&t->server, config, vocab_size, &t->facts);
    snprintf(t->url, sizeof t->url, "%s/completions", t->server.url);
    t->form.model = t->facts.model;
    QR_TRY(allow_files(config, connections, error));
    QR_TRY(open_slots(t, connections, error));
    return probe(t, error);
}

quire_status qr_target_http_create(const quire_config *config, uint32_t vocab_size, const quire_logger *logger,
                                   qr_target *target_out, quire_error *error)
{
    http_target *t = calloc(1, sizeof *t);
    *target_out    = (qr_target){0};
    if (t == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "run.target: out of memory");
    t->timer = -1;
    t->form  = (qr_http_form){.wants_ids = true};
    qr_log_init(&t->log, logger);
    const quire_status status = open_target(t, config, vocab_size, error);
    if (status != QUIRE_OK) {
        destroy(t);
        return status;
    }
    *target_out = (qr_target){.self        = t,
                              .start       = start,
                              .stop        = stop,
                              .now         = now,
                              .submit      = submit,
                              .cancel      = cancel,
                              .poll        = poll_events,
                              .wait        = wait_until,
                              .stats       = stats_of,
                              .flush_cache = flush_cache,
                              .destroy     = destroy,
                              .retry_ns    = RETRY_NS,
                              .idle_ns     = IDLE_NS,
                              .is_remote   = true};
    return QUIRE_OK;
}

const qr_http_facts *qr_target_http_facts(const qr_target *target)
{
    return &((const http_target *)target->self)->facts;
}

static void add_problem(qr_http_counts *to, const qr_http_problem *problem)
{
    uint32_t i = 0;
    while (i < to->problem_count && strcmp(to->problems[i].what, problem->what) != 0) i++;
    if (i == QR_HTTP_PROBLEMS) i--;
    if (i == to->problem_count) to->problems[to->problem_count++] = (qr_http_problem){0};
    snprintf(to->problems[i].what, sizeof to->problems[i].what, "%s",
             i == QR_HTTP_PROBLEMS - 1 ? "others" : problem->what);
    to->problems[i].count += problem->count;
}

void qr_target_http_take_counts(const qr_target *target, qr_http_counts *to)
{
    qr_http_counts *from = &((http_target *)target->self)->counts;
    for (int i = 0; i < QR_COUNTED_BY; i++) to->answers[i] += from->answers[i];
    to->chunks += from->chunks;
    to->tokens += from->tokens;
    to->missing += from->missing;
    to->excess += from->excess;
    to->cached_answers += from->cached_answers;
    to->connections += from->connections;
    for (uint32_t i = 0; i < from->problem_count; i++) add_problem(to, &from->problems[i]);
    *from = (qr_http_counts){0};
}
