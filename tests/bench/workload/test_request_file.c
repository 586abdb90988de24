/* workload.source = "file": requests as they are written, and one error with its line for what cannot be played. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/workload/describe.h"
#include "support/scratch_file.h"

enum { MAX_MODEL_LEN = 64 };

static const quire_model_info decoder = {
    .size = sizeof decoder, .vocab_size = 100, .layers = 2, .decoder_start_token_id = -1};
static const quire_model_info seq2seq = {
    .size = sizeof seq2seq, .vocab_size = 100, .layers = 2, .encoder_layers = 2, .decoder_start_token_id = 7};

static quire_status read_text(const char *text, const char *setting, const quire_model_info *model,
                              qr_workload **workload, quire_error *error)
{
    quire_config *config;
    char          path[64], assignment[96];
    scratch_file_write(text, path);
    snprintf(assignment, sizeof assignment, "workload.path=%s", path);
    const char *const settings[] = {"workload.source=file", assignment, setting};
    assert_int_equal(qr_bench_config_create(&config, error), QUIRE_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (settings[i] != NULL) assert_int_equal(quire_config_set(config, settings[i], "test", error), QUIRE_OK);
    const quire_status status = qr_workload_create(config, model, MAX_MODEL_LEN, 42, workload, error);
    quire_config_destroy(config);
    unlink(path);
    return status;
}

static qr_workload *read_good(const char *text, const char *setting, const quire_model_info *model)
{
    qr_workload *workload;
    quire_error  error = {0};
    if (read_text(text, setting, model, &workload, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return workload;
}

static void a_beam_search_does_not_take_the_sampling_of_the_model(void **state)
{
    (void)state;
    quire_model_info    model = decoder;
    qr_workload_request request;
    quire_request       sampled, beams;
    model.sampling = (quire_sampling){.temperature = 0.5F, .top_k = 50, .top_p = 0.75F, .repetition_penalty = 1.5F};
    qr_workload *workload =
        read_good("{\"prompt\": [5], \"max_tokens\": 9}\n{\"prompt\": [5], \"max_tokens\": 9, \"beam_width\": 2}\n",
                  NULL, &model);
    qr_workload_next(workload, &request);
    qr_workload_fill(workload, &request, &sampled);
    qr_workload_next(workload, &request);
    qr_workload_fill(workload, &request, &beams);
    assert_true(sampled.sampling.temperature == 0.5F && sampled.sampling.top_k == 50);
    assert_true(beams.sampling.temperature == 0 && beams.sampling.top_k == 0 && beams.sampling.top_p == 1);
    assert_true(beams.sampling.repetition_penalty == 1.5F);
    qr_workload_destroy(workload);
}

static void requests_come_as_they_are_written(void **state)
{
    (void)state;
    qr_workload *workload = read_good(
        "\xef\xbb\xbf{\"prompt\": [5, 6, 7], \"max_tokens\": 9, \"tenant\": \"b\", \"temperature\": 0.5, \"n\": 3}\r\n"
        "\n"
        "{\"prompt\": [99], \"seed\": 4, \"priority\": -3, \"stop_token_ids\": [1], \"arrival_ms\": 12.5}\n",
        "generate.max_tokens=11", &decoder);
    qr_workload_request a, b;
    quire_request       first, second;
    int32_t             ids[3];
    assert_int_equal(qr_workload_count(workload), 2);
    assert_int_equal(qr_workload_sequences(workload), 3);
    assert_int_equal(qr_workload_tenants(workload), 2);
    qr_workload_next(workload, &a);
    qr_workload_next(workload, &b);
    qr_workload_fill(workload, &a, &first);
    qr_workload_fill(workload, &b, &second);
    qr_workload_prompt(workload, &a, ids);
    assert_memory_equal(ids, ((int32_t[]){5, 6, 7}), sizeof ids);
    qr_workload_prompt(workload, &b, ids);
    assert_int_equal(ids[0], 99);
    assert_int_equal(first.prompt_count, 3);
    assert_int_equal(first.max_tokens, 9);
    assert_int_equal(first.n, 3);
    assert_true(first.sampling.temperature == 0.5F);
    assert_int_equal(first.sampling.seed, 1); /* generate.seed and its line */
    assert_string_equal(first.tenant, "b");
    assert_int_equal(second.max_tokens, 11); /* from [generate] */
    assert_int_equal(second.sampling.seed, 4);
    assert_int_equal(second.priority, -3);
    assert_int_equal(second.stop_count, 1);
    assert_string_equal(second.tenant, "");
    assert_int_equal(b.due_ns, 0); /* profile throughput: all at once */
    qr_workload_destroy(workload);
}

static void a_default_of_max_tokens_is_clipped_to_the_room_left(void **state)
{
    (void)state;
    static const uint32_t expected[] = {11, 20, 15, 1};
    char                  text[512]  = "{\"prompt\": [5]}\n{\"prompt\": [5], \"min_tokens\": 20}\n{\"prompt\": [5";
    for (int i = 1; i < MAX_MODEL_LEN - 15; i++) strcat(text, ",5");
    strcat(text, "], \"min_tokens\": 15}\n{\"prompt\": [5");
    for (int i = 1; i < MAX_MODEL_LEN - 1; i++) strcat(text, ",5");
    strcat(text, "]}\n");
    qr_workload *workload = read_good(text, "generate.max_tokens=11", &decoder);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        qr_workload_request request;
        qr_workload_next(workload, &request);
        assert_int_equal(request.output_tokens, expected[i]);
    }
    qr_workload_destroy(workload);
}

