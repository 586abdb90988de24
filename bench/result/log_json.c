/* Lines of the request and step logs. */
#include "bench/common/json_text.h"
#include "bench/result/result_json.h"

/* Its inter-token latencies, in order: they lie between its first token and its end. */
static json_t *gaps_of(const qr_run *run, size_t index)
{
    const qr_run_request *q   = &run->requests[index];
    json_t               *to  = json_array();
    size_t                low = 0, high = run->gap_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (run->gaps[middle].end_ns < q->first_ns)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < run->gap_count && (q->end_ns < 0 || run->gaps[low].end_ns <= q->end_ns); low++)
        if (run->gaps[low].request == index) json_array_append_new(to, json_real((double)run->gaps[low].gap_ns * 1e-3));
    return to;
}

/* [[from, to], ...] of the first preemptions. */
static json_t *preemption_intervals(const qr_run_request *q)
{
    json_t *to = json_array();
    for (size_t i = 0; i < QUIRE_KEPT_PREEMPTIONS && q->preemption_intervals[i].to_ns > 0; i++)
        json_array_append_new(to, json_pack("[I, I]", (json_int_t)q->preemption_intervals[i].from_ns,
                                            (json_int_t)q->preemption_intervals[i].to_ns));
    return to;
}

json_t *qr_request_json(const qr_result *r, uint32_t run_index, size_t index)
{
    const qr_run         *record = &r->records[run_index];
    const qr_run_request *q      = &record->requests[index];
    json_t               *wait   = json_object();
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++)
        if (q->wait_ns[i])
            json_object_set_new(wait, quire_wait_reason_name((quire_wait_reason)i), qr_json_whole(q->wait_ns[i]));
    json_t *to =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id", (json_int_t)index,
                  "run", (json_int_t)run_index, "class", (json_int_t)q->shape.mix, "priority",
                  (json_int_t)q->shape.priority, "num_prompt_tokens", (json_int_t)q->shape.prompt_tokens,
                  "num_encoder_tokens", (json_int_t)q->shape.encoder_tokens, "num_cached_tokens",
                  (json_int_t)q->cached_tokens, "num_output_tokens", (json_int_t)q->output_tokens, "a",
                  (json_int_t)q->due_ns, "q", (json_int_t)q->submit_ns, "s", (json_int_t)q->planned_ns, "p",
                  (json_int_t)q->prompt_done_ns, "f", (json_int_t)q->first_ns, "e", (json_int_t)q->end_ns);
    json_object_set_new(to, "num_preemptions", qr_json_whole(q->preemptions));
    json_object_set_new(to, "finish_reason", json_string(qr_finish_name(q->finish)));
    if (q->preemption_intervals[0].to_ns > 0) json_object_set_new(to, "preempted_ns", preemption_intervals(q));
    if (q->status != QUIRE_OK) json_object_set_new(to, "status", json_string(quire_status_text(q->status)));
    json_object_set_new(to, "in_window",
                        json_boolean(q->end_ns >= record->window_start_ns && q->end_ns <= record->window_end_ns));
    json_object_set_new(to, "wait_ns", wait);
    json_object_set_new(to, "tenant", qr_json_whole(q->shape.tenant));
    if (qr_slo_is_given(&r->runs[run_index].slo))
        json_object_set_new(to, "slo_ok", json_boolean(qr_slo_is_met(&r->runs[run_index].slo, q)));
    if (quire_config_boolean(r->config, "output.itl_samples"))
        json_object_set_new(to, "itl_us", gaps_of(record, index));
    return to;
}

json_t *qr_step_json(const quire_step *s, uint32_t run_index)
{
    const struct {
        const char *name;
        uint64_t    value;
    } counts[] = {{"step", s->step},
                  {"run", run_index},
                  {"t_ns", s->start_ns},
                  {"rows", s->rows},
                  {"rows_prefill", s->rows_prompt},
                  {"rows_encoder", s->rows_encoder},
                  {"rows_logits", s->rows_logits},
                  {"sequences", s->sequences},
                  {"running", s->running},
                  {"waiting", s->waiting},
                  {"blocks_used", s->blocks_used},
                  {"blocks_cached", s->blocks_cached},
                  {"preempted", s->preempted},
                  {"bytes", s->weight_bytes + s->kv_bytes},
                  {"kv_bytes", s->kv_bytes},
                  {"kv_tokens", s->kv_tokens},
                  {"kv_pairs", s->kv_pairs},
                  {"cross_tokens", s->cross_tokens},
                  {"cross_pairs", s->cross_pairs},
                  {"encoder_pairs", s->encoder_pairs},
                  {"flops", s->flops}};
    const struct {
        const char *name;
        uint64_t    ns;
    } times[]  = {{"plan_us", s->plan_ns},      {"forward_us", s->forward_ns},       {"sample_us", s->sample_ns},
                  {"commit_us", s->commit_ns},  {"projection_us", s->projection_ns}, {"attention_us", s->attention_ns},
                  {"logits_us", s->logits_ns},  {"encoder_us", s->encoder_ns},       {"rowwise_us", s->rowwise_ns},
                  {"barrier_us", s->barrier_ns}};
    json_t *to = json_object();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(to, counts[i].name, qr_json_whole(counts[i].value));
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        json_object_set_new(to, times[i].name, json_real((double)times[i].ns * 1e-3));
    if (s->network_messages > 0) {
        json_object_set_new(to, "network_messages", qr_json_whole(s->network_messages));
        json_object_set_new(to, "network_bytes", qr_json_whole(s->network_bytes));
        json_object_set_new(to, "network_us", json_real((double)s->network_ns * 1e-3));
        json_object_set_new(to, "network_wait_us", json_real((double)s->network_wait_ns * 1e-3));
    }
    json_object_set_new(to, "imbalance", json_real((double)s->imbalance));
    return to;
}
