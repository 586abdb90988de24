/* Traces: what each format says, and one clear error for what it must not say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/workload/trace.h"
#include "support/scratch_file.h"

static quire_config *configuration(const char *path, const char *const *settings)
{
    quire_config *config;
    quire_error   error;
    char          text[128];
    snprintf(text, sizeof text, "workload.trace.path=%s", path);
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    assert_int_equal(quire_config_set(config, text, "test", &error), QUIRE_OK);
    for (; settings != NULL && *settings != NULL; settings++)
        if (quire_config_set(config, *settings, "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    return config;
}

static quire_status read_with(const char *text, const char *const *settings, uint32_t max_model_len, qr_trace **trace,
                              quire_error *error)
{
    char path[64];
    scratch_file_write(text, path);
    quire_config      *config = configuration(path, settings);
    const quire_status status = qr_trace_read(config, max_model_len, trace, error);
    quire_config_destroy(config);
    unlink(path);
    return status;
}

static qr_trace *read_good(const char *text, const char *const *settings, uint32_t max_model_len)
{
    qr_trace   *trace;
    quire_error error = {0};
    if (read_with(text, settings, max_model_len, &trace, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return trace;
}

static qr_workload_request at(const qr_trace *trace, uint32_t index)
{
    qr_workload_request request = {0};
    qr_trace_request(trace, index, &request);
    return request;
}

#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
#define BURST "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"

static void azure_rows_are_read(void **state)
{
    (void)state;
    qr_trace *trace =
        read_good(AZURE "2023-11-16 23:59:59.5000000,374,44\r\n2023-11-17 00:00:01.2500000,396,109", NULL, 4096);
    assert_int_equal(qr_trace_describe(trace).count, 2);
    assert_int_equal(at(trace, 0).due_ns, 0);
    assert_int_equal(at(trace, 1).due_ns, 1750000000);
    assert_int_equal(at(trace, 1).prompt_tokens, 396);
    assert_int_equal(at(trace, 1).output_tokens, 109);
    assert_int_equal(at(trace, 1).tenant, UINT32_MAX);
    qr_trace_destroy(trace);
}

/* Each after its first row: a space or a T, with or without fraction and zone, across midnight in another zone. */
static void dates_have_many_forms(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second;
        int64_t     after_ms;
    } cases[] = {
        {"2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:00:01+00:00", 990},
        {"2024-05-10T00:00:00Z", "2024-05-10T00:00:01.5Z", 1500},
        {"2024-05-10T23:30:00+02:00", "2024-05-10T22:30:00Z", 3600000},
        {"2024-05-10 00:00:00-0130", "2024-05-10 02:00:00+00", 1800000},
        {"2024-05-10T00:00:00", "2024-05-10 00:00:02", 2000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, AZURE "%s,1,1\n%s,1,1\n", cases[i].first, cases[i].second);
        qr_trace *trace = read_good(text, NULL, 100);
        assert_int_equal(at(trace, 0).due_ns, 0);
        assert_int_equal((at(trace, 1).due_ns + 500000) / 1000000, cases[i].after_ms);
        qr_trace_destroy(trace);
    }
}

static void every_format_starts_at_its_first_row(void **state)
{
    (void)state;
    static const char *const texts[] = {
        AZURE "7.5,1,1\n9,1,1\n",
        BURST "7.5,x,1,1,2,x\n9,x,1,1,2,x\n",
        "{\"timestamp\": 7500, \"input_length\": 1, \"output_length\": 1}\n"
        "{\"timestamp\": 9000, \"input_length\": 1, \"output_length\": 1}\n",
        "{\"timestamp\": \"2024-05-10T00:00:07.5Z\", \"input_length\": 1, \"output_length\": 1}\n"
        "{\"timestamp\": \"2024-05-10T00:00:09Z\", \"input_length\": 1, \"output_length\": 1}\n",
        "{\"timestamp\": 7.5, \"input_length\": 1, \"output_length\": 1, \"chat_id\": 1, \"parent_chat_id\": -1}\n"
        "{\"timestamp\": 9, \"input_length\": 1, \"output_length\": 1, \"chat_id\": 2, \"parent_chat_id\": 1}\n",
        "{\"arrival_ms\": 7500, \"prompt_tokens\": 1, \"output_tokens\": 1}\n"
        "{\"arrival_ms\": 9000, \"prompt_tokens\": 1, \"output_tokens\": 1}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        qr_trace *trace = read_good(texts[i], NULL, 100);
        assert_int_equal(at(trace, 0).due_ns, 0);
        assert_int_equal(at(trace, 1).due_ns, 1500000000);
        qr_trace_destroy(trace);
    }
}

