#include "cli/job_reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GLANCE_MS = 100 };

struct qr_job_reader {
    qr_lines                   lines; /* the thread's */
    const qr_request_defaults *defaults;
    pthread_t                  thread;
    pthread_mutex_t            mutex; /* of all below */
    pthread_cond_t             changed;
    qr_read_job                ring[QR_READ_AHEAD];
    uint64_t                   taken, put; /* since the start */
    size_t                     tokens;     /* of what was put and not taken */
    bool                       stopping;
};

static size_t tokens_of(const qr_read_job *read)
{
    return read->job ? (size_t)read->job->from.request.prompt_count + read->job->from.request.encoder_count : 0;
}

/* ---- the thread ---- */

static bool is_blank(const char *line, size_t length)
{
    while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t')) length--;
    return length == 0;
}

static void parse(const qr_job_reader *reader, const char *line, size_t length, qr_read_job *to)
{
    to->job = qr_job_parse(line, length, to->number, reader->defaults, &to->error);
    if (to->job == NULL)
        to->error = (qr_line_error){.status = QUIRE_ERR_NO_MEMORY, .message = "no memory for the request"};
}

/* False: there is no line now, or a blank one. */
static bool read_one(qr_job_reader *reader, qr_read_job *to)
{
    const char *line   = NULL;
    size_t      length = 0;
    *to                = (qr_read_job){.result = qr_lines_next(&reader->lines, GLANCE_MS, &line, &length)};
    to->why            = to->result == QR_LINE_ERROR ? errno : 0;
    to->number         = reader->lines.number;
    switch (to->result) {
    case QR_LINE_WAIT: return false;
    case QR_LINE_READY:
        if (is_blank(line, length)) return false;
        parse(reader, line, length, to);
        return true;
    case QR_LINE_TOO_LONG:
        to->result       = QR_LINE_READY;
        to->error.status = QUIRE_ERR_INVALID;
        snprintf(to->error.message, sizeof to->error.message, "the line is longer than %d bytes", QR_MAX_LINE_BYTES);
        return true;
    default: return true;
    }
}

static bool has_room(const qr_job_reader *reader)
{
    return reader->put - reader->taken < QR_READ_AHEAD && reader->tokens < QR_READ_AHEAD_TOKENS;
}

/* False: the user has stopped. */
static bool put(qr_job_reader *reader, const qr_read_job *read)
{
    pthread_mutex_lock(&reader->mutex);
    if (read != NULL) {
        reader->ring[reader->put++ % QR_READ_AHEAD] = *read;
        reader->tokens += tokens_of(read);
        pthread_cond_broadcast(&reader->changed);
    }
    while (!has_room(reader) && !reader->stopping) pthread_cond_wait(&reader->changed, &reader->mutex);
    const bool goes_on = !reader->stopping;
    pthread_mutex_unlock(&reader->mutex);
    return goes_on;
}

static void *run(void *context)
{
    qr_job_reader *reader = context;
    qr_read_job    read;
    bool           is_read;
    do is_read = read_one(reader, &read);
    while (put(reader, is_read ? &read : NULL) && read.result != QR_LINE_END && read.result != QR_LINE_ERROR);
    return NULL;
}

/* ---- its user ---- */

/* With all signals blocked: they are for the user, whose waiting they end. */
static bool start_thread(qr_job_reader *reader)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = pthread_create(&reader->thread, NULL, run, reader) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

qr_job_reader *qr_job_reader_start(int descriptor, const qr_request_defaults *defaults)
{
    qr_job_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) return NULL;
    reader->defaults = defaults;
    pthread_mutex_init(&reader->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&reader->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (qr_lines_init(&reader->lines, descriptor) && start_thread(reader)) return reader;
    qr_lines_deinit(&reader->lines);
    free(reader);
    return NULL;
}

static qr_read_job take(qr_job_reader *reader)
{
    qr_read_job *from = &reader->ring[reader->taken % QR_READ_AHEAD];
    if (from->result == QR_LINE_READY) { /* the end is there for every call */
        reader->taken++;
        reader->tokens -= tokens_of(from);
        pthread_cond_broadcast(&reader->changed);
    }
    return *from;
}

void qr_job_reader_next(qr_job_reader *reader, int timeout_ms, qr_read_job *read_out)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)timeout_ms % 1000 * 1000000;
    until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&reader->mutex);
    while (reader->taken == reader->put && timeout_ms > 0)
        if (pthread_cond_timedwait(&reader->changed, &reader->mutex, &until) == ETIMEDOUT) break;
    *read_out = reader->taken < reader->put ? take(reader) : (qr_read_job){.result = QR_LINE_WAIT};
    pthread_mutex_unlock(&reader->mutex);
}

void qr_job_reader_stop(qr_job_reader *reader)
{
    if (reader == NULL) return;
    pthread_mutex_lock(&reader->mutex);
    reader->stopping = true;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->mutex);
    pthread_join(reader->thread, NULL);
    for (; reader->taken < reader->put; reader->taken++)
        qr_job_destroy(reader->ring[reader->taken % QR_READ_AHEAD].job);
    qr_lines_deinit(&reader->lines);
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->mutex);
    free(reader);
}
