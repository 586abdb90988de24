/* A result as JSON, `quire.result/1`. Null means not measurable; there is never a NaN. */
#include "bench/result/result_json.h"
#include "bench/common/json_text.h"
#include "bench/result/machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static json_t *time_text(time_t t)
{
    char      text[32];
    struct tm utc;
    gmtime_r(&t, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_string(text);
}

/* "quire 0.1.0, gcc 12.2.0, oneDNN 2.6.3, hwloc 2.9.0, ..." in its parts; the n-th, behind its first word. */
static json_t *build_part(int n, bool with_name)
{
    const char *at = quire_build_info();
    for (; n > 0 && at != NULL; n--) at = strstr(at, ", ") ? strstr(at, ", ") + 2 : NULL;
    if (at == NULL) return json_null();
    if (!with_name) at += strcspn(at, " ") + 1;
    return json_stringn(at, strcspn(at, ","));
}

static json_t *label(const qr_result *r)
{
    json_t *to = json_object();
    for (size_t i = 0; i < quire_config_count(r->config, "output.label"); i++) {
        char name[64], text[64];
        snprintf(name, sizeof name, "output.label[%zu].name", i);
        snprintf(text, sizeof text, "output.label[%zu].value", i);
        const char *value_text = quire_config_string(r->config, text);
        if (value_text != NULL)
            json_object_set_new(to, quire_config_string(r->config, name), qr_json_string(value_text));
    }
    return to;
}

/* At the end of the last window, when the engine still stood. */
static json_t *huge_bytes(const qr_result *r)
{
    if (r->is_virtual || r->is_remote || r->run_count == 0) return json_null();
    return json_integer((json_int_t)r->records[r->run_count - 1].placement.huge_bytes);
}

/* Of an engine of this process; null for a server. */
static json_t *known_text(const qr_result *r, const char *text)
{
    return r->is_remote ? json_null() : json_string(text);
}

static json_t *context(const qr_result *r)
{
    char        host[256] = "";
    json_t     *command = json_array(), *to = qr_machine_json("");
    const char *cap = quire_config_string(r->config, "kernels.isa");
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < r->argc; i++) json_array_append_new(command, qr_json_string(r->argv[i]));
    json_object_set_new(to, "started", time_text(r->started));
    json_object_set_new(to, "finished", time_text(r->finished));
    json_object_set_new(to, "host", qr_json_string(host));
    json_object_set_new(to, "command", command);
    json_object_set_new(to, "label", label(r));
    json_object_set_new(to, "quire",
                        json_pack("{s:o, s:s, s:s, s:o, s:b, s:b}", "version", build_part(0, false), "git",
                                  r->git ? r->git : "unknown", "build", quire_build_info(), "compiler",
                                  build_part(1, true), "optimised", qr_build_is_release(), "assertions", 1));
    json_object_set_new(to, "libs",
                        json_pack("{s:o, s:o, s:o, s:s}", "onednn", build_part(2, false), "hwloc", build_part(3, false),
                                  "onednn_impl", known_text(r, r->engine.implementation), "openmp", "libgomp"));
    json_object_set_new(json_object_get(to, "memory"), "huge_bytes", huge_bytes(r));
    json_t *cpu = json_object_get(to, "cpu");
    json_object_set_new(cpu, "isa", known_text(r, r->engine.isa));
    json_object_set_new(cpu, "isa_cap", cap != NULL && strcmp(cap, "auto") != 0 ? json_string(cap) : json_null());
    if (r->loadavg[0] < 0) return to;
    json_object_del(to, "loadavg"); /* that of now holds the run's own threads */
    json_object_set_new(to, "loadavg", json_pack("[f, f, f]", r->loadavg[0], r->loadavg[1], r->loadavg[2]));
    return to;
}

