/* The one list of options against the structs, and file against create: every field has one line, every line a key, and
 * both accept the same ends of every range. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/option_list.h"
#include "engine/option_rules.h"
#include "quire/config.h"

/* ---- fields ---- */

/* What no line describes, for there is no one value to check. */
typedef struct extent {
    size_t offset, size;
} extent;
#define FIELD(type, member)                                                                                            \
    {                                                                                                                  \
        offsetof(type, member), sizeof(((type *)0)->member)                                                            \
    }

static const extent engine_exceptions[] = {
    FIELD(quire_engine_options, size),         FIELD(quire_engine_options, tenants),
    FIELD(quire_engine_options, tenant_count), FIELD(quire_engine_options, mask),
    FIELD(quire_engine_options, comm),         FIELD(quire_engine_options, allocator),
    FIELD(quire_engine_options, logger),
};
static const extent model_exceptions[] = {
    FIELD(quire_model_options, size),      FIELD(quire_model_options, shape),  FIELD(quire_model_options, shape_count),
    FIELD(quire_model_options, allocator), FIELD(quire_model_options, logger),
};

static const extent tenant_size = FIELD(quire_tenant_options, size);

static void mark(unsigned char *bytes, size_t offset, size_t size)
{
    for (size_t i = offset; i < offset + size; i++) bytes[i]++;
}

/* Bytes that nothing describes are padding: they end where something begins that must be aligned. */
static void assert_covered(qr_option_struct of, size_t size, const extent *exceptions, size_t count)
{
    unsigned char bytes[1024] = {0};
    size_t        padding     = 0;
    assert_in_range(size, 1, sizeof bytes);
    for (size_t i = 0; i < count; i++) mark(bytes, exceptions[i].offset, exceptions[i].size);
    for (size_t i = 0; i < qr_option_count; i++)
        if (qr_option_list[i].of == of) mark(bytes, qr_option_list[i].offset, qr_option_width(&qr_option_list[i]));
    for (size_t at = 0; at < size; at++) {
        padding = bytes[at] == 0 ? padding + 1 : 0;
        if (bytes[at] > 1) fail_msg("struct %d: byte %zu is in two lines", (int)of, at);
        if (padding > 0 && (padding == sizeof(uint64_t) || (padding == 4 && at % 8 == 3)))
            fail_msg("struct %d: bytes %zu to %zu are in no line", (int)of, at + 1 - padding, at);
    }
}

static void every_field_has_one_line(void **state)
{
    (void)state;
    assert_covered(QR_OF_ENGINE, sizeof(quire_engine_options), engine_exceptions,
                   sizeof engine_exceptions / sizeof *engine_exceptions);
    assert_covered(QR_OF_MODEL, sizeof(quire_model_options), model_exceptions,
                   sizeof model_exceptions / sizeof *model_exceptions);
    assert_covered(QR_OF_TENANT, sizeof(quire_tenant_options), &tenant_size, 1);
}

/* The width follows from the type of the line, and must be that of the field: its neighbour begins behind it. */
static void no_line_reaches_into_the_next_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < qr_option_count; i++)
        for (size_t k = 0; k < qr_option_count; k++) {
            const qr_option *a = &qr_option_list[i], *b = &qr_option_list[k];
            if (a->of == b->of && b->offset > a->offset && b->offset < a->offset + qr_option_width(a))
                fail_msg("%s is %zu bytes wide and reaches into %s", a->name, qr_option_width(a), b->name);
        }
}

static void every_line_has_a_key_and_a_help(void **state)
{
    (void)state;
    static const char *const programs_only[] = {"max_logits_in_flight", "stage_slices", "cache_events"};
    size_t                   keyless         = 0;
    quire_config            *config          = NULL;
    assert_int_equal(quire_config_create(&config, NULL), QUIRE_OK);
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option *o = &qr_option_list[i];
        if (o->key == NULL) {
            assert_in_range(keyless, 0, 2);
            assert_string_equal(o->name, programs_only[keyless++]);
            continue;
        }
        size_t                  found = 0;
        const quire_config_key *key;
        for (size_t k = 0; (key = quire_config_key_at(config, k)) != NULL; k++) found += strcmp(key->name, o->key) == 0;
        assert_int_equal(found, 1);
        assert_true(o->help != NULL && strlen(o->help) > 10);
    }
    quire_config_destroy(config);
}

static void instruction_sets_are_those_of_the_kernels(void **state)
{
    (void)state;
    static const char words[] = "auto"
#define QR_ISA(name, needs, onednn) " | " #name
#include "kernels/isa.inc"
#undef QR_ISA
        ;
    assert_string_equal(qr_option_find("kernels.isa")->words, words);
}

