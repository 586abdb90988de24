/* The requests are random: some share a prompt's beginning, so that blocks are found on other nodes, and each is short,
 * so that many begin and end. */
#include "cli/topo_verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/rng.h"
#include "bench/session.h"
#include "cli/command.h"
#include "topology/topology.h"

enum {
    PROMPT       = 48, /* tokens, at most a quarter of what a sequence may have */
    OUTPUT       = 24,
    SHARED_EACH  = 3, /* of so many requests one begins as the others of its kind do */
    ENCODER      = 24,
    FRAMES       = 2 * ENCODER,
    MOST_RUNNING = 32,
    EVENTS       = 64,
};

typedef struct verifier {
    quire_model     *model;
    quire_engine    *engine;
    quire_model_info info;
    quire_stats      stats;
    uint32_t         live, submitted, ended, failed;
    float           *features; /* [FRAMES][encoder_feature_size], zeros; or NULL */
    uint64_t         wrong;
} verifier;

/* ---- the requests ---- */

static int32_t random_id(const verifier *v, uint32_t request, uint32_t position)
{
    return (int32_t)qr_random_below(1, request, position, v->info.vocab_size);
}

static void fill(const verifier *v, int32_t *ids, uint32_t count)
{
    const uint32_t request = v->submitted, shared = request % SHARED_EACH == 0 ? count * 3 / 4 : 0;
    for (uint32_t i = 0; i < count; i++) ids[i] = random_id(v, i < shared ? UINT32_MAX : request, i);
}

static bool submit(verifier *v)
{
    int32_t        prompt[PROMPT], input[ENCODER];
    const bool     encodes = v->info.encoder_layers > 0;
    const uint32_t count   = encodes ? 1 : qr_min_u32(PROMPT, v->stats.max_model_len / 4);
    quire_error    error   = {0};
    quire_request  request = {.size       = sizeof request,
                              .prompt     = encodes ? NULL : prompt,
                              .max_tokens = qr_min_u32(OUTPUT, v->stats.max_model_len / 4),
                              .ignore_eos = true};
    request.prompt_count   = encodes ? 0 : count;
    if (!encodes) fill(v, prompt, count);
    if (encodes && v->features != NULL) {
        request.encoder_features = v->features;
        request.encoder_frames   = FRAMES;
    } else if (encodes) {
        fill(v, input, ENCODER);
        request.encoder_input = input;
        request.encoder_count = ENCODER;
    }
    if (quire_engine_submit(v->engine, &request, NULL, &error) != QUIRE_OK) return qr_report_error(&error), false;
    v->live++;
    v->submitted++;
    return true;
}

static void take_events(verifier *v)
{
    quire_event events[EVENTS];
    for (size_t count; (count = quire_engine_poll(v->engine, events, EVENTS)) > 0;)
        for (size_t i = 0; i < count; i++) {
            if (events[i].kind != QUIRE_EVENT_FINISHED) continue;
            v->live--;
            v->ended++;
            v->failed += events[i].finish == QUIRE_FINISH_ERROR;
        }
}

static bool run(verifier *v, uint32_t steps)
{
    const uint32_t most = qr_min_u32(MOST_RUNNING, 4 * v->stats.threads);
    for (uint32_t i = 0; i < steps; i++) {
        while (v->live < most)
            if (!submit(v)) return false;
        const quire_status status = quire_engine_step(v->engine, NULL);
        if (status != QUIRE_OK) return qr_complain("%s", quire_status_text(status)), false;
        take_events(v);
    }
    return true;
}

/* ---- the table ---- */

static void print_row(const char *memory, const char *node, const quire_pages *p)
{
    fprintf(qr_stdout, "  %-10s %-5s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n", memory, node, p->right, p->wrong,
            p->absent);
}

static bool any(const quire_pages *p) { return p->right + p->wrong + p->absent > 0; }

static bool print_node(verifier *v, uint32_t node, quire_pages *rest)
{
    quire_memory_check check = {.size = sizeof check};
    quire_error        error = {0};
    char               name[16];
    snprintf(name, sizeof name, "%u", node);
    const quire_status status = quire_engine_check_memory(v->engine, node, &check, &error);
    if (status == QUIRE_ERR_NOT_FOUND) return true; /* a node without threads */
    if (status != QUIRE_OK) return qr_report_error(&error), false;
    for (int m = 0; m < QUIRE_MEMORIES; m++) {
        const quire_pages *p = &check.pages[m];
        if (any(p)) print_row(quire_memory_name((quire_memory)m), name, p);
        rest[m].right -= p->right, rest[m].wrong -= p->wrong, rest[m].absent -= p->absent;
    }
    return true;
}

