/* Registers the keys of the commands (tool_config.inc) with those of library and bench/. */
#include "cli/tool_config.h"

#include "base/error.h"
#include "bench/keys.h"

#define KEY(name, type, fallback, range, help) {name, type, fallback, range, help},
static const quire_config_key keys[] = {
#include "cli/tool_config.inc"
};

quire_status qr_tool_config_create(quire_config **config_out, quire_error *error)
{
    QR_TRY(qr_bench_config_create(config_out, error));
    const quire_status status = quire_config_add_keys(*config_out, "cli", keys, sizeof keys / sizeof *keys, error);
    if (status == QUIRE_OK) return QUIRE_OK;
    quire_config_destroy(*config_out);
    *config_out = NULL;
    return status;
}

quire_status qr_tool_config_check(quire_config *config, quire_error *error)
{
    const double low  = quire_config_number(config, "capacity.min_rate");
    const double high = quire_config_number(config, "capacity.max_rate");
    QR_TRY(quire_config_check(config, error));
    QR_TRY(qr_bench_config_check(config, error));
    if (low <= high) return QUIRE_OK;
    return quire_config_refuse(config, "capacity.max_rate", error, "%.10g is below capacity.min_rate = %.10g", high,
                               low);
}

static quire_config *all; /* as long as the process */

quire_status qr_tool_keys_load(quire_error *error)
{
    return all == NULL ? qr_tool_config_create(&all, error) : QUIRE_OK;
}

const quire_config_key *qr_tool_key_at(size_t index) { return quire_config_key_at(all, index); }
