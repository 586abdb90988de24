/* Every allocation of a model's and an engine's life fails once, and every one from it on: whatever the instruction
 * set, the types of weights and keys, the model and who multiplies, the failure is one ERR_NO_MEMORY with a sentence,
 * and all memory is given back. The life goes through steps beyond the switch to oneDNN, where nothing is allocated. */
#include <stdatomic.h>
#include <stdint.h>

#include <quire/quire.h>

#include "tests/lanes/lane.h"

enum { PROMPT = 150, OUTPUT = 3 };

typedef struct variant {
    const char   *isa, *model;
    quire_dtype   weights, keys;
    quire_small_m small_m;
} variant;

typedef struct counts {
    uint64_t variants, failures, lives;
    bool     long_form;
} counts;

static counts *counted;

/* ---- the allocator ---- */

static _Atomic int64_t left, live; /* allocations until one fails; not yet given back */
static bool            all_after;

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    const int64_t number = atomic_fetch_sub(&left, 1);
    if (number == 0 || (all_after && number < 0)) return NULL;
    void *pointer = aligned_alloc(alignment, (size / alignment + 1) * alignment);
    if (pointer != NULL) atomic_fetch_add(&live, 1);
    return pointer;
}

static void deallocate(void *context, void *pointer, size_t size)
{
    (void)context, (void)size;
    if (pointer != NULL) atomic_fetch_sub(&live, 1);
    free(pointer);
}

static void drop_line(void *context, quire_log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

/* ---- a life ---- */

static const quire_allocator allocator = {.allocate = allocate, .deallocate = deallocate};
static const quire_logger    logger    = {.write = drop_line, .level = QUIRE_LOG_ERROR};

static quire_status load(const variant *v, quire_model **model_out, quire_error *error)
{
    const quire_model_options options = {
        .size = sizeof options, .weight_dtype = v->weights, .allocator = allocator, .logger = logger};
    char path[512];
    snprintf(path, sizeof path, "%s/tests/models/%s", QUIRE_SOURCE_DIR, v->model);
    return quire_model_load(path, &options, model_out, error);
}

static quire_status create(const variant *v, quire_model *model, quire_engine **engine_out, quire_error *error)
{
    const quire_engine_options options = {.size                         = sizeof options,
                                          .num_kv_blocks                = 40,
                                          .max_model_len                = 256,
                                          .max_num_seqs                 = 4,
                                          .max_num_batched_tokens       = 128,
                                          .long_prefill_token_threshold = 128,
                                          .num_speculative_tokens       = 2,
                                          .threads                      = 2,
                                          .bind                         = QUIRE_BIND_NONE,
                                          .isa                          = v->isa,
                                          .kv_dtype                     = v->keys,
                                          .small_m                      = v->small_m,
                                          .allocator                    = allocator,
                                          .logger                       = logger};
    return quire_engine_create(&options, model, engine_out, error);
}

/* The tokens of two requests as one number. */
static uint64_t run(quire_engine *engine, const quire_model *model)
{
    static int32_t   prompt[PROMPT];
    quire_model_info info  = {.size = sizeof info};
    uint64_t         hash  = 0;
    uint32_t         ended = 0;
    quire_event      events[16];
    quire_model_describe(model, &info);
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 7 + 3) % 200;
    quire_request request = {.size = sizeof request, .max_tokens = OUTPUT, .ignore_eos = true};
    request.prompt        = prompt;
    request.prompt_count  = PROMPT;
    if (info.encoder_layers > 0) {
        request.encoder_input = prompt;
        request.encoder_count = PROMPT / 2;
        request.prompt_count  = 4;
    }
    const int64_t before = left;
    for (int i = 0; i < 2; i++, request.prompt_count = 3)
        LANE_CHECK(quire_engine_submit(engine, &request, NULL, NULL) == QUIRE_OK, "submit");
    for (int step = 0; step < 100 && ended < 2; step++) {
        LANE_CHECK(quire_engine_step(engine, NULL) == QUIRE_OK, "step");
        for (size_t got; (got = quire_engine_poll(engine, events, 16)) > 0;)
            for (size_t i = 0; i < got; i++) {
                const bool token = events[i].kind == QUIRE_EVENT_TOKEN;
                ended += !token;
                hash = hash * 1000003 + (uint64_t)(token ? events[i].token : (int32_t)events[i].finish);
            }
    }
    LANE_CHECK(ended == 2, "%u of 2 requests ended", ended);
    LANE_CHECK(left == before, "%d allocations in steps", (int)(before - left));
    return hash;
}

