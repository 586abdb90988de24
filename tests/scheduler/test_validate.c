/* Every field of a request at {min - 1, min, max, max + 1}; ids; combinations; feasibility and its message. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static int32_t              prompt[200];
static qr_scheduler_options options;

static quire_request valid(void)
{
    quire_request request = driver_request_of(8);
    request.prompt        = prompt;
    request.prompt_count  = 10;
    return request;
}

static quire_status check(const quire_request *request, quire_error *error)
{
    *error = (quire_error){0};
    return qr_request_resolve(&options, request, &(quire_request){0}, error);
}

static void assert_refused_as(quire_status status, const quire_request *request, const char *field)
{
    quire_error error;
    assert_int_equal(check(request, &error), status);
    if (strncmp(error.message, field, strlen(field)) != 0) fail_msg("\"%s\" does not name %s", error.message, field);
}

static void assert_refused(const quire_request *request, const char *field)
{
    assert_refused_as(QUIRE_ERR_INVALID, request, field);
}

static void assert_accepted(const quire_request *request)
{
    quire_error error;
    if (check(request, &error) != QUIRE_OK) fail_msg("refused: %s", error.message);
}

#define BOUNDS(field, name, minimum, maximum)                                                                          \
    do {                                                                                                               \
        quire_request r_ = valid();                                                                                    \
        r_.field         = minimum;                                                                                    \
        assert_accepted(&r_);                                                                                          \
        r_.field = maximum;                                                                                            \
        assert_accepted(&r_);                                                                                          \
        r_.field = maximum + 1;                                                                                        \
        assert_refused(&r_, name);                                                                                     \
    } while (0)
#define BOUNDS_FLOAT(field, name, minimum, maximum)                                                                    \
    do {                                                                                                               \
        quire_request r_ = valid();                                                                                    \
        r_.field         = minimum;                                                                                    \
        assert_accepted(&r_);                                                                                          \
        r_.field = maximum;                                                                                            \
        assert_accepted(&r_);                                                                                          \
        const float bad_[] = {nextafterf(minimum, -1e9f), nextafterf(maximum, 1e9f), NAN, INFINITY, -INFINITY};        \
        for (int i_ = 0; i_ < 5; i_++) {                                                                               \
            r_.field = bad_[i_];                                                                                       \
            assert_refused(&r_, name);                                                                                 \
        }                                                                                                              \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    options                     = driver_options(100, 4);
    options.max_num_seqs        = 8;
    options.max_num_queued_reqs = 64;
    return 0;
}

static void numbers_are_accepted_up_to_their_bounds(void **state)
{
    (void)state;
    BOUNDS(n, "n", 0, 8);
    BOUNDS(priority, "priority", -1000, 1000);
    BOUNDS(logprobs, "logprobs", 0, 20);
    BOUNDS(logits, "logits", 0, 7);
    BOUNDS(queue_timeout_ns, "queue_timeout_ns", 0, 86400000000000u);
    BOUNDS(timeout_ns, "timeout_ns", 0, 86400000000000u);
    BOUNDS_FLOAT(sampling.temperature, "temperature", 0, 100);
    BOUNDS_FLOAT(sampling.top_p, "top_p", 0, 1);
    BOUNDS_FLOAT(sampling.min_p, "min_p", 0, 1);
    BOUNDS_FLOAT(sampling.repetition_penalty, "repetition_penalty", 0.01f, 100);
    BOUNDS_FLOAT(sampling.presence_penalty, "presence_penalty", -2, 2);
    BOUNDS_FLOAT(sampling.frequency_penalty, "frequency_penalty", -2, 2);
    BOUNDS_FLOAT(length_penalty, "length_penalty", -1000, 1000);
    quire_request r = valid();
    r.priority      = -1001;
    assert_refused(&r, "priority");
    r                = valid();
    r.early_stopping = (quire_early_stopping)3;
    assert_refused(&r, "early_stopping");
}

static void a_top_k_beyond_the_vocabulary_is_off(void **state)
{
    (void)state;
    quire_request r  = valid();
    r.sampling.top_k = options.vocab_size + 1;
    assert_accepted(&r);
    r.sampling.top_k = UINT32_MAX;
    assert_accepted(&r);
}

static void a_refused_timeout_is_shown_with_all_its_digits(void **state)
{
    (void)state;
    quire_error   error;
    quire_request r = valid();
    r.timeout_ns    = 86400000000001u;
    assert_int_equal(check(&r, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "timeout_ns: 86400000000001 is not in 0..86400000000000 (24 hours)");
}

static void assert_message(const quire_request *request, const char *message)
{
    quire_error error;
    assert_int_equal(check(request, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, message);
}

static void a_refused_number_is_shown_as_it_was_written(void **state)
{
    (void)state;
    quire_request r  = valid();
    r.sampling.top_p = 1.1f;
    assert_message(&r, "top_p: 1.1 is not in 0..1");
    r.sampling.top_p = 1.0000001f; /* six digits would show 1 */
    assert_message(&r, "top_p: 1.0000001 is not in 0..1");
    r.sampling.top_p = NAN;
    assert_message(&r, "top_p: nan is not in 0..1");
    r                             = valid();
    r.sampling.repetition_penalty = 0.005f;
    assert_message(&r, "repetition_penalty: 0.005 is not in 0.01..100");
    r                  = valid();
    r.logit_bias_count = UINT32_MAX; /* a float has not all of its digits */
    assert_message(&r, "logit_bias_count: 4294967295 is not in 0..300");
}

