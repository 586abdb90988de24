/* Ranges, defaults and joint rules of the engine's options, and structs of other versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/options.h"

static const qr_model_facts llama = {.vocab_size = 100, .max_position_embeddings = 2048, .decoder_start_token_id = -1};
static const qr_model_facts t5    = {.vocab_size = 100, .encoder_decoder = true};

static quire_status resolve(quire_engine_options *options, quire_error *error)
{
    *error = (quire_error){0};
    return qr_options_resolve(options, &llama, error);
}

static void zero_becomes_every_default(void **state)
{
    (void)state;
    quire_engine_options options = {.size = sizeof options};
    quire_error          error;
    qr_scheduler_options s;
    assert_int_equal(resolve(&options, &error), QUIRE_OK);
    qr_options_scheduler(&options, &llama, &s);
    assert_int_equal(s.max_model_len, 2048);
    assert_int_equal(s.max_num_seqs, 64);
    assert_int_equal(s.max_num_batched_tokens, 512);
    assert_int_equal(s.max_num_encoder_input_tokens, 512);
    assert_int_equal(s.long_prefill_token_threshold, 256);
    assert_int_equal(s.max_num_partial_prefills, 1);
    assert_int_equal(s.max_long_partial_prefills, 1);
    assert_int_equal(s.max_head_passes, 8);
    assert_int_equal(s.max_num_queued_reqs, 1024);
    assert_int_equal(s.max_num_queued_tokens, 1 << 20);
    assert_int_equal(s.max_num_tenants, 64);
    assert_int_equal(s.block_size, 32);
    assert_true(s.priority_ageing_ns == 10000000000u);
    assert_true(s.watermark == 0.05f);
    assert_true(s.enable_chunked_prefill && s.scheduler_reserve_full_isl && s.tenant_fairness && s.extents &&
                s.enable_prefix_caching && s.enable_cross_sharing);
    assert_int_equal(options.kv_dtype, QUIRE_DTYPE_BF16);
    assert_true(options.memory_fraction == 0.5f);
    assert_int_equal(options.consumer_timeout_ns, 30000000000);
    assert_int_equal(options.barrier_spin_ns, 20000);
}

static void the_words_for_none_are_understood(void **state)
{
    (void)state;
    quire_engine_options options = {.priority_ageing_ns           = QUIRE_FOREVER,
                                    .max_head_passes              = QUIRE_DISABLED,
                                    .watermark                    = QUIRE_NO_WATERMARK,
                                    .long_prefill_token_threshold = QUIRE_UNLIMITED,
                                    .enable_prefix_caching        = QUIRE_TOGGLE_OFF};
    quire_error          error;
    qr_scheduler_options s;
    assert_int_equal(resolve(&options, &error), QUIRE_OK);
    qr_options_scheduler(&options, &llama, &s);
    assert_int_equal(s.priority_ageing_ns, 0);
    assert_int_equal(s.max_head_passes, 0);
    assert_int_equal(s.long_prefill_token_threshold, 0);
    assert_true(s.watermark == 0);
    assert_false(s.enable_prefix_caching);
}

static void a_message_names_option_value_and_range(void **state)
{
    (void)state;
    quire_engine_options options = {.max_num_seqs = 5000};
    quire_error          error;
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[scheduler] max_num_seqs: 5000 is above the maximum 4096");
}

static void options_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    quire_error          error;
    quire_engine_options fewer_rows = {.max_num_seqs = 64, .max_num_batched_tokens = 63};
    assert_int_equal(resolve(&fewer_rows, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[scheduler] max_num_batched_tokens: 63 is below [scheduler] max_num_seqs = 64");

    quire_engine_options whole = {.enable_chunked_prefill = QUIRE_TOGGLE_OFF, .max_num_batched_tokens = 2047};
    assert_int_equal(resolve(&whole, &error), QUIRE_ERR_INVALID);
    whole.max_num_batched_tokens = 2048;
    assert_int_equal(resolve(&whole, &error), QUIRE_OK);
    quire_engine_options whole_by_default = {.enable_chunked_prefill = QUIRE_TOGGLE_OFF};
    assert_int_equal(resolve(&whole_by_default, &error), QUIRE_OK);
    assert_int_equal(whole_by_default.max_num_batched_tokens, 2048);

    quire_engine_options two_sizes = {.num_kv_blocks = 5, .kv_cache_bytes = 1 << 20};
    assert_int_equal(resolve(&two_sizes, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "at most one"));

    quire_engine_options long_prefills = {.max_long_partial_prefills = 2};
    assert_int_equal(resolve(&long_prefills, &error), QUIRE_ERR_INVALID);

    quire_engine_options odd_block = {.block_size = 96};
    assert_int_equal(resolve(&odd_block, &error), QUIRE_ERR_INVALID);

    quire_engine_options isa = {.isa = "sse9"};
    assert_int_equal(resolve(&isa, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "sse9"));
}

static void a_model_without_a_limit_gets_one_that_the_option_may_raise(void **state)
{
    (void)state;
    quire_engine_options options = {.size = sizeof options}, longer = {.max_model_len = 100000};
    assert_int_equal(qr_options_resolve(&options, &t5, NULL), QUIRE_OK);
    assert_int_equal(options.max_model_len, 512);
    assert_int_equal(qr_options_resolve(&longer, &t5, NULL), QUIRE_OK);
    assert_int_equal(longer.max_model_len, 100000);
    quire_engine_options too_long = {.max_model_len = 1048577};
    assert_int_equal(qr_options_resolve(&too_long, &t5, NULL), QUIRE_ERR_INVALID);
}

static void tenants_are_checked_one_by_one(void **state)
{
    (void)state;
    quire_error          error;
    quire_tenant_options good[2] = {{.size = sizeof *good, .name = "a", .weight = 1000},
                                    {.size = sizeof *good, .name = "b", .max_kv_fraction = 0.01f}};
    quire_engine_options options = {.tenants = good, .tenant_count = 2};
    assert_int_equal(resolve(&options, &error), QUIRE_OK);
    good[1].name = "a";
    options      = (quire_engine_options){.tenants = good, .tenant_count = 2};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[[tenant]] a: name appears twice");
    good[1] = (quire_tenant_options){.size = sizeof *good, .name = "b", .weight = 1001};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    good[1] = (quire_tenant_options){.size = sizeof *good, .name = "b", .weight = 0.5f};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    good[1] = (quire_tenant_options){.size = sizeof *good, .name = "b", .weight = NAN};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    good[1] = (quire_tenant_options){.size = sizeof *good, .name = "b", .max_kv_fraction = 1.1f};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    good[1] = (quire_tenant_options){.size = sizeof *good, .name = NULL};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    options = (quire_engine_options){.tenant_count = 1};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
}

/* ---- structs of other versions ---- */