static void bailian_ids_stand_for_16_tokens(void **state)
{
    (void)state;
    qr_trace *trace =
        read_good("{\"chat_id\": 159, \"parent_chat_id\": -1, \"timestamp\": 61.114, \"input_length\": 33, "
                  "\"output_length\": 132, \"type\": \"text\", \"turn\": 1, \"hash_ids\": [7, 8, 9]}\n",
                  NULL, 4096);
    assert_int_equal(qr_trace_describe(trace).hash_block, 16);
    assert_int_equal(at(trace, 0).hash_count, 3);
    qr_trace_destroy(trace);
}

/* A fraction may be of a second or of a millisecond: the factor would be 1000. */
static void a_unit_is_asked_for_where_the_fields_do_not_tell(void **state)
{
    (void)state;
    static const char *const seconds[] = {"workload.trace.format=bailian", NULL};
    static const char *const milli[]   = {"workload.trace.format=mooncake", NULL};
    static const char        text[]    = "{\"timestamp\": 1, \"input_length\": 1, \"output_length\": 1}\n"
                                         "{\"timestamp\": 2.5, \"input_length\": 1, \"output_length\": 1}\n";
    qr_trace                *trace;
    quire_error              error;
    assert_int_equal(read_with(text, NULL, 100, &trace, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, ":2: timestamp: seconds or milliseconds? workload.trace.format"));
    trace = read_good(text, seconds, 100);
    assert_int_equal(at(trace, 1).due_ns, 1500000000);
    qr_trace_destroy(trace);
    trace = read_good(text, milli, 100);
    assert_int_equal(at(trace, 1).due_ns, 1500000);
    qr_trace_destroy(trace);
}

static void assert_refused(const char *text, const char *const *settings, const char *why)
{
    qr_trace   *trace;
    quire_error error = {0};
    assert_int_equal(read_with(text, settings, 100, &trace, &error), QUIRE_ERR_FORMAT);
    if (strstr(error.message, why) == NULL) fail_msg("%s", error.message);
}

#define JSON_ROW(time) "{\"timestamp\": " time ", \"input_length\": 1, \"output_length\": 1}\n"

static void times_since_1970_in_another_unit_are_refused(void **state)
{
    (void)state;
    static const char *const seconds[] = {"workload.trace.format=bailian", NULL};
    static const char *const milli[]   = {"workload.trace.format=mooncake", NULL};
    const char              *epoch     = JSON_ROW("1715299200") JSON_ROW("1715299201");
    assert_refused(AZURE "1715299200000,1,1\n1715299201000,1,1\n", NULL,
                   ":2: the time is beyond 1e11 s: milliseconds?");
    assert_refused(epoch, NULL, ":1: timestamp: seconds or milliseconds?");
    assert_refused(JSON_ROW("1715299200000"), seconds, ":1: timestamp: beyond 1e11 s: milliseconds?");
    qr_trace *trace = read_good(epoch, seconds, 100);
    assert_int_equal(at(trace, 1).due_ns, 1000000000);
    qr_trace_destroy(trace);
    trace = read_good(epoch, milli, 100);
    assert_int_equal(at(trace, 1).due_ns, 1000000);
    qr_trace_destroy(trace);
    qr_trace_destroy(read_good(JSON_ROW("0") JSON_ROW("1715299200"), NULL, 100)); /* 20 days after the first */
    qr_trace_destroy(read_good(JSON_ROW("1715299200000"), NULL, 100));
}

static void dates_and_numbers_are_not_mixed(void **state)
{
    (void)state;
    assert_refused(AZURE "2024-05-10 00:00:00,1,1\n7.5,1,1\n", NULL,
                   ":3: the time is a number, that of the first row is a date");
    assert_refused(AZURE "7.5,1,1\n2024-05-10 00:00:00,1,1\n", NULL,
                   ":3: the time is a date, that of the first row is a number");
    assert_refused(JSON_ROW("\"2024-05-10T00:00:00Z\"") JSON_ROW("7"), NULL,
                   ":2: the time is a number, that of the first row is a date");
}

