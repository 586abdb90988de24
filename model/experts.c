/* Mixtures of experts: keys, tensors, and the stages in a dense feed-forward's place. A row's sum is one chain in
 * ascending order of its experts, and each product is one row's, so that the rows beside it never show in its bits. */
#include "model/experts.h"

#include <math.h>
#include <string.h>

#include "base/bits.h"

/* ---- config.json ---- */

void qr_experts_read(qr_config_reader *r, const char *key, uint32_t experts, uint32_t per_token, qr_architecture *a)
{
    const char    *alias = strcmp(key, "num_experts") == 0 ? "num_local_experts" : "num_experts";
    const uint32_t other = qr_config_size(r, alias, QR_MAX_EXPERTS, experts);
    a->experts           = qr_config_size(r, key, QR_MAX_EXPERTS, other);
    if (qr_config_has(r, alias) && other != a->experts)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %u contradicts %s %u", r->origin, key, a->experts, alias, other);
    a->experts_per_token = qr_config_size(r, "num_experts_per_tok", a->experts, per_token);
}

/* ---- tensors ---- */

/* Wide: a row's experts hang on small differences. */
void qr_declare_router(qr_declaration *d, qr_layer *layer, const char *name, bool bias)
{
    const uint32_t experts = d->architecture->experts;
    qr_declare_wide_linear(d, &layer->router, "router", d->architecture->hidden_size,
                           QR_PARTS(QR_PART(experts, name, .bias = bias)));
    layer->experts = QR_ARENA_TAKE(d->arena, qr_expert, experts);
}

qr_expert *qr_declare_expert(qr_declaration *d, qr_layer *layer, uint32_t expert)
{
    d->expert = expert;
    return layer->experts != NULL ? &layer->experts[expert] : &d->spare_expert;
}

/* ---- routing ---- */

/* The rows' norm twice: as the experts read it, and in f32 for the router. */
static void normalise(qr_pass *pass, const qr_layer *layer, uint32_t rows)
{
    const qr_network *network = pass->network;
    const qr_buffers *buffers = &network->buffers;
    if (buffers->routed.data != buffers->normed.data)
        qr_stage_norm_into(pass, rows, &layer->feed_norm, &buffers->routed); /* no barrier: it writes the same rows */
    qr_stage_norm(pass, rows, &layer->feed_norm);
}

/* Greatest first, the lowest of equals; of scores that are not numbers, some. */
static void choose_experts(const float *scores, uint32_t count, uint32_t wanted, uint32_t *chosen)
{
    bool taken[QR_MAX_EXPERTS] = {false};
    for (uint32_t k = 0; k < wanted; k++) {
        uint32_t best = 0;
        while (taken[best]) best++;
        for (uint32_t e = best + 1; e < count; e++)
            if (!taken[e] && scores[e] > scores[best]) best = e;
        taken[best] = true;
        chosen[k]   = best;
    }
}

/* The softmax over all experts; where they are renormalised, over the chosen ones. */
static void weigh_experts(const qr_architecture *a, const float *scores, const uint32_t *chosen, float *weights)
{
    const float greatest = scores[chosen[0]];
    float       sum      = 0;
    for (uint32_t k = 0; k < a->experts_per_token; k++) weights[k] = expf(scores[chosen[k]] - greatest);
    for (uint32_t e = 0; !a->experts_renormalised && e < a->experts; e++) sum += expf(scores[e] - greatest);
    for (uint32_t k = 0; a->experts_renormalised && k < a->experts_per_token; k++) sum += weights[k];
    for (uint32_t k = 0; k < a->experts_per_token; k++) weights[k] /= sum;
}