/* By node, then what any node may hold. */
static bool print_pages(verifier *v, const char *when)
{
    quire_memory_check all   = {.size = sizeof all};
    quire_error        error = {0};
    if (quire_engine_check_memory(v->engine, QUIRE_ALL_NODES, &all, &error) != QUIRE_OK)
        return qr_report_error(&error), false;
    quire_pages rest[QUIRE_MAX_MEMORIES], sum = {0};
    memcpy(rest, all.pages, sizeof rest);
    fprintf(qr_stdout, "pages      %s, of %" PRIu64 " bytes\n  %-10s %-5s %10s %10s %10s\n", when, all.page_bytes,
            "memory", "node", "right", "wrong", "absent");
    for (uint32_t node = 0; node < QR_MAX_NODES; node++)
        if (!print_node(v, node, rest)) return false;
    for (int m = 0; m < QUIRE_MEMORIES; m++) {
        if (any(&rest[m])) print_row(quire_memory_name((quire_memory)m), "any", &rest[m]);
        sum.right += all.pages[m].right, sum.wrong += all.pages[m].wrong, sum.absent += all.pages[m].absent;
    }
    print_row("all", "", &sum);
    v->wrong += sum.wrong;
    if (all.blocks_home + all.blocks_away > 0)
        fprintf(qr_stdout, "  blocks of running sequences: %" PRIu64 " at home, %" PRIu64 " elsewhere\n",
                all.blocks_home, all.blocks_away);
    return true;
}

static void print_counters(verifier *v, uint32_t steps)
{
    v->stats.size = sizeof v->stats;
    quire_engine_stats(v->engine, &v->stats);
    fprintf(qr_stdout,
            "counters   after %u steps: %u requests ended, %u failed, %" PRIu64 " preemptions\n"
            "  pages checked %" PRIu64 ", misplaced %" PRIu64 "; KV bytes read from another node %" PRIu64 "\n"
            "  blocks spilled %" PRIu64 "; prefix hits %" PRIu64 " tokens, of those on another node %" PRIu64
            "; attention helped %" PRIu64 "\n",
            steps, v->ended, v->failed, v->stats.preemptions, v->stats.numa_pages_checked,
            v->stats.numa_pages_misplaced, v->stats.kv_remote_bytes, v->stats.blocks_spilled, v->stats.prefix_hits,
            v->stats.prefix_hits_remote, v->stats.attention_helped);
}

/* ---- the whole ---- */

static bool open_all(verifier *v, const quire_config *config)
{
    quire_engine_options options = *quire_config_engine(config);
    quire_error          error   = {0};
    options.logger               = qr_logger_of(config);
    v->info.size                 = sizeof v->info;
    v->stats.size                = sizeof v->stats;
    if (qr_session_open_model(config, &options.logger, &v->model, &error) != QUIRE_OK ||
        quire_engine_create(&options, v->model, &v->engine, &error) != QUIRE_OK)
        return qr_report_error(&error), false;
    quire_model_describe(v->model, &v->info);
    quire_engine_stats(v->engine, &v->stats);
    if (v->info.encoder_feature_size == 0) return true;
    v->features = calloc((size_t)FRAMES * v->info.encoder_feature_size, sizeof *v->features);
    return v->features != NULL;
}

static bool verify(verifier *v, uint32_t steps)
{
    if (!print_pages(v, "after loading")) return false;
    fflush(qr_stdout);
    if (!run(v, steps)) return false;
    char when[32];
    snprintf(when, sizeof when, "after %u steps", steps);
    if (!print_pages(v, when)) return false;
    print_counters(v, steps);
    fprintf(qr_stdout, "verdict    %s\n",
            v->wrong > 0 ? "MISPLACED: some pages are on other nodes than planned"
                         : "every page that exists is on the node planned for it");
    return v->wrong == 0 && v->failed == 0;
}

int qr_topo_verify(const quire_config *config, uint32_t steps)
{
    verifier   v    = {0};
    const bool done = open_all(&v, config) && verify(&v, steps);
    quire_engine_destroy(v.engine);
    quire_model_destroy(v.model);
    free(v.features);
    return done ? QR_EXIT_OK : QR_EXIT_FAILED;
}
