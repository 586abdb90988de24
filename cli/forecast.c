/* Placement, shapes and sizes of an engine that is not created, and their table for people. */
#include "cli/forecast.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/printable.h"
#include "bench/session.h"
#include "cli/command.h"
#include "engine/pool_size.h"
#include "kernels/kernels.h"
#include "topology/placement.h"

static quire_status plan_placement(qr_forecast *p, quire_error *error)
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
    if (warning[0] != '\0') qr_warn("%s", warning);
    if (status == QUIRE_OK) {
        p->threads = placement->thread_count;
        p->nodes   = placement->node_count;
    }
    free(placement);
    return status;
}

static quire_status size_parts(qr_forecast *p, const quire_model *model, quire_error *error)
{
    qr_options_scheduler(&p->options, &p->facts, &p->scheduler);
    qr_options_network(&p->options, &p->facts, &p->network);
    p->scheduler.node_count   = p->nodes;
    const quire_status status = qr_network_plan_memory(model, &p->network, p->threads, &p->memory, error);
    if (status != QUIRE_OK) return status;
    p->fixed_bytes = p->memory.weight_bytes + p->memory.scratch_bytes + p->memory.encoder_scratch_bytes +
                     (uint64_t)p->options.max_logits_in_flight * p->facts.vocab_size * sizeof(float);
    p->limit = qr_memory_limit(NULL);
    return QUIRE_OK;
}

static quire_status size_pool(qr_forecast *p, quire_error *error)
{
    const uint64_t available = p->limit - qr_min_u64(p->limit, p->fixed_bytes);
    QR_TRY(qr_weights_check_fit(p->memory.weight_bytes, p->limit, error));
    if (available == 0)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "the weights and the buffers of a step, %.1f MiB, are more than the %.1f MiB available; "
                       "buffers are smaller with fewer scheduler.max_num_batched_tokens",
                       (double)p->fixed_bytes / (1 << 20), (double)p->limit / (1 << 20));
    QR_TRY(qr_pool_size(&p->options, &p->facts, available, p->nodes, &p->pool, error));
    p->scheduler.num_blocks       = p->pool.num_blocks;
    p->scheduler.num_local_blocks = (uint32_t)p->pool.num_local_blocks;
    return QUIRE_OK;
}

/* ---- printing ---- */

static void print_row(FILE *to, const char *name, uint64_t bytes, const char *note)
{
    fprintf(to, "  %-18s %10.1f MiB  %s\n", name, (double)bytes / (1 << 20), note);
}

static void print_model(const qr_forecast *p, FILE *to)
{
    const quire_model_info *i = &p->info;
    fprintf(to, "model      %s: %s, %.1f M parameters, ", i->name, i->architecture, (double)i->parameters / 1e6);
    if (i->active_parameters < i->parameters)
        fprintf(to, "%.1f M of them for a token, ", (double)i->active_parameters / 1e6);
    fprintf(to, "vocabulary %u\n", i->vocab_size);
    if (i->encoder_layers > 0)
        fprintf(to, "           %u encoder layers, ", i->encoder_layers);
    else
        fprintf(to, "           ");
    fprintf(to, "%u layers, hidden %u, %u heads, %u kv heads, head_dim %u\n", i->layers, i->hidden_size, i->heads,
            i->kv_heads, i->head_dim);
    fprintf(to, "limits     max_model_len %u, max_num_seqs %u, max_num_batched_tokens %u, %u thread%s on %u node%s\n",
            p->scheduler.max_model_len, p->scheduler.max_num_seqs, p->options.max_num_batched_tokens, p->threads,
            qr_plural(p->threads), p->nodes, qr_plural(p->nodes));
}

static uint64_t kv_bytes(const qr_forecast *p)
{
    return qr_pool_bytes(&p->pool, p->pool.num_blocks, p->pool.num_local_blocks);
}