static void hash_ids_may_fill_64_bits(void **state)
{
    (void)state;
    qr_trace *trace = read_good(
        "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"type\": \"\\\"9999999999999999999\", "
        "\"hash_ids\": [18446744073709551615, 9223372036854775809]}\n"
        "{\"timestamp\": 27, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [9223372036854775808, 3]}\n",
        NULL, 4096);
    assert_true(at(trace, 0).hash_ids[0] == UINT64_MAX);
    assert_true(at(trace, 0).hash_ids[1] == 9223372036854775809u);
    assert_true(at(trace, 1).hash_ids[0] == 9223372036854775808u);
    assert_true(at(trace, 1).hash_ids[1] == 3);
    qr_trace_destroy(trace);
}

static void burstgpt_rows_are_read_in_any_order_of_columns(void **state)
{
    (void)state;
    qr_trace *trace = read_good("Session ID,Timestamp,Model,Response tokens,Request tokens\nx,5,ChatGPT,18,472\n"
                                "y,45.5,GPT-4,0,1087\n",
                                NULL, 4096);
    assert_int_equal(at(trace, 0).prompt_tokens, 472);
    assert_int_equal(at(trace, 1).due_ns, 40500000000);
    assert_int_equal(at(trace, 1).output_tokens, 1); /* a failed answer has none; one is the least that can be asked */
    qr_trace_destroy(trace);
    qr_trace_destroy(read_good(BURST "5,ChatGPT,472,18,490,Conversation log\n", NULL, 4096));
}

static void mooncake_ids_stand_for_as_much_of_a_shrunk_prompt(void **state)
{
    (void)state;
    static const char *const shrink[] = {"workload.trace.length_scale=0.125", "workload.trace.time_scale=2", NULL};
    qr_trace                *trace =
        read_good("{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 8, \"hash_ids\": [0, 1]}\n"
                  "{\"timestamp\": 1500, \"input_length\": 700, \"output_length\": 9, \"hash_ids\": [0, 7]}\n",
                  shrink, 4096);
    assert_int_equal(qr_trace_describe(trace).hash_block, 64);
    assert_int_equal(at(trace, 0).prompt_tokens, 128);
    assert_int_equal(at(trace, 0).hash_count, 2);
    assert_int_equal(at(trace, 1).due_ns, 3000000000);
    assert_int_equal(at(trace, 1).hash_ids[1], 7);
    qr_trace_destroy(trace);
}

static void own_rows_keep_everything(void **state)
{
    (void)state;
    qr_trace *trace = read_good("{\"arrival_ms\": 0.000001, \"prompt_tokens\": 8, \"output_tokens\": 3}\n"
                                "{\"arrival_ms\": 12.5, \"prompt_tokens\": 512, \"output_tokens\": 64, \"tenant\": 3, "
                                "\"priority\": -2, \"class\": 1, \"prefix_tokens\": 100, \"prefix_id\": 4, "
                                "\"encoder_tokens\": 77, \"encoder_id\": 0}\n",
                                NULL, 4096);
    const qr_workload_request first = at(trace, 0), second = at(trace, 1);
    assert_int_equal(first.due_ns, 0);
    assert_int_equal(first.encoder_id, 0); /* its own number */
    assert_int_equal(second.due_ns, 12499999);
    assert_int_equal(second.tenant, 3);
    assert_int_equal(second.priority, -2);
    assert_int_equal(second.mix, 1);
    assert_int_equal(second.prefix_tokens, 100);
    assert_int_equal(second.prefix_id, 4);
    assert_int_equal(second.encoder_tokens, 77);
    assert_int_equal(second.encoder_id, 0);
    assert_int_equal(qr_trace_describe(trace).tenants, 4);
    assert_true(qr_trace_describe(trace).has_encoder);
    qr_trace_destroy(trace);
}

