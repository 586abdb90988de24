/* A program compiled against headers that are not today's, run on today's library: every struct that crosses the
 * interface is handed over once, with bytes behind it that must stay. It uses no last member of a struct, so that it
 * compiles against older headers too (other_headers.py); NEWER: the structs have a last member that the library does
 * not know. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quire/quire.h>

enum { GUARD = 0xA5, TOKENS = 3 };

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) printf("line %d: not so: %s\n", __LINE__, #condition), exit(1);                              \
    } while (0)

/* A struct to be filled, dirty but for its size. */
#define OUTPUT(type, name)                                                                                             \
    struct {                                                                                                           \
        type          value;                                                                                           \
        unsigned char behind[64];                                                                                      \
    } name;                                                                                                            \
    memset(&name, GUARD, sizeof name);                                                                                 \
    name.value.size = sizeof(type)

static void check_filled(const char *what, const unsigned char *value, size_t size, const unsigned char *behind)
{
    size_t kept = 0;
    for (int i = 0; i < 64; i++) kept += behind[i] == GUARD;
    CHECK(kept == 64);
#ifdef NEWER
    for (size_t i = size - 24; i < size; i++) CHECK(value[i] == 0); /* from_the_future */
#endif
    memcpy(&kept, value, sizeof kept);
    CHECK(kept == size);
    printf("  %-20s %4zu bytes, filled to there\n", what, size);
}
#define FILLED(name, what) check_filled(what, (const unsigned char *)&name.value, sizeof name.value, name.behind)

static quire_model *open_model(void)
{
    quire_model        *model   = NULL;
    quire_error         error   = {0};
    quire_model_options options = {.size = sizeof options, .weight_dtype = QUIRE_DTYPE_F32, .weight_seed = 3};
    CHECK(quire_model_synthetic("tiny", &options, &model, &error) == QUIRE_OK);
    OUTPUT(quire_model_info, info);
    quire_model_describe(model, &info.value);
    CHECK(strcmp(info.value.name, "tiny") == 0 && info.value.vocab_size > 0);
    FILLED(info, "quire_model_info");
    return model;
}

static quire_engine *open_engine(quire_model *model)
{
    quire_engine        *engine  = NULL;
    quire_error          error   = {0};
    quire_tenant_options tenant  = {.size = sizeof tenant, .name = "a", .weight = 2};
    quire_engine_options options = {.size          = sizeof options,
                                    .max_num_seqs  = 4,
                                    .tenants       = &tenant,
                                    .tenant_count  = 1,
                                    .num_kv_blocks = 64,
                                    .threads       = 1,
                                    .stage_slices  = 64};
#ifdef NEWER
    options.from_the_future[2] = 1;
    CHECK(quire_engine_create(&options, model, &engine, &error) == QUIRE_ERR_INVALID);
    printf("  refused: %s\n", error.message);
    options.from_the_future[2] = 0;
#endif
    CHECK(quire_engine_create(&options, model, &engine, &error) == QUIRE_OK);
    return engine;
}

static void submit(quire_engine *engine, quire_request_id *id)
{
    static const int32_t prompt[] = {1, 2, 3, 4};
    quire_error          error    = {0};
    quire_request        request  = {.size         = sizeof request,
                                     .user_data    = engine,
                                     .prompt       = prompt,
                                     .prompt_count = 4,
                                     .max_tokens   = TOKENS,
                                     .ignore_eos   = true,
                                     .sampling     = {.temperature = 1, .seed = 5},
                                     .logprobs     = 2,
                                     .tenant       = "a"};
#ifdef NEWER
    request.from_the_future[0] = 1;
    CHECK(quire_engine_submit(engine, &request, id, &error) == QUIRE_ERR_INVALID);
    printf("  refused: %s\n", error.message);
    request.from_the_future[0] = 0;
#endif
    CHECK(quire_engine_submit(engine, &request, id, &error) == QUIRE_OK);
}

