/* Request lines of `quire generate`: every field, its bounds, and what is answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cli/job.h"

static const qr_request_defaults DEFAULTS = {
    .max_tokens = 128, .seed = 1000, .sampling = {.top_p = 1, .repetition_penalty = 1}};

static qr_job *parse(const char *line, qr_line_error *error)
{
    qr_job *job = qr_job_parse(line, strlen(line), 7, &DEFAULTS, error);
    assert_non_null(job);
    return job;
}

static void a_bare_prompt_gets_the_defaults(void **state)
{
    (void)state;
    qr_line_error        error;
    qr_job              *job = parse("{\"prompt\": [1, 2147483647, 0]}", &error);
    const quire_request *r   = &job->from.request;
    assert_int_equal(error.status, QUIRE_OK);
    assert_string_equal(json_string_value(job->from.id), "7"); /* the line */
    assert_true(r->prompt_count == 3 && r->prompt[1] == 2147483647 && r->encoder_input == NULL);
    assert_true(r->max_tokens == 128 && r->n == 0 && r->sampling.seed == 1007 && r->sampling.top_p == 1);
    assert_true(r->length_penalty == 1 && r->user_data == job && r->size == sizeof *r);
    assert_int_equal(job->sequence_count, 1);
    qr_job_destroy(job);
}

static void lists_of_the_model_are_for_lines_that_have_none(void **state)
{
    (void)state;
    const int32_t             ids[]    = {3, 4, 5, 6};
    const qr_request_defaults defaults = {.max_tokens = 5,
                                          .rules      = {{&ids[0], 1}, {&ids[1], 1}, {&ids[2], 1}, {&ids[3], 1}}};
    static const struct {
        const char *line;
        int32_t     banned, first_banned, first_allowed, last_allowed; /* 0: none */
    } cases[] = {
        {"{\"prompt\": [1]}", 3, 4, 5, 6},
        {"{\"prompt\": []}", 3, 4, 5, 6},
        {"{\"prompt\": [1, 2]}", 3, 4, 0, 6},
        {"{\"prompt\": [1], \"ignore_eos\": true}", 3, 4, 5, 0},
        {"{\"prompt\": [1], \"banned_token_ids\": [7], \"first_banned_token_ids\": [],"
         " \"first_allowed_token_ids\": [8], \"last_allowed_token_ids\": []}",
         7, 0, 8, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_line_error        error;
        qr_job              *job = qr_job_parse(cases[i].line, strlen(cases[i].line), 1, &defaults, &error);
        const quire_request *r   = &job->from.request;
        assert_int_equal(error.status, QUIRE_OK);
        assert_int_equal(r->banned_count ? r->banned[0] : 0, cases[i].banned);
        assert_int_equal(r->first_banned_count ? r->first_banned[0] : 0, cases[i].first_banned);
        assert_int_equal(r->first_allowed_count ? r->first_allowed[0] : 0, cases[i].first_allowed);
        assert_int_equal(r->last_allowed_count ? r->last_allowed[0] : 0, cases[i].last_allowed);
        qr_job_destroy(job);
    }
}

static void features_are_frames_of_the_models_size(void **state)
{
    (void)state;
    const qr_request_defaults defaults = {.max_tokens = 5, .encoder_feature_size = 2};
    static const struct {
        const char *line, *words; /* NULL: good */
    } cases[] = {
        {"{\"encoder_features\": [[1, 2.5], [3, -4]]}", NULL},
        {"{\"encoder_features\": \"AACAPwAAIEAAAEBAAACAwA==\"}", NULL},
        {"{\"encoder_features\": null}", NULL},
        {"{\"encoder_features\": 1}", "expected an array of frames or their base64, found an integer"},
        {"{\"encoder_features\": \"AACAPwAAIEAAAEBA\"}", "12 bytes are not whole frames of 2 f32, 8 bytes"},
        {"{\"encoder_features\": \"AAC!\"}", "character 3 is not base64"},
        {"{\"encoder_features\": \"AAAAAAAAAAA\\n\"}", "character 11 is not base64"},
        {"{\"encoder_features\": [[1, 2], [3]]}", "[1]: expected an array of 2 numbers"},
        {"{\"encoder_features\": [[1, \"2\"]]}", "[0][1]: expected a number, found a string"},
    };
    qr_line_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_job              *job = qr_job_parse(cases[i].line, strlen(cases[i].line), 1, &defaults, &error);
        const quire_request *r   = &job->from.request;
        assert_int_equal(error.status, cases[i].words ? QUIRE_ERR_INVALID : QUIRE_OK);
        if (cases[i].words != NULL) assert_non_null(strstr(error.message, cases[i].words));
        if (i < 2) assert_true(r->encoder_frames == 2 && r->encoder_features[3] == -4);
        qr_job_destroy(job);
    }
    qr_job_destroy(parse("{\"encoder_features\": [[1]]}", &error));
    assert_non_null(strstr(error.message, "this model reads none"));
}

