// What all parts of the configuration share: values by their path, the table of keys, and errors that name a place.
#ifndef QR_CONFIG_STORE_H
#define QR_CONFIG_STORE_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

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

const value *find(const store &values, string_view key);

// ---- text in messages ----

// 100000 and 1e9, not 1e+05 and 1e+09: as the ranges of the keys are written.
string to_text(double x);
string quoted(string_view text); // at most 60 bytes of it
bool   starts_with(string_view text, string_view start);

string nth_word(string_view words, size_t index); // of "a | b | c"
bool   is_type(const quire_config_key &row, const char *type);
bool   has_any_name(const quire_config_key &row); // ends in "*"
string pattern_of(string_view path);              // "tenant[3].name" -> "tenant[].name"

// ---- the keys ----

// The library's keys, in the order in which they are printed: those of the list of options, and the few that are none.
const std::vector<quire_config_key> &library_keys();

// The keys of one configuration: the library's, and those that the program has added.
class key_table {
  public:
    struct entry {
        const quire_config_key *key;
        string                  owner;
    };

    key_table();
    void add(const string &owner, const quire_config_key &key); // after the others of its section

    const std::vector<entry> &entries() const { return entries_; }

    // The row of a pattern; a name under a "*" counts unless a row spells it out. nullptr: there is none.
    const quire_config_key *find(string_view pattern) const;
    bool                    is_section(string_view pattern) const;
    bool                    has_free_names(string_view section) const; // axes and labels: a name may hold dots
    bool                    is_skipped(string_view section) const;     // the tool's, while the tool has not added it
    string                  shown(string_view path) const; // "scheduler.max_num_seqs" -> "[scheduler] max_num_seqs"

    // The error for a key or a section that there is not, with the nearest known name.
    [[noreturn]] void fail_unknown(const string &place, const string &path, bool is_table) const;

  private:
    std::vector<string> names_below(string_view section) const;
    string              elsewhere(string_view name) const;

    std::vector<entry> entries_;
};

} // namespace qr::config

#endif