static void a_replay_keeps_the_times_after_the_first_line(void **state)
{
    (void)state;
    qr_workload        *workload = read_good("{\"prompt\": [1], \"max_tokens\": 2, \"arrival_ms\": 7}\n"
                                                    "{\"prompt\": [1], \"max_tokens\": 2, \"arrival_ms\": 19.5}\n",
                                             "load.profile=replay", &decoder);
    qr_workload_request request;
    qr_workload_next(workload, &request);
    assert_int_equal(request.due_ns, 0);
    qr_workload_next(workload, &request);
    assert_int_equal(request.due_ns, 12500000);
    qr_workload_destroy(workload);
}

static void encoder_inputs_are_the_files(void **state)
{
    (void)state;
    qr_workload        *workload = read_good("{\"encoder_input\": [3, 4], \"max_tokens\": 2}\n"
                                                    "{\"encoder_input\": [3, 4], \"prompt\": [8, 9], \"max_tokens\": 2}\n",
                                             NULL, &seq2seq);
    qr_workload_request a, b;
    int32_t             ids[2];
    qr_workload_next(workload, &a);
    qr_workload_next(workload, &b);
    qr_workload_encoder(workload, &a, ids);
    assert_memory_equal(ids, ((int32_t[]){3, 4}), sizeof ids);
    assert_int_equal(a.encoder_id, b.encoder_id);
    assert_int_equal(a.prompt_tokens, 1);
    qr_workload_prompt(workload, &a, ids);
    assert_int_equal(ids[0], 7); /* the decoder's start */
    qr_workload_prompt(workload, &b, ids);
    assert_int_equal(ids[1], 9);
    qr_workload_destroy(workload);
}

static void a_file_is_described_and_is_no_trace(void **state)
{
    (void)state;
    quire_error    error;
    qr_description d;
    qr_workload *workload = read_good("{\"prompt\": [1, 2], \"max_tokens\": 2}\n{\"prompt\": [3], \"max_tokens\": 4}\n",
                                      NULL, &(quire_model_info){.size = sizeof decoder, .vocab_size = 3});
    assert_int_equal(qr_describe(workload, 32, 0, &d, &error), QUIRE_OK);
    assert_int_equal(d.requests, 2);
    assert_true(d.output.mean == 3);
    assert_int_equal(qr_workload_write(workload, 0, stderr, &error), QUIRE_ERR_INVALID);
    qr_workload_destroy(workload);
}

static void what_cannot_be_played_is_one_error_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const quire_model_info *model;
        const char             *text, *says;
    } cases[] = {
        {&decoder, "", "no requests"},
        {&decoder, "\n{\"prompt\": [1]\n", ":2: not JSON"},
        {&decoder, "{\"prompt\": [1], \"promt\": 1}\n", ":1: promt: unknown field"},
        {&decoder, "{\"prompt\": [1, 100], \"max_tokens\": 2}\n",
         ":1: prompt: [1]: 100 is not below the vocabulary's 100"},
        {&decoder, "{\"prompt\": [], \"max_tokens\": 2}\n", ":1: prompt: missing or empty"},
        {&decoder, "{\"prompt\": [1], \"encoder_input\": [1], \"max_tokens\": 2}\n",
         ":1: encoder_input: this model has no"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 64}\n",
         ":1: 1 prompt tokens + max_tokens 64, max_model_len is 64"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 2, \"logits\": \"all\"}\n",
         ":1: logits: a benchmark takes no raw"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 2, \"top_p\": 2}\n", ":1: top_p: 2 is above the maximum 1"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 2, \"arrival_ms\": 2}\n{\"prompt\": [1], \"max_tokens\": 2}\n",
         ":2: arrival_ms: below that of an earlier line"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 2, \"arrival_ms\": 1e12}\n",
         ":1: arrival_ms: more than ten years"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 2, \"n\": 65}\n", ":1: n: 65 is above max_num_seqs = 64"},
        {&decoder, "{\"prompt\": [1], \"max_tokens\": 2, \"beam_width\": 65}\n", ":1: beam_width: 65 is above"},
        {&seq2seq, "{\"prompt\": [1], \"max_tokens\": 2}\n", ":1: encoder_input: missing"},
        {&seq2seq, "{\"encoder_input\": [1, 1, 500], \"max_tokens\": 2}\n", ":1: encoder_input: [2]: 500"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_workload *workload;
        quire_error  error = {0};
        assert_int_equal(read_text(cases[i].text, NULL, cases[i].model, &workload, &error), QUIRE_ERR_FORMAT);
        assert_null(workload);
        if (strstr(error.message, cases[i].says) == NULL) fail_msg("case %zu: %s", i, error.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_beam_search_does_not_take_the_sampling_of_the_model),
        cmocka_unit_test(requests_come_as_they_are_written),
        cmocka_unit_test(a_default_of_max_tokens_is_clipped_to_the_room_left),
        cmocka_unit_test(a_replay_keeps_the_times_after_the_first_line),
        cmocka_unit_test(encoder_inputs_are_the_files),
        cmocka_unit_test(a_file_is_described_and_is_no_trace),
        cmocka_unit_test(what_cannot_be_played_is_one_error_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
