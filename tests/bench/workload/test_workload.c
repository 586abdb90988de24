/* Workloads: arrivals, classes, shared parts, and that a written workload is the same one when it is read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/workload/describe.h"
#include "support/scratch_file.h"

static quire_config *configuration(const char *const *settings)
{
    quire_config *config;
    quire_error   error;
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    for (; *settings != NULL; settings++)
        if (quire_config_set(config, *settings, "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    return config;
}

static qr_workload *create(quire_config *config, uint32_t encoder_layers)
{
    const quire_model_info model = {.size                   = sizeof model,
                                    .vocab_size             = 1000,
                                    .encoder_layers         = encoder_layers,
                                    .decoder_start_token_id = encoder_layers ? 0 : -1};
    qr_workload           *workload;
    quire_error            error = {0};
    if (qr_workload_create(config, &model, 4096, 42, &workload, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return workload;
}

static qr_description describe(const char *const *settings, uint32_t encoder_layers)
{
    quire_config  *config   = configuration(settings);
    qr_workload   *workload = create(config, encoder_layers);
    qr_description d;
    quire_error    error = {0};
    assert_int_equal(qr_describe(workload, 32, 0, &d, &error), QUIRE_OK);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
    return d;
}

#define ARRIVALS(profile, burstiness)                                                                                  \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        "load.profile=" profile, "load.burstiness=" burstiness, "load.request_rate=4", "workload.num_prompts=20000",   \
            "workload.prompt_tokens=1", "workload.output_tokens=1", NULL                                               \
    }

static void assert_near(double value, double expected, double share)
{
    if (!(fabs(value / expected - 1) <= share)) fail_msg("%g is not %g", value, expected);
}

static void arrivals_have_the_rate_and_burstiness_asked_for(void **state)
{
    (void)state;
    const qr_description constant = describe(ARRIVALS("constant", "1"), 0);
    assert_near(constant.rate, 4, 1e-6);
    assert_true(constant.gap_cv < 1e-6);
    const qr_description poisson = describe(ARRIVALS("poisson", "1"), 0);
    assert_near(poisson.rate, 4, 0.03);
    assert_near(poisson.gap_cv, 1, 0.03);
    const qr_description gamma = describe(ARRIVALS("gamma", "0.25"), 0);
    assert_near(gamma.rate, 4, 0.05);
    assert_near(gamma.burstiness, 0.25, 0.06);
    const qr_description weibull = describe(ARRIVALS("weibull", "2"), 0);
    assert_near(weibull.rate, 4, 0.03);
    assert_near(weibull.gap_cv, sqrt(tgamma(2) / (tgamma(1.5) * tgamma(1.5)) - 1), 0.03);
}

static void normalized_arrivals_end_at_count_over_rate(void **state)
{
    (void)state;
    static const char *const settings[] = {"load.profile=gamma",       "load.burstiness=0.1",
                                           "load.request_rate=5",      "load.normalize_arrivals=true",
                                           "workload.num_prompts=200", NULL};
    quire_config            *config     = configuration(settings);
    qr_workload             *workload   = create(config, 0);
    qr_workload_request      request;
    for (int i = 0; i < 200; i++) qr_workload_next(workload, &request);
    assert_near((double)request.due_ns, 40e9, 1e-6);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
}

static void a_ramp_grows_linearly_to_the_rate(void **state)
{
    (void)state;
    static const char *const settings[] = {"load.profile=constant", "load.request_rate=10", "load.rampup=20s",
                                           "workload.num_prompts=300", NULL};
    quire_config            *config     = configuration(settings);
    qr_workload             *workload   = create(config, 0);
    qr_workload_request      request;
    int                      early = 0, ramp = 0, later = 0;
    for (int i = 0; i < 300; i++) {
        qr_workload_next(workload, &request);
        early += request.due_ns < UINT64_C(10000000000);
        ramp += request.due_ns < UINT64_C(20000000000);
        later += request.due_ns >= UINT64_C(20000000000) && request.due_ns < UINT64_C(30000000000);
    }
    assert_in_range(early, 24, 26); /* a quarter of the 100 of the ramp's triangle */
    assert_in_range(ramp, 99, 101);
    assert_in_range(later, 99, 101);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
}

static void classes_and_tenants_have_their_shares(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "workload.num_prompts=20000", "workload.tenants={count=4, zipf_s=1}",
        "workload.mix=[{name=\"chat\", weight=3, prompt_tokens={dist=\"fixed\", value=10}, output_tokens=1}, "
        "{name=\"code\", weight=1, prompt_tokens={dist=\"fixed\", value=100}, output_tokens=1, priority=5}]",
        NULL};
    const qr_description d = describe(settings, 0);
    assert_int_equal(d.classes, 2);
    assert_near(d.class_share[0], 0.75, 0.02);
    assert_near(d.prompt.mean, 0.75 * 10 + 0.25 * 100, 0.03);
    assert_int_equal(d.tenants, 4);
    assert_near(d.largest_tenant, 1 / (1 + 1 / 2.0 + 1 / 3.0 + 1 / 4.0), 0.02);
}