/* ---- ranges: file and create agree ---- */

typedef union any_options {
    quire_engine_options engine;
    quire_model_options  model;
    quire_tenant_options tenant;
} any_options;

static quire_status create_says(const qr_option *o, double value)
{
    any_options    options = {0};
    void          *at      = (char *)&options + o->offset;
    const uint64_t wide    = (uint64_t)value;
    const uint32_t narrow  = (uint32_t)value;
    const float    real    = (float)value;
    if (o->kind == QR_OPTION_REAL)
        memcpy(at, &real, sizeof real);
    else if (qr_option_width(o) == sizeof wide)
        memcpy(at, &wide, sizeof wide);
    else
        memcpy(at, &narrow, sizeof narrow);
    return qr_option_resolve(o, &options, NULL);
}

static quire_status file_says(const qr_option *o, double value)
{
    quire_config *config = NULL;
    char          assignment[128];
    const char   *member = o->of == QR_OF_TENANT ? strrchr(o->key, '.') + 1 : NULL;
    assert_int_equal(quire_config_create(&config, NULL), QUIRE_OK);
    const char *unit = o->kind == QR_OPTION_DURATION ? "ns" : o->kind == QR_OPTION_SIZE ? "B" : "";
    if (member != NULL)
        snprintf(assignment, sizeof assignment, "tenant=[{name='a',%s=%.17g}]", member, value);
    else
        snprintf(assignment, sizeof assignment, "%s=%.*f%s", o->key, o->kind == QR_OPTION_REAL ? 6 : 0, value, unit);
    const quire_status status = quire_config_set(config, assignment, "test", NULL);
    quire_config_destroy(config);
    return status;
}

static void assert_both(const qr_option *o, double value, bool accepted)
{
    const quire_status expected = accepted ? QUIRE_OK : QUIRE_ERR_INVALID;
    if (o->key != NULL && file_says(o, value) != expected)
        fail_msg("%s = %.17g: the file is not %s", o->key, value, accepted ? "accepted" : "refused");
    if (create_says(o, value) != expected)
        fail_msg("%s = %.17g: create does not %s it", o->name, value, accepted ? "accept" : "refuse");
}

static bool is_number(const qr_option *o)
{
    return o->kind == QR_OPTION_COUNT || o->kind == QR_OPTION_POWER || o->kind == QR_OPTION_DURATION ||
           o->kind == QR_OPTION_REAL || o->kind == QR_OPTION_SIZE;
}

static void file_and_create_agree_at_both_ends_of_every_range(void **state)
{
    (void)state;
    size_t tested = 0;
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option *o       = &qr_option_list[i];
        const bool       is_real = o->kind == QR_OPTION_REAL;
        if (!is_number(o)) continue;
        assert_both(o, o->least, true);
        assert_both(o, o->most, true);
        if (o->kind != QR_OPTION_SIZE) assert_both(o, is_real ? o->most * 1.001 : o->most + 1, false);
        if (is_real || o->least > 1) assert_both(o, is_real ? o->least - 0.0005 : o->least - 1, false);
        tested++;
    }
    assert_in_range(tested, 25, 100);
}

static void not_a_number_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < qr_option_count; i++)
        if (qr_option_list[i].kind == QR_OPTION_REAL)
            assert_int_equal(create_says(&qr_option_list[i], NAN), QUIRE_ERR_INVALID);
}

/* ---- words ---- */

static quire_status resolve_word(const char *key, const char *text, const char **text_out, quire_error *error)
{
    const qr_option     *o       = qr_option_find(key);
    quire_engine_options options = {0};
    void                *at      = (char *)&options + o->offset;
    memcpy(at, &text, sizeof text);
    const quire_status status = qr_option_resolve(o, &options, error);
    memcpy(text_out, at, sizeof *text_out);
    return status;
}

