/* The configuration: what is read, what is refused and with which words, and who wins. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "quire/config.h"

static quire_config *config;
static quire_error   error;
static char          path[64];

/* The library's keys, those of bench/, and axes: every type of key there is. */
static quire_status create(void)
{
    static const quire_config_key axes[] = {{"sweep.order", "choice", NULL, "interleaved | sequential", "of points"},
                                            {"sweep.*", "axis", NULL, NULL, "values of a key"}};
    const quire_status            status = qr_bench_config_create(&config, &error);
    return status == QUIRE_OK ? quire_config_add_keys(config, "test", axes, 2, &error) : status;
}

static quire_status check(void)
{
    const quire_status status = quire_config_check(config, &error);
    return status == QUIRE_OK ? qr_bench_config_check(config, &error) : status;
}

static int start(void **state)
{
    (void)state;
    error = (quire_error){0};
    snprintf(path, sizeof path, "/tmp/quire-config-XXXXXX");
    const int file = mkstemp(path);
    if (file < 0) return -1;
    close(file);
    return create() == QUIRE_OK ? 0 : -1;
}

static int finish(void **state)
{
    (void)state;
    quire_config_destroy(config);
    return unlink(path);
}

static void write_bytes(const char *bytes, size_t count)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    fclose(file);
}

static quire_status read_text(const char *text)
{
    write_bytes(text, strlen(text));
    return quire_config_read(config, path, &error);
}

static void accept(const char *text)
{
    if (read_text(text) != QUIRE_OK || check() != QUIRE_OK) fail_msg("refused: %s", error.message);
}

/* `expected` follows the file's name: ":2:1: [scheduler] ...". */
static void refuse(const char *text, quire_status status, const char *expected)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", path, expected);
    quire_status found = read_text(text);
    if (found == QUIRE_OK) found = check();
    assert_int_equal(found, status);
    assert_int_equal(error.status, status);
    assert_string_equal(error.message, whole);
}

static void set(const char *assignment)
{
    if (quire_config_set(config, assignment, "--set", &error) != QUIRE_OK) fail_msg("refused: %s", error.message);
}

static void refuse_set(const char *assignment, const char *message)
{
    assert_int_equal(quire_config_set(config, assignment, "--set", &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, message);
}

static void refuse_check(const char *message)
{
    assert_int_equal(check(), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, message);
}

static int64_t integer(const char *key)
{
    return quire_config_is_set(config, key) ? quire_config_integer(config, key) : -77;
}

/* ---- names ---- */

static void unknown_names_are_refused_with_the_nearest(void **state)
{
    (void)state;
    const quire_status bad = QUIRE_ERR_INVALID;
    refuse("[scheduler]\nmax_num_seq = 3\n", bad,
           ":2:1: [scheduler] max_num_seq: unknown key, did you mean max_num_seqs?");
    refuse("[schedular]\nmax_num_seqs = 3\n", bad, ":1:2: [schedular]: unknown section, did you mean [scheduler]?");
    refuse("[scheduler]\nblock_size = 32\n", bad,
           ":2:1: [scheduler] block_size: unknown key, did you mean [kv_cache] block_size?");
    refuse("[scheduler]\n\n  zzzzzzzz = 1\n", bad, ":3:3: [scheduler] zzzzzzzz: unknown key");
    refuse("[qqqqqqqqqq]\nx = 1\n", bad, ":1:2: [qqqqqqqqqq]: unknown section");
    refuse("[workload]\nprompt_tokens = {dist = \"fixed\", valeu = 3}\n", bad,
           ":2:34: [workload.prompt_tokens] valeu: unknown key, did you mean value?");
    refuse("[workload.trase]\npath = \"x\"\n", bad, ":1:11: [workload] trase: unknown key, did you mean trace?");
    refuse("[[tenant]]\nnam = \"a\"\n", bad, ":2:1: [tenant[0]] nam: unknown key, did you mean name?");
    refuse("schema_versoin = 1\n", bad, ":1:1: schema_versoin: unknown key, did you mean schema_version?");
    refuse("\"scheduler.max_num_seqs\" = 3\n", bad,
           ":1:1: [scheduler] max_num_seqs: unknown key, did you mean max_num_seqs?");
    refuse("[workload.\"mix[0]\"]\nname = \"x\"\n", bad, ":1:11: [workload] mix[0]: unknown key, did you mean mix?");
}

static void the_first_mistake_of_a_file_is_the_one_reported(void **state)
{
    (void)state;
    refuse("[scheduler]\nzebra = 1\nantelope = 2\n", QUIRE_ERR_INVALID, ":2:1: [scheduler] zebra: unknown key");
}

static void sections_and_lists_are_told_apart(void **state)
{
    (void)state;
    refuse("scheduler = 3\n", QUIRE_ERR_INVALID, ":1:13: [scheduler] is a section, found integer 3");
    refuse("[tenant]\nname = \"a\"\n", QUIRE_ERR_INVALID, ":1:1: tenant: is a list of tables: write [[tenant]]");
    refuse("tenant = [3]\n", QUIRE_ERR_INVALID, ":1:10: tenant: expected an array of tables, found integer 3");
}

/* ---- types ---- */

static void wrong_types_say_what_was_found(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[scheduler]\nmax_num_seqs = \"8\"",
         ":2:16: [scheduler] max_num_seqs: expected an integer, found string \"8\""},
        {"[scheduler]\nmax_num_seqs = 8.0", ":2:16: [scheduler] max_num_seqs: expected an integer, found number 8"},
        {"[scheduler]\nmax_num_seqs = [8]", ":2:16: [scheduler] max_num_seqs: expected an integer, found an array"},
        {"[scheduler]\nmax_num_seqs = true", ":2:16: [scheduler] max_num_seqs: expected an integer, found true"},
        {"[scheduler]\nmax_num_seqs = 2020-01-01",
         ":2:16: [scheduler] max_num_seqs: expected an integer, found a date or time"},
        {"[scheduler]\nwatermark = \"0.1\"", ":2:13: [scheduler] watermark: expected a number, found string \"0.1\""},
        {"[scheduler]\nwatermark = nan", ":2:13: [scheduler] watermark: expected a finite number, found number nan"},
        {"[numa]\nstrict = 1", ":2:10: [numa] strict: expected true or false, found integer 1"},
        {"[topology]\ncpus = 3", ":2:8: [topology] cpus: expected a string, found integer 3"},
        {"[topology]\nbind = \"pus\"", ":2:8: [topology] bind: \"pus\" is not one of core | pu | none"},
        {"[kv_cache]\nblock_size = 48", ":2:14: [kv_cache] block_size: 48 is not one of 32 | 64 | 128 | 256"},
        {"[kv_cache]\nsize = 4096",
         ":2:8: [kv_cache] size: expected a size with its unit, e.g. \"4GiB\", found integer 4096"},
        {"[run]\nduration = 3", ":2:12: [run] duration: expected a time with its unit, e.g. \"60s\", found integer 3"},
        {"[run]\nduration = \"3\"",
         ":2:12: [run] duration: \"3\" is not a time; write e.g. \"60s\" or \"250ms\" (ns, us, ms, s, m, h)"},
        {"[run]\nduration = \"-3s\"",
         ":2:12: [run] duration: \"-3s\" is not a time; write e.g. \"60s\" or \"250ms\" (ns, us, ms, s, m, h)"},
        {"[output]\nfiles = \"x\"", ":2:9: [output] files: expected an array, found string \"x\""},
        {"[output]\nfiles = [1]", ":2:10: [output] files[0]: expected a string, found integer 1"},
        {"[output]\npercentiles = [50, 101]", ":2:20: [output] percentiles[1]: 101 is above the maximum 100"},
        {"[workload]\nprompt_tokens = \"x\"",
         ":2:17: [workload] prompt_tokens: expected a table or an integer, found string \"x\""},
        {"[workload]\ntenants = 3", ":2:11: [workload] tenants: expected a table, found integer 3"},
        {"[output.label]\na = 1", ":2:5: [output.label] a: expected a string, found integer 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) refuse(cases[i][0], QUIRE_ERR_INVALID, cases[i][1]);
}

/* ---- ranges ---- */

static quire_status set_integer(const char *key, int64_t value)
{
    char assignment[128];
    snprintf(assignment, sizeof assignment, "%s=%lld", key, (long long)value);
    return quire_config_set(config, assignment, "--set", &error);
}

static void refuse_integer(const char *key, int64_t value, const char *word)
{
    assert_int_equal(set_integer(key, value), QUIRE_ERR_INVALID);
    if (strstr(error.message, word) == NULL) fail_msg("%s: %s", key, error.message);
}

/* Every integer key of the table, at its bounds and just beyond. */
static void integers_are_accepted_up_to_their_bounds_and_no_further(void **state)
{
    (void)state;
    size_t                  tested = 0;
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(config, i)) != NULL; i++) {
        const char *dots = key->range ? strstr(key->range, "..") : NULL;
        if (strcmp(key->type, "integer") != 0 || dots == NULL || strpbrk(key->name, "[*") != NULL) continue;
        const int64_t low = strtoll(key->range, NULL, 10), high = strtoll(dots + 2, NULL, 10);
        assert_int_equal(set_integer(key->name, low), QUIRE_OK);
        assert_int_equal(integer(key->name), low);
        refuse_integer(key->name, low - 1, "is below the minimum");
        assert_int_equal(integer(key->name), low); /* a refused value changes nothing */
        tested++;
        if (dots[2] == '\0') continue;
        assert_int_equal(set_integer(key->name, high), QUIRE_OK);
        assert_int_equal(integer(key->name), high);
        refuse_integer(key->name, high + 1, "is above the maximum");
    }
    assert_in_range(tested, 20, 200);
}

