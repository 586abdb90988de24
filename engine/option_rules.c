/* Orders of two options, tenants, and the three ways to size the cache. */
#include "engine/option_rules.h"

#include <string.h>

#include "base/error.h"
#include "base/sized_struct.h"

/* In file and struct: the first is at least the second, where both are given. */
typedef struct at_least {
    const char *key, *other;
    size_t      at, other_at;
    bool        only_whole_prompts; /* without chunked prefill */
} at_least;

#define AT_LEAST(section, member, other_section, other, only_whole_prompts)                                            \
    {                                                                                                                  \
#section "." #member, #other_section "." #other, offsetof(quire_engine_options, member),                       \
            offsetof(quire_engine_options, other), only_whole_prompts                                                  \
    }

static const at_least orders[] = {
    AT_LEAST(scheduler, max_num_batched_tokens, scheduler, max_num_seqs, false),
    AT_LEAST(scheduler, max_num_seqs, scheduler, max_num_partial_prefills, false),
    AT_LEAST(scheduler, max_num_partial_prefills, scheduler, max_long_partial_prefills, false),
    AT_LEAST(scheduler, max_num_queued_tokens, model, max_model_len, false),
    AT_LEAST(scheduler, max_num_batched_tokens, model, max_model_len, true),
};

static uint32_t read_u32(const quire_engine_options *options, size_t at)
{
    uint32_t value;
    memcpy(&value, (const char *)options + at, sizeof value);
    return value;
}

/* "scheduler.max_num_seqs" as it is written in a file: "[scheduler] max_num_seqs". */
#define SHOWN "[%.*s] %s"
#define AS_SHOWN(key) (int)strcspn(key, "."), key, strchr(key, '.') + 1

quire_status qr_options_check_order(const quire_engine_options *options, qr_option_fault *fault, quire_error *error)
{
    const bool whole_prompts = options->enable_chunked_prefill == QUIRE_TOGGLE_OFF;
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        const at_least *o     = &orders[i];
        const uint32_t  value = read_u32(options, o->at), least = read_u32(options, o->other_at);
        if (value == 0 || value >= least || (o->only_whole_prompts && !whole_prompts)) continue;
        *fault = (qr_option_fault){.key = o->key, .other = o->other};
        return qr_fail(error, QUIRE_ERR_INVALID, SHOWN ": %u is below " SHOWN " = %u%s", AS_SHOWN(o->key), value,
                       AS_SHOWN(o->other), least,
                       o->only_whole_prompts ? ", which enable_chunked_prefill = false requires" : "");
    }
    return QUIRE_OK;
}

static quire_status tenant_at(const quire_engine_options *options, uint32_t i, quire_tenant_options *out,
                              quire_error *error)
{
    return qr_options_copy_element("quire_tenant_options", options->tenants, i, out, sizeof *out, error);
}

static quire_status check_tenant(const quire_engine_options *options, uint32_t i, quire_error *error)
{
    quire_tenant_options tenant, other;
    quire_error          reason = {0};
    QR_TRY(tenant_at(options, i, &tenant, error));
    if (tenant.name == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %u: name is missing", i);
    if (strnlen(tenant.name, QUIRE_MAX_TENANT_NAME + 1) > QUIRE_MAX_TENANT_NAME)
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %.20s...: name is longer than %d bytes", tenant.name,
                       QUIRE_MAX_TENANT_NAME);
    for (uint32_t k = 0; k < i; k++) {
        QR_TRY(tenant_at(options, k, &other, error));
        if (strcmp(other.name, tenant.name) == 0)
            return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %s: name appears twice", tenant.name);
    }
    if (qr_option_resolve_all(QR_OF_TENANT, &tenant, &reason) == QUIRE_OK) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %s: %.150s", tenant.name, reason.message);
}

static quire_status check_tenants(const quire_engine_options *options, qr_option_fault *fault, quire_error *error)
{
    const uint32_t most = options->max_num_tenants;
    *fault              = (qr_option_fault){.key = "tenant"};
    if (most != 0 && options->tenant_count > most)
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]]: there are %u; [scheduler] max_num_tenants is %u",
                       options->tenant_count, most);
    if (options->tenant_count > 0 && options->tenants == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]]: tenants is NULL but tenant_count is %u",
                       options->tenant_count);
    for (uint32_t i = 0; i < options->tenant_count; i++) QR_TRY(check_tenant(options, i, error));
    return QUIRE_OK;
}

static quire_status check_cache(const quire_engine_options *options, qr_option_fault *fault, quire_error *error)
{
    *fault          = (qr_option_fault){.key = "kv_cache.size"};
    const int given = (options->kv_cache_bytes != 0) + (options->num_kv_blocks != 0) + (options->memory_fraction != 0);
    if (given <= 1) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[kv_cache] size, num_kv_blocks, memory_fraction: at most one may be given");
}

quire_status qr_options_check(quire_engine_options *options, qr_option_fault *fault, quire_error *error)
{
    for (size_t i = 0; i < qr_option_count; i++) {
        if (qr_option_list[i].of != QR_OF_ENGINE) continue;
        *fault = (qr_option_fault){.key = qr_option_list[i].key};
        QR_TRY(qr_option_resolve(&qr_option_list[i], options, error));
    }
    QR_TRY(qr_options_check_order(options, fault, error));
    QR_TRY(check_tenants(options, fault, error));
    return check_cache(options, fault, error);
}
