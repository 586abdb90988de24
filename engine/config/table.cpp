// The table of keys: made from the list of options, extended by programs, searched by name.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>

#include "base/option_list.h"
#include "engine/config/store.h"
#include "model/presets.h"

namespace qr::config {

void fail(quire_status status, const string &message) { throw failure{status, message}; }

const value *find(const store &values, string_view key)
{
    const auto at = values.find(key);
    return at == values.end() ? nullptr : &at->second;
}

string to_text(double x)
{
    char buffer[64]; // to_chars: independent of the locale
    if (std::fabs(x) < 1e7 && x == std::trunc(x))
        return string(buffer, std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::fixed).ptr);
    string       text(buffer, std::to_chars(buffer, buffer + sizeof buffer, x).ptr);
    const size_t e = text.find('e');
    if (e == string::npos) return text;
    const size_t sign = e + (text[e + 1] == '-' ? 2 : 1), digits = text.find_first_not_of("+0", sign);
    return text.erase(sign, digits - sign);
}

string quoted(string_view text) { return "\"" + string(text.substr(0, 60)) + (text.size() > 60 ? "...\"" : "\""); }

bool starts_with(string_view text, string_view start) { return text.substr(0, start.size()) == start; }

bool is_type(const quire_config_key &row, const char *type) { return strcmp(row.type, type) == 0; }

bool has_any_name(const quire_config_key &row) { return string_view(row.name).back() == '*'; }

string pattern_of(string_view path)
{
    string pattern;
    for (size_t i = 0; i < path.size(); i++) {
        pattern += path[i];
        if (path[i] == '[')
            while (i + 1 < path.size() && isdigit(static_cast<unsigned char>(path[i + 1]))) i++;
    }
    return pattern;
}