static void reserved_fields_are_0(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof valid().sampling.reserved / sizeof(uint32_t); i++) {
        quire_request request        = valid();
        request.sampling.reserved[i] = 1;
        assert_refused(&request, "sampling.reserved");
    }
}

static void lengths_depend_on_each_other(void **state)
{
    (void)state;
    quire_request r = valid();
    r.prompt_count  = 0;
    assert_refused(&r, "prompt: 0 tokens; this model needs 1 to 127 (max_model_len 128 - 1)");
    r.prompt_count = 127, r.max_tokens = 1;
    assert_accepted(&r);
    r.prompt_count = 128;
    assert_refused_as(QUIRE_ERR_TOO_LONG, &r, "prompt: 128 tokens; this model needs 1 to 127");
    r            = valid();
    r.max_tokens = 118;
    assert_accepted(&r);
    r.max_tokens = 119;
    assert_refused(&r, "max_tokens");
    r            = valid();
    r.min_tokens = 8;
    assert_accepted(&r);
    r.min_tokens = 9;
    assert_refused(&r, "min_tokens");
    r            = valid();
    r.max_tokens = 0;
    assert_accepted(&r);
    r.size = 0;
    assert_refused(&r, "quire_request: size");
}

static void ids_lie_in_the_vocabulary(void **state)
{
    (void)state;
    const int32_t bad[] = {-1, 1000, INT32_MIN, INT32_MAX}, good[] = {0, 999};
    quire_request r = valid();
    r.stop = r.allowed = good, r.stop_count = r.allowed_count = 2;
    assert_accepted(&r);
    r        = valid();
    r.banned = good, r.banned_count = 2;
    assert_accepted(&r);
    for (uint32_t i = 0; i < 4; i++) {
        r = valid(), r.prompt = &bad[i], r.prompt_count = 1;
        assert_refused(&r, "prompt[0]");
        r = valid(), r.stop = &bad[i], r.stop_count = 1;
        assert_refused(&r, "stop[0]");
        r = valid(), r.allowed = &bad[i], r.allowed_count = 1;
        assert_refused(&r, "allowed[0]");
        r = valid(), r.banned = &bad[i], r.banned_count = 1;
        assert_refused(&r, "banned[0]");
        r = valid(), r.first_banned = &bad[i], r.first_banned_count = 1;
        assert_refused(&r, "first_banned[0]");
        r = valid(), r.first_allowed = &bad[i], r.first_allowed_count = 1;
        assert_refused(&r, "first_allowed[0]");
        r = valid(), r.last_allowed = &bad[i], r.last_allowed_count = 1;
        assert_refused(&r, "last_allowed[0]");
        const quire_logit_bias bias = {bad[i], 1};
        r = valid(), r.logit_bias = &bias, r.logit_bias_count = 1;
        assert_refused(&r, "logit_bias");
    }
    const quire_logit_bias biases[] = {{1, 100}, {2, -100}, {3, 101}, {4, NAN}};
    r = valid(), r.logit_bias = biases, r.logit_bias_count = 2;
    assert_accepted(&r);
    r.logit_bias_count = 3;
    assert_refused(&r, "logit_bias[2]");
    r.logit_bias = &biases[3], r.logit_bias_count = 1;
    assert_refused(&r, "logit_bias[0]");
    r = valid(), r.prompt = NULL;
    assert_refused(&r, "prompt is NULL but");
}

