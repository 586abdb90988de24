// What all parts of the configuration share: values by their path, the key table, and errors that name a place.
#ifndef QR_CONFIG_STORE_H
#define QR_CONFIG_STORE_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "quire/config.h"

namespace qr::config {

using std::string;
using std::string_view;

// ---- errors inside these files: thrown, and turned into a status at the C boundary ----

struct failure {
    quire_status status;
    string       message;
};

[[noreturn]] void fail(quire_status status, const string &message);

// ---- values ----

enum class kind { text, integer, number, boolean, array };

struct value {
    kind    type = kind::text;
    string  text;        // text, size, duration: as written
    int64_t integer = 0; // size in bytes, duration in ns
    double  number  = 0;
    bool    boolean = false;
    bool    counts  = false; // integer and number hold something
    size_t  count   = 0;     // array
    string  origin;          // "quire.toml:12"
    string  place;           // "quire.toml:12:8", for messages
};

using store = std::map<string, value, std::less<>>;

const value *find(const store &values, const string &key);

// ---- text in messages ----

// 100000 and 1e9, not 1e+05 and 1e+09: as the ranges of the keys are written.
string to_text(double x);
string quoted(string_view text); // at most 60 bytes of it
string shown(string_view path);  // "scheduler.max_num_seqs" -> "[scheduler] max_num_seqs"
bool   starts_with(string_view text, string_view start);

// ---- the key table ----

struct key_range {
    const quire_config_key *first, *last;
    const quire_config_key *begin() const { return first; }
    const quire_config_key *end() const { return last; }
};

key_range all_keys();
bool      is_type(const quire_config_key &row, const char *type);
string    pattern_of(string_view path);     // "tenant[3].name" -> "tenant[].name"
bool      has_free_names(string_view name); // axes and labels: a name may hold dots
bool      is_section(string_view pattern);

// The row of a pattern; a name under a "*" counts unless a row spells it out. NULL: there is none.
const quire_config_key *find_row(string_view pattern);

// The error for a key or a section that there is not, with the nearest known name.
[[noreturn]] void fail_unknown(const string &place, const string &path, bool is_table);

// ---- distributions ----

// Each needs and may have what docs/CONFIGURATION.md says of its form.
void check_distributions(const store &values);

} // namespace qr::config

#endif