namespace {

// ---- the library's keys ----

constexpr quire_config_key before_options[] = {
    {"schema_version", "integer", "1", "1..1", "version of this format"},
    {"model.path", "path", nullptr, nullptr,
     "folder with config.json and *.safetensors, or a GGUF file; give this or preset"},
};
constexpr const char      *preset_help = "the shape of a published model with random weights; give this or path";
constexpr quire_config_key tenants     = {
        "tenant", "array", nullptr, nullptr,
        "limits and weights of requests by their `tenant`; tenants never share prefix blocks"};
constexpr quire_config_key shape = {
    "model.shape.*", "integer", nullptr, "0..1000000000",
    "changes a number of the preset, by its name in config.json, e.g. num_hidden_layers"};

const char *type_of(const qr_option &o)
{
    switch (o.kind) {
    case QR_OPTION_COUNT:
    case QR_OPTION_POWER:
    case QR_OPTION_SEED: return "integer";
    case QR_OPTION_SIZE: return "size";
    case QR_OPTION_DURATION: return "duration";
    case QR_OPTION_REAL: return "number";
    case QR_OPTION_SWITCH: return "boolean";
    case QR_OPTION_CHOICE: return "choice";
    case QR_OPTION_TEXT: break;
    }
    return o.words != nullptr && strchr(o.words, '|') != nullptr ? "choice" : "string";
}

string duration_text(double ns)
{
    constexpr struct {
        const char *name;
        double      factor;
    } units[] = {{"h", 3600e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}};
    for (const auto &u : units)
        if (std::fmod(ns, u.factor) == 0) return to_text(ns / u.factor) + u.name;
    return to_text(ns) + "ns";
}

string number_text(const qr_option &o, double x)
{
    return o.kind == QR_OPTION_DURATION ? duration_text(x) : to_text(x);
}

// "0..15", "0 | 2..1048576", "1ms..24h | forever"
string numbers_of(const qr_option &o)
{
    const string word       = o.words != nullptr ? o.words : "";
    const bool   takes_zero = o.fallback == 0 || word == "0";
    const bool   adjacent   = takes_zero && o.kind == QR_OPTION_COUNT && o.least == 1;
    const string before     = takes_zero && !adjacent && o.least > 0 ? "0 | " : "";
    const string after      = word.empty() || word == "0" ? "" : " | " + word;
    return before + number_text(o, adjacent ? 0 : o.least) + ".." + number_text(o, o.most) + after;
}

string powers_of(const qr_option &o)
{
    string text = to_text(o.least);
    for (double x = 2 * o.least; x <= o.most; x *= 2) text += " | " + to_text(x);
    return text;
}

string range_of(const qr_option &o)
{
    switch (o.kind) {
    case QR_OPTION_COUNT:
    case QR_OPTION_DURATION:
    case QR_OPTION_REAL: return numbers_of(o);
    case QR_OPTION_POWER: return powers_of(o);
    case QR_OPTION_SEED: return "0..";
    case QR_OPTION_CHOICE: return o.words;
    case QR_OPTION_TEXT: return string_view(type_of(o)) == "choice" ? o.words : "";
    case QR_OPTION_SIZE:
    case QR_OPTION_SWITCH: break;
    }
    return "";
}

// As TOML; "": unset.
string fallback_of(const qr_option &o)
{
    switch (o.kind) {
    case QR_OPTION_COUNT:
    case QR_OPTION_POWER:
    case QR_OPTION_SEED:
    case QR_OPTION_REAL: return to_text(o.fallback);
    case QR_OPTION_DURATION: return quoted(duration_text(o.fallback));
    case QR_OPTION_SWITCH: return o.fallback == double{QUIRE_TOGGLE_ON} ? "true" : "false";
    case QR_OPTION_SIZE: return quoted(o.words);
    case QR_OPTION_CHOICE: return quoted(nth_word(o.words, static_cast<size_t>(o.fallback - o.least)));
    case QR_OPTION_TEXT: break;
    }
    return o.words != nullptr ? quoted(nth_word(o.words, 0)) : "";
}

string preset_names()
{
    string names;
    for (uint32_t i = 0; qr_preset_name(i) != nullptr; i++) names += (i > 0 ? " | " : "") + string(qr_preset_name(i));
    return names;
}

std::vector<quire_config_key> make_library_keys()
{
    static std::deque<string>     texts; // where the rows' strings are
    std::vector<quire_config_key> rows(std::begin(before_options), std::end(before_options));
    const auto kept = [](const string &text) { return text.empty() ? nullptr : texts.emplace_back(text).c_str(); };
    rows.push_back({"model.preset", "string", nullptr, kept(preset_names()), preset_help});
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option &o = qr_option_list[i];
        if (o.key == nullptr) continue;
        if (strcmp(o.key, "tenant[].name") == 0) rows.push_back(tenants);
        rows.push_back({o.key, type_of(o), kept(fallback_of(o)), kept(range_of(o)), o.help});
        if (strcmp(o.key, "model.max_model_len") == 0) rows.push_back(shape);
    }
    return rows;
}

string_view section_of(string_view name) { return name.substr(0, name.find_first_of(".[")); }

size_t edit_distance(string_view a, string_view b)
{
    if (a.size() > 64 || b.size() > 64) return 64;
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); j++) row[j] = j;
    for (size_t i = 1; i <= a.size(); i++) {
        size_t diagonal = row[0];
        row[0]          = i;
        for (size_t j = 1; j <= b.size(); j++) {
            const size_t above = row[j];
            row[j]             = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
            diagonal           = above;
        }
    }
    return row[b.size()];
}

string nearest(string_view name, const std::vector<string> &names)
{
    string best;
    size_t least = (name.size() + 2) / 3 + 1;
    for (const auto &candidate : names)
        if (const size_t distance = edit_distance(name, candidate); distance < least) {
            least = distance;
            best  = candidate;
        }
    return best;
}

} // namespace

string nth_word(string_view words, size_t index)
{
    for (; index > 0; index--) words.remove_prefix(words.find(" | ") + 3);
    return string(words.substr(0, words.find(" | ")));
}

const std::vector<quire_config_key> &library_keys()
{
    static const std::vector<quire_config_key> rows = make_library_keys();
    return rows;
}

// ---- the table of one configuration ----

key_table::key_table()
{
    for (const auto &row : library_keys()) entries_.push_back({&row, "quire"});
}