static void lengths_follow_an_empirical_column(void **state)
{
    (void)state;
    char        path[64], prompt[160];
    const char *settings[] = {"workload.num_prompts=8000", prompt, NULL};
    scratch_file_write("a,lengths\n1,10\n2,10\n3,10\n4,50\n", path);
    snprintf(prompt, sizeof prompt, "workload.prompt_tokens={dist=\"empirical\", file=\"%s\", column=\"lengths\"}",
             path);
    const qr_description d = describe(settings, 0);
    unlink(path);
    assert_near(d.prompt.mean, 20, 0.05);
    assert_near(d.prompt.min, 10, 0);
    assert_near(d.prompt.max, 50, 0);
}

static void shared_prefixes_are_what_an_unlimited_cache_finds(void **state)
{
    (void)state;
    static const char *const settings[] = {"workload.num_prompts=1000", "workload.prompt_tokens=128",
                                           "workload.prefix={groups=10, tokens=64, zipf_s=0}", NULL};
    const qr_description     d          = describe(settings, 0);
    assert_near(d.reuse, 0.5 * (1 - 10 / 1000.0), 1e-9); /* all but the first of each group find half of the prompt */
    assert_int_equal(d.blocks, 10 * 2 + 1000 * 2);
}

static void the_reuse_of_a_trace_is_that_of_its_hash_ids(void **state)
{
    (void)state;
    char        path[64], setting[128];
    const char *settings[] = {setting, "workload.source=trace", NULL};
    scratch_file_write("{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
                       "{\"timestamp\": 0, \"input_length\": 1000, \"output_length\": 1, \"hash_ids\": [1, 3]}\n"
                       "{\"timestamp\": 9, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n",
                       path);
    snprintf(setting, sizeof setting, "workload.trace.path=%s", path);
    const qr_description d = describe(settings, 0);
    unlink(path);
    assert_int_equal(d.hash_blocks, 6);
    assert_int_equal(d.hash_unique, 3);
    assert_int_equal(d.hash_block, 512);
    assert_near(d.reuse, (512 + 1023) / (1024 + 1000 + 1024.0), 1e-9); /* the last token is computed again */
}

static void encoder_inputs_repeat_as_often_as_asked(void **state)
{
    (void)state;
    static const char *const settings[] = {"workload.num_prompts=10000", "workload.encoder_repeat=0.4",
                                           "workload.encoder_tokens={dist=\"uniform\", min=5, max=60}", NULL};
    const qr_description     d          = describe(settings, 6);
    assert_near(d.encoder_reuse, 0.4, 0.05);
    assert_near(d.encoder.mean, 32.5, 0.05);
    assert_near(d.prompt.max, 1, 0);
}

/* ---- a written workload is the same one ---- */

/* `shift`: the time of the first request of `a`, which is time 0 of `b`; in and out. */
static void assert_same_request(qr_workload *a, qr_workload *b, uint64_t *shift)
{
    qr_workload_request x, y;
    quire_request       p, q;
    int32_t             left[4096], right[4096];
    qr_workload_next(a, &x);
    qr_workload_next(b, &y);
    qr_workload_fill(a, &x, &p);
    qr_workload_fill(b, &y, &q);
    if (x.number == 0) *shift = x.due_ns;
    assert_int_equal(x.due_ns - *shift, y.due_ns);
    assert_int_equal(p.prompt_count, q.prompt_count);
    assert_int_equal(p.encoder_count, q.encoder_count);
    assert_int_equal(p.max_tokens, q.max_tokens);
    assert_int_equal(p.priority, q.priority);
    assert_int_equal(p.sampling.seed, q.sampling.seed);
    assert_string_equal(p.tenant, q.tenant);
    assert_int_equal(x.mix, y.mix);
    qr_workload_prompt(a, &x, left);
    qr_workload_prompt(b, &y, right);
    assert_memory_equal(left, right, x.prompt_tokens * sizeof *left);
    qr_workload_encoder(a, &x, left);
    qr_workload_encoder(b, &y, right);
    assert_memory_equal(left, right, x.encoder_tokens * sizeof *left);
}

static void assert_written_is_read(const char *const *settings, uint32_t encoder_layers)
{
    char          path[64], setting[128];
    const char   *replay[] = {setting, "workload.source=trace", "load.profile=replay", NULL};
    quire_config *config   = configuration(settings);
    qr_workload  *drawn    = create(config, encoder_layers);
    quire_error   error    = {0};
    uint64_t      shift    = 0;
    scratch_file_write("", path);
    FILE *file = fopen(path, "w");
    assert_int_equal(qr_workload_write(drawn, 0, file, &error), QUIRE_OK);
    fclose(file);
    qr_workload_destroy(drawn);
    snprintf(setting, sizeof setting, "workload.trace.path=%s", path);
    quire_config *again = configuration(replay);
    qr_workload  *read  = create(again, encoder_layers);
    drawn               = create(config, encoder_layers);
    assert_int_equal(qr_workload_count(read), qr_workload_count(drawn));
    for (uint32_t i = 0; i < qr_workload_count(read); i++) assert_same_request(drawn, read, &shift);
    qr_workload_destroy(drawn);
    qr_workload_destroy(read);
    quire_config_destroy(config);
    quire_config_destroy(again);
    unlink(path);
}

