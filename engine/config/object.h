// The configuration itself.
#ifndef QR_CONFIG_OBJECT_H
#define QR_CONFIG_OBJECT_H

#include <vector>

#include "engine/config/store.h"

struct quire_config {
    qr::config::store                 values, views;
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
};

namespace qr::config {

// What depends on several keys. Throws.
void check(const quire_config &config);

// The options of the library, which point into the values.
void fill_options(quire_config &config);

string print(const store &values, quire_print how);

} // namespace qr::config

#endif
