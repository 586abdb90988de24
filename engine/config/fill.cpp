// From values to the options of the library.
#include <algorithm>
#include <cstring>

#include "engine/config/object.h"

namespace qr::config {

namespace {

class option_filler {
  public:
    explicit option_filler(quire_config &config) : config_(config) {}

    void fill()
    {
        fill_model();
        fill_scheduler();
        fill_tenants();
        fill_cache();
        fill_machine();
    }

  private:
    const value *find(const string &key) const { return config_.find(key); }
    uint32_t     u32(const string &key) const { return find(key) ? static_cast<uint32_t>(find(key)->integer) : 0; }
    float        f32(const string &key) const { return find(key) ? static_cast<float>(find(key)->number) : 0.0F; }
    const char  *text(const string &key) const { return find(key) ? find(key)->text.c_str() : ""; }
    bool         is(const string &key, const char *word) const { return strcmp(text(key), word) == 0; }
    bool         written(const string &key) const { return find(key) && find(key)->origin != "built-in"; }
    quire_toggle toggle(const string &key) const { return find(key)->boolean ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_OFF; }
    const char  *unless_auto(const string &key) const { return is(key, "auto") ? nullptr : text(key); }

    quire_dtype dtype(const string &key) const
    {
        return is(key, "f32")    ? QUIRE_DTYPE_F32
               : is(key, "bf16") ? QUIRE_DTYPE_BF16
               : is(key, "int8") ? QUIRE_DTYPE_INT8
                                 : QUIRE_DTYPE_AUTO;
    }

    void fill_model()
    {
        config_.model              = quire_model_options{};
        config_.model.size         = sizeof config_.model;
        config_.model.weight_dtype = dtype("model.weight_dtype");
        config_.model.weight_seed  = static_cast<uint64_t>(find("model.weight_seed")->integer);
        config_.shape.clear();
        for (const auto &[path, v] : config_.values)
            if (starts_with(path, "model.shape."))
                config_.shape.push_back({path.c_str() + strlen("model.shape."), v.integer});
        config_.model.shape       = config_.shape.data();
        config_.model.shape_count = static_cast<uint32_t>(config_.shape.size());
    }

    // Zero means the default in the options; where the file's zero means something else, it is translated.
    void fill_scheduler()
    {
        auto &o                        = config_.engine;
        o                              = quire_engine_options{};
        o.size                         = sizeof o;
        o.max_model_len                = u32("model.max_model_len");
        o.policy                       = is("scheduler.policy", "priority") ? QUIRE_POLICY_PRIORITY : QUIRE_POLICY_FCFS;
        o.priority_ageing_ms           = u32("scheduler.priority_ageing_ms");
        o.max_num_seqs                 = u32("scheduler.max_num_seqs");
        o.max_num_batched_tokens       = u32("scheduler.max_num_batched_tokens");
        o.max_num_encoder_input_tokens = u32("scheduler.max_num_encoder_input_tokens");
        o.enable_chunked_prefill       = toggle("scheduler.enable_chunked_prefill");
        o.long_prefill_token_threshold =
            std::min(u32("scheduler.long_prefill_token_threshold"), o.max_num_batched_tokens);
        o.max_num_partial_prefills   = u32("scheduler.max_num_partial_prefills");
        o.max_long_partial_prefills  = u32("scheduler.max_long_partial_prefills");
        o.scheduler_reserve_full_isl = toggle("scheduler.scheduler_reserve_full_isl");
        o.capacity_scheduler_policy  = is("scheduler.capacity_scheduler_policy", "guaranteed_no_evict")
                                           ? QUIRE_CAPACITY_GUARANTEED_NO_EVICT
                                           : QUIRE_CAPACITY_MAX_UTILIZATION;
        o.preemption_mode            = static_cast<quire_preemption_mode>(is("scheduler.preemption_mode", "recompute"));
        o.watermark                  = f32("scheduler.watermark");
        o.max_head_passes            = u32("scheduler.max_head_passes");
        o.max_num_queued_reqs        = u32("scheduler.max_num_queued_reqs");
        o.max_num_queued_tokens      = u32("scheduler.max_num_queued_tokens");
        o.consumer_timeout_ms        = u32("scheduler.consumer_timeout_ms");
        o.tenant_fairness            = toggle("scheduler.tenant_fairness");
        o.max_num_tenants            = u32("scheduler.max_num_tenants");
        o.num_speculative_tokens     = u32("scheduler.num_speculative_tokens");
        o.prompt_lookup_max          = u32("scheduler.prompt_lookup_max");
        o.speculative_adaptive       = toggle("scheduler.speculative_adaptive");
        if (o.priority_ageing_ms == 0) o.priority_ageing_ms = UINT32_MAX - 1;
        if (o.max_head_passes == 0) o.max_head_passes = UINT32_MAX;
        if (!(o.watermark > 0)) o.watermark = -1.0F;
        if (written("scheduler.long_prefill_token_threshold") && o.long_prefill_token_threshold == 0)
            o.long_prefill_token_threshold = o.max_num_batched_tokens;
    }