static void an_empty_word_is_refused_by_name(void **state)
{
    (void)state;
    const char *text;
    quire_error error;
    assert_int_equal(resolve_word("kernels.isa", "", &text, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[kernels] isa: is empty; the default is auto");
    assert_int_equal(resolve_word("topology.cpus", "", &text, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[topology] cpus: is empty; the default is auto");
}

static void auto_is_the_default_in_a_struct_too(void **state)
{
    (void)state;
    const char *text;
    assert_int_equal(resolve_word("kernels.isa", "auto", &text, NULL), QUIRE_OK);
    assert_null(text);
    assert_int_equal(resolve_word("topology.cpus", "auto", &text, NULL), QUIRE_OK);
    assert_null(text);
    assert_int_equal(resolve_word("kernels.isa", "avx2", &text, NULL), QUIRE_OK);
    assert_string_equal(text, "avx2");
    assert_int_equal(resolve_word("kernels.isa", "avx", &text, NULL), QUIRE_ERR_INVALID);
}

/* ---- defaults: a file that says nothing is a struct of zeros ---- */

static void the_built_in_file_and_a_struct_of_zeros_are_the_same(void **state)
{
    (void)state;
    quire_config        *config = NULL;
    quire_engine_options zeros  = {.size = sizeof zeros}, options;
    qr_option_fault      fault;
    assert_int_equal(quire_config_create(&config, NULL), QUIRE_OK);
    options = *quire_config_engine(config);
    assert_int_equal(qr_options_check(&options, &fault, NULL), QUIRE_OK);
    assert_int_equal(qr_options_check(&zeros, &fault, NULL), QUIRE_OK);
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option *o = &qr_option_list[i];
        if (o->of != QR_OF_ENGINE) continue;
        if (memcmp((char *)&options + o->offset, (char *)&zeros + o->offset, qr_option_width(o)) != 0)
            fail_msg("%s differs", o->name);
    }
    quire_config_destroy(config);
}

static void a_default_lies_in_its_range(void **state)
{
    (void)state;
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option *o = &qr_option_list[i];
        if (is_number(o) && o->fallback != 0) assert_both(o, o->fallback, true);
    }
}

/* ---- every key arrives in its field ---- */

static void another_value(const qr_option *o, char *text_out, size_t size)
{
    const char *unit = o->kind == QR_OPTION_DURATION ? "ns" : o->kind == QR_OPTION_SIZE ? "B" : "";
    if (o->kind == QR_OPTION_CHOICE || o->kind == QR_OPTION_TEXT)
        snprintf(text_out, size, "%s", strrchr(o->words, ' ') ? strrchr(o->words, ' ') + 1 : "node:0");
    else if (o->kind == QR_OPTION_SWITCH)
        snprintf(text_out, size, "%s", o->fallback == QUIRE_TOGGLE_ON ? "false" : "true");
    else if (o->kind == QR_OPTION_SEED)
        snprintf(text_out, size, "9");
    else
        snprintf(text_out, size, "%.*f%s", o->kind == QR_OPTION_REAL ? 3 : 0, o->most, unit);
}

static void a_key_sets_its_field_and_no_other(void **state)
{
    (void)state;
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option *o      = &qr_option_list[i];
        quire_config    *config = NULL;
        char             assignment[128], value[64];
        if (o->key == NULL || o->of == QR_OF_TENANT) continue;
        assert_int_equal(quire_config_create(&config, NULL), QUIRE_OK);
        any_options before = {0}, after = {0};
        const bool  of_engine = o->of == QR_OF_ENGINE;
        if (of_engine)
            before.engine = *quire_config_engine(config);
        else
            before.model = *quire_config_model(config);
        another_value(o, value, sizeof value);
        snprintf(assignment, sizeof assignment, "%s=%s", o->key, value);
        assert_int_equal(quire_config_set(config, assignment, "test", NULL), QUIRE_OK);
        if (of_engine)
            after.engine = *quire_config_engine(config);
        else
            after.model = *quire_config_model(config);
        if (memcmp((char *)&before + o->offset, (char *)&after + o->offset, qr_option_width(o)) == 0)
            fail_msg("%s changes nothing", assignment);
        memcpy((char *)&after + o->offset, (char *)&before + o->offset, qr_option_width(o));
        after.engine.tenants = before.engine.tenants; /* follow the values, wherever these are */
        if (!of_engine) after.model.shape = before.model.shape;
        assert_memory_equal(&before, &after, of_engine ? sizeof before.engine : sizeof before.model);
        quire_config_destroy(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_has_one_line),
        cmocka_unit_test(no_line_reaches_into_the_next_field),
        cmocka_unit_test(every_line_has_a_key_and_a_help),
        cmocka_unit_test(instruction_sets_are_those_of_the_kernels),
        cmocka_unit_test(file_and_create_agree_at_both_ends_of_every_range),
        cmocka_unit_test(not_a_number_is_refused),
        cmocka_unit_test(the_built_in_file_and_a_struct_of_zeros_are_the_same),
        cmocka_unit_test(an_empty_word_is_refused_by_name),
        cmocka_unit_test(auto_is_the_default_in_a_struct_too),
        cmocka_unit_test(a_default_lies_in_its_range),
        cmocka_unit_test(a_key_sets_its_field_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