static void every_choice_is_accepted_and_another_is_not(void **state)
{
    (void)state;
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(config, i)) != NULL; i++) {
        if (strcmp(key->type, "choice") != 0 || strchr(key->name, '[') != NULL) continue;
        assert_non_null(key->range);
        char choices[256], assignment[256], *save = NULL;
        snprintf(choices, sizeof choices, "%s", key->range);
        for (char *choice = strtok_r(choices, " |", &save); choice; choice = strtok_r(NULL, " |", &save)) {
            snprintf(assignment, sizeof assignment, "%s=%s", key->name, choice);
            set(assignment);
            assert_string_equal(quire_config_string(config, key->name), choice);
        }
        snprintf(assignment, sizeof assignment, "%s=nonsense", key->name);
        assert_int_equal(quire_config_set(config, assignment, "--set", &error), QUIRE_ERR_INVALID);
        assert_non_null(strstr(error.message, key->range));
    }
}

static void numbers_keep_to_open_and_closed_bounds(void **state)
{
    (void)state;
    refuse_set("load.request_rate=0", "--set: [load] request_rate: 0 must be above 0");
    refuse_set("scheduler.watermark=0.51", "--set: [scheduler] watermark: 0.51 is above the maximum 0.5");
    refuse_set("scheduler.watermark=-0.01", "--set: [scheduler] watermark: -0.01 is below the minimum 0");
    refuse_set("topology.barrier_spin=2s", "--set: [topology] barrier_spin: \"2s\" is above the maximum 1s");
    refuse_set("topology.barrier_spin=0s", "--set: [topology] barrier_spin: \"0s\" is below the minimum 1ns");
    set("scheduler.watermark=0.5");
    set("generate.presence_penalty=-2");
    set("output.percentiles=[0.001, 100]");
}

/* ---- units ---- */

static void sizes_and_times_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *assignment;
        int64_t     value;
    } cases[] = {
        {"kv_cache.size=4GiB", INT64_C(4) << 30},
        {"kv_cache.size=512MB", 512000000},
        {"kv_cache.size=1.5KiB", 1536},
        {"kv_cache.size=7B", 7},
        {"kv_cache.size=1 TiB", INT64_C(1) << 40},
        {"run.duration=250ms", 250000000},
        {"run.duration=1.5s", 1500000000},
        {"run.duration=2m", INT64_C(120000000000)},
        {"run.duration=1h", INT64_C(3600000000000)},
        {"run.duration=20us", 20000},
        {"run.duration=0s", 0},
        {"run.duration='3ns'", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char key[32];
        set(cases[i].assignment);
        snprintf(key, sizeof key, "%.*s", (int)strcspn(cases[i].assignment, "="), cases[i].assignment);
        assert_int_equal(integer(key), cases[i].value);
    }
    static const char *const wrong[] = {
        "kv_cache.size=4",      "kv_cache.size=4gib", "kv_cache.size=GiB",           "kv_cache.size=0B",
        "kv_cache.size=-1B",    "kv_cache.size=nanB", "kv_cache.size=9999999999TiB", "kv_cache.size=",
        "run.duration=3 weeks", "run.duration=auto"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(quire_config_set(config, wrong[i], "--set", &error), QUIRE_ERR_INVALID);
    set("kv_cache.size=auto");
    assert_int_equal(integer("kv_cache.size"), 0); /* no number */
}

/* ---- broken files ---- */

static void broken_text_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place;
    } cases[] = {
        {"[model]\npreset = \n", ":2:"},
        {"[model\n", ":1:"},
        {"[model]\npreset = \"a\"\npreset = \"b\"\n", ":3:"},
        {"[model]\n[model]\n", ":2:"},
        {"x = 1 2\n", ":1:"},
        {"[model]\npreset = \"abc\n", ":2:"},
        {"x = 99999999999999999999\n", ":1:"},
        {"\xff\xfe\n", ":1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(read_text(cases[i].text), QUIRE_ERR_FORMAT);
        assert_int_equal(strncmp(error.message, path, strlen(path)), 0);
        assert_int_equal(strncmp(error.message + strlen(path), cases[i].place, strlen(cases[i].place)), 0);
    }
    refuse("[model]\n[   # no name\n[run]\n", QUIRE_ERR_FORMAT, ":2: a key or a value is malformed");
    write_bytes("x = 1\0\n", 7);
    assert_int_equal(quire_config_read(config, path, &error), QUIRE_ERR_FORMAT);
}

