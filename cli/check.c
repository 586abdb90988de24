/* quire check: is this configuration valid, does the model fit it, and does all of it fit into memory? The same
 * functions that size the engine are asked, so that nothing is loaded and the answer is the engine's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "bench/session.h"
#include "cli/command.h"
#include "engine/options.h"
#include "kernels/kernels.h"
#include "topology/placement.h"

typedef struct plan {
    quire_engine_options options; /* resolved */
    qr_model_facts       facts;
    quire_model_info     info;
    qr_scheduler_options scheduler;
    qr_network_options   network;
    qr_network_forecast  forecast;
    uint32_t             threads, nodes;
    uint64_t             limit, block_bytes, fixed_bytes; /* fixed: all but the KV cache */
} plan;

enum { USEFUL_TIMES = 4 }; /* as the engine's automatic sizing: so many times what max_num_seqs longest need */

static quire_status place(plan *p, quire_error *error)
{
    const qr_topology_source source = {0};
    qr_topology              topology;
    char                     warning[256] = "";
    qr_placement            *placement    = malloc(sizeof *placement);
    if (placement == NULL) {
        *error = (quire_error){.status = QUIRE_ERR_NO_MEMORY, .message = "no memory for a placement"};
        return QUIRE_ERR_NO_MEMORY;
    }
    quire_status status = qr_topology_create(&source, &topology, error);
    if (status == QUIRE_OK) {
        status = qr_placement_plan(&topology, &p->options, placement, warning, error);
        qr_topology_destroy(&topology);
    }
    if (warning[0] != '\0') fprintf(stderr, "quire: warning: %s\n", warning);
    if (status == QUIRE_OK) {
        p->threads = placement->thread_count;
        p->nodes   = placement->node_count;
    }
    free(placement);
    return status;
}

static void forecast(plan *p, const quire_model *model)
{
    qr_options_scheduler(&p->options, &p->facts, &p->scheduler);
    qr_options_network(&p->options, &p->facts, &p->network);
    p->scheduler.node_count = p->nodes;
    qr_network_plan_memory(model, &p->network, p->threads, &p->forecast);
    const qr_kv_shape shape = {.dtype      = p->network.kv_dtype,
                               .kv_heads   = p->facts.kv_heads,
                               .head_dim   = p->facts.head_dim,
                               .block_size = p->scheduler.block_size};
    p->block_bytes          = (uint64_t)qr_kv_block_bytes(&shape) * p->facts.decoder_layers;
    p->fixed_bytes          = p->forecast.weight_bytes + p->forecast.scratch_bytes + p->forecast.encoder_scratch_bytes +
                     (uint64_t)p->options.max_logits_in_flight * p->facts.vocab_size * sizeof(float);
    p->limit = qr_memory_limit(NULL);
}

static quire_status size_pool(plan *p, quire_error *error)
{
    const uint32_t encoder = p->facts.encoder_decoder ? p->scheduler.max_num_encoder_input_tokens : 0;
    const uint64_t longest = qr_scheduler_blocks_needed(&p->scheduler, 1, p->scheduler.max_model_len - 1, encoder);
    const qr_pool_request request = {
        .limit         = p->limit - qr_min_u64(p->limit, p->fixed_bytes),
        .block_bytes   = p->block_bytes,
        .size          = p->options.kv_cache_bytes,
        .num_blocks    = p->options.num_kv_blocks,
        .fraction      = p->options.memory_fraction,
        .block_size    = p->scheduler.block_size,
        .node_count    = p->nodes,
        .useful_blocks = (uint32_t)qr_min_u64(longest * p->scheduler.max_num_seqs * USEFUL_TIMES, UINT32_MAX),
    };
    return qr_options_pool_blocks(&request, &p->scheduler.num_blocks, error);
}

/* ---- printing
 * ------------------------------------------------------------------------------------------------------------ */

static void print_row(const char *name, uint64_t bytes, const char *note)
{
    printf("  %-18s %10.1f MiB  %s\n", name, (double)bytes / (1 << 20), note);
}

