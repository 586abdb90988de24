/* The shortest whole program: one prompt in, token ids out. Usage: minimal MODEL_FOLDER|PRESET [ID...] */
#include <stdio.h>
#include <stdlib.h>

#include <quire/quire.h>

static int fail(const quire_error *error)
{
    fprintf(stderr, "minimal: %s: %s\n", quire_status_text(error->status), error->message);
    return 1;
}

/* A folder as Hugging Face publishes it, or else the name of a preset with random weights. */
static quire_status open_model(const char *name, quire_model **model, quire_error *error)
{
    const quire_model_options options = {.size = sizeof options};
    const quire_status        status  = quire_model_load(name, &options, model, error);
    return status == QUIRE_ERR_IO ? quire_model_synthetic(name, &options, model, error) : status;
}

/* Steps and prints until the request's last event. */
static quire_finish decode(quire_engine *engine)
{
    for (;;) {
        quire_event  event;
        quire_step   step   = {.size = sizeof step};
        quire_status status = quire_engine_step(engine, &step);
        if (status != QUIRE_OK) return QUIRE_FINISH_ERROR;
        while (quire_engine_poll(engine, &event, 1) == 1) {
            if (event.kind == QUIRE_EVENT_TOKEN) printf("%d ", event.token);
            if (event.kind == QUIRE_EVENT_FINISHED && event.last) return event.finish;
        }
    }
}

int main(int argc, char **argv)
{
    quire_model     *model  = NULL;
    quire_engine    *engine = NULL;
    quire_error      error;
    int32_t          prompt[256] = {1};
    uint32_t         count       = 0;
    quire_request_id id;

    for (int i = 2; i < argc && count < 256; i++) prompt[count++] = atoi(argv[i]);
    if (open_model(argc > 1 ? argv[1] : "tiny", &model, &error) != QUIRE_OK) return fail(&error);

    const quire_engine_options options = {.size = sizeof options};
    if (quire_engine_create(&options, model, &engine, &error) != QUIRE_OK) return fail(&error);

    const quire_request request = {
        .size = sizeof request, .prompt = prompt, .prompt_count = count ? count : 1, .max_tokens = 32};
    if (quire_engine_submit(engine, &request, &id, &error) != QUIRE_OK) return fail(&error);

    const quire_finish finish = decode(engine);
    printf("\n");

    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return finish == QUIRE_FINISH_STOP || finish == QUIRE_FINISH_LENGTH ? 0 : 1;
}