static void route(qr_pass *pass, uint32_t rows)
{
    const qr_network      *network = pass->network;
    const qr_architecture *a       = network->architecture;
    const qr_routing      *routing = &network->buffers.routing;
    const uint32_t         first   = (uint32_t)((uint64_t)rows * pass->thread / pass->thread_count);
    const uint32_t         end     = (uint32_t)((uint64_t)rows * (pass->thread + 1) / pass->thread_count);
    for (uint32_t row = first; row < end; row++) {
        const float *scores = (const float *)routing->scores.data + (size_t)row * routing->scores.stride;
        const size_t at     = (size_t)row * a->experts_per_token;
        choose_experts(scores, a->experts, a->experts_per_token, routing->chosen + at);
        weigh_experts(a, scores, routing->chosen + at, routing->chosen_weights + at);
    }
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

/* Rows by expert, ascending within one: a counting sort, by one thread. */
static void group_rows(qr_pass *pass, uint32_t rows)
{
    qr_network            *network = pass->network;
    const qr_architecture *a       = network->architecture;
    const qr_routing      *routing = &network->buffers.routing;
    const uint32_t         count = rows * a->experts_per_token, experts = a->experts;
    if (pass->thread == 0) {
        uint32_t *first = routing->first; /* of the expert before, until its rows are in place */
        memset(first, 0, (experts + 2) * sizeof *first);
        for (uint32_t i = 0; i < count; i++) first[routing->chosen[i] + 2]++;
        for (uint32_t e = 0; e < experts; e++) {
            network->experts_touched += first[e + 2] > 0;
            first[e + 2] += first[e + 1];
        }
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t slot    = first[routing->chosen[i] + 1]++;
            routing->row[slot]     = i / a->experts_per_token;
            routing->weights[slot] = routing->chosen_weights[i];
        }
        network->expert_rows += count;
    }
    qr_stage_end(pass, &network->report->rowwise_ns);
}

/* ---- products ---- */

static qr_rows rows_from(const qr_rows *rows, uint32_t first)
{
    qr_rows from = *rows;
    from.data    = (char *)rows->data + (size_t)first * rows->stride * qr_dtype_bytes(rows->dtype);
    if (rows->scales != NULL) from.scales = rows->scales + (size_t)first * qr_row_scales(rows);
    return from;
}

static void run_into_experts(qr_pass *pass, const qr_layer *layer)
{
    const qr_network *network = pass->network;
    const qr_routing *routing = &network->buffers.routing;
    const qr_rows     own     = qr_share_view(&network->buffers.expert_fed, network->share.expert);
    for (uint32_t e = 0; e < network->architecture->experts; e++) {
        const uint32_t first = routing->first[e], count = routing->first[e + 1] - first;
        qr_rows        x = network->buffers.normed;
        if (count == 0) continue;
        x.index                     = routing->row + first;
        const qr_projection_out out = {.to = rows_from(&own, first), .bias = layer->experts[e].in.bias};
        qr_projection_run(layer->experts[e].in.projection, pass->thread, &x, count, &out);
    }
    qr_stage_end(pass, &pass->network->report->projection_ns);
}

static void run_out_of_experts(qr_pass *pass, const qr_layer *layer)
{
    const qr_network *network = pass->network;
    const qr_routing *routing = &network->buffers.routing;
    const qr_rows     own     = qr_share_view(&network->buffers.hidden, network->share.hidden);
    for (uint32_t e = 0; e < network->architecture->experts; e++) {
        const uint32_t first = routing->first[e], count = routing->first[e + 1] - first;
        if (count == 0) continue;
        const qr_rows     x   = rows_from(&network->buffers.expert_fed_read, first);
        qr_projection_out out = {
            .to = own, .add = true, .bias = layer->experts[e].out.bias, .row_weights = routing->weights + first};
        out.to.index = routing->row + first;
        qr_projection_run(layer->experts[e].out.projection, pass->thread, &x, count, &out);
    }
    qr_stage_end(pass, &pass->network->report->projection_ns);
}

void qr_stage_experts(qr_pass *pass, const qr_layer *layer, uint32_t rows)
{
    const qr_buffers *buffers = &pass->network->buffers;
    const uint32_t    slots   = rows * pass->network->architecture->experts_per_token;
    normalise(pass, layer, rows);
    qr_stage_project(pass, &layer->router, &buffers->routed, rows, &(qr_projection_out){.to = buffers->routing.scores});
    route(pass, rows);
    group_rows(pass, rows);
    run_into_experts(pass, layer);
    qr_stage_exchange(pass, &buffers->expert_fed, slots, QR_CUT_EXPERT, false);
    qr_stage_quantise(pass, &buffers->expert_fed, &buffers->expert_fed_read, slots);
    run_out_of_experts(pass, layer);
    qr_stage_exchange(pass, &buffers->hidden, rows, QR_CUT_HIDDEN, false);
}
