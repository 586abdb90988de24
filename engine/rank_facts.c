/* What ranks must have alike so that they decide and compute alike: this code, the instruction set, the options but
 * those of where threads run, the model. One line each. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "engine/engine.h"
#include "quire/version.h"

typedef struct lines {
    char  *text;
    size_t used;
} lines;

__attribute__((format(printf, 2, 3))) static void add(lines *to, const char *format, ...)
{
    va_list      arguments;
    const size_t left = QR_RANK_FACTS - to->used;
    va_start(arguments, format);
    const int length = vsnprintf(to->text + to->used, left, format, arguments);
    va_end(arguments);
    if (length > 0 && (size_t)length < left) to->used += (size_t)length;
}

/* Each rank has its own machine. */
static bool is_of_the_machine(const qr_option *option)
{
    return option->key != NULL && (strncmp(option->key, "topology.", 9) == 0 || strncmp(option->key, "numa.", 5) == 0);
}

static void add_option(lines *to, const qr_option *option, const quire_engine_options *options)
{
    const char *at   = (const char *)options + option->offset;
    const char *name = option->key != NULL ? option->key : option->name, *text;
    uint32_t    narrow;
    uint64_t    wide;
    float       real;
    if (option->kind == QR_OPTION_TEXT) {
        memcpy(&text, at, sizeof text);
        add(to, "%s is %s\n", name, text != NULL ? text : "auto");
    } else if (option->kind == QR_OPTION_REAL) {
        memcpy(&real, at, sizeof real);
        add(to, "%s is %.9g\n", name, (double)real);
    } else if (qr_option_width(option) == sizeof wide) {
        memcpy(&wide, at, sizeof wide);
        add(to, "%s is %" PRIu64 "\n", name, wide);
    } else {
        memcpy(&narrow, at, sizeof narrow);
        add(to, "%s is %" PRIu32 "\n", name, narrow);
    }
}

/* All their fields in one number. */
static uint64_t hash_tenants(const quire_engine_options *options)
{
    uint64_t hash = options->tenant_count;
    for (uint32_t i = 0; i < options->tenant_count; i++) {
        quire_tenant_options t;
        if (qr_options_copy_element("quire_tenant_options", options->tenants, i, &t, sizeof t, NULL) != QUIRE_OK)
            continue;
        char      text[256];
        const int length =
            snprintf(text, sizeof text, "%.64s %.9g %.9g %" PRIu32 " %" PRIu32, t.name != NULL ? t.name : "",
                     (double)t.weight, (double)t.max_kv_fraction, t.max_num_seqs, t.max_num_queued_reqs);
        hash = XXH3_64bits_withSeed(text, (size_t)length, hash);
    }
    return hash;
}

quire_status qr_rank_facts(const quire_engine *engine, const quire_model *model, char text[QR_RANK_FACTS],
                           quire_error *error)
{
    char     binary[64];
    uint64_t shape, contents;
    lines    to = {.text = text};
    qr_ranks_binary(binary, sizeof binary);
    QR_TRY(qr_kernels_check_cap(engine->options.isa, error));
    QR_TRY(qr_model_digest(model, &shape, &contents, error));
    add(&to, "the version is %u\n", quire_version());
    add(&to, "the binary's build ID is %s\n", binary);
    add(&to, "the instruction set is %s\n", qr_kernels_select(engine->options.isa)->isa);
    add(&to, "the number of NUMA nodes is %u\n", qr_team_placement(engine->team)->node_count);
    for (size_t i = 0; i < qr_option_count; i++)
        if (qr_option_list[i].of == QR_OF_ENGINE && !is_of_the_machine(&qr_option_list[i]))
            add_option(&to, &qr_option_list[i], &engine->options);
    add(&to, "the tenants are %016" PRIx64 "\n", hash_tenants(&engine->options));
    add(&to, "the model's shape and dtype are %016" PRIx64 "\n", shape);
    add(&to, "the model's contents are %016" PRIx64 "\n", contents);
    return QUIRE_OK;
}