static void absent_and_unreadable_files_are_io_errors(void **state)
{
    (void)state;
    assert_int_equal(quire_config_read(config, "/nonexistent/quire.toml", &error), QUIRE_ERR_IO);
    assert_string_equal(error.message, "/nonexistent/quire.toml: cannot be opened: No such file or directory");
    assert_int_equal(quire_config_read(config, "/tmp", &error), QUIRE_ERR_IO);
}

static void a_file_has_at_most_one_mebibyte(void **state)
{
    (void)state;
    const size_t limit = (size_t)1 << 20;
    char        *text  = malloc(limit + 1);
    memset(text, '\n', limit + 1);
    write_bytes(text, limit);
    assert_int_equal(quire_config_read(config, path, &error), QUIRE_OK);
    write_bytes(text, limit + 1);
    assert_int_equal(quire_config_read(config, path, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "is larger than 1 MiB"));
    free(text);
}

static void assert_path(const char *key, const char *expected)
{
    const char *found = quire_config_string(config, key);
    assert_non_null(found);
    assert_string_equal(found, expected);
}

static void a_relative_path_in_a_file_is_relative_to_the_file(void **state)
{
    (void)state;
    char beside[128];
    snprintf(beside, sizeof beside, "%.*s/models/x", (int)(strrchr(path, '/') - path), path);
    accept("[model]\npath = \"models/x\"\n[sweep]\n\"model.path\" = [\"models/x\", \"/y\"]\n");
    assert_path("model.path", beside);
    assert_path("sweep[0].values[0]", beside);
    assert_path("sweep[0].values[1]", "/y");
    accept("[model]\npath = \"/models/x\"\n");
    assert_path("model.path", "/models/x");
    assert_int_equal(quire_config_set(config, "model.path=models/x", "--set", &error), QUIRE_OK);
    assert_path("model.path", "models/x");
}

static char *repeated(const char *before, const char *unit, size_t count)
{
    char *text = malloc(strlen(before) + strlen(unit) * count + 1);
    char *to   = stpcpy(text, before);
    for (size_t i = 0; i < count; i++) to = stpcpy(to, unit);
    return text;
}

static bool is_refused_for_depth(quire_status status)
{
    return status == QUIRE_ERR_FORMAT && strstr(error.message, "nested deeper than 16") != NULL;
}

/* NULL, or the first bomb that went off; asserting is left to the test's own thread. */
static void *read_bombs(void *unused)
{
    (void)unused;
    static const char *const bombs[][2] = {
        {"x = ", "["}, {"x = ", "{a="},  {"x = ", "[{a="}, {"", "["},
        {"a", ".a"},   {"x = {a", ".a"}, {"[a", ". a"},    {"x = ", "[\n"},
    };
    const char *failed = NULL;
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        char *text = repeated(bombs[i][0], bombs[i][1], 100000);
        if (!is_refused_for_depth(read_text(text))) failed = bombs[i][1];
        free(text);
    }
    char *assignment = repeated("output.files=", "[", 100000);
    if (!is_refused_for_depth(quire_config_set(config, assignment, "--set", &error))) failed = "--set";
    free(assignment);
    return (void *)(uintptr_t)failed;
}

static void nesting_bombs_do_not_overflow_a_small_stack(void **state)
{
    (void)state;
    pthread_attr_t attributes;
    pthread_t      thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)1 << 20);
    assert_int_equal(pthread_create(&thread, &attributes, read_bombs, NULL), 0);
    void *failed = NULL;
    pthread_join(thread, &failed);
    pthread_attr_destroy(&attributes);
    assert_null(failed);
}

static void brackets_in_strings_and_comments_are_not_nesting(void **state)
{
    (void)state;
    accept("# [[[[[[[[[[[[[[[[[[[[[[[[[[ .......................\n"
           "[model]\npath = \"[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[\" # '\n"
           "[workload]\npath = '''\n[[[[[[[[[[[[[[[[[[[[[[''[\n'''\n[run]\ncost_model = '[[[[[[[[[[[[[[[[[[[[['\n");
    assert_string_equal(quire_config_string(config, "workload.path"), "/tmp/[[[[[[[[[[[[[[[[[[[[[[''[\n");
}

/* ---- layers ---- */

static void later_layers_win_and_say_where_they_are_from(void **state)
{
    (void)state;
    char origin[96];
    assert_int_equal(integer("scheduler.max_num_seqs"), 64);
    assert_string_equal(quire_config_origin(config, "scheduler.max_num_seqs"), "built-in");
    accept("\n[scheduler]\nmax_num_seqs = 65\n");
    assert_int_equal(integer("scheduler.max_num_seqs"), 65);
    snprintf(origin, sizeof origin, "%s:3", path);
    assert_string_equal(quire_config_origin(config, "scheduler.max_num_seqs"), origin);
    setenv("QUIRE__SCHEDULER__MAX_NUM_SEQS", "66", 1);
    assert_int_equal(quire_config_read_environment(config, &error), QUIRE_OK);
    unsetenv("QUIRE__SCHEDULER__MAX_NUM_SEQS");
    assert_int_equal(integer("scheduler.max_num_seqs"), 66);
    assert_string_equal(quire_config_origin(config, "scheduler.max_num_seqs"), "QUIRE__SCHEDULER__MAX_NUM_SEQS");
    set("scheduler.max_num_seqs = 67");
    set("scheduler.max_num_seqs=68");
    assert_int_equal(integer("scheduler.max_num_seqs"), 68);
    assert_string_equal(quire_config_origin(config, "scheduler.max_num_seqs"), "--set");
}

