/* Many prompts decoded together: one thread computes, this one submits, waits for events and prints each answer whole.
 * Usage: decode MODEL_FOLDER|PRESET [REQUESTS] */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <quire/quire.h>

enum { MAX_REQUESTS = 64, MAX_TOKENS = 16, PROMPT = 8, EVENTS = 32 };

typedef struct answer {
    int32_t      tokens[MAX_TOKENS];
    uint32_t     count;
    quire_status status; /* of its end */
} answer;

static int fail(const quire_error *error)
{
    fprintf(stderr, "decode: %s: %s\n", quire_status_text(error->status), error->message);
    return 1;
}

/* A folder as Hugging Face publishes it, or else the name of a preset with random weights. */
static quire_status open_model(const char *name, quire_model **model, quire_error *error)
{
    const quire_model_options options = {.size = sizeof options};
    const quire_status        status  = quire_model_load(name, &options, model, error);
    return status == QUIRE_ERR_IO ? quire_model_synthetic(name, &options, model, error) : status;
}

static quire_status submit(quire_engine *engine, uint32_t number, answer *answer, quire_error *error)
{
    int32_t prompt[PROMPT]; /* copied by submit */
    for (uint32_t i = 0; i < PROMPT; i++) prompt[i] = (int32_t)(1 + number * 7 + i);
    quire_request_id    id;
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = PROMPT,
                                   .max_tokens   = MAX_TOKENS,
                                   .user_data    = answer}; /* comes back in each event */
    return quire_engine_submit(engine, &request, &id, error);
}

static void *compute(void *engine)
{
    return (void *)(intptr_t)quire_engine_run(engine); /* until quire_engine_stop() */
}

/* Sleeps until there are events. Returns how many requests ended. */
static uint32_t take_events(quire_engine *engine)
{
    quire_event  events[EVENTS];
    const size_t count = quire_engine_wait(engine, events, EVENTS, UINT64_MAX);
    uint32_t     ended = 0;
    for (size_t i = 0; i < count; i++) {
        answer *to = events[i].user_data;
        if (events[i].kind == QUIRE_EVENT_TOKEN) to->tokens[to->count++] = events[i].token;
        if (events[i].kind != QUIRE_EVENT_FINISHED) continue;
        to->status = events[i].status;
        ended += events[i].last;
    }
    return ended;
}

static void print(uint32_t number, const answer *answer)
{
    printf("%2u:", number);
    for (uint32_t i = 0; i < answer->count; i++) printf(" %d", answer->tokens[i]);
    printf("%s\n", answer->status ? " (failed)" : "");
}

int main(int argc, char **argv)
{
    static answer  answers[MAX_REQUESTS];
    const int      asked    = argc > 2 ? atoi(argv[2]) : 8;
    const uint32_t requests = asked < 1 ? 1 : asked > MAX_REQUESTS ? MAX_REQUESTS : (uint32_t)asked;
    quire_model   *model    = NULL;
    quire_engine  *engine   = NULL;
    quire_error    error;
    if (open_model(argc > 1 ? argv[1] : "tiny", &model, &error) != QUIRE_OK) return fail(&error);

    const quire_engine_options options = {.size = sizeof options};
    if (quire_engine_create(&options, model, &engine, &error) != QUIRE_OK) return fail(&error);

    for (uint32_t i = 0; i < requests; i++)
        if (submit(engine, i, &answers[i], &error) != QUIRE_OK) return fail(&error);
    pthread_t driver;
    if (pthread_create(&driver, NULL, compute, engine) != 0) return 1;
    for (uint32_t ended = 0; ended < requests;) ended += take_events(engine);
    for (uint32_t i = 0; i < requests; i++) print(i, &answers[i]);

    quire_engine_stop(engine);
    pthread_join(driver, NULL);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}
