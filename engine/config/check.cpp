// What the engine would refuse, said with the place in the file.
#include "engine/config/object.h"
#include "engine/option_rules.h"

namespace qr::config {

namespace {

// Of two keys the one that somebody wrote.
string place_of(const quire_config &config, const qr_option_fault &fault)
{
    const value *v     = fault.key != nullptr ? config.find(fault.key) : nullptr;
    const value *other = fault.other != nullptr ? config.find(fault.other) : nullptr;
    if (other != nullptr && (v == nullptr || v->origin == "built-in")) v = other;
    return v != nullptr ? v->place : "configuration";
}

} // namespace

void check(const quire_config &config)
{
    quire_engine_options options = config.engine;
    qr_option_fault      fault{};
    quire_error          error{};
    const quire_status   status = qr_options_check(&options, &fault, &error);
    if (status != QUIRE_OK) fail(status, place_of(config, fault) + ": " + error.message);
}

} // namespace qr::config
