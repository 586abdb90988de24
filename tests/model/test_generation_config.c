/* generation_config.json against the config.json beside it: who goes first, what is taken, what is only warned of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "model/generation_config.h"
#include "model/presets.h"
#include "support/kept_log.h"

static kept_log kept;

static quire_status parse(const char *preset, const char *text, qr_architecture *a, qr_generation *g,
                          quire_error *error)
{
    kept       = (kept_log){0};
    qr_log log = kept_log_init(&kept);
    assert_int_equal(qr_architecture_preset(preset, NULL, 0, a, NULL), QUIRE_OK);
    const quire_status status = qr_generation_parse(text, strlen(text), "m/generation_config.json", a, g, &log, error);
    qr_log_deinit(&log);
    return status;
}

static qr_generation good(const char *preset, const char *text, qr_architecture *a)
{
    qr_generation g;
    quire_error   error = {0};
    if (parse(preset, text, a, &g, &error) != QUIRE_OK) fail_msg("%s: %s", text, error.message);
    return g;
}

static void its_ids_take_the_place_of_those_of_config_json(void **state)
{
    (void)state;
    qr_architecture a;
    good("tiny", "{}", &a);
    assert_true(a.eos_count == 1 && a.eos_token_ids[0] == 2);
    good("tiny", "{\"eos_token_id\": [5, 7]}", &a);
    assert_true(a.eos_count == 2 && a.eos_token_ids[0] == 5 && a.eos_token_ids[1] == 7);
    good("tiny", "{\"eos_token_id\": 9, \"decoder_start_token_id\": 3}", &a);
    assert_true(a.eos_count == 1 && a.eos_token_ids[0] == 9 && a.decoder_start_token_id == -1);
    good("tiny", "{\"eos_token_id\": null}", &a);
    assert_true(a.eos_count == 1 && a.eos_token_ids[0] == 2);
    good("t5-small", "{\"decoder_start_token_id\": 7}", &a);
    assert_int_equal(a.decoder_start_token_id, 7);
    good("t5-small", "{\"pad_token_id\": 7}", &a);
    assert_int_equal(a.decoder_start_token_id, 0);
}

static void sampling_is_taken_as_given(void **state)
{
    (void)state;
    qr_architecture a;
    qr_generation   g = good("tiny",
                             "{\"temperature\": 0.5, \"top_k\": 20, \"top_p\": 0.75, \"min_p\": 0.25,"
                               "\"repetition_penalty\": 1.5, \"max_new_tokens\": 300}",
                             &a);
    assert_true(g.sampling.temperature == 0.5F && g.sampling.top_k == 20 && g.sampling.top_p == 0.75F);
    assert_true(g.sampling.min_p == 0.25F && g.sampling.repetition_penalty == 1.5F && g.max_new_tokens == 300);
    assert_int_equal(good("tiny", "{\"temperature\": 1, \"top_k\": 1000000000000}", &a).sampling.top_k, 0);
    assert_int_equal(good("tiny", "{\"temperature\": 1, \"top_k\": 3000000}", &a).sampling.top_k, 0);
    g = good("tiny", "{\"top_k\": -1, \"temperature\": null}", &a);
    assert_true(g.sampling.top_k == 0 && g.sampling.temperature == 0 && g.max_new_tokens == 0);
}

static void do_sample_decides_where_it_is_given(void **state)
{
    (void)state;
    qr_architecture a;
    qr_generation   g = good("tiny", "{\"do_sample\": true}", &a);
    assert_true(g.sampling.temperature == 1);
    g = good("tiny", "{\"do_sample\": true, \"temperature\": 0.25}", &a);
    assert_true(g.sampling.temperature == 0.25F);
    g = good("tiny", "{\"do_sample\": false, \"temperature\": 0.25, \"top_k\": 4, \"repetition_penalty\": 2}", &a);
    assert_true(g.sampling.temperature == 0 && g.sampling.top_k == 0 && g.sampling.repetition_penalty == 2);
}

static void rules_of_single_tokens_are_taken(void **state)
{
    (void)state;
    qr_architecture a;
    qr_generation   g = good("tiny",
                             "{\"suppress_tokens\": [3, 9], \"bad_words_ids\": [[5], [2], [6, 7]], \"eos_token_id\": 2,"
                               "\"begin_suppress_tokens\": [220, 50256], \"forced_bos_token_id\": 0,"
                               "\"forced_eos_token_id\": [2, 4]}",
                             &a);
    assert_true(g.banned_count == 3 && g.banned[0] == 3 && g.banned[1] == 9 && g.banned[2] == 5);
    assert_true(g.first_banned_count == 1 && g.first_banned[0] == 220); /* the vocabulary has 256 */
    assert_true(g.first_allowed_count == 1 && g.first_allowed[0] == 0);
    assert_true(g.last_allowed_count == 2 && g.last_allowed[1] == 4);
    assert_non_null(strstr(kept.text, "\"bad_words_ids\" of more than one id"));
    g = good("tiny", "{\"suppress_tokens\": null, \"bad_words_ids\": [[5]], \"forced_bos_token_id\": null}", &a);
    assert_true(g.banned_count == 1 && g.first_allowed_count == 0 && kept.length == 0);
}