/* One life in which allocation number `fails` (and all after it) fails; 0 of *hash_out: it ended early, as it must. */
static void life(const variant *v, int64_t fails, bool and_all_after, uint64_t *hash_out)
{
    quire_model  *model  = NULL;
    quire_engine *engine = NULL;
    quire_error   error  = {0};
    atomic_store(&left, fails);
    all_after           = and_all_after;
    quire_status status = load(v, &model, &error);
    LANE_CHECK((status == QUIRE_OK) == (model != NULL), "load: status %d and a model or none", status);
    if (status == QUIRE_OK) {
        status = create(v, model, &engine, &error);
        LANE_CHECK((status == QUIRE_OK) == (engine != NULL), "create: status %d and an engine or none", status);
    }
    const char *said = error.message;
    LANE_CHECK(status == QUIRE_OK || (status == QUIRE_ERR_NO_MEMORY && said[0] != '\0' && strchr(said, '\n') == NULL),
               "%s, %s, weights %d, keys %d, small_m %d: allocation %d%s: status %d: %s", v->model, v->isa, v->weights,
               v->keys, v->small_m, (int)fails, and_all_after ? " and all after" : "", status, said);
    *hash_out = status == QUIRE_OK ? run(engine, model) : 0;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    LANE_CHECK(live == 0, "allocation %d: %d are not given back", (int)fails, (int)live);
    counted->lives++;
}

static void try_variant(const variant *v)
{
    uint64_t      expected, hash;
    const int64_t none = INT64_MAX / 2;
    life(v, none, false, &expected);
    const int64_t number = none - left;
    for (int64_t fails = 0; fails < number; fails++)
        for (int after = 0; after < 2; after++) {
            if (!counted->long_form && fails % 4 != 2 * after) continue; /* one in four of these */
            life(v, fails, after, &hash);
            LANE_CHECK(hash == 0 || hash == expected, "%s, %s: other tokens without allocation %d", v->model, v->isa,
                       (int)fails);
            counted->failures += hash == 0;
        }
    counted->variants++;
}

/* ---- all of them ---- */

/* Whether this CPU has it: a cap above what it has is no error. */
static bool has_isa(const char *isa)
{
    const variant v      = {.isa = isa, .model = "llama3-gqa"};
    quire_model  *model  = NULL;
    quire_engine *engine = NULL;
    quire_stats   stats  = {.size = sizeof stats};
    quire_error   error;
    atomic_store(&left, INT64_MAX / 2);
    LANE_CHECK(load(&v, &model, &error) == QUIRE_OK && create(&v, model, &engine, &error) == QUIRE_OK, "%s",
               error.message);
    quire_engine_stats(engine, &stats);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return strcmp(stats.isa, isa) == 0;
}

/* Short: one model for each type of weights. Long: all, and oneDNN for every number of rows with the first. */
static void try_isa(void *isa)
{
    static const char *const   all_models[] = {"llama3-gqa", "t5-gated", "qwen3-qknorm"};
    static const quire_dtype   dtypes[]     = {QUIRE_DTYPE_F32, QUIRE_DTYPE_BF16, QUIRE_DTYPE_INT8};
    static const quire_small_m products[]   = {QUIRE_SMALL_M_AUTO, QUIRE_SMALL_M_ONEDNN};
    const bool                 all          = counted->long_form;
    if (!has_isa(isa)) return;
    for (size_t d = 0; d < 3; d++)
        for (size_t m = all ? 0 : d % 2; m < (all ? 3 : d % 2 + 1); m++)
            for (size_t p = 0; p < (all && m == 0 ? 2 : 1); p++) {
                const variant v = {.isa     = isa,
                                   .model   = all_models[m],
                                   .weights = dtypes[d],
                                   .keys    = dtypes[(d + m) % 3],
                                   .small_m = products[p]};
                try_variant(&v);
            }
}

int main(int argc, char **argv)
{
    static const char *const isas[] = {
#define QR_ISA(name, needs, onednn) #name,
#include "kernels/isa.inc"
#undef QR_ISA
    };
    counted            = lane_shared(sizeof *counted);
    counted->long_form = lane_is_long(argc, argv);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const counts before = *counted;
        lane_in_child(try_isa, (void *)(uintptr_t)isas[i]); /* a process each: oneDNN keeps its first cap */
        const uint64_t variants = counted->variants - before.variants;
        printf("allocations: %s: %llu variants, %llu refused%s\n", isas[i], (unsigned long long)variants,
               (unsigned long long)(counted->failures - before.failures), variants ? "" : ": this CPU has it not");
    }
    printf("allocations: %llu failures in %llu lives, one clear status each, nothing kept\n",
           (unsigned long long)counted->failures, (unsigned long long)counted->lives);
    return 0;
}