static void print_model(const plan *p)
{
    const quire_model_info *i = &p->info;
    printf("model      %s: %s, %.1f M parameters, vocabulary %u\n", i->name, i->architecture,
           (double)i->parameters / 1e6, i->vocab_size);
    if (i->encoder_layers > 0)
        printf("           %u encoder layers, ", i->encoder_layers);
    else
        printf("           ");
    printf("%u layers, hidden %u, %u heads, %u kv heads, head_dim %u\n", i->layers, i->hidden_size, i->heads,
           i->kv_heads, i->head_dim);
    printf("limits     max_model_len %u, max_num_seqs %u, max_num_batched_tokens %u, threads %u on %u node%s\n",
           p->scheduler.max_model_len, p->scheduler.max_num_seqs, p->options.max_num_batched_tokens, p->threads,
           p->nodes, p->nodes == 1 ? "" : "s");
}

static void print_memory(const plan *p, const quire_error *pool)
{
    char           note[160];
    const uint64_t kv = p->block_bytes * p->scheduler.num_blocks;
    printf("memory\n");
    print_row("weights", p->forecast.weight_bytes, quire_dtype_name(p->info.weight_dtype));
    print_row("step buffers", p->forecast.scratch_bytes, "");
    if (p->facts.encoder_decoder) {
        snprintf(note, sizeof note, "max_num_encoder_input_tokens %u", p->options.max_num_encoder_input_tokens);
        print_row("encoder buffers", p->forecast.encoder_scratch_bytes, note);
    }
    if (pool->status == QUIRE_OK) {
        snprintf(note, sizeof note, "%u blocks of %u tokens = %llu tokens, %llu bytes each", p->scheduler.num_blocks,
                 p->scheduler.block_size, (unsigned long long)p->scheduler.num_blocks * p->scheduler.block_size,
                 (unsigned long long)p->block_bytes / p->scheduler.block_size);
        print_row("KV cache", kv, note);
        print_row("together", p->fixed_bytes + kv, "");
    }
    print_row("available", p->limit, "");
}

static int check(void *context, const quire_config *config)
{
    (void)context;
    plan               p     = {.options = *quire_config_engine(config), .info = {.size = sizeof p.info}};
    quire_model       *model = NULL;
    quire_error        error = {0}, pool = {0};
    const quire_logger logger = qr_logger_of(config);
    quire_status       status = qr_kernels_check_cap(p.options.isa, &error);
    if (status == QUIRE_OK) status = qr_session_open_model(config, &logger, &model, &error);
    if (status == QUIRE_OK) {
        quire_model_describe(model, &p.info);
        qr_model_facts_of(model, &p.facts);
        status = qr_options_resolve(&p.options, &p.facts, &error);
    }
    if (status == QUIRE_OK) status = place(&p, &error);
    if (status == QUIRE_OK) {
        forecast(&p, model);
        (void)size_pool(&p, &pool);
        print_model(&p);
        print_memory(&p, &pool);
    }
    quire_model_destroy(model);
    if (status != QUIRE_OK) return qr_report_error(&error);
    if (pool.status != QUIRE_OK || p.fixed_bytes + p.block_bytes * p.scheduler.num_blocks > p.limit) {
        fflush(stdout);
        qr_complain("%s", pool.status != QUIRE_OK ? pool.message : "it does not fit into the memory that is available");
        return QR_EXIT_USAGE;
    }
    printf("ok\n");
    return fflush(stdout) == 0 ? QR_EXIT_OK : QR_EXIT_FAILED;
}

int qr_command_check(int argc, char **argv)
{
    static const struct argp argp = {
        .args_doc = "[CONFIG]",
        .doc      = "Check a configuration and its model, and forecast the memory; nothing is loaded."
                    "\vExit status 2: the configuration is wrong, or does not fit into memory.\n\n"
                    "  quire check quire.toml\n"
                    "  quire check --model llama-3.1-8b --set kv_cache.size=8GiB",
    };
    qr_arguments arguments = {0};
    qr_parse(&argp, argc, argv, &arguments);
    return qr_arguments_run(&arguments, check, NULL);
}