static void what_is_not_applied_is_named_once(void **state)
{
    (void)state;
    qr_architecture a;
    good("tiny", "{\"num_beams\": 1, \"no_repeat_ngram_size\": 0, \"suppress_tokens\": null, \"bad_words_ids\": []}",
         &a);
    assert_int_equal(kept.length, 0);
    good("tiny", "{\"num_beams\": 4, \"forced_decoder_ids\": [[1, 3]], \"transformers_version\": NaN}", &a);
    assert_non_null(strstr(kept.text, "m/generation_config.json: "));
    assert_non_null(strstr(kept.text, "\"num_beams\", \"forced_decoder_ids\""));
    good("tiny", "{\"max_length\": 20, \"num_beam_groups\": 1, \"length_penalty\": 1.0, \"stop_strings\": null}", &a);
    assert_int_equal(kept.length, 0);
    static const char *const keys[] = {"max_length",
                                       "max_time",
                                       "stop_strings",
                                       "length_penalty",
                                       "num_beam_groups",
                                       "diversity_penalty",
                                       "num_return_sequences",
                                       "presence_penalty",
                                       "frequency_penalty",
                                       "no_repeat_ngram_size",
                                       "encoder_no_repeat_ngram_size",
                                       "encoder_repetition_penalty",
                                       "exponential_decay_length_penalty"};
    enum { KEYS = sizeof keys / sizeof *keys };
    char   text[1024] = "{";
    size_t length     = 1;
    for (size_t i = 0; i < KEYS; i++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, "\"%s\": 7%s", keys[i], i + 1 < KEYS ? "," : "}");
    good("tiny", text, &a);
    for (size_t i = 0; i < KEYS; i++)
        if (strstr(kept.text, keys[i]) == NULL) fail_msg("%s: not in %s", keys[i], kept.text);
}

static void a_value_that_cannot_be_meant_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"[]", "expected an object"},
        {"{", "1:2"},
        {"{\"temperature\": -1}", "temperature: -1 is outside"},
        {"{\"temperature\": \"hot\"}", "temperature: expected a number"},
        {"{\"temperature\": 1, \"temperature\": 2}", "temperature: expected a number, found the key twice"},
        {"\xef\xbb\xbf{}", "byte order mark"},
        {"{\"top_p\": 0}", "top_p: 0 must be above 0"},
        {"{\"top_p\": 1.5}", "top_p: 1.5"},
        {"{\"top_k\": 1.5}", "top_k"},
        {"{\"max_new_tokens\": 0}", "max_new_tokens"},
        {"{\"do_sample\": 1}", "do_sample"},
        {"{\"eos_token_id\": 999999}", "eos_token_id: 999999"},
        {"{\"eos_token_id\": \"2\"}", "eos_token_id"},
        {"{\"suppress_tokens\": [1, \"2\"]}", "suppress_tokens: expected an integer, found a string"},
        {"{\"forced_bos_token_id\": -1}", "forced_bos_token_id: -1 is below 0"},
        {"{\"bad_words_ids\": [5]}", "bad_words_ids[0]: expected an array, found an integer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        qr_generation   g;
        quire_error     error = {0};
        if (parse("tiny", cases[i].text, &a, &g, &error) != QUIRE_ERR_FORMAT ||
            strstr(error.message, cases[i].words) == NULL || strstr(error.message, "generation_config.json") == NULL)
            fail_msg("%s: %s", cases[i].text, error.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_ids_take_the_place_of_those_of_config_json),
        cmocka_unit_test(sampling_is_taken_as_given),
        cmocka_unit_test(do_sample_decides_where_it_is_given),
        cmocka_unit_test(rules_of_single_tokens_are_taken),
        cmocka_unit_test(what_is_not_applied_is_named_once),
        cmocka_unit_test(a_value_that_cannot_be_meant_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