static void tenants_of_a_newer_program_are_found_by_their_own_size(void **state)
{
    (void)state;
    struct {
        quire_tenant_options known;
        uint64_t             unknown;
    } newer[2] = {{{.size = sizeof *newer, .name = "a", .weight = 3}, 0},
                  {{.size = sizeof *newer, .name = "b", .weight = 2000}, 0}};
    quire_error          error;
    qr_scheduler_options s;
    quire_engine_options options = {.tenants = &newer[0].known, .tenant_count = 2};
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[[tenant]] b: weight: 2000 is above the maximum 1000");
    newer[1].known.weight = 2;
    assert_int_equal(resolve(&options, &error), QUIRE_OK);
    qr_options_scheduler(&options, &llama, &s);
    assert_int_equal(s.tenant_stride, sizeof *newer);
    newer[1].unknown = 1;
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
    newer[1].unknown = 0, newer[0].known.size = 0;
    assert_int_equal(resolve(&options, &error), QUIRE_ERR_INVALID);
}

typedef struct newer_options {
    quire_engine_options known;
    uint64_t             unknown;
} newer_options;

static quire_status copy(const void *from, quire_engine_options *to, quire_error *error)
{
    return qr_options_copy("quire_engine_options", from, sizeof(size_t), to, sizeof *to, error);
}

static void an_older_shorter_struct_is_completed_with_zeros(void **state)
{
    (void)state;
    quire_engine_options from = {.max_num_seqs = 3, .block_size = 64}, to;
    memset(&to, 0xff, sizeof to);
    from.size = offsetof(quire_engine_options, max_num_batched_tokens);
    assert_int_equal(copy(&from, &to, NULL), QUIRE_OK);
    assert_int_equal(to.max_num_seqs, 3);
    assert_int_equal(to.block_size, 0);
    assert_int_equal(to.size, sizeof to);
}

static void a_newer_longer_struct_is_accepted_while_its_tail_is_zero(void **state)
{
    (void)state;
    newer_options        from = {.known = {.size = sizeof from, .max_num_seqs = 3}};
    quire_engine_options to;
    quire_error          error;
    assert_int_equal(copy(&from, &to, NULL), QUIRE_OK);
    assert_int_equal(to.max_num_seqs, 3);
    from.unknown = 1;
    assert_int_equal(copy(&from, &to, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "quire_engine_options: size"));
}

static void a_size_that_was_never_set_is_refused(void **state)
{
    (void)state;
    quire_engine_options from = {.size = 0}, to;
    assert_int_equal(copy(&from, &to, NULL), QUIRE_ERR_INVALID);
    from.size = 7;
    assert_int_equal(copy(&from, &to, NULL), QUIRE_ERR_INVALID);
    from.size = SIZE_MAX;
    assert_int_equal(copy(&from, &to, NULL), QUIRE_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_becomes_every_default),
        cmocka_unit_test(the_words_for_none_are_understood),
        cmocka_unit_test(a_message_names_option_value_and_range),
        cmocka_unit_test(options_that_contradict_each_other_are_refused),
        cmocka_unit_test(a_model_without_a_limit_gets_one_that_the_option_may_raise),
        cmocka_unit_test(tenants_are_checked_one_by_one),
        cmocka_unit_test(tenants_of_a_newer_program_are_found_by_their_own_size),
        cmocka_unit_test(an_older_shorter_struct_is_completed_with_zeros),
        cmocka_unit_test(a_newer_longer_struct_is_accepted_while_its_tail_is_zero),
        cmocka_unit_test(a_size_that_was_never_set_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