static void load_reads_file_then_environment(void **state)
{
    (void)state;
    quire_config *loaded = NULL;
    const char    text[] = "[topology]\nthreads = 3\ncpus = \"node:0\"\n";
    write_bytes(text, strlen(text));
    setenv("QUIRE__TOPOLOGY__THREADS", "5", 1);
    assert_int_equal(quire_config_load(path, &loaded, &error), QUIRE_OK);
    assert_int_equal(quire_config_engine(loaded)->threads, 5);
    assert_string_equal(quire_config_engine(loaded)->cpus, "node:0");
    quire_config_destroy(loaded);
    setenv("QUIRE__TOPOLOGY__THREADS", "many", 1);
    assert_int_equal(quire_config_load(path, &loaded, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message,
                        "QUIRE__TOPOLOGY__THREADS: [topology] threads: expected an integer, found string \"many\"");
    assert_null(loaded);
    unsetenv("QUIRE__TOPOLOGY__THREADS");
}

static void unknown_variables_are_refused(void **state)
{
    (void)state;
    setenv("QUIRE__SCHEDULER__MAX_NUM_SEQ", "66", 1);
    assert_int_equal(quire_config_read_environment(config, &error), QUIRE_ERR_INVALID);
    unsetenv("QUIRE__SCHEDULER__MAX_NUM_SEQ");
    assert_string_equal(
        error.message,
        "QUIRE__SCHEDULER__MAX_NUM_SEQ: [scheduler] max_num_seq: unknown key, did you mean max_num_seqs?");
    setenv("QUIRE__NOWHERE__X", "1", 1);
    assert_int_equal(quire_config_read_environment(config, &error), QUIRE_ERR_INVALID);
    unsetenv("QUIRE__NOWHERE__X");
    assert_string_equal(error.message, "QUIRE__NOWHERE__X: [nowhere]: unknown section");
}

static void a_variable_reaches_a_deep_key(void **state)
{
    (void)state;
    setenv("QUIRE__MODEL__SHAPE__NUM_HIDDEN_LAYERS", "4", 1);
    setenv("QUIRE__WORKLOAD__PROMPT_TOKENS", "{dist='uniform', min=1, max=9}", 1);
    assert_int_equal(quire_config_read_environment(config, &error), QUIRE_OK);
    unsetenv("QUIRE__MODEL__SHAPE__NUM_HIDDEN_LAYERS");
    unsetenv("QUIRE__WORKLOAD__PROMPT_TOKENS");
    assert_int_equal(quire_config_model(config)->shape_count, 1);
    assert_string_equal(quire_config_model(config)->shape[0].name, "num_hidden_layers");
    assert_int_equal(quire_config_model(config)->shape[0].value, 4);
    assert_string_equal(quire_config_string(config, "workload.prompt_tokens.dist"), "uniform");
}

static void assignments_take_toml_or_bare_text(void **state)
{
    (void)state;
    set("topology.cpus=0-3,8");
    assert_string_equal(quire_config_string(config, "topology.cpus"), "0-3,8");
    set("topology.cpus=\"node:0\"");
    assert_string_equal(quire_config_string(config, "topology.cpus"), "node:0");
    set("model.path=12");
    assert_string_equal(quire_config_string(config, "model.path"), "12");
    set("model.path=a=b");
    assert_string_equal(quire_config_string(config, "model.path"), "a=b");
    set("workload.path=");
    assert_string_equal(quire_config_string(config, "workload.path"), "");
    set("output.files=[\"a.json\", \"b.csv\"]");
    assert_int_equal(quire_config_count(config, "output.files"), 2);
    assert_string_equal(quire_config_string(config, "output.files[1]"), "b.csv");
    refuse_set("scheduler.max_num_seqs", "--set: \"scheduler.max_num_seqs\": expected section.key=value");
    refuse_set("=3", "--set: \"=3\": expected section.key=value");
    refuse_set("scheduler.max_num_seqs=1\nmax_num_batched_tokens=2",
               "--set: [scheduler] max_num_seqs: expected an integer, found string \"1\\x0amax_num_batched_tokens=2\"");
    refuse_set("tenant.name=x", "--set: tenant.name: tenant is a list: write tenant[0].name");
    refuse_set("tenant[0].name=x", "--set: tenant[0].name: tenant has 0 elements");
}

static void set_value(const char *key, const char *value)
{
    if (quire_config_set_value(config, key, value, "--flag", &error) != QUIRE_OK)
        fail_msg("refused: %s", error.message);
}

static void a_value_of_a_flag_is_text_where_the_key_holds_text(void **state)
{
    static const char *const texts[] = {"\"q\"", "'q",       " lead ",   "1",       "a=b",
                                        "a\nb",  "\xff\xfe", "\"\x80\"", "\\u0041", ""};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        set_value("model.path", texts[i]);
        assert_string_equal(quire_config_string(config, "model.path"), texts[i]);
    }
    set_value("run.duration", "60s");
    assert_int_equal(quire_config_integer(config, "run.duration"), 60000000000);
    set_value("load.request_rate", " 2.5");
    assert_true(quire_config_number(config, "load.request_rate") == 2.5);
    set_value("workload.prompt_tokens", "{dist=\"uniform\",min=1,max=3}");
    assert_string_equal(quire_config_string(config, "workload.prompt_tokens.dist"), "uniform");
    assert_string_equal(quire_config_origin(config, "model.path"), "--flag");
    assert_int_equal(quire_config_set_value(config, "load.profile", "\"poisson\"", "--flag", &error),
                     QUIRE_ERR_INVALID);
    assert_int_equal(quire_config_set_value(config, "no.such", "1", "--flag", &error), QUIRE_ERR_INVALID);
    assert_int_equal(quire_config_set_value(config, "model.path", NULL, "--flag", &error), QUIRE_ERR_INVALID);
}

static void path_and_preset_replace_each_other(void **state)
{
    (void)state;
    accept("[model]\npreset = \"tiny\"\n");
    assert_string_equal(quire_config_model_preset(config), "tiny");
    assert_null(quire_config_model_path(config));
    set("model.path=/m");
    assert_string_equal(quire_config_model_path(config), "/m");
    assert_null(quire_config_model_preset(config));
    set("model.preset=t5-small");
    assert_null(quire_config_model_path(config));
    refuse("[model]\npath = \"a\"\npreset = \"b\"\n", QUIRE_ERR_INVALID,
           ":3:10: [model] preset: mutually exclusive with [model] path");
    assert_string_equal(quire_config_model_preset(config), "t5-small"); /* a refused file changes nothing */
}