static json_t *model(const qr_result *r)
{
    const quire_model_info *m = &r->model;
    if (r->is_remote)
        return json_pack("{s:o, s:s, s:n, s:n, s:n, s:n, s:n, s:n, s:o}", "name", qr_json_string(m->name), "source",
                         r->source, "architecture", "parameters", "weight_dtype", "kv_dtype", "weight_bytes",
                         "kv_bytes_per_token", "max_model_len",
                         r->server.max_model_len > 0 ? qr_json_whole(r->server.max_model_len) : json_null());
    return json_pack("{s:o, s:o, s:s, s:I, s:s, s:s, s:I, s:I, s:I}", "name", qr_json_string(m->name), "source",
                     qr_json_string(r->source), "architecture", m->architecture, "parameters",
                     (json_int_t)m->parameters, "weight_dtype", quire_dtype_name(m->weight_dtype), "kv_dtype",
                     quire_config_string(r->config, "kv_cache.dtype"), "weight_bytes",
                     (json_int_t)r->engine.weight_bytes, "kv_bytes_per_token", (json_int_t)r->engine.kv_bytes_per_token,
                     "max_model_len", (json_int_t)r->engine.max_model_len);
}

static json_t *placement(const qr_thread_placement *p)
{
    return json_pack("{s:b, s:o, s:I}", "pinned", p->pinned, "memory_local", qr_json_number(p->memory_local),
                     "migrations", (json_int_t)p->migrations);
}

/* What rank 0 had to do with the others, of each step since the engine was created. */
static json_t *ranks(const quire_stats *e)
{
    const double steps = e->steps > 0 ? (double)e->steps : 1;
    return json_pack("{s:I, s:f, s:f, s:f}", "count", (json_int_t)e->ranks, "messages",
                     (double)e->network_messages / steps, "bytes", (double)e->network_bytes / steps, "wait_ms",
                     (double)e->network_wait_ns / steps * 1e-6);
}

static json_t *numa(const quire_stats *e)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "pages_checked", (json_int_t)e->numa_pages_checked,
                     "pages_misplaced", (json_int_t)e->numa_pages_misplaced, "kv_remote_bytes",
                     (json_int_t)e->kv_remote_bytes, "blocks_spilled", (json_int_t)e->blocks_spilled,
                     "prefix_hits_remote", (json_int_t)e->prefix_hits_remote, "attention_helped",
                     (json_int_t)e->attention_helped);
}

static json_t *engine(const qr_result *r)
{
    const quire_stats *e = &r->engine;
    if (r->is_remote) return json_null();
    json_t *to =
        json_pack("{s:I, s:I, s:I, s:I, s:b, s:s, s:I, s:I}", "threads", (json_int_t)e->threads, "nodes",
                  (json_int_t)e->nodes, "block_size", (json_int_t)e->block_size, "num_blocks", (json_int_t)e->blocks,
                  "batch_invariant", e->batch_invariant, "implementation", e->implementation, "kv_cache_bytes",
                  (json_int_t)e->kv_cache_bytes, "scratch_bytes", (json_int_t)e->scratch_bytes);
    if (e->ranks > 1) json_object_set_new(to, "ranks", ranks(e));
    if (e->nodes > 1 && !r->is_virtual) json_object_set_new(to, "numa", numa(e));
    if (r->run_count == 0 || r->is_virtual) return to;
    const qr_thread_placement *p    = &r->records[r->run_count - 1].placement;
    json_t                    *cpus = json_array();
    for (uint32_t i = 0; i < p->threads && i < sizeof p->cpus / sizeof *p->cpus; i++)
        json_array_append_new(cpus, json_integer(p->cpus[i]));
    json_object_set_new(to, "cpus", cpus);
    json_object_set_new(to, "placement", placement(p));
    json_object_set_new(to, "small_m", json_string(quire_config_string(r->config, "kernels.small_m")));
    json_object_set_new(to, "prefetch", json_string(quire_config_string(r->config, "kernels.prefetch")));
    return to;
}

/* Where 0 leaves a choice to the engine, what it chose: results that differ in it are not alike. */
static void resolve(const qr_result *r, json_t *values)
{
    const struct {
        const char *key;
        uint32_t    value;
    } chosen[] = {{"model.max_model_len", r->engine.max_model_len},
                  {"scheduler.max_num_batched_tokens", r->engine.max_num_batched_tokens},
                  {"scheduler.max_num_queued_tokens", r->engine.max_num_queued_tokens}};
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen && r->run_count > 0 && !r->is_remote; i++) {
        json_object_del(values, chosen[i].key); /* the 0 */
        json_object_set_new(values, chosen[i].key, json_integer(chosen[i].value));
    }
}

