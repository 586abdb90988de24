// toml++ as it is used here, and text that becomes a table.
#ifndef QR_CONFIG_TOML_H
#define QR_CONFIG_TOML_H

#include "engine/config/store.h"

// toml++ 3.3 asserts, or with NDEBUG assumes, what a malformed file can break ("[ #"): here it throws instead. Whoever
// includes toml++ includes this, so that all see the same.
namespace qr::config {
struct malformed {};
[[noreturn]] inline void throw_malformed() { throw malformed{}; }
} // namespace qr::config
#undef NDEBUG
#define TOML_EXCEPTIONS 0 // the exception that it would throw ends the process where there is no memory for its text
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : qr::config::throw_malformed())
#define TOML_ENABLE_FORMATTERS 0
#define TOML_FLOAT_CHARCONV 1 // without it a stream reads numbers, which takes want of memory for a malformed one
#include <toml++/toml.h>

namespace qr::config {

constexpr size_t max_file_bytes = 1 << 20;

// ---- where text came from ----

struct source {
    string name; // path, "--set", "QUIRE__MODEL__PATH", "built-in"
    bool   has_lines = false;

    string origin(const toml::source_region &at) const
    {
        return has_lines ? name + ":" + std::to_string(at.begin.line) : name;
    }
    string place(const toml::source_region &at) const
    {
        return has_lines ? origin(at) + ":" + std::to_string(at.begin.column) : name;
    }
    // A relative path that a file names is relative to the file's folder; "-" is no path.
    string beside(const string &path) const
    {
        const size_t slash = name.rfind('/');
        if (!has_lines || slash == string::npos || path.empty() || path[0] == '/' || path == "-") return path;
        return name.substr(0, slash + 1) + path;
    }
};

// ERR_FORMAT, with the place: no TOML, or tables and arrays nested deeper than 16.
toml::table parse(string_view text, const source &from);

// Text from outside a file for the key `path`: TOML where it can be, else a string. The value is called "v".
toml::table parse_value(const key_table &keys, const string &path, const string &text, const source &from);

// The same, but text for a key that holds text is the value itself, quotes included.
toml::table plain_value(const key_table &keys, const string &path, const string &text, const source &from);

string found(const toml::node &node); // "integer 3"

} // namespace qr::config

#endif