static void lists_have_at_most_so_many_elements(void **state)
{
    (void)state;
    static int32_t          ids[1025], others[1025];
    static quire_logit_bias biases[301];
    quire_request           r = valid();
    for (uint32_t i = 0; i < 1025; i++) others[i] = 1;
    r.stop = ids, r.stop_count = 64, r.allowed = ids, r.allowed_count = 1024, r.banned = others, r.banned_count = 1024;
    r.logit_bias = biases, r.logit_bias_count = 300;
    assert_accepted(&r);
    r.stop_count = 65;
    assert_refused(&r, "stop_count");
    r.stop_count = 64, r.allowed_count = 1025;
    assert_refused(&r, "allowed_count");
    r.allowed_count = 1024, r.banned_count = 1025;
    assert_refused(&r, "banned_count");
    r.banned_count = 1024, r.logit_bias_count = 301;
    assert_refused(&r, "logit_bias_count");
    r = valid(), r.first_banned = r.first_allowed = r.last_allowed = ids;
    r.first_banned_count = r.first_allowed_count = r.last_allowed_count = 64;
    assert_accepted(&r);
    r.first_banned_count = 65;
    assert_refused(&r, "first_banned_count");
    r.first_banned_count = 64, r.first_allowed_count = 65;
    assert_refused(&r, "first_allowed_count");
    r.first_allowed_count = 64, r.last_allowed_count = 65;
    assert_refused(&r, "last_allowed_count");
}

static void names_have_at_most_so_many_bytes(void **state)
{
    (void)state;
    char text[70];
    memset(text, 'x', sizeof text);
    quire_request r = valid();
    text[64]        = 0;
    r.tenant        = text;
    assert_accepted(&r);
    text[64] = 'x', text[65] = 0;
    assert_refused(&r, "tenant");
    r            = valid();
    text[16]     = 0;
    r.cache_salt = text;
    assert_accepted(&r);
    text[16] = 'x', text[17] = 0;
    assert_refused(&r, "cache_salt");
}

static void at_least_one_token_must_be_left_to_choose(void **state)
{
    (void)state;
    const int32_t few[] = {5, 6}, more[] = {7, 6, 5};
    quire_request r = valid();
    r.allowed = few, r.allowed_count = 2;
    r.banned = more, r.banned_count = 3;
    assert_refused(&r, "allowed: every id is also in banned");
    r.banned_count = 2;
    assert_accepted(&r);
    r.first_banned = few, r.first_banned_count = 1;
    assert_refused(&r, "allowed: every id is also in banned");
    r.first_allowed = few, r.first_allowed_count = 1;
    assert_accepted(&r);
    r.first_banned_count = r.first_allowed_count = 0;
    r.banned_count = 0, r.stop = few, r.stop_count = 2;
    assert_accepted(&r);
    r.min_tokens = 1;
    assert_refused(&r, "allowed: every id is banned, or ends the sequence before min_tokens");

    int32_t all[1001];
    for (int32_t i = 0; i < 1001; i++) all[i] = i % 1000;
    r        = valid();
    r.banned = all, r.banned_count = 1001;
    assert_refused(&r, "banned: contains every id of the vocabulary");
    all[500] = 0;
    assert_accepted(&r);
}

static void more_sequences_than_can_run_name_the_key(void **state)
{
    (void)state;
    quire_error   error;
    quire_request r = valid();
    r.beam_width    = 9;
    assert_int_equal(check(&r, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "scheduler.max_num_seqs"));
    r   = valid();
    r.n = 9;
    assert_int_equal(check(&r, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "scheduler.max_num_seqs"));
}

static void encoder_input_belongs_to_encoder_decoder_models(void **state)
{
    (void)state;
    quire_request r = valid();
    r.encoder_input = prompt, r.encoder_count = 1;
    assert_refused(&r, "encoder_input: given, but this model has no encoder");
    options.encoder_decoder = true;
    assert_accepted(&r);
    r.encoder_count = 32;
    assert_accepted(&r);
    r.encoder_count = 33;
    assert_refused_as(QUIRE_ERR_TOO_LONG, &r, "encoder_input: 33 tokens; this model needs 1 to 32 tokens");
    r.encoder_count = 0;
    assert_refused(&r, "encoder_input: missing; this model needs 1 to 32 tokens "
                       "(scheduler.max_num_encoder_input_tokens)");
    options.max_encoder_positions = 16;
    r.encoder_count               = 17;
    assert_refused_as(QUIRE_ERR_TOO_LONG, &r,
                      "encoder_input: 17 tokens; this model needs 1 to 16 tokens (the model's own limit)");
    options.max_encoder_positions = 0;
    const int32_t bad             = 1000;
    r.encoder_count = 1, r.encoder_input = &bad;
    assert_refused(&r, "encoder_input[0]");
    r.encoder_input = prompt, r.prompt = NULL, r.prompt_count = 0; /* the decoder's start token */
    assert_accepted(&r);
}