static void every_field_arrives(void **state)
{
    (void)state;
    qr_line_error error;
    qr_job       *job =
        parse("{\"id\": \"x\", \"prompt\": [5], \"encoder_input\": [6, 7], \"max_tokens\": 9, \"min_tokens\": 2, "
              "\"ignore_eos\": true, \"stop_token_ids\": [3], \"temperature\": 0.5, \"top_k\": 4, \"top_p\": 0.9, "
              "\"min_p\": 0.1, "
              "\"seed\": 9007199254740993, \"n\": 3, \"priority\": -5, \"tenant\": \"t\", \"repetition_penalty\": 1.1, "
              "\"presence_penalty\": -1, \"frequency_penalty\": 2, \"logit_bias\": {\"3\": -100, \"4\": 1.5}, "
              "\"allowed_token_ids\": [1, 2], \"banned_token_ids\": [], \"length_penalty\": 0.0, \"early_stopping\": "
              "\"never\", "
              "\"arrival_ms\": 12.5, \"timeout_ms\": 0.5, \"logits\": true, \"logprobs\": 5, \"beam_width\": 1}",
              &error);
    const quire_request *r = &job->from.request;
    if (error.status != QUIRE_OK) fail_msg("%s: %s", error.field, error.message);
    assert_string_equal(json_string_value(job->from.id), "x");
    assert_true(r->encoder_count == 2 && r->encoder_input[1] == 7 && r->max_tokens == 9 && r->min_tokens == 2);
    assert_true(r->ignore_eos == 1 && r->stop_count == 1 && r->stop[0] == 3 && r->sampling.temperature == 0.5f);
    assert_true(r->sampling.top_k == 4 && r->sampling.top_p == 0.9f && r->sampling.min_p == 0.1f);
    assert_true(r->sampling.seed == 9007199254740993 && r->n == 3 && r->priority == -5);
    assert_string_equal(r->tenant, "t");
    assert_true(r->sampling.repetition_penalty == 1.1f && r->sampling.presence_penalty == -1);
    assert_true(r->sampling.frequency_penalty == 2 && r->logit_bias_count == 2 && r->logit_bias[1].bias == 1.5f);
    assert_true(r->allowed_count == 2 && r->banned_count == 0 && r->length_penalty == 0);
    assert_true(r->early_stopping == QUIRE_EARLY_STOPPING_NEVER && r->timeout_ns == 500000);
    assert_true(job->from.arrival_ms == 12.5 && r->logits == (QUIRE_LOGITS_FIRST | QUIRE_LOGITS_LAST));
    assert_true(job->from.logprobs && r->logprobs == 5 && job->sequence_count == 3);
    qr_job_destroy(job);
}