static void a_written_workload_is_read_as_the_same(void **state)
{
    (void)state;
    assert_written_is_read(
        (const char *const[]){"workload.num_prompts=300", "load.profile=poisson", "load.request_rate=7",
                              "workload.prefix={groups=5, tokens=70, zipf_s=1}", "workload.tenants={count=3, zipf_s=1}",
                              "workload.mix=[{weight=1, prompt_tokens={dist=\"lognormal\", mean=100, stdev=90}}, "
                              "{weight=2, prompt_tokens=40, priority=-3}]",
                              NULL},
        0);
    assert_written_is_read((const char *const[]){"workload.num_prompts=300", "load.profile=gamma",
                                                 "workload.encoder_repeat=0.5",
                                                 "workload.encoder_tokens={dist=\"uniform\", min=1, max=99}", NULL},
                           4);
}

static void a_trace_gives_its_prompts_to_the_encoder_of_a_model_that_has_one(void **state)
{
    (void)state;
    char                path[64], setting[128];
    const char         *settings[] = {setting, "workload.source=trace", NULL};
    qr_workload_request request;
    scratch_file_write("TIMESTAMP,ContextTokens,GeneratedTokens\n1,374,44\n", path);
    snprintf(setting, sizeof setting, "workload.trace.path=%s", path);
    quire_config *config   = configuration(settings);
    qr_workload  *workload = create(config, 6);
    qr_workload_next(workload, &request);
    assert_int_equal(request.encoder_tokens, 374);
    assert_int_equal(request.prompt_tokens, 1);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
    unlink(path);
}

static void an_endless_closed_loop_is_not_described(void **state)
{
    (void)state;
    static const char *const settings[] = {"load.profile=concurrent", "workload.num_prompts=0", "run.duration=5s",
                                           NULL};
    quire_config            *config     = configuration(settings);
    qr_workload             *workload   = create(config, 0);
    qr_description           d;
    quire_error              error;
    assert_int_equal(qr_describe(workload, 32, 5000000000, &d, &error), QUIRE_ERR_INVALID);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
}

static void arrivals_beyond_ten_years_are_refused(void **state)
{
    (void)state;
    static const char *const settings[] = {"load.profile=poisson", "load.request_rate=1e-300", "workload.num_prompts=2",
                                           NULL};
    const quire_model_info   model      = {.size = sizeof model, .vocab_size = 10, .decoder_start_token_id = -1};
    quire_config            *config     = configuration(settings);
    qr_workload             *workload;
    quire_error              error = {0};
    assert_int_equal(qr_workload_create(config, &model, 4096, 42, &workload, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "the last of 2 is due after more than ten years"));
    quire_config_destroy(config);
}

static void a_peek_shows_what_comes_and_draws_nothing(void **state)
{
    (void)state;
    quire_config *config = configuration(
        (const char *const[]){"workload.num_prompts=50", "workload.prompt_tokens={dist=\"uniform\",min=1,max=6000}",
                              "load.profile=poisson", NULL});
    qr_workload *workload = create(config, 0);
    for (uint32_t i = 0; i < 50; i++) {
        qr_workload_request seen, drawn;
        qr_workload_peek(workload, i, &seen);
        const uint32_t shortened = qr_workload_shortened(workload);
        qr_workload_peek(workload, 49 - i, &drawn);
        assert_int_equal(qr_workload_shortened(workload), shortened);
        qr_workload_next(workload, &drawn);
        assert_int_equal(seen.number, i);
        assert_int_equal(seen.prompt_tokens, drawn.prompt_tokens);
        assert_int_equal(seen.output_tokens, drawn.output_tokens);
        assert_int_equal(seen.content_key, drawn.content_key);
    }
    assert_true(qr_workload_shortened(workload) > 0);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrivals_beyond_ten_years_are_refused),
        cmocka_unit_test(a_peek_shows_what_comes_and_draws_nothing),
        cmocka_unit_test(arrivals_have_the_rate_and_burstiness_asked_for),
        cmocka_unit_test(normalized_arrivals_end_at_count_over_rate),
        cmocka_unit_test(a_ramp_grows_linearly_to_the_rate),
        cmocka_unit_test(classes_and_tenants_have_their_shares),
        cmocka_unit_test(lengths_follow_an_empirical_column),
        cmocka_unit_test(shared_prefixes_are_what_an_unlimited_cache_finds),
        cmocka_unit_test(the_reuse_of_a_trace_is_that_of_its_hash_ids),
        cmocka_unit_test(encoder_inputs_repeat_as_often_as_asked),
        cmocka_unit_test(a_written_workload_is_read_as_the_same),
        cmocka_unit_test(a_trace_gives_its_prompts_to_the_encoder_of_a_model_that_has_one),
        cmocka_unit_test(an_endless_closed_loop_is_not_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