static void the_cache_has_one_size(void **state)
{
    (void)state;
    accept("[kv_cache]\nsize = \"4GiB\"\n");
    assert_int_equal(quire_config_engine(config)->kv_cache_bytes, INT64_C(4) << 30);
    set("kv_cache.num_kv_blocks=12");
    assert_int_equal(quire_config_engine(config)->num_kv_blocks, 12);
    assert_int_equal(quire_config_engine(config)->kv_cache_bytes, 0);
    set("kv_cache.memory_fraction=0.25");
    assert_int_equal(quire_config_engine(config)->num_kv_blocks, 0);
    assert_true(quire_config_engine(config)->memory_fraction == 0.25F);
    set("kv_cache.size=auto");
    assert_true(quire_config_engine(config)->memory_fraction == 0.0F);
    refuse("[kv_cache]\nnum_kv_blocks = 3\nmemory_fraction = 0.5\n", QUIRE_ERR_INVALID,
           ":3:19: [kv_cache] memory_fraction: mutually exclusive with [kv_cache] num_kv_blocks");
    accept("[kv_cache]\nsize = \"auto\"\nnum_kv_blocks = 3\n");
}

/* ---- distributions ---- */

static void distributions_need_what_they_need_and_no_more(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{ mean = 3 }", ":2:26: [workload.prompt_tokens] mean: dist is missing (fixed, uniform, normal, ...)"},
        {"{ dist = \"fixed\" }", ":2:26: [workload.prompt_tokens] dist: fixed needs value"},
        {"{ dist = \"zipf\", s = 1 }", ":2:26: [workload.prompt_tokens] dist: zipf needs max"},
        {"{ dist = \"gamma\", mean = 3 }", ":2:26: [workload.prompt_tokens] dist: gamma needs stdev"},
        {"{ dist = \"empirical\", file = \"x\" }", ":2:26: [workload.prompt_tokens] dist: empirical needs column"},
        {"{ dist = \"fixed\", value = 3, s = 1 }", ":2:50: [workload.prompt_tokens] s: fixed has no s"},
        {"{ dist = \"uniform\", min = 9, max = 3 }",
         ":2:43: [workload.prompt_tokens] min: 9 is above workload.prompt_tokens.max = 3"},
        {"{ dist = \"lognormal\", mean = 0, stdev = 1 }", ":2:46: [workload.prompt_tokens] mean: 0 must be above 0"},
        {"{ dist = \"flat\" }",
         ":2:26: [workload.prompt_tokens] dist: \"flat\" is not one of fixed | uniform | normal | "
         "lognormal | gamma | zipf | empirical"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[workload]\nprompt_tokens = %s\n", cases[i][0]);
        refuse(text, QUIRE_ERR_INVALID, cases[i][1]);
    }
    accept("[workload]\nprompt_tokens = { dist = \"lognormal\", mean = 128, stdev = 120, min = 4, max = 1024 }\n"
           "output_tokens = 7\n[[workload.mix]]\nname = \"a\"\nprompt_tokens = { dist = \"fixed\", value = 3 }\n");
    assert_int_equal(integer("workload.prompt_tokens.mean"), 128);
    assert_string_equal(quire_config_string(config, "workload.output_tokens.dist"), "fixed");
    assert_int_equal(integer("workload.output_tokens.value"), 7);
    assert_int_equal(quire_config_count(config, "workload.mix"), 1);
    assert_int_equal(integer("workload.mix[0].prompt_tokens.value"), 3);
}

static void a_later_table_replaces_all_of_an_earlier_one(void **state)
{
    (void)state;
    accept("[workload]\nprompt_tokens = { dist = \"gamma\", mean = 128, stdev = 120, min = 4 }\n");
    accept("[workload]\nprompt_tokens = { dist = \"fixed\", value = 9 }\n");
    assert_int_equal(integer("workload.prompt_tokens.min"), -77);
    set("workload.prompt_tokens.value=10");
    assert_int_equal(integer("workload.prompt_tokens.value"), 10);
    set("workload.prompt_tokens.dist=uniform");
    assert_int_equal(integer("workload.prompt_tokens.value"), -77);
    refuse_check("--set: [workload.prompt_tokens] dist: uniform needs min");
    set("workload.prompt_tokens.min=1");
    set("workload.prompt_tokens.max=2");
    assert_int_equal(check(), QUIRE_OK);
}

/* ---- several keys ---- */

static void contradictions_between_keys_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"scheduler.max_num_batched_tokens=16", NULL,
         "--set: [scheduler] max_num_batched_tokens: 16 is below [scheduler] max_num_seqs = 64"},
        {"scheduler.max_num_partial_prefills=65", NULL,
         "--set: [scheduler] max_num_seqs: 64 is below [scheduler] max_num_partial_prefills = 65"},
        {"scheduler.max_long_partial_prefills=2", NULL,
         "--set: [scheduler] max_num_partial_prefills: 1 is below [scheduler] max_long_partial_prefills = 2"},
        {"scheduler={enable_chunked_prefill=false,max_num_batched_tokens=512}", "model.max_model_len=513",
         "--set: [scheduler] max_num_batched_tokens: 512 is below [model] max_model_len = 513, which "
         "enable_chunked_prefill = false requires"},
        {"scheduler.max_num_queued_tokens=100", "model.max_model_len=101",
         "--set: [scheduler] max_num_queued_tokens: 100 is below [model] max_model_len = 101"},
        {"workload.source=file", NULL, "--set: [workload] source: \"file\" needs workload.path"},
        {"workload.source=trace", NULL, "--set: [workload] source: \"trace\" needs workload.trace.path"},
        {"workload.n=65", NULL, "--set: [workload] n: 65 is above scheduler.max_num_seqs = 64"},
        {"workload.num_prompts=0", NULL, "--set: [workload] num_prompts: 0 needs run.duration, or the run never ends"},
        {"run.warmup.min=61s", NULL, "--set: [run.warmup] min: 61s is above run.warmup.max = 60s"},
        {"run.warmup.max=1s", NULL, "--set: [run.warmup] max: 1s is below run.warmup.min = 5s"},
        {"slo.ttft=300", "slo.e2el=200", "--set: [slo] e2el: 200 is below slo.ttft = 300"},
        {"slo.tpot=300", "slo.e2el=200", "--set: [slo] e2el: 200 is below slo.tpot = 300"},
        {"slo.preset=mlperf-llama3.1-8b-server", "slo.e2el=200", "--set: [slo] e2el: 200 is below slo.ttft = 2000"},
        {"slo={preset='mlperf-llama3.1-8b-server',ttft=40}", "slo.e2el=50",
         "--set: [slo] e2el: 50 is below slo.tpot = 100"},
        {"slo.min_attainment=0.9", NULL, "--set: [slo] min_attainment: needs a limit in [slo]"},
        {"output.percentiles=[]", NULL, "--set: [output] percentiles: is empty; name at least one"},
        {"output.percentiles=[1,2,3,4,5,6,7,8,9,10,11,12,13]", NULL,
         "--set: [output] percentiles: has 13 values; must be 1 to 12"},
        {"output.percentiles=[50,99,50]", NULL, "--set: [output] percentiles[2]: 50 appears twice"},
        {"tenant=[{weight=2}]", NULL, "--set: [[tenant]] 0: name is missing"},
        {"tenant=[{name='a'},{name='a'}]", NULL, "--set: [[tenant]] a: name appears twice"},
        {"tenant=[{name='a'},{name='b'}]", "scheduler.max_num_tenants=1",
         "--set: [[tenant]]: there are 2; [scheduler] max_num_tenants is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quire_config_destroy(config);
        assert_int_equal(create(), QUIRE_OK);
        set(cases[i][0]);
        if (cases[i][1] != NULL) set(cases[i][1]);
        refuse_check(cases[i][2]);
    }
}

