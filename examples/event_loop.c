/* Serving from an event loop: one thread computes, one talks to clients. Prompts come as lines of ids on stdin, answers
 * go to stdout as "<line>: <id>" the moment they exist. Usage: event_loop [PRESET] < prompts */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <quire/quire.h>

enum { MAX_PROMPT = 1024, MAX_EVENTS = 64 };

static void *compute(void *engine)
{
    return (void *)(intptr_t)quire_engine_run(engine); /* until quire_engine_stop() */
}

/* One line is one request. Returns whether it was queued. */
static int submit_line(quire_engine *engine, char *line, long number)
{
    int32_t          prompt[MAX_PROMPT];
    uint32_t         count = 0;
    quire_error      error;
    quire_request_id id;
    for (char *word = strtok(line, " \n"); word && count < MAX_PROMPT; word = strtok(NULL, " \n"))
        prompt[count++] = atoi(word);
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = count,
                                   .max_tokens   = 16,
                                   .user_data    = (void *)(intptr_t)number};
    if (quire_engine_submit(engine, &request, &id, &error) == QUIRE_OK) return 1;
    fprintf(stderr, "line %ld: %s\n", number, error.message);
    return 0;
}

/* Takes what is there; returns how many requests ended. */
static int deliver(quire_engine *engine)
{
    quire_event  events[MAX_EVENTS];
    const size_t count = quire_engine_poll(engine, events, MAX_EVENTS);
    int          ended = 0;
    for (size_t i = 0; i < count; i++) {
        if (events[i].kind == QUIRE_EVENT_TOKEN)
            printf("%ld: %d\n", (long)(intptr_t)events[i].user_data, events[i].token);
        ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
    }
    return ended;
}

/* A server would also watch its sockets here and submit from this thread: submit never waits. */
static void serve(quire_engine *engine, int open_requests)
{
    struct epoll_event ready = {.events = EPOLLIN};
    const int          epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(epoll, EPOLL_CTL_ADD, quire_engine_event_fd(engine), &ready);
    while (open_requests > 0 && epoll_wait(epoll, &ready, 1, -1) >= 0) open_requests -= deliver(engine);
    close(epoll);
}

int main(int argc, char **argv)
{
    const quire_model_options  model_options = {.size = sizeof model_options};
    const quire_engine_options options       = {.size = sizeof options};
    quire_model               *model         = NULL;
    quire_engine              *engine        = NULL;
    quire_error                error;
    if (quire_model_synthetic(argc > 1 ? argv[1] : "tiny", &model_options, &model, &error) != QUIRE_OK ||
        quire_engine_create(&options, model, &engine, &error) != QUIRE_OK) {
        fprintf(stderr, "event_loop: %s\n", error.message);
        return 1;
    }

    pthread_t driver;
    if (pthread_create(&driver, NULL, compute, engine) != 0) return 1;
    char line[16384];
    int  open_requests = 0;
    for (long number = 1; fgets(line, sizeof line, stdin); number++) open_requests += submit_line(engine, line, number);
    serve(engine, open_requests);

    quire_engine_stop(engine);
    pthread_join(driver, NULL);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}
