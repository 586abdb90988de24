// The configuration itself.
#ifndef QR_CONFIG_OBJECT_H
#define QR_CONFIG_OBJECT_H

#include <vector>

#include "engine/config/store.h"

struct quire_config {
    qr::config::key_table             keys;
    qr::config::store                 values, built_in;
    qr::config::store                 views; // axes and labels, numbered so that a caller can walk them
    quire_engine_options              engine{};
    quire_model_options               model{};
    std::vector<quire_tenant_options> tenants;
    std::vector<quire_shape_override> shape;

    const qr::config::value *find(std::string_view key) const
    {
        if (const auto at = values.find(key); at != values.end()) return &at->second;
        const auto at = views.find(key);
        return at == views.end() ? nullptr : &at->second;
    }

    // "sweep[].key" and the like, where "sweep.*" is a key.
    bool is_view(std::string_view pattern) const
    {
        return keys.is_section(pattern.substr(0, pattern.find("[]"))) && pattern.find("[]") != std::string_view::npos;
    }
};

namespace qr::config {

// Ranges and rules of the options, as the engine checks them, with the place of the key at fault. Throws.
void check(const quire_config &config);

// The options of the library, which point into the values.
void fill_options(quire_config &config);

string print(const quire_config &config, quire_print how, const char *owner);

} // namespace qr::config

#endif