static void what_is_allowed_together_passes(void **state)
{
    (void)state;
    set("scheduler.max_num_batched_tokens=16");
    set("scheduler.max_num_seqs=8");
    set("scheduler.enable_chunked_prefill=false");
    set("model.max_model_len=16");
    set("workload.num_prompts=0");
    set("run.duration=1s");
    assert_int_equal(check(), QUIRE_OK);
}

/* ---- options ---- */

static void the_built_in_configuration_is_the_engines_default(void **state)
{
    (void)state;
    const quire_engine_options *o = quire_config_engine(config);
    assert_int_equal(check(), QUIRE_OK);
    assert_int_equal(o->size, sizeof *o);
    assert_int_equal(o->max_num_seqs, 64);
    assert_int_equal(o->max_num_batched_tokens, 0);
    assert_int_equal(o->max_num_encoder_input_tokens, 0);
    assert_int_equal(o->long_prefill_token_threshold, 0);
    assert_int_equal(o->priority_ageing_ns, 10000000000);
    assert_true(o->watermark == 0.05F);
    assert_int_equal(o->block_size, 32);
    assert_int_equal(o->kv_cache_bytes, 0);
    assert_int_equal(o->kv_dtype, QUIRE_DTYPE_BF16);
    assert_int_equal(o->enable_prefix_caching, QUIRE_TOGGLE_ON);
    assert_int_equal(o->zero_on_free, QUIRE_TOGGLE_OFF);
    assert_null(o->cpus);
    assert_null(o->isa);
    assert_int_equal(o->barrier_spin_ns, 20000);
    assert_int_equal(o->num_speculative_tokens, 0);
    assert_int_equal(o->prompt_lookup_max, 4);
    assert_int_equal(o->speculative_adaptive, QUIRE_TOGGLE_ON);
    assert_int_equal(quire_config_model(config)->weight_seed, 1);
    assert_int_equal(quire_config_model(config)->weight_dtype, QUIRE_DTYPE_AUTO);
}

static void what_is_off_or_without_limit_has_its_word(void **state)
{
    (void)state;
    accept("[scheduler]\nwatermark = 0.0\npriority_ageing = \"forever\"\nmax_head_passes = 0\n"
           "long_prefill_token_threshold = \"unlimited\"\n");
    const quire_engine_options *o = quire_config_engine(config);
    assert_true(o->watermark == QUIRE_NO_WATERMARK);
    assert_true(o->priority_ageing_ns == QUIRE_FOREVER);
    assert_int_equal(o->max_head_passes, QUIRE_DISABLED);
    assert_int_equal(o->long_prefill_token_threshold, QUIRE_UNLIMITED);
    set("scheduler.long_prefill_token_threshold=100");
    assert_int_equal(quire_config_engine(config)->long_prefill_token_threshold, 100);
    refuse_set("scheduler.max_num_seqs=unlimited",
               "--set: [scheduler] max_num_seqs: expected an integer, found string \"unlimited\"");
}

static void tenants_and_shape_follow_the_file(void **state)
{
    (void)state;
    accept("[model.shape]\nnum_hidden_layers = 2\nvocab_size = 99\n"
           "[[tenant]]\nname = \"a\"\nweight = 2.5\nmax_num_queued_reqs = 4\n[[tenant]]\nname = \"b\"\n");
    const quire_engine_options *o = quire_config_engine(config);
    const quire_model_options  *m = quire_config_model(config);
    assert_int_equal(m->shape_count, 2);
    assert_string_equal(m->shape[1].name, "vocab_size");
    assert_int_equal(m->shape[1].value, 99);
    assert_int_equal(o->tenant_count, 2);
    assert_string_equal(o->tenants[0].name, "a");
    assert_true(o->tenants[0].weight == 2.5F && o->tenants[0].max_num_queued_reqs == 4);
    assert_string_equal(o->tenants[1].name, "b");
    assert_true(o->tenants[1].weight == 1);
}

static void sections_of_the_tool_are_skipped_where_they_are_not_added(void **state)
{
    (void)state;
    quire_config *plain  = NULL;
    const char    text[] = "[scheduler]\nmax_num_seqs = 3\n[load]\nprofile = \"poisson\"\n[sweep]\n\"a.b\" = [1]\n";
    write_bytes(text, strlen(text));
    assert_int_equal(quire_config_load(path, &plain, &error), QUIRE_OK);
    assert_int_equal(quire_config_engine(plain)->max_num_seqs, 3);
    assert_int_equal(quire_config_set(plain, "lode.profile=poisson", NULL, &error), QUIRE_ERR_INVALID);
    quire_config_destroy(plain);
}

/* ---- sweeps and labels ---- */