static void overlong_rows_are_skipped_and_counted_or_an_error(void **state)
{
    (void)state;
    static const char *const error_mode[] = {"workload.trace.overlong=error", NULL};
    static const char *const truncate[]   = {"workload.trace.overlong=truncate", NULL};
    const char              *text         = AZURE "1,10,10\n2,90,11\n3,50,50\n";
    qr_trace                *trace        = read_good(text, NULL, 100);
    assert_int_equal(qr_trace_describe(trace).count, 2);
    assert_int_equal(qr_trace_describe(trace).skipped, 1);
    qr_trace_destroy(trace);
    trace = read_good(text, truncate, 100);
    assert_int_equal(qr_trace_describe(trace).count, 3);
    qr_trace_destroy(trace);
    quire_error error;
    assert_int_equal(read_with(text, error_mode, 100, &trace, &error), QUIRE_ERR_TOO_LONG);
    assert_non_null(strstr(error.message, "request 2: 90 + 11 tokens, max_model_len is 100"));
}

static void a_part_of_a_trace_starts_at_zero(void **state)
{
    (void)state;
    static const char *const part[] = {"workload.trace.start=2s", "workload.trace.duration=2s", NULL};
    qr_trace                *trace  = read_good(AZURE "10,1,1\n11.5,2,1\n12.5,3,1\n13.5,4,1\n14,5,1\n", part, 100);
    assert_int_equal(qr_trace_describe(trace).count, 2);
    assert_int_equal(at(trace, 0).prompt_tokens, 3);
    assert_int_equal(at(trace, 0).due_ns, 500000000);
    qr_trace_destroy(trace);
}