static void features_belong_to_models_that_read_them(void **state)
{
    (void)state;
    static float  features[65 * 4];
    quire_request r    = valid();
    r.encoder_features = features, r.encoder_frames = 3;
    assert_refused(&r, "encoder_features: given, but this model has no encoder");
    options.encoder_decoder = true;
    assert_refused(&r, "encoder_features: given, but this model reads encoder_input");
    options.encoder_feature_size = 4;
    quire_request resolved;
    assert_int_equal(qr_request_resolve(&options, &r, &resolved, NULL), QUIRE_OK);
    assert_int_equal(resolved.encoder_count, 2);
    r.encoder_frames = 64;
    assert_accepted(&r);
    r.encoder_frames = 65;
    assert_refused_as(QUIRE_ERR_TOO_LONG, &r, "encoder_features: 65 frames; this model needs 1 to 64 frames");
    r.encoder_frames = 0;
    assert_refused(&r, "encoder_features: missing");
    r.encoder_frames = 3, features[6] = NAN;
    assert_refused(&r, "encoder_features[1][2]: nan is not finite");
    features[6] = 0, r.encoder_features = NULL;
    assert_refused(&r, "encoder_features is NULL but 3 frames are given");
    r.encoder_features = features, r.encoder_input = prompt, r.encoder_count = 1;
    assert_refused(&r, "encoder_input: given, but this model reads encoder_features");
}

static void the_top_of_a_prompt_needs_its_log_probabilities(void **state)
{
    (void)state;
    quire_request r       = valid();
    r.prompt_top_logprobs = 3;
    assert_refused(&r, "prompt_top_logprobs: 3 is not in 0..0; it needs prompt_logprobs");
    r.prompt_logprobs = true;
    assert_accepted(&r);
    r.prompt_top_logprobs = 21;
    assert_refused(&r, "prompt_top_logprobs: 21 is not in 0..20");
}

static void beams_exclude_what_they_cannot_do(void **state)
{
    (void)state;
    quire_request r = valid();
    r.beam_width = 8, r.n = 8;
    assert_accepted(&r);
    r.beam_width = 9;
    assert_refused(&r, "beam_width");
    r.beam_width = 7;
    assert_refused(&r, "n:");
    r.n = 7, r.sampling.temperature = 1;
    assert_refused(&r, "temperature");
    r.sampling.temperature = 0, r.logprobs = 1;
    assert_refused(&r, "logprobs");
    r.logprobs = 0, r.logits = 1;
    assert_refused(&r, "logits");
}

static void what_could_never_fit_is_refused_with_the_missing_blocks(void **state)
{
    (void)state;
    quire_error   error;
    quire_request r    = valid();
    options.num_blocks = 10;
    r.prompt_count = 30, r.max_tokens = 11; /* 40 positions: 10 blocks */
    assert_accepted(&r);
    r.max_tokens = 12;
    assert_int_equal(check(&r, &error), QUIRE_ERR_TOO_LONG);
    assert_string_equal(error.message, "needs 11 blocks (prompt 30 + max_tokens 12, block_size 4), the pool has 10: "
                                       "1 missing; max_tokens <= 11 would fit");
    r.prompt_count = 60, r.max_tokens = 0;
    assert_int_equal(check(&r, &error), QUIRE_ERR_TOO_LONG);
    assert_non_null(strstr(error.message, "no max_tokens would fit"));
    r.prompt_count = 30; /* 0: what fits */
    assert_accepted(&r);
    r = valid(), r.beam_width = 4, r.max_tokens = 1;
    assert_int_equal(check(&r, &error), QUIRE_ERR_TOO_LONG); /* 4 * 3 */
    r.beam_width = 3;
    assert_accepted(&r);
}