void key_table::add(const string &owner, const quire_config_key &key)
{
    const auto last = std::find_if(entries_.rbegin(), entries_.rend(),
                                   [&](const entry &e) { return section_of(e.key->name) == section_of(key.name); });
    entries_.insert(last == entries_.rend() ? entries_.end() : last.base(), {&key, owner});
}

const quire_config_key *key_table::find(string_view pattern) const
{
    for (const auto &e : entries_)
        if (pattern == e.key->name) return e.key;
    for (const auto &e : entries_) {
        if (!has_any_name(*e.key)) continue;
        const string_view start = string_view(e.key->name).substr(0, strlen(e.key->name) - 1);
        const bool        fits  = pattern.size() > start.size() && starts_with(pattern, start);
        const bool        plain = pattern.find('.', start.size()) == string_view::npos;
        if (fits && (plain || has_free_names(start.substr(0, start.size() - 1)))) return e.key;
    }
    return nullptr;
}

bool key_table::has_free_names(string_view section) const
{
    const string any = string(section) + ".*";
    return std::any_of(entries_.begin(), entries_.end(), [&](const entry &e) {
        return any == e.key->name && (is_type(*e.key, "axis") || is_type(*e.key, "string"));
    });
}

bool key_table::is_section(string_view pattern) const
{
    const string start = string(pattern) + ".";
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const entry &e) { return starts_with(e.key->name, start); });
}

// A program reads the file of the tool without knowing the tool's keys.
bool key_table::is_skipped(string_view section) const
{
    constexpr string_view tool[] = {"generate", "workload", "load", "run", "slo", "sweep", "capacity", "output"};
    return std::find(std::begin(tool), std::end(tool), section) != std::end(tool) && !is_section(section);
}

string key_table::shown(string_view path) const
{
    const auto  *row = find(pattern_of(path));
    const size_t dot = row != nullptr && is_type(*row, "axis") ? strlen(row->name) - 2 : path.rfind('.'); // "sweep.*"
    if (dot == string_view::npos) return string(path);
    return "[" + string(path.substr(0, dot)) + "] " + string(path.substr(dot + 1));
}

// The names that may follow `section` ("" = the top), each once.
std::vector<string> key_table::names_below(string_view section) const
{
    std::vector<string> names;
    const string        start = section.empty() ? "" : string(section) + ".";
    for (const auto &e : entries_) {
        const string_view name = e.key->name;
        if (!starts_with(name, start)) continue;
        const string_view rest = name.substr(start.size());
        const string      next(rest.substr(0, rest.find_first_of(".[")));
        if (next != "*" && (names.empty() || names.back() != next)) names.push_back(next);
    }
    return names;
}

// The key of the same name in another section.
string key_table::elsewhere(string_view name) const
{
    for (const auto &e : entries_) {
        const string_view full = e.key->name;
        const size_t      dot  = full.rfind('.');
        if (dot != string_view::npos && full.substr(dot + 1) == name && full.find('[') == string_view::npos)
            return shown(full);
    }
    return "";
}

void key_table::fail_unknown(const string &place, const string &path, bool is_table) const
{
    const string pattern = pattern_of(path);
    const size_t dot     = pattern.rfind('.');
    const string section = dot == string::npos ? "" : pattern.substr(0, dot);
    const string name    = dot == string::npos ? pattern : pattern.substr(dot + 1);
    if (const auto *row = find(section); row != nullptr && is_type(*row, "array"))
        fail(QUIRE_ERR_INVALID, place + ": " + path + ": " + section + " is a list: write " + section + "[0]." + name);
    if (!section.empty() && !is_section(section)) fail_unknown(place, path.substr(0, path.rfind('.')), true);
    string near = nearest(name, names_below(section));
    if (section.empty() && (is_table || is_section(near))) {
        const string hint = near.empty() ? "" : ", did you mean [" + near + "]?";
        fail(QUIRE_ERR_INVALID, place + ": [" + name + "]: unknown section" + hint);
    }
    if (near.empty()) near = elsewhere(name);
    fail(QUIRE_ERR_INVALID,
         place + ": " + shown(path) + ": unknown key" + (near.empty() ? "" : ", did you mean " + near + "?"));
}

} // namespace qr::config