/* The part of the KV cache that the layers with a window have. */
static void print_local(const qr_forecast *p, FILE *to)
{
    char note[160];
    snprintf(note, sizeof note, "%llu blocks of %u layer%s, %llu bytes a token, seen through a window of %u tokens",
             (unsigned long long)p->pool.num_local_blocks, p->facts.local_layers, qr_plural(p->facts.local_layers),
             (unsigned long long)qr_pool_bytes(&p->pool, 0, 1) / p->scheduler.block_size, p->facts.local_window);
    print_row(to, "  of local layers", qr_pool_bytes(&p->pool, 0, p->pool.num_local_blocks), note);
}

static void print_memory(const qr_forecast *p, FILE *to)
{
    char           note[160];
    const uint64_t kv = kv_bytes(p);
    fprintf(to, "memory\n");
    print_row(to, "weights", p->memory.weight_bytes, quire_dtype_name(p->info.weight_dtype));
    print_row(to, "step buffers", p->memory.scratch_bytes, "");
    if (p->facts.encoder_decoder) {
        snprintf(note, sizeof note, "max_num_encoder_input_tokens %u", p->options.max_num_encoder_input_tokens);
        print_row(to, "encoder buffers", p->memory.encoder_scratch_bytes, note);
    }
    if (p->pool_error.status == QUIRE_OK) {
        snprintf(note, sizeof note, "%u blocks of %u tokens = %llu tokens, %llu bytes each%s", p->scheduler.num_blocks,
                 p->scheduler.block_size, (unsigned long long)p->scheduler.num_blocks * p->scheduler.block_size,
                 (unsigned long long)p->pool.block_bytes / p->scheduler.block_size,
                 p->facts.local_layers > 0 ? " in the layers without a window" : "");
        print_row(to, "KV cache", kv, note);
        if (p->facts.local_layers > 0) print_local(p, to);
        print_row(to, "together", p->fixed_bytes + kv, "");
    }
    print_row(to, "available", p->limit, "");
}

/* ---- all ---- */

static quire_status describe(qr_forecast *p, const quire_config *config, quire_model **model_out, quire_error *error)
{
    const quire_logger logger = qr_logger_of(config);
    quire_status       status = qr_kernels_check_cap(p->options.isa, error);
    if (status == QUIRE_OK) status = qr_session_open_model(config, &logger, model_out, error);
    if (status != QUIRE_OK) return status;
    quire_model_describe(*model_out, &p->info);
    qr_model_facts_of(*model_out, &p->facts);
    snprintf(p->model_name, sizeof p->model_name, "%s", p->info.name);
    snprintf(p->architecture, sizeof p->architecture, "%s", p->info.architecture);
    p->info.name         = p->model_name;
    p->info.architecture = p->architecture;
    return qr_options_resolve(&p->options, &p->facts, error);
}

quire_status qr_forecast_make(const quire_config *config, qr_forecast *p, quire_error *error)
{
    quire_model *model  = NULL;
    *p                  = (qr_forecast){.options = *quire_config_engine(config), .info = {.size = sizeof p->info}};
    quire_status status = describe(p, config, &model, error);
    if (status == QUIRE_OK) status = plan_placement(p, error);
    if (status == QUIRE_OK) status = size_parts(p, model, error);
    if (status == QUIRE_OK && size_pool(p, &p->pool_error) == QUIRE_OK) {
        char warning[160];
        status = qr_scheduler_options_check(&p->scheduler, error);
        if (status == QUIRE_OK && qr_pool_is_short(&p->scheduler, warning, sizeof warning)) qr_warn("%s", warning);
    }
    quire_model_destroy(model);
    return status;
}

const char *qr_forecast_obstacle(const qr_forecast *p)
{
    if (p->pool_error.status != QUIRE_OK) return p->pool_error.message;
    if (p->fixed_bytes + kv_bytes(p) <= p->limit) return NULL;
    return "it does not fit into the memory that is available";
}

void qr_forecast_print(const qr_forecast *p, FILE *to)
{
    print_model(p, to);
    print_memory(p, to);
}
