/* Bodies of requests, read back as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "bench/run/http_request.h"

static const int32_t ids[] = {7, 0, 2147483647};

static json_t *body_of(const qr_http_form *form, const quire_request *request)
{
    size_t  length;
    char   *text = qr_http_body(form, request, &length);
    json_t *body = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    assert_non_null(body);
    return body;
}

static bool is_equal(const json_t *body, const char *name, const char *expected)
{
    json_t    *wanted = json_loads(expected, JSON_DECODE_ANY, NULL);
    const bool equal  = json_equal(json_object_get(body, name), wanted);
    json_decref(wanted);
    return equal;
}

static void a_plain_request_has_what_every_server_takes(void **state)
{
    (void)state;
    const qr_http_form  form    = {.model = "a \"b\"", .takes_ids = true};
    const quire_request request = {
        .prompt = ids, .prompt_count = 3, .max_tokens = 9, .ignore_eos = true, .sampling.seed = 5};
    json_t *body = body_of(&form, &request);
    assert_true(is_equal(body, "model", "\"a \\\"b\\\"\""));
    assert_true(is_equal(body, "prompt", "[7, 0, 2147483647]"));
    assert_true(is_equal(body, "max_tokens", "9"));
    assert_true(is_equal(body, "stream", "true"));
    assert_true(is_equal(body, "temperature", "0.0"));
    assert_true(is_equal(body, "stream_options", "{\"include_usage\": true}"));
    assert_int_equal(json_object_size(body), 6);
    json_decref(body);
}

static void a_server_that_takes_them_gets_all_fields(void **state)
{
    (void)state;
    const quire_logit_bias bias[]  = {{3, 1.5f}};
    const qr_http_form     form    = {.model = "m", .takes_ids = true, .takes_extensions = true, .wants_ids = true};
    const quire_request    request = {.prompt           = ids,
                                      .prompt_count     = 1,
                                      .max_tokens       = 9,
                                      .min_tokens       = 2,
                                      .stop             = ids,
                                      .stop_count       = 2,
                                      .n                = 3,
                                      .priority         = -4,
                                      .tenant           = "t",
                                      .cache_salt       = "s",
                                      .logit_bias       = bias,
                                      .logit_bias_count = 1,
                                      .sampling         = {.seed               = UINT64_MAX,
                                                           .temperature        = 0.5f,
                                                           .top_k              = 40,
                                                           .top_p              = 0.25f,
                                                           .min_p              = 0.125f,
                                                           .repetition_penalty = 1.5f,
                                                           .presence_penalty   = -1,
                                                           .frequency_penalty  = 2}};
    static const struct {
        const char *name, *value;
    } expected[] = {{"min_tokens", "2"},
                    {"stop_token_ids", "[7, 0]"},
                    {"n", "3"},
                    {"priority", "-4"},
                    {"user", "\"t\""},
                    {"cache_salt", "\"s\""},
                    {"seed", "2147483647"},
                    {"temperature", "0.5"},
                    {"top_k", "40"},
                    {"top_p", "0.25"},
                    {"min_p", "0.125"},
                    {"repetition_penalty", "1.5"},
                    {"presence_penalty", "-1.0"},
                    {"frequency_penalty", "2.0"},
                    {"return_token_ids", "true"},
                    {"ignore_eos", "false"},
                    {"logit_bias", "{\"3\": 1.5}"},
                    {"stream_options", "{\"include_usage\": true, \"continuous_usage_stats\": true}"}};
    json_t *body = body_of(&form, &request);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_true(is_equal(body, expected[i].name, expected[i].value));
    json_decref(body);
}

static void text_has_a_word_for_each_id(void **state)
{
    (void)state;
    const qr_http_form  form    = {.model = "m"};
    const int32_t       twice[] = {7, 9, 7};
    const quire_request request = {.prompt = twice, .prompt_count = 3, .max_tokens = 1};
    json_t             *body    = body_of(&form, &request);
    char                a[16], b[16], c[16];
    const char         *prompt = json_string_value(json_object_get(body, "prompt"));
    assert_int_equal(sscanf(prompt, "%15s %15s %15s", a, b, c), 3);
    assert_string_equal(a, c);
    assert_string_not_equal(a, b);
    json_decref(body);
}

static void the_input_of_an_encoder_is_the_prompt(void **state)
{
    (void)state;
    const qr_http_form  form    = {.model = "m", .takes_ids = true};
    const quire_request request = {
        .prompt = ids, .prompt_count = 1, .encoder_input = ids + 1, .encoder_count = 2, .max_tokens = 1};
    json_t *body = body_of(&form, &request);
    assert_true(is_equal(body, "prompt", "[0, 2147483647]"));
    json_decref(body);
}

static void what_has_no_place_is_named(void **state)
{
    (void)state;
    const float feature = 0;
    assert_null(qr_http_obstacle(&(quire_request){.n = 4, .logprobs = 2}));
    assert_string_equal(qr_http_obstacle(&(quire_request){.beam_width = 2}), "beam search");
    assert_string_equal(qr_http_obstacle(&(quire_request){.masked = true}), "a mask");
    assert_string_equal(qr_http_obstacle(&(quire_request){.first_allowed_count = 1}), "lists of allowed tokens");
    assert_string_equal(qr_http_obstacle(&(quire_request){.banned_count = 1}), "lists of banned tokens");
    assert_string_equal(qr_http_obstacle(&(quire_request){.prompt_logprobs = true}), "prompt_logprobs");
    assert_string_equal(qr_http_obstacle(&(quire_request){.encoder_features = &feature}),
                        "features as the encoder's input");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_request_has_what_every_server_takes),
        cmocka_unit_test(a_server_that_takes_them_gets_all_fields),
        cmocka_unit_test(text_has_a_word_for_each_id),
        cmocka_unit_test(the_input_of_an_encoder_is_the_prompt),
        cmocka_unit_test(what_has_no_place_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
