// What depends on several keys: distributions, orders, limits that contradict each other.
#include <cstring>

#include "engine/config/object.h"

namespace qr::config {

namespace {

// ---- distributions ----

struct distribution_rule {
    const char *dist;
    const char *needed; // "|a|b|"
    const char *allowed;
};

constexpr distribution_rule distribution_rules[] = {
    {"fixed", "|value|", "|value|min|max|"},
    {"uniform", "|min|max|", "|min|max|"},
    {"normal", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"lognormal", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"gamma", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"zipf", "|s|max|", "|s|min|max|"},
    {"empirical", "|file|column|", "|file|column|min|max|"},
};

bool holds(const char *list, const string &member) { return strstr(list, ("|" + member + "|").c_str()) != nullptr; }

void check_distribution(const store &values, const string &path)
{
    static const char *const members[] = {"value", "mean", "stdev", "s", "min", "max", "file", "column"};
    const value             *dist      = find(values, path + ".dist");
    const value             *any       = dist;
    for (const char *member : members)
        if (any == nullptr) any = find(values, path + "." + member);
    if (any == nullptr) return;
    const string start = any->place + ": " + shown(path) + ": ";
    if (dist == nullptr) fail(QUIRE_ERR_INVALID, start + "dist is missing (fixed, uniform, normal, ...)");
    for (const auto &rule : distribution_rules) {
        if (dist->text != rule.dist) continue;
        for (const char *member : members) {
            const value *v = find(values, path + "." + member);
            if (v == nullptr && holds(rule.needed, member))
                fail(QUIRE_ERR_INVALID, start + rule.dist + " needs " + member);
            if (v != nullptr && !holds(rule.allowed, member))
                fail(QUIRE_ERR_INVALID, v->place + ": " + shown(path) + ": " + rule.dist + " has no " + member);
        }
    }
    const value *low = find(values, path + ".min"), *high = find(values, path + ".max");
    if (low != nullptr && high != nullptr && low->number > high->number)
        fail(QUIRE_ERR_INVALID, start + "min " + to_text(low->number) + " is above max " + to_text(high->number));
}

} // namespace

void check_distributions(const store &values)
{
    for (const char *path : {"workload.prompt_tokens", "workload.output_tokens", "workload.encoder_tokens"})
        check_distribution(values, path);
    const value *mix = find(values, "workload.mix");
    for (size_t i = 0; mix != nullptr && i < mix->count; i++) {
        const string path = "workload.mix[" + std::to_string(i) + "]";
        check_distribution(values, path + ".prompt_tokens");
        check_distribution(values, path + ".output_tokens");
    }
}

namespace {

// ---- what depends on several keys ----

class checker {
  public:
    explicit checker(const quire_config &config) : config_(config) {}

    void run() const
    {
        check_distributions(config_.values);
        check_scheduler();
        check_tenants();
        check_workload();
        check_order("run.warmup.min", "run.warmup.max");
        check_order("capacity.min_rate", "capacity.max_rate");
        check_limits();
        check_percentiles();
        if (text("load.cpu") != "auto")
            fail(QUIRE_ERR_UNSUPPORTED, place("load.cpu") + ": [load] cpu: only auto is supported yet");
        if (text("numa.replicas") == "per-node")
            fail(QUIRE_ERR_UNSUPPORTED, place("numa.replicas") + ": [numa] replicas: per-node is not supported yet");
    }

  private:
    string        text(const char *key) const { return config_.find(key) ? config_.find(key)->text : ""; }
    int64_t       integer(const char *key) const { return config_.find(key) ? config_.find(key)->integer : 0; }
    const string &place(const char *key) const { return config_.find(key)->place; }

    [[noreturn]] void refuse(const char *key, const string &what) const
    {
        fail(QUIRE_ERR_INVALID, place(key) + ": " + shown(key) + ": " + what);
    }

    // `key` >= `other`; the one that somebody wrote is named.
    void at_least(const char *key, const char *other) const
    {
        if (integer(key) >= integer(other)) return;
        const string a = std::to_string(integer(key)), b = std::to_string(integer(other));
        if (place(key) == "built-in") refuse(other, b + " is above " + shown(key) + " = " + a);
        refuse(key, a + " is below " + shown(other) + " = " + b);
    }