static void configuration(const qr_result *r, json_t *values, json_t *origins)
{
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(r->config, i)) != NULL; i++) {
        if (r->is_remote && qr_is_engine_key(key->name)) continue;
        const char *text   = quire_config_string(r->config, key->name);
        const char *origin = quire_config_origin(r->config, key->name);
        double      x      = quire_config_number(r->config, key->name);
        if (text != NULL)
            json_object_set_new(values, key->name, qr_json_string(text));
        else if (strcmp(key->type, "boolean") == 0)
            json_object_set_new(values, key->name, json_boolean(quire_config_boolean(r->config, key->name)));
        else if (isfinite(x) && strcmp(key->type, "integer") == 0)
            json_object_set_new(values, key->name,
                                json_integer((json_int_t)quire_config_integer(r->config, key->name)));
        else if (isfinite(x))
            json_object_set_new(values, key->name, json_real(x));
        if (strcmp(origin, "built-in") != 0) json_object_set_new(origins, key->name, qr_json_string(origin));
    }
    resolve(r, values);
}

/* ---- a server ---- */

/* The least exact way in which an answer's tokens were counted. */
static json_t *counted_by(const qr_http_counts *answers)
{
    for (int i = 0; i < QR_COUNTED_BY; i++)
        if (answers->answers[i] > 0) return json_string(qr_counted_by_name((qr_counted_by)i));
    return json_null();
}

static json_t *target(const qr_result *r)
{
    const qr_http_facts  *s = &r->server;
    const qr_http_counts *a = &r->answers;
    json_t               *to, *answers = json_object(), *problems = json_array();
    for (int i = 0; i < QR_COUNTED_BY; i++)
        json_object_set_new(answers, qr_counted_by_name((qr_counted_by)i), qr_json_whole(a->answers[i]));
    for (uint32_t i = 0; i < a->problem_count; i++)
        json_array_append_new(problems, json_pack("{s:o, s:o}", "what", qr_json_string(a->problems[i].what), "count",
                                                  qr_json_whole(a->problems[i].count)));
    to = json_pack("{s:o, s:o, s:s, s:b, s:I, s:o, s:o, s:o, s:o}", "url", qr_json_string(s->url), "software",
                   s->software[0] != '\0' ? qr_json_string(s->software) : json_null(), "prompts",
                   s->takes_ids ? "token_ids" : "text", "takes_extensions", s->takes_extensions, "vocab_size",
                   (json_int_t)s->vocab_size, "connections", qr_json_whole(a->connections), "counted_by", counted_by(a),
                   "tokens_per_chunk",
                   qr_json_number(a->chunks > 0 ? (double)(a->tokens - a->missing) / (double)a->chunks : NAN),
                   "answers", answers);
    json_object_set_new(to, "problems", problems);
    return to;
}

static json_t *validity(const qr_result *r)
{
    json_t *checks = json_array();
    for (uint32_t i = 0; i < r->check_count; i++) {
        const qr_check *c = &r->checks[i];
        json_array_append_new(checks,
                              json_pack("{s:s, s:b, s:s, s:o, s:s, s:s, s:s}", "id", c->id, "ok", c->ok, "severity",
                                        c->invalid ? "invalid" : "warn", "value", qr_json_number(c->value), "unit",
                                        c->unit, "need", c->need, "hint", c->ok ? "" : c->hint));
    }
    return json_pack("{s:s, s:o}", "result", qr_result_is_valid(r) ? "VALID" : "INVALID", "checks", checks);
}

/* The files that `quire report` reads besides this one, where their names can be said; else it looks beside it. */
static json_t *logs(const qr_result *r)
{
    json_t *to = json_object();
    if (r->requests_log != NULL) json_object_set_new(to, "requests", json_string(r->requests_log));
    if (r->steps_log != NULL) json_object_set_new(to, "steps", json_string(r->steps_log));
    return to;
}

bool qr_is_engine_key(const char *key)
{
    static const char *const sections[] = {"model.",    "topology.", "numa.", "scheduler.",
                                           "kv_cache.", "kernels.",  "tenant"};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (strncmp(key, sections[i], strlen(sections[i])) == 0) return true;
    return false;
}