static void axes_are_expanded_and_checked(void **state)
{
    (void)state;
    accept("[sweep]\n\"scheduler.max_num_seqs\" = \"16-64*2\"\n\"load.request_rate\" = [0.5, 1, 2]\n"
           "\"scheduler.policy\" = [\"fcfs\", \"priority\"]\n\"topology.threads\" = \"1-3\"\n"
           "\"load.streams\" = \"8-24+8\"\n");
    assert_int_equal(quire_config_count(config, "sweep"), 5);
    assert_string_equal(quire_config_string(config, "sweep[0].key"), "load.request_rate");
    assert_string_equal(quire_config_string(config, "sweep[0].values[0]"), "0.5");
    assert_int_equal(quire_config_count(config, "sweep[1].values"), 3);
    assert_string_equal(quire_config_string(config, "sweep[1].values[2]"), "24");
    assert_string_equal(quire_config_string(config, "sweep[2].key"), "scheduler.max_num_seqs");
    assert_string_equal(quire_config_string(config, "sweep[2].values[2]"), "64");
    assert_string_equal(quire_config_string(config, "sweep[3].values[1]"), "priority");
    assert_int_equal(quire_config_count(config, "sweep[4].values"), 3);
    const quire_status bad = QUIRE_ERR_INVALID;
    refuse("[sweep]\n\"load.request_rat\" = [1]\n", bad,
           ":2:22: [load] request_rat: unknown key, did you mean request_rate?");
    refuse("[sweep]\n\"scheduler.max_num_seqs\" = [1, 0]\n", bad,
           ":2:28: [scheduler] max_num_seqs: 0 is below the minimum 1");
    refuse("[sweep]\n\"load.streams\" = \"8-4\"\n", bad,
           ":2:18: [sweep] load.streams: \"8-4\" is not a range; write e.g. \"1-8\", \"8-64+8\" or \"16-64*2\"");
    refuse("[sweep]\n\"load.streams\" = \"1-9999999\"\n", bad,
           ":2:18: [sweep] load.streams: \"1-9999999\" has more than 1000 values");
    refuse("[sweep]\n\"load.streams\" = []\n", bad, ":2:18: [sweep] load.streams: an axis has 1 to 1000 values");
    refuse("[sweep]\n\"load.streams\" = [4, 1, 4]\n", bad, ":2:18: [sweep] load.streams: \"4\" appears twice");
    refuse("[sweep]\nload.streams = [1]\n", bad,
           ":2:1: [sweep] load: an axis is a dotted key in quotes: \"load.request_rate\" = [1, 2]");
}

static void an_assignment_takes_the_quotes_that_a_file_has(void **state)
{
    (void)state;
    set("sweep.\"load.streams\"=[1, 2]");
    set("sweep.'scheduler.max_num_seqs'=[4]");
    set("output.label.\"a.b\"=x");
    assert_int_equal(quire_config_count(config, "sweep"), 2);
    assert_string_equal(quire_config_string(config, "sweep[0].key"), "load.streams");
    assert_string_equal(quire_config_string(config, "sweep[1].key"), "scheduler.max_num_seqs");
    assert_string_equal(quire_config_string(config, "output.label[0].name"), "a.b");
    refuse_set("sweep.\"load.stream\"=[1]", "--set: [load] stream: unknown key, did you mean streams?");
    assert_int_equal(quire_config_set(config, "scheduler.\"max_num_seqs\"=3", "--set", &error), QUIRE_ERR_INVALID);
}

static void labels_have_names_of_ones_own(void **state)
{
    (void)state;
    accept("[output]\nlabel = { host = \"n1\", \"a.b c\" = \"x\" }\n");
    set("output.label.run=3");
    assert_int_equal(quire_config_count(config, "output.label"), 3);
    assert_string_equal(quire_config_string(config, "output.label[0].name"), "a.b c");
    assert_string_equal(quire_config_string(config, "output.label[2].value"), "3");
}

/* ---- printing ---- */

static char *without_comments(char *text)
{
    char *to = text;
    for (char *from = text; *from != '\0';) {
        char *hash = strstr(from, " # "), *end = strchr(from, '\n');
        char *stop = hash != NULL && hash < end ? hash : end;
        memmove(to, from, (size_t)(stop - from));
        to += stop - from;
        *to++ = '\n';
        from  = end + 1;
    }
    *to = '\0';
    return text;
}

static const char rich[] =
    "[model]\npath = \"a \\\"b\\\" \\u0001 \xc3\xbc\"\n[model.shape]\nvocab_size = 99\n"
    "[[tenant]]\nname = \"a\"\nweight = 2.5\n[[tenant]]\nname = \"b\"\n"
    "[kv_cache]\nsize = \"4GiB\"\n[workload]\noutput_tokens = 5\n"
    "[[workload.mix]]\nname = \"m\"\nprompt_tokens = { dist = \"uniform\", min = 1, max = 2.5 }\n"
    "[slo]\nttft = 2000\n[sweep]\n\"load.request_rate\" = [0.5, 1]\n"
    "[output]\nfiles = [\"-\"]\nlabel = { \"x y\" = \"1\" }\npercentiles = [99.9]\n";

static void what_is_printed_can_be_read_and_is_the_same(void **state)
{
    (void)state;
    const quire_print forms[] = {QUIRE_PRINT_ORIGINS, QUIRE_PRINT_TEMPLATE, QUIRE_PRINT_BARE};
    for (int i = 0; i < 3; i++) {
        accept(rich);
        char *first = quire_config_print(config, forms[i], NULL);
        quire_config_destroy(config);
        assert_int_equal(create(), QUIRE_OK);
        accept(first);
        char *second = quire_config_print(config, forms[i], NULL);
        assert_string_equal(without_comments(first), without_comments(second));
        quire_free(first), quire_free(second);
    }
}

static void the_print_names_every_origin(void **state)
{
    (void)state;
    set("scheduler.max_num_seqs=7");
    char *text = quire_config_print(config, QUIRE_PRINT_ORIGINS, NULL);
    assert_non_null(strstr(text, "\nmax_num_seqs = 7 # --set\n"));
    assert_non_null(strstr(text, "\nmax_num_queued_reqs = 1024 # built-in\n"));
    quire_free(text);
}

static void the_template_has_every_key_and_loads(void **state)
{
    (void)state;
    char                   *text = quire_config_print(config, QUIRE_PRINT_TEMPLATE, NULL);
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(config, i)) != NULL; i++) {
        assert_non_null(key->help);
        if (strpbrk(key->name, "[*") == NULL && strstr(text, key->help) == NULL &&
            strncmp(key->name, "workload.", 9) != 0 && strncmp(key->name, "run.warmup.", 11) != 0)
            fail_msg("the template lacks %s", key->name);
    }
    accept(text);
    quire_free(text);
}

/* ---- the table ---- */

static void names_of_the_table_are_unique_and_types_known(void **state)
{
    (void)state;
    static const char types[] = " integer number boolean string path size duration choice table array axis ";
    for (size_t i = 0; quire_config_key_at(config, i) != NULL; i++) {
        const quire_config_key *key = quire_config_key_at(config, i);
        char                    type[32];
        snprintf(type, sizeof type, " %s ", key->type);
        assert_non_null(strstr(types, type));
        for (size_t j = 0; j < i; j++) assert_string_not_equal(key->name, quire_config_key_at(config, j)->name);
    }
    assert_null(quire_config_key_at(config, 100000));
}