    void check_scheduler() const
    {
        const int64_t longest = integer("model.max_model_len");
        at_least("scheduler.max_num_batched_tokens", "scheduler.max_num_seqs");
        at_least("scheduler.max_num_seqs", "scheduler.max_num_partial_prefills");
        at_least("scheduler.max_num_partial_prefills", "scheduler.max_long_partial_prefills");
        if (longest > 0) at_least("scheduler.max_num_queued_tokens", "model.max_model_len");
        if (longest > 0 && !config_.find("scheduler.enable_chunked_prefill")->boolean)
            at_least("scheduler.max_num_batched_tokens", "model.max_model_len");
    }

    void check_tenants() const
    {
        const value *tenants = config_.find("tenant");
        const size_t count   = tenants ? tenants->count : 0;
        if (count > static_cast<size_t>(integer("scheduler.max_num_tenants")))
            refuse("tenant", std::to_string(count) + " tenants are above max_num_tenants");
        std::map<string, bool> names;
        for (size_t i = 0; i < count; i++) {
            const string path = "tenant[" + std::to_string(i) + "]";
            const value *name = config_.find(path + ".name");
            if (name == nullptr) refuse("tenant", "element " + std::to_string(i) + " has no name");
            if (name->text.size() > 64) refuse((path + ".name").c_str(), "is longer than 64 bytes");
            if (!names.emplace(name->text, true).second)
                refuse((path + ".name").c_str(), quoted(name->text) + " is there twice");
        }
    }

    void check_workload() const
    {
        at_least("scheduler.max_num_seqs", "workload.n");
        const string origin = text("workload.source");
        if (origin == "file" && text("workload.path").empty())
            refuse("workload.source", "\"file\" needs [workload] path");
        if (origin == "trace" && text("workload.trace.path").empty())
            refuse("workload.source", "\"trace\" needs [workload.trace] path");
        if (origin == "random" && integer("workload.num_prompts") == 0 && integer("run.duration") == 0)
            refuse("workload.num_prompts", "0 needs [run] duration, or the run never ends");
    }

    // A part of a request's time cannot be allowed more than the whole.
    void check_limits() const
    {
        check_order("slo.ttft", "slo.e2el");
        check_order("slo.tpot", "slo.e2el");
        check_order("slo.itl_p99", "slo.e2el");
        const value *e2el = config_.find("slo.e2el");
        if (e2el != nullptr && preset_ttft() > e2el->number && config_.find("slo.ttft") == nullptr)
            refuse("slo.e2el", to_text(e2el->number) + " is below the preset's ttft = " + to_text(preset_ttft()));
        if (e2el != nullptr && preset_tpot() > e2el->number && config_.find("slo.tpot") == nullptr)
            refuse("slo.e2el", to_text(e2el->number) + " is below the preset's tpot = " + to_text(preset_tpot()));
        const value *share = config_.find("slo.min_attainment");
        for (const char *key : {"slo.preset", "slo.ttft", "slo.tpot", "slo.e2el", "slo.itl_p99"})
            if (config_.find(key) != nullptr) return;
        if (share != nullptr && share->number > 0) refuse("slo.min_attainment", "needs a limit in [slo]");
    }

    void check_percentiles() const
    {
        constexpr size_t most  = 12; // as a summary holds
        const size_t     count = config_.find("output.percentiles")->count;
        if (count == 0) refuse("output.percentiles", "empty; name at least one");
        if (count > most)
            refuse("output.percentiles",
                   std::to_string(count) + " of them are above the maximum " + std::to_string(most));
        std::map<double, bool> seen;
        for (size_t i = 0; i < count; i++) {
            const string path = "output.percentiles[" + std::to_string(i) + "]";
            const double p    = config_.find(path)->number;
            if (!seen.emplace(p, true).second) refuse(path.c_str(), to_text(p) + " is there twice");
        }
    }

    double preset_ttft() const { return is_preset("server") ? 2000 : is_preset("interactive") ? 500 : 0; }
    double preset_tpot() const { return is_preset("server") ? 100 : is_preset("interactive") ? 30 : 0; }
    bool   is_preset(const char *kind) const { return text("slo.preset") == string("mlperf-llama3.1-8b-") + kind; }

    // `low` <= `high`; the one that somebody wrote is named.
    void check_order(const char *low, const char *high) const
    {
        const value *a = config_.find(low), *b = config_.find(high);
        if (a == nullptr || b == nullptr || a->number <= b->number) return;
        const string x = written(*a), y = written(*b);
        if (place(low) == "built-in") refuse(high, y + " is below " + shown(low) + " = " + x);
        refuse(low, x + " is above " + shown(high) + " = " + y);
    }

    static string written(const value &v) { return v.type == kind::text ? v.text : to_text(v.number); }

    const quire_config &config_;
};

} // namespace

void check(const quire_config &config) { checker(config).run(); }

} // namespace qr::config