bool qr_config_hash(const quire_config *config, char hash_out[32])
{
    char      *engine = quire_config_print(config, QUIRE_PRINT_BARE, "quire");
    char      *run    = quire_config_print(config, QUIRE_PRINT_BARE, QR_RUN_KEYS);
    const bool ok     = engine != NULL && run != NULL;
    if (ok) {
        const XXH64_hash_t seed = XXH3_64bits(engine, strlen(engine));
        const XXH64_hash_t hash = XXH3_64bits_withSeed(run, strlen(run), seed);
        snprintf(hash_out, 32, "xxh3:%016llx", (unsigned long long)hash);
    }
    quire_free(engine);
    quire_free(run);
    return ok;
}

static json_t *cost_error(const qr_cost_error *e)
{
    return json_pack("{s:f, s:f, s:f}", "median", e->median, "p90", e->p90, "total", e->total);
}

/* Virtual clock: relative errors of the cost model per step, and of the sum of all steps. */
static json_t *cost_model(const qr_result *r)
{
    double wall = 0;
    if (!r->is_virtual) return json_null();
    for (uint32_t i = 0; i < r->run_count; i++) wall += r->records[i].wall_s;
    return json_pack("{s:s, s:s, s:I, s:o, s:o, s:I, s:I, s:f}", "noise", r->cost.resampled ? "resample" : "none",
                     "fitted_to", r->cost.path, "fitted_steps", (json_int_t)r->cost.model.steps, "error",
                     cost_error(&r->cost.model.fitted), "held_out_error", cost_error(&r->cost.model.held_out), "steps",
                     (json_int_t)r->cost.steps, "extrapolated_steps", (json_int_t)r->cost.extrapolated, "wall_s", wall);
}

static const char *load_model(const char *profile)
{
    if (strcmp(profile, "throughput") == 0) return "offline";
    return strcmp(profile, "synchronous") == 0 || strcmp(profile, "concurrent") == 0 ? "closed" : "open";
}

/* Requests of a file say it each for themselves. */
static json_t *ignores_eos(const qr_result *r)
{
    const char *source = quire_config_string(r->config, "workload.source");
    if (source != NULL && strcmp(source, "file") == 0) return json_null();
    return json_boolean(quire_config_boolean(r->config, "workload.ignore_eos") &&
                        (!r->is_remote || r->server.takes_extensions));
}

static json_t *prefix_caching(const qr_result *r)
{
    return r->is_remote ? json_null() : json_boolean(quire_config_boolean(r->config, "kv_cache.enable_prefix_caching"));
}

json_t *qr_result_json(const qr_result *r)
{
    char    hash[32];
    json_t *values = json_object(), *origins = json_object(), *runs = json_array(), *to = json_object();
    configuration(r, values, origins);
    for (uint32_t i = 0; i < r->run_count; i++) json_array_append_new(runs, qr_run_json(r, i));
    json_object_set_new(to, "schema", json_string("quire.result/1"));
    json_object_set_new(to, "partial", json_boolean(r->partial));
    json_object_set_new(to, "context", context(r));
    json_object_set_new(to, "model", model(r));
    json_object_set_new(to, "engine", engine(r));
    json_object_set_new(to, "config", values);
    json_object_set_new(to, "config_origin", origins);
    if (qr_config_hash(r->config, hash)) json_object_set_new(to, "config_hash", json_string(hash));
    json_object_set_new(to, "seed", qr_json_whole(r->seed));
    json_object_set_new(to, "sweep", json_null());
    json_object_set_new(to, "target", r->is_remote ? target(r) : json_null());
    json_object_set_new(to, "disclosure",
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:s}", "boundary",
                                  r->is_remote ? "http" : "library", "load_model", load_model(r->profile), "profile",
                                  r->profile, "clock", r->is_virtual ? "virtual" : "real", "workload",
                                  quire_config_string(r->config, "workload.source"), "prefix_caching",
                                  prefix_caching(r), "ignore_eos", ignores_eos(r), "percentiles", "linear"));
    json_object_set_new(to, "cost_model", cost_model(r));
    json_object_set_new(to, "validity", validity(r));
    json_object_set_new(to, "limits", qr_limits_json(r));
    json_object_set_new(to, "runs", runs);
    json_object_set_new(to, "aggregate", qr_aggregate_json(r));
    json_object_set_new(to, "logs", logs(r));
    return to;
}
