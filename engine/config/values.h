// A TOML value becomes a value of a key, checked against its row.
#ifndef QR_CONFIG_VALUES_H
#define QR_CONFIG_VALUES_H

#include <vector>

#include "engine/config/toml.h"

namespace qr::config {

struct target { // what a value is for
    const key_table        &keys;
    const quire_config_key &row;
    string                  path;
    string                  place;

    [[noreturn]] void fail(const string &what) const
    {
        config::fail(QUIRE_ERR_INVALID, place + ": " + keys.shown(path) + ": " + what);
    }
    [[noreturn]] void expected(const string &what, const toml::node &node) const
    {
        fail("expected " + what + ", found " + found(node));
    }
};

value read_scalar(const target &t, const toml::node &node);

// A list, or a range "1-8", "8-64+8", "16-64*2", as texts of values.
std::vector<string> axis_values(const target &t, const toml::node &node);

} // namespace qr::config

#endif