static void bad_input_is_one_error_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no requests"},
        {AZURE "1,0x10,1\n", ":2: prompt tokens: not a whole number up to 1e9: found \"0x10\""},
        {AZURE "1, 5,1\n", ":2: prompt tokens"},
        {AZURE "0x1,5,1\n", ":2: the time is neither a date nor seconds"},
        {"{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 1, \"hash_ids\": [-7]}\n",
         ":1: hash_ids: not whole numbers from 0 to 2^64 - 1: found \"-7\""},
        {"\x1f\x8b\x08", "compressed with gzip"},
        {AZURE "2023-13-16 18:15:46,1,1\n", ":2: no such date or time of day: found \"2023-13-16 18:15:46\""},
        {AZURE "2023-02-29 18:15:46,1,1\n", ":2: no such date"},
        {AZURE "2023-11-16 28:15:46,1,1\n", ":2: no such date"},
        {AZURE "2023-11-16 18:95:46,1,1\n", ":2: no such date"},
        {AZURE "2023-11-16 18:15:nan,1,1\n", ":2: no such date"},
        {AZURE "2023-11-16 18:15:61,1,1\n", ":2: no such date"},
        {AZURE "2024-05-10 00:00:00+25:00,1,1\n", ":2: the time zone is neither Z nor +HH:MM"},
        {AZURE "2024-05-10 00:00:00 CET,1,1\n", ":2: the time zone is neither"},
        {AZURE "2024-05-10 00:00:00Z,1,1\n2024-05-10 00:00:01,1,1\n", ":3: the date has no time zone, that of"},
        {AZURE "2024-05-10 00:00:00,1,1\n2024-05-10 00:00:01Z,1,1\n", ":3: the date has a time zone, that of"},
        {"{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 1, \"hash_ids\": [18446744073709551616]}\n",
         ":1: hash_ids: not whole numbers from 0 to 2^64 - 1"},
        {AZURE "1,1,1\n2,1,1,7,8\n", ":3: the row has more columns than the header's 3: found \"5\""},
        {BURST "1,GPT-4,3\n", ":2: the row has fewer columns than the header's 6: found \"3\""},
        {"{\"arrival_ms\": 0, \"prompt_tokens\": 4, \"output_tokens\": 3, \"priorty\": 1}\n",
         ":1: unknown field: found \"priorty\""},
        {"{\"arrival_ms\": 0, \"prompt_tokens\": 0, \"output_tokens\": 3}\n",
         ":1: prompt_tokens: not a whole number between 1 and 1000000000: found \"0\""},
        {"{\"arrival_ms\": 0, \"prompt_tokens\": 3, \"output_tokens\": 0}\n", ":1: output_tokens"},
        {"{\"arrival_ms\": 0, \"prompt_tokens\": 8, \"output_tokens\": 3, \"hash_ids\": [1, 2], \"hash_block_size\": "
         "4}\n"
         "{\"arrival_ms\": 0, \"prompt_tokens\": 8, \"output_tokens\": 3, \"hash_ids\": [1], \"hash_block_size\": 8}\n",
         ":2: hash_block_size: the rows above have 4: found \"8\""},
        {AZURE, "no requests"},
        {"TIMESTAMP,ContextTokens\n1,2\n", ":1: the header has neither"},
        {"hello\n", ":1: the header has neither"},
        {AZURE "1,10\n", ":2: the row has fewer columns"},
        {AZURE "1,10,nan\n", ":2: output tokens: not a whole number up to 1e9: found \"nan\""},
        {AZURE "1,-4,2\n", ":2: prompt tokens: not a whole number up to 1e9: found \"-4\""},
        {AZURE "1,4.5,2\n", ":2: prompt tokens"},
        {AZURE "1,,2\n", ":2: prompt tokens"},
        {AZURE "1,12x,2\n", ":2: prompt tokens"},
        {AZURE "1,1e30,2\n", ":2: prompt tokens"},
        {AZURE "1,9,2\n2,10000000000,2\n", ":3: prompt tokens"},
        {AZURE "nan,1,2\n", ":2: the time is neither a date nor seconds: found \"nan\""},
        {AZURE "inf,1,2\n", ":2: the time"},
        {AZURE "yesterday,1,2\n", ":2: the time"},
        {AZURE "5,1,2\n4.5,1,2\n", ":3: the time is before that of the row above: found \"-0.5 s\""},
        {AZURE "0,1,2\n1e12,1,2\n", ":3: the time is not between 0 and 1e9 s"},
        {"[1]\n", ":1: not a JSON object"},
        {"{\"arrival_ms\": 0}\n", ":1: prompt_tokens: not a whole number"},
        {"{\"prompt_tokens\": 1, \"output_tokens\": 1}\n",
         ":1: arrival_ms: not a number of milliseconds: found \"nothing\""},
        {"{\"arrival_ms\": NaN, \"prompt_tokens\": 1, \"output_tokens\": 1}\n", ":1: invalid token"},
        {"{\"arrival_ms\": 1e999, \"prompt_tokens\": 1, \"output_tokens\": 1}\n", ":1: real number overflow"},
        {"{\"arrival_ms\": -1, \"prompt_tokens\": 1, \"output_tokens\": 1}\n",
         ":1: arrival_ms: not a number of milliseconds: found"},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": -1, \"output_tokens\": 1}\n", "found \"-1\""},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 1, \"output_tokens\": 2000000000}\n", ":1: output_tokens"},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 1.5, \"output_tokens\": 2}\n", "found \"1.5\""},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 1, \"output_tokens\": 2, \"tenant\": 5000}\n", ":1: tenant"},
        {"{\"arrival_ms\": 2, \"prompt_tokens\": 1, \"output_tokens\": 2}\n"
         "{\"arrival_ms\": 1, \"prompt_tokens\": 1, \"output_tokens\": 2}\n",
         ":2: the time is before"},
        {"{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1]}\n",
         ":1: hash_ids: 600 prompt tokens in blocks of 512 need 2 ids: found \"1\""},
        {"{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, \"2\"]}\n",
         ":1: hash_ids: not whole numbers from 0 to 2^64 - 1: found \"\"2\"\""},
        {"{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": 7}\n",
         ":1: hash_ids: not a list: found \"7\""},
        {"{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 1}\nnonsense\n", ":2: "},
        {"{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 1}\n{\"arrival_ms\": 3}\n",
         ":2: timestamp: not a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_trace          *trace;
        quire_error        error  = {0};
        const quire_status status = read_with(cases[i].text, NULL, 1 << 20, &trace, &error);
        if (status != QUIRE_ERR_FORMAT || trace != NULL) fail_msg("case %zu: status %d", i, status);
        if (strstr(error.message, cases[i].says) == NULL) fail_msg("case %zu: %s", i, error.message);
    }
}