static void windows_and_promises_change_what_is_needed(void **state)
{
    (void)state;
    quire_error   error;
    quire_request r    = valid();
    options.num_blocks = 4;
    r.prompt_count = 100, r.max_tokens = 20;
    assert_int_equal(check(&r, &error), QUIRE_ERR_TOO_LONG);
    options.window = 10; /* ceil(9 / 4) + 1 = 4 */
    assert_accepted(&r);
    options.num_blocks = 3;
    assert_int_equal(check(&r, &error), QUIRE_ERR_TOO_LONG);
    options.capacity_policy = QUIRE_CAPACITY_GUARANTEED_NO_EVICT; /* ceil((10 + 32 - 2) / 4) + 1 = 11, twice */
    options.num_blocks = 22, r.n = 2;
    assert_accepted(&r);
    options.num_blocks = 21;
    assert_int_equal(check(&r, &error), QUIRE_ERR_TOO_LONG);
    assert_non_null(strstr(error.message, "needs 22 blocks (prompt 100 + max_tokens 20, n 2, block_size 4)"));
    assert_int_equal(qr_scheduler_blocks_needed(&options, 100, 20, 9), 4 + 3);
}

static void local_blocks_below_what_windows_use_are_refused(void **state)
{
    (void)state;
    quire_error          error;
    qr_scheduler_options o = options;
    o.num_blocks = 1000, o.max_model_len = 400, o.max_num_seqs = 4, o.max_num_batched_tokens = 32, o.watermark = 0.01f;
    o.local_window = 10; /* of 4 sequences 3 + 2 blocks and 2 to spare, 8 of the rows, 1 % */
    assert_int_equal(qr_scheduler_local_blocks(&o), 4 * 7 + 8 + 10);
    o.num_local_blocks = 45;
    assert_int_equal(qr_scheduler_options_check(&o, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "num_local_blocks"));
    o.num_local_blocks = 46;
    assert_int_equal(qr_scheduler_options_check(&o, &error), QUIRE_OK);
}

static void options_out_of_range_are_named(void **state)
{
    (void)state;
    quire_error   error;
    qr_scheduler *scheduler;
    struct {
        const char *name;
        uint32_t   *field, value;
    } bad[] = {
        {"max_num_seqs", &options.max_num_seqs, 4097},
        {"max_num_batched_tokens", &options.max_num_batched_tokens, 7},
        {"max_model_len", &options.max_model_len, 1},
        {"long_prefill_token_threshold", &options.long_prefill_token_threshold, 33},
        {"max_num_partial_prefills", &options.max_num_partial_prefills, 9},
        {"max_long_partial_prefills", &options.max_long_partial_prefills, 2},
        {"max_head_passes", &options.max_head_passes, 1025},
        {"max_num_tenants", &options.max_num_tenants, 0},
        {"max_num_queued_reqs", &options.max_num_queued_reqs, 0},
        {"max_num_queued_tokens", &options.max_num_queued_tokens, 127},
    };
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const uint32_t good = *bad[i].field;
        *bad[i].field       = bad[i].value;
        assert_int_equal(qr_scheduler_create(&options, &scheduler, &error), QUIRE_ERR_INVALID);
        assert_null(scheduler);
        if (strncmp(error.message, bad[i].name, strlen(bad[i].name)) != 0)
            fail_msg("%s: %s", bad[i].name, error.message);
        *bad[i].field = good;
    }
    options.enable_chunked_prefill = false;
    assert_int_equal(qr_scheduler_create(&options, &scheduler, &error), QUIRE_ERR_INVALID);
    options.max_num_batched_tokens = 128;
    assert_int_equal(qr_scheduler_create(&options, &scheduler, &error), QUIRE_OK);
    qr_scheduler_destroy(scheduler);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        TEST(a_top_k_beyond_the_vocabulary_is_off),
        TEST(a_refused_timeout_is_shown_with_all_its_digits),
        TEST(a_refused_number_is_shown_as_it_was_written),
        TEST(numbers_are_accepted_up_to_their_bounds),
        TEST(reserved_fields_are_0),
        TEST(lengths_depend_on_each_other),
        TEST(ids_lie_in_the_vocabulary),
        TEST(lists_have_at_most_so_many_elements),
        TEST(names_have_at_most_so_many_bytes),
        TEST(at_least_one_token_must_be_left_to_choose),
        TEST(more_sequences_than_can_run_name_the_key),
        TEST(encoder_input_belongs_to_encoder_decoder_models),
        TEST(features_belong_to_models_that_read_them),
        TEST(the_top_of_a_prompt_needs_its_log_probabilities),
        TEST(beams_exclude_what_they_cannot_do),
        TEST(what_could_never_fit_is_refused_with_the_missing_blocks),
        TEST(windows_and_promises_change_what_is_needed),
        TEST(local_blocks_below_what_windows_use_are_refused),
        TEST(options_out_of_range_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