    void fill_tenants()
    {
        const value *tenants = find("tenant");
        config_.tenants.clear();
        for (size_t i = 0; tenants != nullptr && i < tenants->count; i++) {
            const string         path = "tenant[" + std::to_string(i) + "].";
            quire_tenant_options t{};
            t.name                = text(path + "name");
            t.weight              = f32(path + "weight");
            t.max_kv_fraction     = f32(path + "max_kv_fraction");
            t.max_num_seqs        = u32(path + "max_num_seqs");
            t.max_num_queued_reqs = u32(path + "max_num_queued_reqs");
            config_.tenants.push_back(t);
        }
        config_.engine.tenants      = config_.tenants.data();
        config_.engine.tenant_count = static_cast<uint32_t>(config_.tenants.size());
    }

    void fill_cache()
    {
        auto &o                 = config_.engine;
        o.block_size            = u32("kv_cache.block_size");
        o.kv_cache_bytes        = static_cast<uint64_t>(find("kv_cache.size")->integer);
        o.num_kv_blocks         = u32("kv_cache.num_kv_blocks");
        o.memory_fraction       = f32("kv_cache.memory_fraction");
        o.kv_dtype              = dtype("kv_cache.dtype");
        o.enable_prefix_caching = toggle("kv_cache.enable_prefix_caching");
        o.enable_cross_sharing  = toggle("kv_cache.enable_cross_sharing");
        o.extents               = toggle("kv_cache.extents");
        o.zero_on_free          = toggle("kv_cache.zero_on_free");
    }

    void fill_machine()
    {
        auto &o           = config_.engine;
        o.cpus            = unless_auto("topology.cpus");
        o.threads         = u32("topology.threads");
        o.smt             = toggle("topology.smt");
        o.bind            = is("topology.bind", "pu")     ? QUIRE_BIND_PU
                            : is("topology.bind", "none") ? QUIRE_BIND_NONE
                                                          : QUIRE_BIND_CORE;
        o.huge_pages      = is("topology.huge_pages", "on")    ? QUIRE_TOGGLE_ON
                            : is("topology.huge_pages", "off") ? QUIRE_TOGGLE_OFF
                                                               : QUIRE_TOGGLE_AUTO;
        o.barrier_spin_ns = u32("topology.barrier_spin");
        o.numa_strict     = toggle("numa.strict");
        o.isa             = unless_auto("kernels.isa");
        o.small_m         = is("kernels.small_m", "own")      ? QUIRE_SMALL_M_OWN
                            : is("kernels.small_m", "onednn") ? QUIRE_SMALL_M_ONEDNN
                                                              : QUIRE_SMALL_M_AUTO;
        o.batch_invariant = toggle("kernels.batch_invariant");
        o.prefetch        = is("kernels.prefetch", "t1")     ? QUIRE_TOGGLE_ON
                            : is("kernels.prefetch", "none") ? QUIRE_TOGGLE_OFF
                                                             : QUIRE_TOGGLE_AUTO;
    }

    quire_config &config_;
};

} // namespace

void fill_options(quire_config &config) { option_filler(config).fill(); }

} // namespace qr::config