static void values_unset_or_of_another_type_read_as_nothing(void **state)
{
    (void)state;
    assert_null(quire_config_string(config, "scheduler.max_num_seqs"));
    assert_null(quire_config_string(config, "model.path"));
    assert_int_equal(quire_config_integer(config, "topology.cpus"), 0);
    assert_true(isnan(quire_config_number(config, "slo.ttft")));
    assert_false(quire_config_is_set(config, "slo.ttft"));
    assert_true(quire_config_is_set(config, "numa.strict"));
    assert_false(quire_config_boolean(config, "scheduler.max_num_seqs"));
    assert_int_equal(quire_config_count(config, "topology.cpus"), 0);
    assert_true(quire_config_number(config, "scheduler.max_num_seqs") == 64);
    quire_config_destroy(NULL);
}

/* ---- keys of a program's own ---- */

static void a_program_adds_its_own_keys(void **state)
{
    (void)state;
    static const quire_config_key own[] = {{"server.port", "integer", "8080", "1..65535", "TCP port to listen on"},
                                           {"scheduler.zeal", "number", NULL, "0..1", "how eager"}};
    quire_config                 *c     = NULL;
    assert_int_equal(quire_config_create(&c, &error), QUIRE_OK);
    assert_int_equal(quire_config_set(c, "server.port=1", NULL, &error), QUIRE_ERR_INVALID);
    assert_int_equal(quire_config_add_keys(c, "server", own, 2, &error), QUIRE_OK);
    assert_int_equal(quire_config_integer(c, "server.port"), 8080);
    assert_true(quire_config_is_default(c, "server.port"));
    assert_int_equal(quire_config_set(c, "server.port=0", "--port", &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "--port: [server] port: 0 is below the minimum 1");
    assert_int_equal(quire_config_set(c, "server.port=443", "--port", &error), QUIRE_OK);
    assert_false(quire_config_is_default(c, "server.port"));
    assert_int_equal(quire_config_refuse(c, "server.port", &error, "%d needs root", 443), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "--port: [server] port: 443 needs root");
    assert_int_equal(quire_config_add_keys(c, "server", own, 1, &error), QUIRE_ERR_INVALID);
    quire_config_destroy(c);
}

static void a_print_may_be_of_one_owners_keys(void **state)
{
    (void)state;
    char *all = quire_config_print(config, QUIRE_PRINT_BARE, NULL);
    char *own = quire_config_print(config, QUIRE_PRINT_BARE, "quire"),
         *run = quire_config_print(config, QUIRE_PRINT_BARE, "bench");
    assert_non_null(strstr(own, "[kernels]"));
    assert_null(strstr(own, "[load]"));
    assert_non_null(strstr(run, "[load]"));
    assert_null(strstr(run, "[output]"));
    assert_non_null(strstr(all, "[output]"));
    quire_free(all), quire_free(own), quire_free(run);
}

/* Keys of one section stay together, or the text would open it twice and not be TOML. */
static void a_section_of_two_owners_is_printed_once(void **state)
{
    (void)state;
    static const quire_config_key more = {"load.extra", "integer", "3", NULL, "an addition"};
    assert_int_equal(quire_config_add_keys(config, "test", &more, 1, &error), QUIRE_OK);
    char *text = quire_config_print(config, QUIRE_PRINT_TEMPLATE, NULL), *first = strstr(text, "\n[load]");
    assert_non_null(first);
    assert_null(strstr(first + 1, "\n[load]"));
    accept(text);
    quire_free(text);
}

static void a_key_that_nobody_registered_ends_the_program(void **state)
{
    (void)state;
    int         status = 0;
    const pid_t child  = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
        signal(SIGABRT, SIG_DFL);
        (void)quire_config_number(config, "load.request_rat");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void members_that_a_table_leaves_out_have_their_defaults(void **state)
{
    (void)state;
    accept("[run]\nwarmup = { mode = \"duration\", min = \"4s\" }\n[[workload.mix]]\nname = \"a\"\n");
    assert_int_equal(integer("run.warmup.min"), 4000000000);
    assert_int_equal(integer("run.warmup.max"), 60000000000);
    assert_true(quire_config_number(config, "workload.mix[0].weight") == 1);
    assert_int_equal(integer("workload.mix[0].output_tokens.value"), 128);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(unknown_names_are_refused_with_the_nearest),
        CASE(a_relative_path_in_a_file_is_relative_to_the_file),
        CASE(the_first_mistake_of_a_file_is_the_one_reported),
        CASE(sections_and_lists_are_told_apart),
        CASE(wrong_types_say_what_was_found),
        CASE(integers_are_accepted_up_to_their_bounds_and_no_further),
        CASE(every_choice_is_accepted_and_another_is_not),
        CASE(numbers_keep_to_open_and_closed_bounds),
        CASE(sizes_and_times_have_units),
        CASE(broken_text_is_refused_with_its_place),
        CASE(absent_and_unreadable_files_are_io_errors),
        CASE(a_file_has_at_most_one_mebibyte),
        CASE(nesting_bombs_do_not_overflow_a_small_stack),
        CASE(brackets_in_strings_and_comments_are_not_nesting),
        CASE(later_layers_win_and_say_where_they_are_from),
        CASE(load_reads_file_then_environment),
        CASE(unknown_variables_are_refused),
        CASE(a_variable_reaches_a_deep_key),
        CASE(assignments_take_toml_or_bare_text),
        CASE(a_value_of_a_flag_is_text_where_the_key_holds_text),
        CASE(path_and_preset_replace_each_other),
        CASE(the_cache_has_one_size),
        CASE(distributions_need_what_they_need_and_no_more),
        CASE(a_later_table_replaces_all_of_an_earlier_one),
        CASE(contradictions_between_keys_are_refused),
        CASE(what_is_allowed_together_passes),
        CASE(the_built_in_configuration_is_the_engines_default),
        CASE(what_is_off_or_without_limit_has_its_word),
        CASE(tenants_and_shape_follow_the_file),
        CASE(sections_of_the_tool_are_skipped_where_they_are_not_added),
        CASE(axes_are_expanded_and_checked),
        CASE(an_assignment_takes_the_quotes_that_a_file_has),
        CASE(labels_have_names_of_ones_own),
        CASE(what_is_printed_can_be_read_and_is_the_same),
        CASE(the_print_names_every_origin),
        CASE(the_template_has_every_key_and_loads),
        CASE(names_of_the_table_are_unique_and_types_known),
        CASE(values_unset_or_of_another_type_read_as_nothing),
        CASE(a_program_adds_its_own_keys),
        CASE(a_print_may_be_of_one_owners_keys),
        CASE(a_section_of_two_owners_is_printed_once),
        CASE(a_key_that_nobody_registered_ends_the_program),
        CASE(members_that_a_table_leaves_out_have_their_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
