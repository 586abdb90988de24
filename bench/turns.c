/* Rounds of one repetition each; every second round goes backwards. */
#include "bench/turns.h"

#include <stdlib.h>

typedef struct player {
    const qr_turns *turns;
    qr_session     *session;
    bool           *is_over; /* [count] */
    bool            stopped;
} player;

static bool is_interrupted(const player *p) { return *p->turns->interrupt == QR_INTERRUPT_ASKED; }

static uint32_t repetitions_of(const qr_result *result)
{
    return (uint32_t)quire_config_integer(result->config, "run.repetitions");
}

/* The engine of this configuration: the open one if it serves, after a pause, else a new one. */
static quire_status provide_session(player *p, const quire_config *config, quire_error *error)
{
    if (p->session != NULL && qr_session_serves(p->session, config)) {
        qr_session_cool(p->session, config, p->turns->interrupt);
        return QUIRE_OK;
    }
    qr_session_close(p->session);
    return qr_session_open(config, p->turns->logger, NULL, &p->session, error);
}

static void end(player *p, size_t index, quire_status status, const quire_error *error)
{
    qr_result *result = p->turns->results[index];
    p->is_over[index] = true;
    qr_session_end(result);
    p->stopped |= !p->turns->ended(p->turns->context, index, status, error);
}

static void play_one(player *p, size_t index)
{
    qr_result  *result = p->turns->results[index];
    quire_error error  = {0};
    if (p->is_over[index] || p->stopped || is_interrupted(p)) return;
    if (result->run_count == 0) qr_session_begin(result->config, result);
    quire_status status = provide_session(p, result->config, &error);
    if (status == QUIRE_OK && !is_interrupted(p))
        status = qr_session_repeat(p->session, p->turns->interrupt, NULL, result, &error);
    result->partial |= status != QUIRE_OK;
    if (status != QUIRE_OK || result->run_count >= repetitions_of(result)) end(p, index, status, &error);
}

static void play_all(player *p)
{
    const size_t count = p->turns->count;
    uint32_t     most  = 1;
    for (size_t i = 0; i < count; i++)
        if (!p->is_over[i] && repetitions_of(p->turns->results[i]) > most) most = repetitions_of(p->turns->results[i]);
    if (p->turns->sequential)
        for (size_t i = 0; i < count; i++)
            for (uint32_t r = 0; r < most; r++) play_one(p, i);
    else
        for (uint32_t r = 0; r < most; r++)
            for (size_t i = 0; i < count; i++) play_one(p, r % 2 == 0 ? i : count - 1 - i);
}

bool qr_turns_run(const qr_turns *turns)
{
    player p = {.turns = turns, .is_over = calloc(turns->count + 1, sizeof *p.is_over)};
    if (p.is_over == NULL) return false;
    for (size_t i = 0; i < turns->count; i++) p.is_over[i] = turns->results[i] == NULL;
    play_all(&p);
    for (size_t i = 0; i < turns->count; i++) {
        if (p.is_over[i] || turns->results[i]->run_count == 0) continue;
        turns->results[i]->partial = true;
        end(&p, i, QUIRE_OK, NULL);
    }
    qr_session_close(p.session);
    free(p.is_over);
    return !p.stopped && !is_interrupted(&p);
}