static void bad_lines_name_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *line, *field, *words;
        bool        id; /* could be read */
    } cases[] = {
        {"", "", "not JSON", false},
        {"{", "", "not JSON", false},
        {"[1]", "", "an object", false},
        {"nul", "", "not JSON", false},
        {"{\"id\": \"a\", \"id\": \"b\"}", "", "the name \"id\" appears twice", false},
        {"{\"id\": \"a\", \"n\": 1, \"n\": 2}", "", "the name \"n\" appears twice", true},
        {"{\"id\": \"a\", \"seed\": 99999999999999999999}", "", "the number that ends at byte 40 is out of range",
         true},
        {"{\"id\": \"a\", \"seed\": -99999999999999999999, \"n\": 1e400}", "", "byte 41 is out of range", true},
        {"{\"top_p\": 1e400, \"id\": \"a\"}", "", "the number that ends at byte 15 is out of range", true},
        {"{\"id\": 99999999999999999999}", "", "is out of range", true}, /* the line's number */
        {"{\"n\": 1e400", "", "is out of range", false},
        {"{\"id\": \"a\", \"tenant\": \"b\\u0000c\"}", "", "has the character \\u0000", true},
        {"{\"id\": \"a\\u0000c\"}", "", "has the character \\u0000", false},
        {"{\"id\": \"a\", \"b\\u0000\": 1}", "", "has the character \\u0000", false},
        {"{\"id\": \"a\"} {}", "", "not JSON", false},
        {"{\"id\": \"\xff\"}", "", "not JSON", false},
        {"{\"id\": 1.5, \"prompt\": [1]}", "id", "expected a string or an integer, found a number", false},
        {"{\"id\": [1], \"prompt\": [1]}", "id", "an array", false},
        {"{\"id\": \"a\", \"promt\": [1]}", "promt", "unknown field", true},
        {"{\"id\": \"a\", \"prompt\": \"text\"}", "prompt", "a string", true},
        {"{\"id\": \"a\", \"prompt\": [1, 2.0]}", "prompt", "[1]", true},
        {"{\"id\": \"a\", \"prompt\": [1, -1]}", "prompt", "-1", true},
        {"{\"id\": \"a\", \"prompt\": [2147483648]}", "prompt", "2147483648", true},
        {"{\"id\": \"a\", \"prompt\": [[1]]}", "prompt", "an array", true},
        {"{\"id\": \"a\", \"encoder_input\": {}}", "encoder_input", "an object", true},
        {"{\"id\": \"a\", \"max_tokens\": 0}", "max_tokens", "below the minimum 1", true},
        {"{\"id\": \"a\", \"max_tokens\": 1.5}", "max_tokens", "an integer", true},
        {"{\"id\": \"a\", \"max_tokens\": 4294967296}", "max_tokens", "4294967296 is above the maximum 4294967295",
         true},
        {"{\"id\": \"a\", \"max_tokens\": \"8\"}", "max_tokens", "a string", true},
        {"{\"id\": \"a\", \"min_tokens\": -1}", "min_tokens", "below the minimum 0", true},
        {"{\"id\": \"a\", \"ignore_eos\": 1}", "ignore_eos", "true or false", true},
        {"{\"id\": \"a\", \"temperature\": -0.1}", "temperature", "below the minimum 0", true},
        {"{\"id\": \"a\", \"temperature\": 1e300}", "temperature", "above the maximum 100", true},
        {"{\"id\": \"a\", \"top_p\": 2.0}", "top_p", "2 is above the maximum 1", true},
        {"{\"id\": \"a\", \"top_p\": 0}", "top_p", "not above 0", true},
        {"{\"id\": \"a\", \"min_p\": 1.1}", "min_p", "above the maximum 1", true},
        {"{\"id\": \"a\", \"top_k\": -1}", "top_k", "below the minimum 0", true},
        {"{\"id\": \"a\", \"repetition_penalty\": 0}", "repetition_penalty", "below the minimum 0.01", true},
        {"{\"id\": \"a\", \"presence_penalty\": 2.1}", "presence_penalty", "above the maximum 2", true},
        {"{\"id\": \"a\", \"frequency_penalty\": -2.1}", "frequency_penalty", "below the minimum -2", true},
        {"{\"id\": \"a\", \"n\": 0}", "n", "below the minimum 1", true},
        {"{\"id\": \"a\", \"beam_width\": 0}", "beam_width", "below the minimum 1", true},
        {"{\"id\": \"a\", \"priority\": 1001}", "priority", "above the maximum 1000", true},
        {"{\"id\": \"a\", \"seed\": -1}", "seed", "below the minimum 0", true},
        {"{\"id\": \"a\", \"seed\": 1.5}", "seed", "an integer", true},
        {"{\"id\": \"a\", \"tenant\": 7}", "tenant", "a string", true},
        {"{\"id\": \"a\", \"tenant\": \"0123456789012345678901234567890123456789012345678901234567890123456\"}",
         "tenant", "above the maximum 64", true},
        {"{\"id\": \"a\", \"logit_bias\": [1]}", "logit_bias", "an array", true},
        {"{\"id\": \"a\", \"logit_bias\": {\"x\": 1}}", "logit_bias", "\"x\"", true},
        {"{\"id\": \"a\", \"logit_bias\": {\"-1\": 1}}", "logit_bias", "\"-1\"", true},
        {"{\"id\": \"a\", \"logit_bias\": {\"4294967297\": 1}}", "logit_bias", "4294967297", true},
        {"{\"id\": \"a\", \"logit_bias\": {\"1\": 101}}", "logit_bias", "101", true},
        {"{\"id\": \"a\", \"logit_bias\": {\"1\": null}}", "logit_bias", "null", true},
        {"{\"id\": \"a\", \"allowed_token_ids\": []}", "allowed_token_ids", "empty", true},
        {"{\"id\": \"a\", \"logprobs\": 21}", "logprobs", "above the maximum 20", true},
        {"{\"id\": \"a\", \"logprobs\": true}", "logprobs", "an integer", true},
        {"{\"id\": \"a\", \"logits\": \"some\"}", "logits", "first", true},
        {"{\"id\": \"a\", \"logits\": 1}", "logits", "first", true},
        {"{\"id\": \"a\", \"early_stopping\": \"maybe\"}", "early_stopping", "never", true},
        {"{\"id\": \"a\", \"arrival_ms\": -1}", "arrival_ms", "outside", true},
        {"{\"id\": \"a\", \"timeout_ms\": 0}", "timeout_ms", "not above 0", true},
        {"{\"id\": \"a\", \"timeout_ms\": 1e8}", "timeout_ms", "100000000 is outside 0..86400000", true},
        {"{\"id\": \"a\", \"timeout_ms\": 86400001}", "timeout_ms", "86400001 is outside 0..86400000", true},
        {"{\"id\": \"a\", \"timeout_ms\": \"1s\"}", "timeout_ms", "a string", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_line_error error;
        qr_job       *job = parse(cases[i].line, &error);
        if (error.status != QUIRE_ERR_INVALID || strcmp(error.field, cases[i].field) != 0 ||
            strstr(error.message, cases[i].words) == NULL || (job->from.id != NULL) != cases[i].id)
            fail_msg("%s: %d, \"%s\": %s", cases[i].line, error.status, error.field, error.message);
        qr_text text = {0};
        qr_job_answer_error(job->from.id, job->from.line, &error, &text);
        json_t *answer = json_loadb(text.data, text.length, 0, NULL); /* one line of JSON, whatever was quoted */
        assert_non_null(answer);
        assert_int_equal(json_integer_value(json_object_get(answer, "line")), 7);
        assert_string_equal(json_string_value(json_object_get(answer, "finish_reason")), "error");
        assert_true(memchr(text.data, '\n', text.length) == text.data + text.length - 1);
        json_decref(answer);
        qr_text_deinit(&text);
        qr_job_destroy(job);
    }
}