static void decode(quire_engine *engine)
{
    quire_event events[16];
    uint32_t    tokens = 0;
    for (bool ended = false; !ended;) {
        CHECK(quire_engine_step(engine, NULL) == QUIRE_OK);
        const size_t count = quire_engine_wait(engine, events, 16, 0);
        for (size_t i = 0; i < count; i++) {
            CHECK(events[i].user_data == engine && events[i].sequence == 0);
            if (events[i].kind == QUIRE_EVENT_TOKEN) {
                const quire_token_detail *detail = events[i].detail;
                CHECK(events[i].index == tokens++ && detail->top_count == 2 && detail->logits == NULL);
                continue;
            }
            const quire_finish_detail *detail = events[i].detail;
            CHECK(detail->output_tokens == TOKENS && detail->finish_ns >= detail->submit_ns);
            CHECK(events[i].finish == QUIRE_FINISH_LENGTH && events[i].status == QUIRE_OK && events[i].last);
            ended = true;
        }
    }
    CHECK(tokens == TOKENS);
}

static void look_in(quire_engine *engine, quire_request_id id)
{
    OUTPUT(quire_explanation, why);
    CHECK(quire_engine_explain(engine, id, &why.value) == QUIRE_OK && why.value.reason == QUIRE_WAIT_ORDER);
    FILLED(why, "quire_explanation");
    decode(engine);
    OUTPUT(quire_step, step);
    CHECK(quire_engine_step(engine, &step.value) == QUIRE_OK && step.value.rows == 0);
    FILLED(step, "quire_step");
    OUTPUT(quire_stats, stats);
    quire_engine_stats(engine, &stats.value);
    CHECK(stats.value.tokens_output == TOKENS && stats.value.finished_by[QUIRE_FINISH_LENGTH] == 1);
    FILLED(stats, "quire_stats");
    OUTPUT(quire_limits, limits);
    CHECK(quire_engine_measure_limits(engine, &limits.value, NULL) == QUIRE_OK && limits.value.read_gbs > 0);
    FILLED(limits, "quire_limits");
    quire_stage stages[64];
    CHECK(quire_engine_stages(engine, 0, stages, 64, NULL) <= 64);
}

static void plan(void)
{
    static const int32_t prompt[] = {1, 2};
    quire_engine_options options  = {.size = sizeof options, .max_num_seqs = 2};
    quire_planner_model  model    = {.size = sizeof model, .vocab_size = 10, .num_blocks = 4, .block_size = 16};
    quire_request        request  = {.size = sizeof request, .prompt = prompt, .prompt_count = 2, .max_tokens = 1};
    quire_planner       *planner  = NULL;
    const quire_plan    *plan     = NULL;
    const quire_sampled  sampled  = {.token = 7};
    quire_event          event;
    CHECK(quire_planner_create(&options, &model, &planner, NULL) == QUIRE_OK);
    CHECK(quire_planner_submit(planner, &request, 0, NULL, NULL) == QUIRE_OK);
    CHECK(quire_planner_plan(planner, 1, &plan, NULL) == QUIRE_OK);
    CHECK(plan->size >= offsetof(quire_plan, rows_encoder) && plan->number == 1);
    CHECK(plan->rows == 2 && plan->sequence_count == 1 && plan->sequences[0].row_count == 2 && plan->sample_count == 1);
    CHECK(quire_planner_commit(planner, &sampled, 1, 2, NULL) == QUIRE_OK);
    CHECK(quire_planner_poll(planner, &event, 1) == 1 && event.token == 7);
    quire_planner_destroy(planner);
}

int main(void)
{
    printf("headers of %d.%d.%d on library %u: options %zu, request %zu bytes\n", QUIRE_VERSION_MAJOR,
           QUIRE_VERSION_MINOR, QUIRE_VERSION_PATCH, quire_version(), sizeof(quire_engine_options),
           sizeof(quire_request));
    quire_model     *model  = open_model();
    quire_engine    *engine = open_engine(model);
    quire_request_id id;
    submit(engine, &id);
    look_in(engine, id);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    plan();
    printf("  all as expected\n");
    return 0;
}
