// The key table, values by their path, and names in messages.
#include "engine/config/store.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <vector>

namespace qr::config {

namespace {

constexpr quire_config_key keys[] = {
#define K(name, type, fallback, range, help) {name, type, fallback, range, help},
#include "engine/config_keys.inc"
#undef K
};

} // namespace

void fail(quire_status status, const string &message) { throw failure{status, message}; }

key_range all_keys() { return {std::begin(keys), std::end(keys)}; }

const value *find(const store &values, const string &key)
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

string quoted(string_view text)
{
    string shortened(text.substr(0, 60));
    for (auto &c : shortened)
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    return "\"" + shortened + (text.size() > 60 ? "...\"" : "\"");
}

// ---- the key table ----

bool is_type(const quire_config_key &row, const char *type) { return strcmp(row.type, type) == 0; }

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

bool starts_with(string_view text, string_view start) { return text.substr(0, start.size()) == start; }

bool has_free_names(string_view name) { return name == "sweep.*" || name == "output.label.*"; }

const quire_config_key *find_row(string_view pattern)
{
    for (const auto &row : all_keys())
        if (pattern == row.name) return &row;
    for (const auto &row : all_keys()) {
        const string_view name = row.name;
        if (name.back() == '*' && (has_free_names(name) || pattern.find('.', name.size() - 1) == string_view::npos) &&
            pattern.size() >= name.size() && starts_with(pattern, name.substr(0, name.size() - 1)))
            return &row;
    }
    return nullptr;
}

bool is_section(string_view pattern)
{
    const string start = string(pattern) + ".";
    return std::any_of(std::begin(keys), std::end(keys), [&](const auto &row) { return starts_with(row.name, start); });
}

// ---- names in messages ----

string shown(string_view path)
{
    size_t dot = path.rfind('.');
    if (starts_with(path, "sweep.")) dot = 5; // an axis has dots of its own
    if (dot == string_view::npos) return string(path);
    return "[" + string(path.substr(0, dot)) + "] " + string(path.substr(dot + 1));
}

namespace {

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

// The names that may follow `section` ("" = the top), each once.
std::vector<string> names_below(string_view section)
{
    std::vector<string> names;
    const string        start = section.empty() ? "" : string(section) + ".";
    for (const auto &row : all_keys()) {
        const string_view name = row.name;
        if (!starts_with(name, start)) continue;
        const string_view rest = name.substr(start.size());
        const string      next(rest.substr(0, rest.find_first_of(".[")));
        if (next != "*" && (names.empty() || names.back() != next)) names.push_back(next);
    }
    return names;
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

// The key of the same name in another section.
string elsewhere(string_view name)
{
    for (const auto &row : all_keys()) {
        const string_view full = row.name;
        const size_t      dot  = full.rfind('.');
        if (dot != string_view::npos && full.substr(dot + 1) == name && full.find('[') == string_view::npos)
            return shown(full);
    }
    return "";
}

} // namespace

void fail_unknown(const string &place, const string &path, bool is_table)
{
    const string pattern = pattern_of(path);
    const size_t dot     = pattern.rfind('.');
    const string section = dot == string::npos ? "" : pattern.substr(0, dot);
    const string name    = dot == string::npos ? pattern : pattern.substr(dot + 1);
    if (const auto *row = find_row(section); row != nullptr && is_type(*row, "array"))
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