static void a_line_with_a_nul_byte_is_refused(void **state)
{
    (void)state;
    static const char line[] = "{\"id\": \"a\"\0, \"prompt\": [1]}";
    qr_line_error     error;
    qr_job           *job = qr_job_parse(line, sizeof line - 1, 1, &DEFAULTS, &error);
    assert_int_equal(error.status, QUIRE_ERR_INVALID);
    qr_job_destroy(job);
}

static void too_many_ids_are_refused(void **state)
{
    (void)state;
    for (unsigned count = QUIRE_MAX_STOP_IDS; count <= QUIRE_MAX_STOP_IDS + 1; count++) {
        char line[1000] = "{\"prompt\": [1], \"stop_token_ids\": [0";
        for (unsigned i = 1; i < count; i++) snprintf(line + strlen(line), 16, ",%u", i);
        strcat(line, "]}");
        qr_line_error error;
        qr_job       *job = parse(line, &error);
        assert_int_equal(error.status, count > QUIRE_MAX_STOP_IDS ? QUIRE_ERR_INVALID : QUIRE_OK);
        qr_job_destroy(job);
    }
}

/* ---- answers ---- */

static void token(qr_job *job, uint32_t sequence, uint32_t index, int32_t id, const quire_token_detail *detail)
{
    const quire_event event = {.kind     = QUIRE_EVENT_TOKEN,
                               .token    = id,
                               .index    = index,
                               .sequence = sequence,
                               .logprob  = -0.25f * (float)index,
                               .detail   = detail};
    qr_job_take(job, &event, 3);
}