static void blank_lines_marks_and_crlf_are_no_rows(void **state)
{
    (void)state;
    qr_trace *trace = read_good("\xef\xbb\xbf\r\n" AZURE "\r\n2016-12-31 23:59:60.5,3,4\r\n\r\n", NULL, 100);
    assert_int_equal(qr_trace_describe(trace).count, 1);
    qr_trace_destroy(trace);
    trace = read_good("\n{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 0, \"turn\": 2}\n", NULL, 100);
    assert_int_equal(at(trace, 0).output_tokens, 1); /* published traces may say 0, and more than we read */
    qr_trace_destroy(trace);
}

static void neither_bytes_of_nothing_nor_a_json_list_are_rows(void **state)
{
    (void)state;
    static const char text[] = AZURE "1,1,1\n\0\0\n2,1,1\n";
    char              path[64];
    quire_error       error = {0};
    qr_trace         *trace;
    scratch_file_write("", path);
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, sizeof text - 1, file), sizeof text - 1);
    fclose(file);
    quire_config *config = configuration(path, NULL);
    assert_int_equal(qr_trace_read(config, 100, &trace, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, ":3: longer than 65535 bytes, or holds NUL"));
    assert_null(strstr(error.message, "found"));
    file = fopen(path, "w");
    fputs("[1,2]\n", file);
    fclose(file);
    assert_int_equal(qr_trace_read(config, 100, &trace, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, ":1: not a JSON object"));
    quire_config_destroy(config);
    unlink(path);
}

static void a_folder_is_servegens_or_refused(void **state)
{
    (void)state;
    static const char *const azure[] = {"workload.trace.format=azure", NULL};
    qr_trace                *trace;
    quire_error              error;
    char                     folder[] = "/tmp/quire-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    quire_config *config = configuration(folder, NULL);
    assert_int_equal(qr_trace_read(config, 100, &trace, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "a folder without chunk-N-trace.csv"));
    quire_config_destroy(config);
    config = configuration(folder, azure);
    assert_int_equal(qr_trace_read(config, 100, &trace, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "a folder, but a trace of format \"azure\" is a file"));
    quire_config_destroy(config);
    rmdir(folder);
}

static void another_format_than_asked_for_is_refused(void **state)
{
    (void)state;
    static const char *const mooncake[] = {"workload.trace.format=mooncake", NULL};
    static const char *const azure[]    = {"workload.trace.format=azure", NULL};
    qr_trace                *trace;
    quire_error              error;
    assert_int_equal(read_with(AZURE "1,1,1\n", mooncake, 100, &trace, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "looks like format azure, but workload.trace.format is \"mooncake\""));
    qr_trace_destroy(read_good(AZURE "1,1,1\n", azure, 100));
}

static void nothing_left_after_the_selection_is_an_error(void **state)
{
    (void)state;
    static const char *const late[] = {"workload.trace.start=1h", NULL};
    qr_trace                *trace;
    quire_error              error;
    assert_int_equal(read_with(AZURE "1,1,1\n", late, 100, &trace, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "no request is left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(azure_rows_are_read),
        cmocka_unit_test(dates_have_many_forms),
        cmocka_unit_test(every_format_starts_at_its_first_row),
        cmocka_unit_test(bailian_ids_stand_for_16_tokens),
        cmocka_unit_test(a_unit_is_asked_for_where_the_fields_do_not_tell),
        cmocka_unit_test(times_since_1970_in_another_unit_are_refused),
        cmocka_unit_test(dates_and_numbers_are_not_mixed),
        cmocka_unit_test(hash_ids_may_fill_64_bits),
        cmocka_unit_test(burstgpt_rows_are_read_in_any_order_of_columns),
        cmocka_unit_test(mooncake_ids_stand_for_as_much_of_a_shrunk_prompt),
        cmocka_unit_test(own_rows_keep_everything),
        cmocka_unit_test(overlong_rows_are_skipped_and_counted_or_an_error),
        cmocka_unit_test(a_part_of_a_trace_starts_at_zero),
        cmocka_unit_test(bad_input_is_one_error_with_its_place),
        cmocka_unit_test(blank_lines_marks_and_crlf_are_no_rows),
        cmocka_unit_test(neither_bytes_of_nothing_nor_a_json_list_are_rows),
        cmocka_unit_test(a_folder_is_servegens_or_refused),
        cmocka_unit_test(another_format_than_asked_for_is_refused),
        cmocka_unit_test(nothing_left_after_the_selection_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