static void finish(qr_job *job, uint32_t sequence, quire_finish how, quire_status status)
{
    static const quire_finish_detail detail = {.prompt_tokens  = 4,
                                               .cached_tokens  = 2,
                                               .preemptions    = 1,
                                               .submit_ns      = 1000000,
                                               .first_token_ns = 3500000,
                                               .finish_ns      = 6000000};
    const quire_event                event  = {
                        .kind = QUIRE_EVENT_FINISHED, .finish = how, .status = status, .sequence = sequence, .detail = &detail};
    qr_job_take(job, &event, 3);
}

static json_t *answer_of(qr_job *job, bool well)
{
    qr_text text = {0};
    assert_int_equal(qr_job_answer(job, 3, false, &text), well);
    json_t *answer = json_loadb(text.data, text.length, 0, NULL);
    if (answer == NULL) fail_msg("%.*s", (int)text.length, text.data);
    qr_text_deinit(&text);
    qr_job_destroy(job);
    return answer;
}

static void expect_json(const json_t *object, const char *key, const char *expected)
{
    json_t *value = json_loads(expected, JSON_DECODE_ANY, NULL);
    char   *found = json_dumps(json_object_get(object, key), JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    if (!json_equal(json_object_get(object, key), value))
        fail_msg("%s: %s, not %s", key, found ? found : "-", expected);
    free(found);
    json_decref(value);
}

static void an_answer_has_tokens_logits_and_times(void **state)
{
    (void)state;
    qr_line_error            error;
    qr_job                  *job = parse("{\"id\": 12, \"prompt\": [1], \"logits\": true, \"logprobs\": 2}", &error);
    const float              first[3] = {0.5f, -1, 2}, last[3] = {4, 5, 6}, best[2] = {-0.5f, -1.5f};
    const int32_t            ids[2] = {2, 0};
    const quire_token_detail one = {sizeof one, first, 2, ids, best}, two = {sizeof two, last, 2, ids, best};
    token(job, 0, 0, 2, &one);
    token(job, 0, 1, 1, &two);
    finish(job, 0, QUIRE_FINISH_STOP, QUIRE_OK);
    json_t *answer = answer_of(job, true);
    expect_json(answer, "id", "12");
    expect_json(answer, "tokens", "[2, 1]");
    expect_json(answer, "finish_reason", "\"stop\"");
    expect_json(answer, "first_logits", "[0.5, -1, 2]");
    expect_json(answer, "last_logits", "[4, 5, 6]");
    expect_json(answer, "top_logprobs", "[[[2, -0.5], [0, -1.5]], [[2, -0.5], [0, -1.5]]]");
    expect_json(answer, "num_prompt_tokens", "4");
    expect_json(answer, "num_cached_tokens", "2");
    expect_json(answer, "num_preemptions", "1");
    expect_json(answer, "ttft_ms", "2.5");
    expect_json(answer, "e2el_ms", "5.0");
    assert_int_equal(json_array_size(json_object_get(answer, "logprobs")), 2);
    assert_null(json_object_get(answer, "outputs"));
    json_decref(answer);
}

static void all_logits_come_with_nine_digits(void **state)
{
    (void)state;
    qr_line_error            error;
    qr_job                  *job  = parse("{\"prompt\": [1], \"logits\": \"all\"}", &error);
    const float              x[3] = {1.0f / 3, -16777215, 1e-30f};
    const quire_token_detail one  = {.logits = x};
    token(job, 0, 0, 2, &one);
    token(job, 0, 1, 2, &one);
    finish(job, 0, QUIRE_FINISH_LENGTH, QUIRE_OK);
    json_t       *answer = answer_of(job, true);
    const json_t *rows   = json_object_get(answer, "logits");
    assert_int_equal(json_array_size(rows), 2);
    for (size_t i = 0; i < 3; i++)
        assert_true((float)json_number_value(json_array_get(json_array_get(rows, 1), i)) == x[i]);
    assert_null(json_object_get(answer, "first_logits"));
    assert_null(json_object_get(answer, "logprobs"));
    json_decref(answer);
}

static void several_sequences_come_as_outputs(void **state)
{
    (void)state;
    qr_line_error error;
    qr_job       *job = parse("{\"prompt\": [1], \"n\": 2}", &error);
    token(job, 1, 0, 9, NULL);
    token(job, 0, 0, 8, NULL);
    finish(job, 1, QUIRE_FINISH_STOP, QUIRE_OK);
    finish(job, 0, QUIRE_FINISH_ERROR, QUIRE_ERR_EXECUTION);
    json_t       *answer  = answer_of(job, false);
    const json_t *outputs = json_object_get(answer, "outputs");
    assert_int_equal(json_array_size(outputs), 2);
    expect_json(json_array_get(outputs, 0), "tokens", "[8]");
    expect_json(json_array_get(outputs, 0), "finish_reason", "\"error\"");
    expect_json(json_object_get(json_array_get(outputs, 0), "error"), "status", "\"ERR_EXECUTION\"");
    expect_json(json_array_get(outputs, 1), "index", "1");
    expect_json(json_array_get(outputs, 1), "tokens", "[9]");
    expect_json(answer, "num_preemptions", "2");
    assert_null(json_object_get(answer, "tokens"));
    json_decref(answer);
}

/* Each token of the prompt has its place, whether or not it was computed before the request ended. */
static void a_prompt_that_failed_has_null_for_each_token(void **state)
{
    (void)state;
    const int32_t            top    = 9;
    const float              value  = -1.5f;
    const quire_token_detail detail = {.top_count = 1, .top_tokens = &top, .top_logprobs = &value};
    static const struct {
        const char *prompt, *logprobs, *tops;
        uint32_t    computed;
    } cases[] = {{"[1, 2, 3]", "[null,null,null]", "[null,null,null]", 0},
                 {"[1, 2, 3]", "[null,-2.5,null]", "[null,[[9,-1.5]],null]", 1},
                 {"[]", "[null]", "[null]", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char          line[100];
        qr_line_error error;
        snprintf(line, sizeof line, "{\"prompt\": %s, \"prompt_logprobs\": 1}", cases[i].prompt);
        qr_job           *job   = parse(line, &error);
        const quire_event event = {
            .kind = QUIRE_EVENT_PROMPT, .index = 1, .logprob = -2.5f, .detail = &detail, .user_data = job};
        if (cases[i].computed > 0) qr_job_take(job, &event, 0);
        finish(job, 0, QUIRE_FINISH_ERROR, QUIRE_ERR_EXECUTION);
        json_t *answer = answer_of(job, false);
        expect_json(answer, "prompt_logprobs", cases[i].logprobs);
        expect_json(answer, "prompt_top_logprobs", cases[i].tops);
        json_decref(answer);
    }
}

static void the_engines_message_is_split_into_field_and_sentence(void **state)
{
    (void)state;
    qr_line_error found;
    qr_job_error_of(&(quire_error){QUIRE_ERR_INVALID, "top_k: 9 is above the maximum 8"}, &found);
    assert_string_equal(found.field, "top_k");
    assert_string_equal(found.message, "9 is above the maximum 8");
    qr_job_error_of(&(quire_error){QUIRE_ERR_INVALID, "encoder_count: 20 is not in 1..16"}, &found);
    assert_string_equal(found.field, "encoder_input");
    qr_job_error_of(&(quire_error){QUIRE_ERR_INVALID, "stop[3]: id 9 is not in 0..7"}, &found);
    assert_string_equal(found.field, "stop_token_ids");
    assert_string_equal(found.message, "[3]: id 9 is not in 0..7");
    qr_job_error_of(&(quire_error){QUIRE_ERR_TOO_LONG, "needs 3 blocks: 2 exist"}, &found);
    assert_string_equal(found.field, "");
    assert_string_equal(found.message, "needs 3 blocks: 2 exist");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bare_prompt_gets_the_defaults),
        cmocka_unit_test(lists_of_the_model_are_for_lines_that_have_none),
        cmocka_unit_test(features_are_frames_of_the_models_size),
        cmocka_unit_test(every_field_arrives),
        cmocka_unit_test(bad_lines_name_the_field),
        cmocka_unit_test(a_line_with_a_nul_byte_is_refused),
        cmocka_unit_test(too_many_ids_are_refused),
        cmocka_unit_test(an_answer_has_tokens_logits_and_times),
        cmocka_unit_test(all_logits_come_with_nine_digits),
        cmocka_unit_test(several_sequences_come_as_outputs),
        cmocka_unit_test(a_prompt_that_failed_has_null_for_each_token),
        cmocka_unit_test(the_engines_message_is_split_into_field_and_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
