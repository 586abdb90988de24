// quire_config: one flat map from key to value, filled layer by layer (built-in, file, environment, assignments), each
// value checked against the one key table. The only C++ file and the only user of toml++; no exception leaves it.
#include "quire/config.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

// toml++ 3.3 asserts, or with NDEBUG assumes, what a malformed file can break ("[ #"): here it throws instead.
namespace {
struct malformed {};
[[noreturn]] void throw_malformed() { throw malformed{}; }
} // namespace
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : throw_malformed())
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace {

using std::string;
using std::string_view;

constexpr quire_config_key keys[] = {
#define K(name, type, fallback, range, help) {name, type, fallback, range, help},
#include "engine/config_keys.inc"
#undef K
};

constexpr size_t max_file_bytes = 1 << 20;
constexpr int    max_nesting    = 16;   // of tables, arrays and dotted keys
constexpr size_t max_axis       = 1000; // values of one sweep axis

// ---- errors inside this file: thrown, and turned into a status at the C boundary ----

struct failure {
    quire_status status;
    string       message;
};

[[noreturn]] void fail(quire_status status, const string &message) { throw failure{status, message}; }

quire_status report(quire_error *error, quire_status status, const char *message) noexcept
{
    if (error != nullptr) {
        error->status = status;
        snprintf(error->message, sizeof error->message, "%s", message);
    }
    return status;
}

template <typename Body> quire_status guarded(quire_error *error, Body &&body) noexcept
{
    try {
        body();
        return QUIRE_OK;
    } catch (const failure &f) {
        return report(error, f.status, f.message.c_str());
    } catch (const std::bad_alloc &) {
        return report(error, QUIRE_ERR_NO_MEMORY, "configuration: out of memory");
    } catch (const std::exception &e) {
        return report(error, QUIRE_ERR_INTERNAL, e.what());
    } catch (...) {
        return report(error, QUIRE_ERR_INTERNAL, "configuration: unknown failure");
    }
}

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

const value *find(const store &values, const string &key)
{
    const auto at = values.find(key);
    return at == values.end() ? nullptr : &at->second;
}

// 100000 and 1e9, not 1e+05 and 1e+09: as the ranges of the keys are written.
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

// ---- the key table ----

bool is_type(const quire_config_key &row, const char *type) { return strcmp(row.type, type) == 0; }

// "tenant[3].name" -> "tenant[].name"
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

// Axes and labels: a name may hold dots.
bool has_free_names(string_view name) { return name == "sweep.*" || name == "output.label.*"; }

// The row of a pattern; a name under a "*" counts unless a row spells it out.
const quire_config_key *find_row(string_view pattern)
{
    for (const auto &row : keys)
        if (pattern == row.name) return &row;
    for (const auto &row : keys) {
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

// "scheduler.max_num_seqs" -> "[scheduler] max_num_seqs"
string shown(string_view path)
{
    size_t dot = path.rfind('.');
    if (starts_with(path, "sweep.")) dot = 5; // an axis has dots of its own
    if (dot == string_view::npos) return string(path);
    return "[" + string(path.substr(0, dot)) + "] " + string(path.substr(dot + 1));
}

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
    for (const auto &row : keys) {
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
    for (const auto &row : keys) {
        const string_view full = row.name;
        const size_t      dot  = full.rfind('.');
        if (dot != string_view::npos && full.substr(dot + 1) == name && full.find('[') == string_view::npos)
            return shown(full);
    }
    return "";
}

[[noreturn]] void fail_unknown(const string &place, const string &path, bool is_table)
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
};

// ---- numbers with units ----

struct unit {
    const char *name;
    double      factor;
};

constexpr unit size_units[] = {{"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
                               {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
constexpr unit time_units[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6},  {"s", 1e9},
                               {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}};

// "1.5GiB" -> bytes. False: no number, no known unit, negative, or beyond 2^63.
template <size_t N> bool read_quantity(string_view text, const unit (&units)[N], int64_t &out)
{
    double     number = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (parsed.ec != std::errc() || !(number >= 0)) return false;
    string_view rest = text.substr(static_cast<size_t>(parsed.ptr - text.data()));
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    for (const auto &u : units)
        if (rest == u.name) {
            const double whole = std::round(number * u.factor);
            if (!(whole < 0x1p63)) return false;
            out = static_cast<int64_t>(whole);
            return true;
        }
    return false;
}

// ---- checking one value ----

string quoted(string_view text)
{
    string shortened(text.substr(0, 60));
    for (auto &c : shortened)
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    return "\"" + shortened + (text.size() > 60 ? "...\"" : "\"");
}

string found(const toml::node &node)
{
    if (const auto *s = node.as_string()) return "string " + quoted(s->get());
    if (const auto *i = node.as_integer()) return "integer " + std::to_string(i->get());
    if (const auto *f = node.as_floating_point()) return "number " + to_text(f->get());
    if (const auto *b = node.as_boolean()) return b->get() ? "true" : "false";
    if (node.is_table()) return "a table";
    if (node.is_array()) return "an array";
    return "a date or time";
}

struct target { // what a value is for
    const quire_config_key &row;
    string                  path;
    string                  place;

    [[noreturn]] void fail(const string &what) const
    {
        ::fail(QUIRE_ERR_INVALID, place + ": " + shown(path) + ": " + what);
    }
    [[noreturn]] void expected(const string &what, const toml::node &node) const
    {
        fail("expected " + what + ", found " + found(node));
    }
};

double read_bound(const quire_config_key &row, string_view text)
{
    int64_t quantity = 0;
    if (is_type(row, "duration") && read_quantity(text, time_units, quantity)) return static_cast<double>(quantity);
    double bound = 0;
    std::from_chars(text.data(), text.data() + text.size(), bound);
    return bound;
}

bool is_choice(string_view choices, string_view text)
{
    while (!choices.empty()) {
        const size_t bar = choices.find(" | ");
        if (choices.substr(0, bar) == text) return true;
        choices = bar == string_view::npos ? string_view() : choices.substr(bar + 3);
    }
    return false;
}

void check_range(const target &t, double x, const string &text)
{
    if (t.row.range == nullptr) return;
    string_view range = t.row.range;
    if (range.find(" | ") != string_view::npos) {
        if (!is_choice(range, text)) t.fail(text + " is not one of " + t.row.range);
        return;
    }
    const bool exclusive = range.front() == '>';
    if (exclusive) range.remove_prefix(1);
    const size_t dots = range.find("..");
    const string low(range.substr(0, dots)), high(range.substr(dots + 2));
    if (!low.empty() && exclusive && x <= read_bound(t.row, low)) t.fail(text + " must be above " + low);
    if (!low.empty() && x < read_bound(t.row, low)) t.fail(text + " is below the minimum " + low);
    if (!high.empty() && x > read_bound(t.row, high)) t.fail(text + " is above the maximum " + high);
}

value read_integer(const target &t, const toml::node &node)
{
    const auto *i = node.as_integer();
    if (i == nullptr) t.expected("an integer", node);
    check_range(t, static_cast<double>(i->get()), std::to_string(i->get()));
    value v;
    v.type    = kind::integer;
    v.integer = i->get();
    v.number  = static_cast<double>(v.integer);
    v.counts  = true;
    return v;
}

value read_number(const target &t, const toml::node &node)
{
    const auto x = node.value<double>();
    if (!x || !(node.is_integer() || node.is_floating_point())) t.expected("a number", node);
    if (!std::isfinite(*x)) t.expected("a finite number", node);
    check_range(t, *x, to_text(*x));
    value v;
    v.type    = kind::number;
    v.number  = *x;
    v.integer = std::fabs(*x) < 0x1p62 ? static_cast<int64_t>(*x) : 0;
    v.counts  = true;
    return v;
}

value read_boolean(const target &t, const toml::node &node)
{
    const auto *b = node.as_boolean();
    if (b == nullptr) t.expected("true or false", node);
    value v;
    v.type    = kind::boolean;
    v.boolean = b->get();
    return v;
}

value read_string(const target &t, const toml::node &node, const char *expected)
{
    const auto *s = node.as_string();
    if (s == nullptr) t.expected(expected, node);
    if (s->get().find('\0') != string::npos) t.fail("the string holds a NUL character");
    value v;
    v.text = s->get();
    return v;
}

value read_choice(const target &t, const toml::node &node)
{
    value v = read_string(t, node, "a string");
    if (!is_choice(t.row.range, v.text)) t.fail(quoted(v.text) + " is not one of " + t.row.range);
    return v;
}

value read_size(const target &t, const toml::node &node)
{
    value v = read_string(t, node, "a size with its unit, e.g. \"4GiB\"");
    if (v.text == "auto" && t.row.fallback != nullptr && strcmp(t.row.fallback, "\"auto\"") == 0) return v;
    if (!read_quantity(v.text, size_units, v.integer))
        t.fail(quoted(v.text) +
               " is not a size; write e.g. \"4GiB\" or \"512MB\" (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)");
    if (v.integer == 0) t.fail(quoted(v.text) + " is below the minimum 1B");
    v.number = static_cast<double>(v.integer);
    v.counts = true;
    return v;
}

value read_duration(const target &t, const toml::node &node)
{
    value v = read_string(t, node, "a time with its unit, e.g. \"60s\"");
    if (!read_quantity(v.text, time_units, v.integer))
        t.fail(quoted(v.text) + " is not a time; write e.g. \"60s\" or \"250ms\" (ns, us, ms, s, m, h)");
    check_range(t, static_cast<double>(v.integer), quoted(v.text));
    v.number = static_cast<double>(v.integer);
    v.counts = true;
    return v;
}

value read_scalar(const target &t, const toml::node &node)
{
    if (is_type(t.row, "integer")) return read_integer(t, node);
    if (is_type(t.row, "number")) return read_number(t, node);
    if (is_type(t.row, "boolean")) return read_boolean(t, node);
    if (is_type(t.row, "choice")) return read_choice(t, node);
    if (is_type(t.row, "size")) return read_size(t, node);
    if (is_type(t.row, "duration")) return read_duration(t, node);
    return read_string(t, node, "a string");
}

// ---- sweep axes ----

// "1-8", "8-64+8", "16-64*2" -> the values.
std::vector<double> expand_range(const target &t, const string &text)
{
    double      low = 0, high = 0, step = 1;
    const char *end = text.data() + text.size();
    auto        at  = std::from_chars(text.data(), end, low);
    bool        ok  = at.ec == std::errc() && at.ptr < end && *at.ptr == '-';
    if (ok) at = std::from_chars(at.ptr + 1, end, high);
    ok              = ok && at.ec == std::errc();
    const char rule = ok && at.ptr < end ? *at.ptr : '+';
    if (ok && at.ptr < end) at = std::from_chars(at.ptr + 1, end, step);
    ok = ok && at.ec == std::errc() && at.ptr == end && (rule == '+' || rule == '*') && low <= high;
    if (!ok || (rule == '+' && !(step > 0)) || (rule == '*' && !(step > 1 && low > 0)))
        t.fail(quoted(text) + " is not a range; write e.g. \"1-8\", \"8-64+8\" or \"16-64*2\"");
    std::vector<double> values;
    for (double x = low; x <= high * (1 + 1e-12); x = rule == '+' ? x + step : x * step) {
        if (values.size() == max_axis) t.fail(quoted(text) + " has more than 1000 values");
        values.push_back(x);
    }
    return values;
}

string axis_text(const target &t, const toml::node &node)
{
    if (const auto *s = node.as_string()) return s->get();
    if (const auto *i = node.as_integer()) return std::to_string(i->get());
    if (const auto *f = node.as_floating_point(); f != nullptr && std::isfinite(f->get())) return to_text(f->get());
    if (const auto *b = node.as_boolean()) return b->get() ? "true" : "false";
    t.expected("numbers, strings, true or false in an axis", node);
}

std::vector<string> axis_values(const target &t, const toml::node &node)
{
    std::vector<string> values;
    if (const auto *s = node.as_string()) {
        for (double x : expand_range(t, s->get())) values.push_back(to_text(x));
    } else if (const auto *a = node.as_array()) {
        for (const auto &element : *a) values.push_back(axis_text(t, element));
    } else if (node.is_table()) {
        t.fail("an axis is a dotted key in quotes: \"load.request_rate\" = [1, 2]");
    } else {
        t.expected("a list or a range", node);
    }
    if (values.empty() || values.size() > max_axis) t.fail("an axis has 1 to 1000 values");
    return values;
}

// ---- before toml++ sees a text: its depth, which bounds the recursion of parser and destructors ----

class depth_scan {
  public:
    depth_scan(string_view text, const source &from) : text_(text), from_(from) {}

    void run()
    {
        while (at_ < text_.size()) step();
    }

  private:
    void step()
    {
        const char c = text_[at_];
        if (c == '"' || c == '\'') return skip_string(c);
        if (c == '#') return skip_comment();
        if (c == '[' || c == '{') nesting_++;
        if ((c == ']' || c == '}') && nesting_ > 0) nesting_--;
        dots_ = c == '.' ? dots_ + 1 : strchr("\n=,[]{}", c) != nullptr ? 0 : dots_;
        if (nesting_ > max_nesting || dots_ > max_nesting) fail_here();
        advance(1);
    }

    void skip_comment()
    {
        while (at_ < text_.size() && text_[at_] != '\n') advance(1);
    }

    // A string ends at its quotes; one of a single line, at the line's end at the latest.
    void skip_string(char quote)
    {
        const string triple(3, quote);
        const bool   many = text_.substr(at_, 3) == triple;
        advance(many ? 3 : 1);
        while (at_ < text_.size()) {
            if (quote == '"' && text_[at_] == '\\') {
                advance(2);
            } else if (many ? text_.substr(at_, 3) == triple : text_[at_] == quote) {
                return advance(many ? 3 : 1);
            } else if (!many && text_[at_] == '\n') {
                return;
            } else {
                advance(1);
            }
        }
    }

    void advance(size_t count)
    {
        for (; count > 0 && at_ < text_.size(); count--, at_++) {
            column_++;
            if (text_[at_] == '\n') line_++, column_ = 1;
        }
    }

    [[noreturn]] void fail_here() const
    {
        string place = from_.name;
        if (from_.has_lines) place += ":" + std::to_string(line_) + ":" + std::to_string(column_);
        fail(QUIRE_ERR_FORMAT, place + ": tables and arrays are nested deeper than " + std::to_string(max_nesting));
    }

    string_view   text_;
    const source &from_;
    size_t        at_ = 0, line_ = 1, column_ = 1;
    int           nesting_ = 0, dots_ = 0;
};

bool is_malformed(string_view text)
{
    try {
        (void)toml::parse(text);
    } catch (const malformed &) {
        return true;
    } catch (const toml::parse_error &) {
        return false;
    }
    return false;
}

// The parser gave no place: the shortest run of lines that it stumbles over ends there.
size_t line_of_malformed(string_view text)
{
    std::vector<size_t> ends;
    for (size_t at = text.find('\n'); at != string_view::npos; at = text.find('\n', at + 1)) ends.push_back(at + 1);
    size_t low = 0, high = ends.size();
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (is_malformed(text.substr(0, ends[middle])))
            high = middle;
        else
            low = middle + 1;
    }
    return low + 1;
}

toml::table parse(string_view text, const source &from)
{
    depth_scan(text, from).run();
    try {
        return toml::parse(text);
    } catch (const toml::parse_error &e) {
        fail(QUIRE_ERR_FORMAT, from.place(e.source()) + ": " + string(e.description()));
    } catch (const malformed &) {
        const string line = from.has_lines ? ":" + std::to_string(line_of_malformed(text)) : "";
        fail(QUIRE_ERR_FORMAT, from.name + line + ": a key or a value is malformed");
    }
}

// ---- text from outside a file ----

// An element must exist to be changed: "tenant[2].weight" of two tenants is an error.
void check_indices(const store &values, const source &from, const string &path)
{
    for (size_t open = path.find('['); open != string::npos; open = path.find('[', open + 1)) {
        const value *array = find(values, path.substr(0, open));
        char        *end   = nullptr;
        const auto   index = strtoul(path.c_str() + open + 1, &end, 10);
        if (array == nullptr || end == path.c_str() + open + 1 || *end != ']' || index >= array->count)
            fail(QUIRE_ERR_INVALID, from.name + ": " + path + ": " + path.substr(0, open) + " has " +
                                        std::to_string(array ? array->count : 0) + " elements");
    }
}

bool takes_bare_text(const string &path)
{
    const auto *row = find_row(pattern_of(path));
    if (row == nullptr) return false;
    if (starts_with(path, "sweep.") && path != "sweep.order") return false;
    return is_type(*row, "string") || is_type(*row, "choice") || is_type(*row, "size") || is_type(*row, "duration");
}

// Text from outside a file is TOML where it can be, else a string.
toml::table parse_value(const string &path, const string &text, const source &from)
{
    const bool  in_quotes = !text.empty() && (text[0] == '"' || text[0] == '\'');
    toml::table document;
    if (text.size() > max_file_bytes) fail(QUIRE_ERR_INVALID, from.name + ": " + path + ": is larger than 1 MiB");
    if ((in_quotes || !takes_bare_text(path)) && text.find('\n') == string::npos) {
        depth_scan(text, from).run();
        try {
            document = toml::parse("v = " + text);
        } catch (const toml::parse_error &) {
            document.clear();
        } catch (const malformed &) {
            document.clear();
        }
    }
    if (document.size() != 1) document = toml::table{{"v", text}};
    return document;
}

// ---- applying a document ----

class layer { // one file, variable or assignment on its way into a store
  public:
    layer(store &values, source from) : values_(values), from_(std::move(from)) {}

    void apply(const string &path, const toml::node &node, const toml::source_region &key_at)
    {
        const string pattern = pattern_of(path);
        const auto  *row     = find_row(pattern);
        if (row == nullptr && !is_section(pattern)) fail_unknown(from_.place(key_at), path, node.is_table());
        if (row == nullptr) return apply_section(path, node);
        const target t{*row, path, from_.place(node.source())};
        if (starts_with(path, "sweep.") && string_view(row->name).back() == '*') return apply_axis(t, node);
        if (is_type(*row, "table")) return apply_table(t, node);
        if (is_type(*row, "array")) return apply_array(t, node);
        put(path, read_scalar(t, node), node);
    }

    void apply_members(const string &path, const toml::table &table)
    {
        struct member {
            const toml::key  *name;
            const toml::node *node;
        };
        std::vector<member> members; // in the order of the text, so that the first mistake is the one reported
        for (const auto &[name, node] : table) members.push_back({&name, &node});
        std::stable_sort(members.begin(), members.end(), [](const member &a, const member &b) {
            return a.name->source().begin < b.name->source().begin;
        });
        for (const auto &m : members) {
            const string name(m.name->str());
            const bool   is_plain = name.find_first_of(".[]") == string::npos;
            if (!is_plain && !has_free_names(path + ".*")) // a quoted key must not pass for a path
                fail_unknown(from_.place(m.name->source()), path.empty() ? name : path + "." + name, false);
            apply(path.empty() ? name : path + "." + name, *m.node, m.name->source());
        }
    }

    // An assignment from outside a file; `from` replaces the layer's source.
    void assign(source from, const string &path, const string &text)
    {
        from_ = std::move(from);
        check_indices(values_, from_, path);
        const toml::table document = parse_value(path, text, from_);
        const size_t      dot      = path.rfind('.');
        if (dot != string::npos && path.substr(dot) == ".dist")
            erase_below(path.substr(0, dot)); // another form: none of the old numbers apply
        apply(path, *document.get("v"), {});
    }

    const std::vector<string> &touched() const { return touched_; }
    const store               &values() const { return values_; }

  private:
    void apply_section(const string &path, const toml::node &node)
    {
        const auto *table = node.as_table();
        if (table == nullptr)
            fail(QUIRE_ERR_INVALID, from_.place(node.source()) + ": [" + path + "] is a section, found " + found(node));
        apply_members(path, *table);
    }

    void apply_table(const target &t, const toml::node &node)
    {
        const bool has_fixed = find_row(pattern_of(t.path) + ".dist") != nullptr;
        erase_below(t.path);
        if (const auto *table = node.as_table()) return apply_members(t.path, *table);
        if (!has_fixed || !node.is_integer()) t.expected(has_fixed ? "a table or an integer" : "a table", node);
        value fixed;
        fixed.text = "fixed";
        put(t.path + ".dist", fixed, node);
        apply(t.path + ".value", node, node.source());
    }

    void apply_array(const target &t, const toml::node &node)
    {
        const auto *array = node.as_array();
        if (array == nullptr && node.is_table()) t.fail("is a list of tables: write [[" + t.path + "]]");
        if (array == nullptr) t.expected("an array", node);
        if (array->size() > 4096) t.fail("an array has at most 4096 elements");
        erase_below(t.path);
        const auto *scalar = find_row(pattern_of(t.path) + "[]");
        for (size_t i = 0; i < array->size(); i++) {
            const string      path    = t.path + "[" + std::to_string(i) + "]";
            const toml::node &element = (*array)[i];
            if (scalar != nullptr)
                put(path, read_scalar(target{*scalar, path, from_.place(element.source())}, element), element);
            else if (element.is_table())
                apply_members(path, *element.as_table());
            else
                t.expected("an array of tables", element);
        }
        value v;
        v.type  = kind::array;
        v.count = array->size();
        put(t.path, v, node);
    }

    // Kept as sweep.<key> with its values as text, ready to be assigned.
    void apply_axis(const target &t, const toml::node &node)
    {
        const string key   = t.path.substr(strlen("sweep."));
        const auto  *row   = find_row(pattern_of(key));
        const auto   texts = axis_values(t, node);
        if (row == nullptr || starts_with(key, "sweep.")) fail_unknown(t.place, key, false);
        for (const auto &text : texts) // each must do as a value of its key
            if (!is_type(*row, "table") && !is_type(*row, "array"))
                read_scalar(target{*row, key, t.place}, *parse_value(key, text, from_).get("v"));
        erase_below(t.path);
        for (size_t i = 0; i < texts.size(); i++) {
            value v;
            v.text = texts[i];
            put(t.path + "[" + std::to_string(i) + "]", v, node);
        }
        value v;
        v.type  = kind::array;
        v.count = texts.size();
        put(t.path, v, node);
    }

    void put(const string &path, value v, const toml::node &node)
    {
        v.origin      = from_.origin(node.source());
        v.place       = from_.place(node.source());
        values_[path] = std::move(v);
        touched_.push_back(path);
    }

    void erase_below(const string &path)
    {
        for (auto at = values_.lower_bound(path); at != values_.end() && starts_with(at->first, path);) {
            const char next = at->first.size() > path.size() ? at->first[path.size()] : '\0';
            at              = next == '.' || next == '[' || next == '\0' ? values_.erase(at) : std::next(at);
        }
    }

    store              &values_;
    source              from_;
    std::vector<string> touched_;
};

// ---- keys that exclude each other ----

constexpr const char *exclusive_groups[][3] = {
    {"model.path", "model.preset", nullptr},
    {"kv_cache.size", "kv_cache.num_kv_blocks", "kv_cache.memory_fraction"},
};

bool chooses(const store &values, const char *key)
{
    const auto at = values.find(string_view(key));
    return at != values.end() && at->second.text != "auto";
}

// Two in one layer contradict each other; one in a later layer replaces those of earlier layers.
void settle_group(store &values, const layer &applied, const char *const (&group)[3])
{
    const char *chosen = nullptr;
    for (const char *key : group) {
        if (key == nullptr) continue;
        const auto &touched = applied.touched();
        if (std::find(touched.begin(), touched.end(), key) == touched.end()) continue;
        if (chosen != nullptr && chooses(values, chosen) && chooses(values, key))
            fail(QUIRE_ERR_INVALID, values.find(string_view(key))->second.place + ": " + shown(key) +
                                        ": give either this or " + shown(chosen));
        if (chosen == nullptr || chooses(values, key)) chosen = key;
    }
    for (const char *key : group)
        if (chosen != nullptr && key != nullptr && key != chosen && strcmp(key, "kv_cache.size") != 0)
            values.erase(key);
    const bool size_is_moot = chosen != nullptr && strcmp(group[0], "kv_cache.size") == 0 && chosen != group[0];
    if (size_is_moot && chooses(values, group[0])) {
        value v;
        v.text   = "auto";
        v.origin = v.place = "built-in";
        values[group[0]]   = v;
    }
}

void settle(store &values, const layer &applied)
{
    for (const auto &group : exclusive_groups) settle_group(values, applied, group);
}

// ---- distributions ----

struct distribution_rule {
    const char *dist;
    const char *needed; // "|a|b|"
    const char *allowed;
};

constexpr distribution_rule distribution_rules[] = {
    {"fixed", "|value|", "|value|min|max|"},
    {"uniform", "|min|max|", "|min|max|"},
    {"normal", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"lognormal", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"gamma", "|mean|stdev|", "|mean|stdev|min|max|"},
    {"zipf", "|s|max|", "|s|min|max|"},
    {"empirical", "|file|column|", "|file|column|min|max|"},
};

bool holds(const char *list, const string &member) { return strstr(list, ("|" + member + "|").c_str()) != nullptr; }

void check_distribution(const store &values, const string &path)
{
    static const char *const members[] = {"value", "mean", "stdev", "s", "min", "max", "file", "column"};
    const value             *dist      = find(values, path + ".dist");
    const value             *any       = dist;
    for (const char *member : members)
        if (any == nullptr) any = find(values, path + "." + member);
    if (any == nullptr) return;
    const string start = any->place + ": " + shown(path) + ": ";
    if (dist == nullptr) fail(QUIRE_ERR_INVALID, start + "dist is missing (fixed, uniform, normal, ...)");
    for (const auto &rule : distribution_rules) {
        if (dist->text != rule.dist) continue;
        for (const char *member : members) {
            const value *v = find(values, path + "." + member);
            if (v == nullptr && holds(rule.needed, member))
                fail(QUIRE_ERR_INVALID, start + rule.dist + " needs " + member);
            if (v != nullptr && !holds(rule.allowed, member))
                fail(QUIRE_ERR_INVALID, v->place + ": " + shown(path) + ": " + rule.dist + " has no " + member);
        }
    }
    const value *low = find(values, path + ".min"), *high = find(values, path + ".max");
    if (low != nullptr && high != nullptr && low->number > high->number)
        fail(QUIRE_ERR_INVALID, start + "min " + to_text(low->number) + " is above max " + to_text(high->number));
}

void check_distributions(const store &values)
{
    for (const char *path : {"workload.prompt_tokens", "workload.output_tokens", "workload.encoder_tokens"})
        check_distribution(values, path);
    const value *mix = find(values, "workload.mix");
    for (size_t i = 0; mix != nullptr && i < mix->count; i++) {
        const string path = "workload.mix[" + std::to_string(i) + "]";
        check_distribution(values, path + ".prompt_tokens");
        check_distribution(values, path + ".output_tokens");
    }
}

// ---- what has names of the user's own, numbered so that a caller can walk it ----

void add_view(store &views, const string &path, const string &text, const value &like)
{
    value v;
    v.text      = text;
    v.origin    = like.origin;
    v.place     = like.place;
    views[path] = v;
}

void set_count(store &views, const string &path, size_t count)
{
    value v;
    v.type      = kind::array;
    v.count     = count;
    v.origin    = "built-in";
    views[path] = v;
}

// "sweep[0].key", "sweep[0].values[1]"
void number_axes(const store &values, store &views)
{
    size_t axes = 0;
    for (auto at = values.lower_bound("sweep."); at != values.end() && starts_with(at->first, "sweep."); ++at) {
        if (at->second.type != kind::array) continue;
        const string axis = "sweep[" + std::to_string(axes++) + "]";
        add_view(views, axis + ".key", at->first.substr(strlen("sweep.")), at->second);
        for (size_t i = 0; i < at->second.count; i++) {
            const string element = "[" + std::to_string(i) + "]";
            add_view(views, axis + ".values" + element, find(values, at->first + element)->text, at->second);
        }
        set_count(views, axis + ".values", at->second.count);
    }
    set_count(views, "sweep", axes);
}

// "output.label[0].name", "output.label[0].value"
void number_labels(const store &values, store &views)
{
    static constexpr string_view start  = "output.label.";
    size_t                       labels = 0;
    for (auto at = values.lower_bound(start); at != values.end() && starts_with(at->first, start); ++at) {
        const string label = "output.label[" + std::to_string(labels++) + "]";
        add_view(views, label + ".name", at->first.substr(start.size()), at->second);
        add_view(views, label + ".value", at->second.text, at->second);
    }
    set_count(views, "output.label", labels);
}

} // namespace

// ---- the object ----

struct quire_config {
    store                             values, views;
    quire_engine_options              engine{};
    quire_model_options               model{};
    std::vector<quire_tenant_options> tenants;
    std::vector<quire_shape_override> shape;

    const value *find(string_view key) const
    {
        if (const auto at = values.find(key); at != values.end()) return &at->second;
        const auto at = views.find(key);
        return at == views.end() ? nullptr : &at->second;
    }
};

namespace {

void fill_options(quire_config &config);

// Applies to a copy, so that a failed call changes nothing. The options point into the values and follow them.
template <typename Body> void commit(quire_config &config, const source &from, Body &&body)
{
    store next = config.values;
    layer applying(next, from);
    body(applying);
    settle(next, applying);
    store views;
    number_axes(next, views);
    number_labels(next, views);
    config.values = std::move(next);
    config.views  = std::move(views);
    fill_options(config);
}

void fill_built_in(quire_config &config)
{
    const source from{"built-in", false};
    commit(config, from, [&](layer &applying) {
        for (const auto &row : keys) {
            if (row.fallback == nullptr) continue;
            const toml::table document = parse(string("v = ") + row.fallback, from);
            applying.apply(row.name, *document.get("v"), {});
        }
    });
}

string read_file(const char *path)
{
    struct closer {
        FILE *file;
        ~closer()
        {
            if (file != nullptr) fclose(file);
        }
    } opened{fopen(path, "rbe")};
    if (opened.file == nullptr) fail(QUIRE_ERR_IO, string(path) + ": cannot be opened: " + strerror(errno));
    string text(max_file_bytes + 1, '\0');
    text.resize(fread(text.data(), 1, text.size(), opened.file));
    if (ferror(opened.file)) fail(QUIRE_ERR_IO, string(path) + ": cannot be read: " + strerror(errno));
    if (text.size() > max_file_bytes) fail(QUIRE_ERR_FORMAT, string(path) + ": is larger than 1 MiB");
    return text;
}

void read_into(quire_config &config, const char *path)
{
    const string      text = read_file(path);
    const source      from{path, true};
    const toml::table document = parse(text, from);
    commit(config, from, [&](layer &applying) {
        applying.apply_members("", document);
        check_distributions(applying.values());
    });
}

string trimmed(string_view text)
{
    while (!text.empty() && isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
    while (!text.empty() && isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
    return string(text);
}

// QUIRE__MODEL__SHAPE__NUM_HIDDEN_LAYERS -> model.shape.num_hidden_layers
string path_of_variable(string_view name)
{
    string path;
    name.remove_prefix(strlen("QUIRE__"));
    for (size_t i = 0; i < name.size(); i++) {
        const bool dot = name.substr(i, 2) == "__";
        path += dot ? '.' : static_cast<char>(tolower(static_cast<unsigned char>(name[i])));
        i += dot;
    }
    return path;
}

// All variables are one layer, in the order of their names.
void read_variables(quire_config &config)
{
    std::map<string, string> variables;
    for (char **at = environ; at != nullptr && *at != nullptr; at++) {
        const string_view entry = *at;
        const size_t      equal = entry.find('=');
        if (starts_with(entry, "QUIRE__") && equal != string_view::npos)
            variables.emplace(entry.substr(0, equal), entry.substr(equal + 1));
    }
    commit(config, source{"environment", false}, [&](layer &applying) {
        for (const auto &[name, text] : variables) applying.assign(source{name, false}, path_of_variable(name), text);
    });
}

// ---- what depends on several keys ----

class checker {
  public:
    explicit checker(const quire_config &config) : config_(config) {}

    void run() const
    {
        check_distributions(config_.values);
        check_scheduler();
        check_tenants();
        check_workload();
        check_order("run.warmup.min", "run.warmup.max");
        check_order("capacity.min_rate", "capacity.max_rate");
        check_limits();
        if (text("numa.replicas") == "per-node")
            fail(QUIRE_ERR_UNSUPPORTED, place("numa.replicas") + ": [numa] replicas: per-node is not supported yet");
    }

  private:
    string        text(const char *key) const { return config_.find(key) ? config_.find(key)->text : ""; }
    int64_t       integer(const char *key) const { return config_.find(key) ? config_.find(key)->integer : 0; }
    const string &place(const char *key) const { return config_.find(key)->place; }

    [[noreturn]] void refuse(const char *key, const string &what) const
    {
        fail(QUIRE_ERR_INVALID, place(key) + ": " + shown(key) + ": " + what);
    }

    // `key` >= `other`; the one that somebody wrote is named.
    void at_least(const char *key, const char *other) const
    {
        if (integer(key) >= integer(other)) return;
        const string a = std::to_string(integer(key)), b = std::to_string(integer(other));
        if (place(key) == "built-in") refuse(other, b + " is above " + shown(key) + " = " + a);
        refuse(key, a + " is below " + shown(other) + " = " + b);
    }

    void check_scheduler() const
    {
        const int64_t longest = integer("model.max_model_len");
        at_least("scheduler.max_num_batched_tokens", "scheduler.max_num_seqs");
        at_least("scheduler.max_num_seqs", "scheduler.max_num_partial_prefills");
        at_least("scheduler.max_num_partial_prefills", "scheduler.max_long_partial_prefills");
        if (longest > 0) at_least("scheduler.max_num_queued_tokens", "model.max_model_len");
        if (longest > 0 && !config_.find("scheduler.enable_chunked_prefill")->boolean)
            at_least("scheduler.max_num_batched_tokens", "model.max_model_len");
    }

    void check_tenants() const
    {
        const value *tenants = config_.find("tenant");
        const size_t count   = tenants ? tenants->count : 0;
        if (count > static_cast<size_t>(integer("scheduler.max_num_tenants")))
            refuse("tenant", std::to_string(count) + " tenants are above max_num_tenants");
        std::map<string, bool> names;
        for (size_t i = 0; i < count; i++) {
            const string path = "tenant[" + std::to_string(i) + "]";
            const value *name = config_.find(path + ".name");
            if (name == nullptr) refuse("tenant", "element " + std::to_string(i) + " has no name");
            if (name->text.size() > 64) refuse((path + ".name").c_str(), "is longer than 64 bytes");
            if (!names.emplace(name->text, true).second)
                refuse((path + ".name").c_str(), quoted(name->text) + " is there twice");
        }
    }

    void check_workload() const
    {
        const string origin = text("workload.source");
        if (origin == "file" && text("workload.path").empty())
            refuse("workload.source", "\"file\" needs [workload] path");
        if (origin == "trace" && text("workload.trace.path").empty())
            refuse("workload.source", "\"trace\" needs [workload.trace] path");
        if (origin == "random" && integer("workload.num_prompts") == 0 && integer("run.duration") == 0)
            refuse("workload.num_prompts", "0 needs [run] duration, or the run never ends");
    }

    // A part of a request's time cannot be allowed more than the whole.
    void check_limits() const
    {
        check_order("slo.ttft", "slo.e2el");
        check_order("slo.tpot", "slo.e2el");
        check_order("slo.itl_p99", "slo.e2el");
        const value *e2el = config_.find("slo.e2el");
        if (e2el != nullptr && preset_ttft() > e2el->number && config_.find("slo.ttft") == nullptr)
            refuse("slo.e2el", to_text(e2el->number) + " is below the preset's ttft = " + to_text(preset_ttft()));
        if (e2el != nullptr && preset_tpot() > e2el->number && config_.find("slo.tpot") == nullptr)
            refuse("slo.e2el", to_text(e2el->number) + " is below the preset's tpot = " + to_text(preset_tpot()));
        const value *share = config_.find("slo.min_attainment");
        for (const char *key : {"slo.preset", "slo.ttft", "slo.tpot", "slo.e2el", "slo.itl_p99"})
            if (config_.find(key) != nullptr) return;
        if (share != nullptr && share->number > 0) refuse("slo.min_attainment", "needs a limit in [slo]");
    }

    double preset_ttft() const { return is_preset("server") ? 2000 : is_preset("interactive") ? 500 : 0; }
    double preset_tpot() const { return is_preset("server") ? 100 : is_preset("interactive") ? 30 : 0; }
    bool   is_preset(const char *kind) const { return text("slo.preset") == string("mlperf-llama3.1-8b-") + kind; }

    // `low` <= `high`; the one that somebody wrote is named.
    void check_order(const char *low, const char *high) const
    {
        const value *a = config_.find(low), *b = config_.find(high);
        if (a == nullptr || b == nullptr || a->number <= b->number) return;
        const string x = written(*a), y = written(*b);
        if (place(low) == "built-in") refuse(high, y + " is below " + shown(low) + " = " + x);
        refuse(low, x + " is above " + shown(high) + " = " + y);
    }

    static string written(const value &v) { return v.type == kind::text ? v.text : to_text(v.number); }

    const quire_config &config_;
};

// ---- options of the library ----

class option_filler {
  public:
    explicit option_filler(quire_config &config) : config_(config) {}

    void fill()
    {
        fill_model();
        fill_scheduler();
        fill_tenants();
        fill_cache();
        fill_machine();
    }

  private:
    const value *find(const string &key) const { return config_.find(key); }
    uint32_t     u32(const string &key) const { return find(key) ? static_cast<uint32_t>(find(key)->integer) : 0; }
    float        f32(const string &key) const { return find(key) ? static_cast<float>(find(key)->number) : 0.0F; }
    const char  *text(const string &key) const { return find(key) ? find(key)->text.c_str() : ""; }
    bool         is(const string &key, const char *word) const { return strcmp(text(key), word) == 0; }
    bool         written(const string &key) const { return find(key) && find(key)->origin != "built-in"; }
    quire_toggle toggle(const string &key) const { return find(key)->boolean ? QUIRE_ON : QUIRE_OFF; }
    const char  *unless_auto(const string &key) const { return is(key, "auto") ? nullptr : text(key); }

    quire_dtype dtype(const string &key) const
    {
        return is(key, "f32")    ? QUIRE_DTYPE_F32
               : is(key, "bf16") ? QUIRE_DTYPE_BF16
               : is(key, "int8") ? QUIRE_DTYPE_INT8
                                 : QUIRE_DTYPE_AUTO;
    }

    void fill_model()
    {
        config_.model              = quire_model_options{};
        config_.model.size         = sizeof config_.model;
        config_.model.weight_dtype = dtype("model.weight_dtype");
        config_.model.weight_seed  = static_cast<uint64_t>(find("model.weight_seed")->integer);
        config_.shape.clear();
        for (const auto &[path, v] : config_.values)
            if (starts_with(path, "model.shape."))
                config_.shape.push_back({path.c_str() + strlen("model.shape."), v.integer});
        config_.model.shape       = config_.shape.data();
        config_.model.shape_count = static_cast<uint32_t>(config_.shape.size());
    }

    // Zero means the default in the options; where the file's zero means something else, it is translated.
    void fill_scheduler()
    {
        auto &o                        = config_.engine;
        o                              = quire_engine_options{};
        o.size                         = sizeof o;
        o.max_model_len                = u32("model.max_model_len");
        o.policy                       = is("scheduler.policy", "priority") ? QUIRE_POLICY_PRIORITY : QUIRE_POLICY_FCFS;
        o.priority_ageing_ms           = u32("scheduler.priority_ageing_ms");
        o.max_num_seqs                 = u32("scheduler.max_num_seqs");
        o.max_num_batched_tokens       = u32("scheduler.max_num_batched_tokens");
        o.max_num_encoder_input_tokens = u32("scheduler.max_num_encoder_input_tokens");
        o.enable_chunked_prefill       = toggle("scheduler.enable_chunked_prefill");
        o.long_prefill_token_threshold =
            std::min(u32("scheduler.long_prefill_token_threshold"), o.max_num_batched_tokens);
        o.max_num_partial_prefills   = u32("scheduler.max_num_partial_prefills");
        o.max_long_partial_prefills  = u32("scheduler.max_long_partial_prefills");
        o.scheduler_reserve_full_isl = toggle("scheduler.scheduler_reserve_full_isl");
        o.capacity_scheduler_policy  = is("scheduler.capacity_scheduler_policy", "guaranteed_no_evict")
                                           ? QUIRE_GUARANTEED_NO_EVICT
                                           : QUIRE_MAX_UTILIZATION;
        o.preemption_mode            = static_cast<quire_preemption_mode>(is("scheduler.preemption_mode", "recompute"));
        o.watermark                  = f32("scheduler.watermark");
        o.max_head_passes            = u32("scheduler.max_head_passes");
        o.max_num_queued_reqs        = u32("scheduler.max_num_queued_reqs");
        o.max_num_queued_tokens      = u32("scheduler.max_num_queued_tokens");
        o.consumer_timeout_ms        = u32("scheduler.consumer_timeout_ms");
        o.tenant_fairness            = toggle("scheduler.tenant_fairness");
        o.max_num_tenants            = u32("scheduler.max_num_tenants");
        o.num_speculative_tokens     = u32("scheduler.num_speculative_tokens");
        o.prompt_lookup_max          = u32("scheduler.prompt_lookup_max");
        o.speculative_adaptive       = toggle("scheduler.speculative_adaptive");
        if (o.priority_ageing_ms == 0) o.priority_ageing_ms = UINT32_MAX - 1;
        if (o.max_head_passes == 0) o.max_head_passes = UINT32_MAX;
        if (!(o.watermark > 0)) o.watermark = -1.0F;
        if (written("scheduler.long_prefill_token_threshold") && o.long_prefill_token_threshold == 0)
            o.long_prefill_token_threshold = o.max_num_batched_tokens;
    }

    void fill_tenants()
    {
        const value *tenants = find("tenant");
        config_.tenants.clear();
        for (size_t i = 0; tenants != nullptr && i < tenants->count; i++) {
            const string         path = "tenant[" + std::to_string(i) + "].";
            quire_tenant_options t{};
            t.name                = text(path + "name");
            t.weight              = f32(path + "weight");
            t.max_kv_fraction     = f32(path + "max_kv_fraction");
            t.max_num_seqs        = u32(path + "max_num_seqs");
            t.max_num_queued_reqs = u32(path + "max_num_queued_reqs");
            config_.tenants.push_back(t);
        }
        config_.engine.tenants      = config_.tenants.data();
        config_.engine.tenant_count = static_cast<uint32_t>(config_.tenants.size());
    }

    void fill_cache()
    {
        auto &o                 = config_.engine;
        o.block_size            = u32("kv_cache.block_size");
        o.kv_cache_bytes        = static_cast<uint64_t>(find("kv_cache.size")->integer);
        o.num_kv_blocks         = u32("kv_cache.num_kv_blocks");
        o.memory_fraction       = f32("kv_cache.memory_fraction");
        o.kv_dtype              = dtype("kv_cache.dtype");
        o.enable_prefix_caching = toggle("kv_cache.enable_prefix_caching");
        o.enable_cross_sharing  = toggle("kv_cache.enable_cross_sharing");
        o.extents               = toggle("kv_cache.extents");
        o.zero_on_free          = toggle("kv_cache.zero_on_free");
    }

    void fill_machine()
    {
        auto &o           = config_.engine;
        o.cpus            = unless_auto("topology.cpus");
        o.threads         = u32("topology.threads");
        o.smt             = toggle("topology.smt");
        o.bind            = is("topology.bind", "pu")     ? QUIRE_BIND_PU
                            : is("topology.bind", "none") ? QUIRE_BIND_NONE
                                                          : QUIRE_BIND_CORE;
        o.huge_pages      = is("topology.huge_pages", "on")    ? QUIRE_ON
                            : is("topology.huge_pages", "off") ? QUIRE_OFF
                                                               : QUIRE_AUTO;
        o.barrier_spin_ns = u32("topology.barrier_spin");
        o.numa_strict     = toggle("numa.strict");
        o.isa             = unless_auto("kernels.isa");
        o.small_m         = is("kernels.small_m", "own")      ? QUIRE_SMALL_M_OWN
                            : is("kernels.small_m", "onednn") ? QUIRE_SMALL_M_ONEDNN
                                                              : QUIRE_SMALL_M_AUTO;
        o.batch_invariant = toggle("kernels.batch_invariant");
        o.prefetch = is("kernels.prefetch", "t1") ? QUIRE_ON : is("kernels.prefetch", "none") ? QUIRE_OFF : QUIRE_AUTO;
    }

    quire_config &config_;
};

void fill_options(quire_config &config) { option_filler(config).fill(); }

// ---- printing ----

string toml_string(string_view text)
{
    string out = "\"";
    for (const char c : text) {
        char escape[8];
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
            out += escape;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

class printer {
  public:
    printer(const store &values, quire_print how)
        : values_(values), template_(how == QUIRE_PRINT_TEMPLATE), bare_(how == QUIRE_PRINT_BARE)
    {
    }

    string run()
    {
        for (const auto &row : keys)
            if (is_printed(row)) print_row(row);
        return out_;
    }

  private:
    // Members are printed with their table or array.
    static bool is_printed(const quire_config_key &row)
    {
        const string_view name = row.name;
        if (name.find('[') != string_view::npos || name == "output.label.*") return false;
        const size_t dot    = name.rfind('.');
        const auto  *parent = dot == string_view::npos ? nullptr : find_row(name.substr(0, dot));
        return parent == nullptr || !is_type(*parent, "table");
    }

    void print_row(const quire_config_key &row)
    {
        const string name = row.name;
        if (name.back() == '*') return print_any(row);
        if (is_type(row, "array") && find_row(name + "[]") == nullptr) return print_tables(row);
        const string text = render(name);
        if (text.empty() && !template_) return;
        open_section(name);
        print_help(row);
        const string key = name.substr(name.rfind('.') + 1); // npos + 1 = 0
        if (text.empty())
            out_ += "# " + key + " =\n";
        else
            out_ += key + " = " + text + comment(name) + "\n";
    }

    void open_section(const string &name)
    {
        const size_t dot     = name.rfind('.');
        const string section = dot == string::npos ? "" : name.substr(0, dot);
        if (section == section_) return;
        section_ = section;
        out_ += "\n[" + section + "]\n";
    }

    void print_help(const quire_config_key &row)
    {
        if (!template_) return;
        out_ += string("\n# ") + row.help + "\n# " + row.type;
        if (row.range != nullptr) out_ += string(", ") + row.range;
        if (row.fallback != nullptr) out_ += string(", default ") + row.fallback;
        out_ += "\n";
    }

    string comment(const string &name) const
    {
        const value *v = find(values_, name);
        if (bare_) return "";
        for (auto at = values_.lower_bound(name + ".");
             v == nullptr && at != values_.end() && starts_with(at->first, name + "."); ++at)
            v = &at->second;
        string text = v ? v->origin : "";
        for (auto &c : text) // a file's name may hold anything
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
        return text.empty() ? "" : " # " + text;
    }

    // The value as TOML; "" where nothing is set.
    string render(const string &path) const
    {
        const value *v   = find(values_, path);
        const auto  *row = find_row(pattern_of(path));
        if (row != nullptr && is_type(*row, "table")) return render_table(path);
        if (v == nullptr) return "";
        switch (v->type) {
        case kind::text: return toml_string(v->text);
        case kind::integer: return std::to_string(v->integer);
        case kind::number: return to_text(v->number);
        case kind::boolean: return v->boolean ? "true" : "false";
        case kind::array: return render_array(path, v->count);
        }
        return "";
    }

    string render_array(const string &path, size_t count) const
    {
        string out = "[";
        for (size_t i = 0; i < count; i++) out += (i ? ", " : "") + render(path + "[" + std::to_string(i) + "]");
        return out + "]";
    }

    string render_table(const string &path) const
    {
        string out;
        for (auto at = values_.lower_bound(path + "."); at != values_.end() && starts_with(at->first, path + "."); ++at)
            out += (out.empty() ? "{ " : ", ") + member_name(at->first.substr(path.size() + 1)) + " = " +
                   render(at->first);
        return out.empty() ? out : out + " }";
    }

    static string member_name(const string &name)
    {
        const bool bare = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
            return isalnum(c) || c == '_' || c == '-';
        });
        return bare ? name : toml_string(name);
    }

    // model.shape.*, sweep.*
    void print_any(const quire_config_key &row)
    {
        const string start(row.name, strlen(row.name) - 1);
        bool         first = true;
        for (auto at = values_.lower_bound(start); at != values_.end() && starts_with(at->first, start); ++at) {
            const auto *spelt = find_row(pattern_of(at->first));
            if (spelt != &row || at->first.back() == ']') continue;
            open_section(start + "x");
            if (first) print_help(row);
            first = false;
            out_ += member_name(at->first.substr(start.size())) + " = " + render(at->first) + comment(at->first) + "\n";
        }
        if (!first || !template_) return;
        out_ += "\n# [" + start.substr(0, start.size() - 1) + "] any name\n# " + row.help + "\n";
    }

    // [[tenant]], [[workload.mix]]
    void print_tables(const quire_config_key &row)
    {
        const string name  = row.name;
        const value *array = find(values_, name);
        if (template_) out_ += "\n# [[" + name + "]]: " + row.help + "\n" + member_help(name);
        for (size_t i = 0; array != nullptr && i < array->count; i++) {
            const string path = name + "[" + std::to_string(i) + "].";
            out_ += "\n[[" + name + "]]" + comment(name) + "\n";
            for (const auto &member : keys) {
                const string member_of = string(name) + "[].";
                if (!starts_with(member.name, member_of)) continue;
                const string key = member.name + member_of.size();
                if (key.find('.') != string::npos) continue;
                const string text = render(path + key);
                if (!text.empty()) out_ += key + " = " + text + comment(path + key) + "\n";
            }
        }
        section_ = name;
    }

    static string member_help(const string &name)
    {
        string out;
        for (const auto &member : keys) {
            const string start = name + "[].";
            if (!starts_with(member.name, start)) continue;
            const string key = member.name + start.size();
            if (key.find('.') == string::npos) out += "#   " + key + ": " + member.type + ", " + member.help + "\n";
        }
        return out;
    }

    const store &values_;
    bool         template_, bare_;
    string       section_, out_;
};

} // namespace

// ---- the C interface ----

quire_status quire_config_create(quire_config **config_out, quire_error *error)
{
    *config_out = nullptr;
    return guarded(error, [&] {
        auto *config = new quire_config;
        try {
            fill_built_in(*config);
        } catch (...) {
            delete config;
            throw;
        }
        *config_out = config;
    });
}

quire_status quire_config_read(quire_config *config, const char *path, quire_error *error)
{
    return guarded(error, [&] {
        if (path == nullptr) fail(QUIRE_ERR_INVALID, "quire_config_read: path is NULL");
        read_into(*config, path);
    });
}

quire_status quire_config_read_environment(quire_config *config, quire_error *error)
{
    return guarded(error, [&] { read_variables(*config); });
}

quire_status quire_config_set(quire_config *config, const char *assignment, const char *origin, quire_error *error)
{
    return guarded(error, [&] {
        const source      from{origin ? origin : "--set", false};
        const string_view text  = assignment;
        const size_t      equal = text.find('=');
        const string      key   = trimmed(text.substr(0, equal));
        if (equal == string_view::npos || key.empty())
            fail(QUIRE_ERR_INVALID, from.name + ": " + quoted(text) + ": expected section.key=value");
        commit(*config, from, [&](layer &applying) { applying.assign(from, key, trimmed(text.substr(equal + 1))); });
    });
}

quire_status quire_config_load(const char *path, quire_config **config_out, quire_error *error)
{
    quire_status status = quire_config_create(config_out, error);
    if (status != QUIRE_OK) return status;
    status = quire_config_read(*config_out, path, error);
    if (status == QUIRE_OK) status = quire_config_read_environment(*config_out, error);
    if (status == QUIRE_OK) return status;
    quire_config_destroy(*config_out);
    *config_out = nullptr;
    return status;
}

quire_status quire_config_check(quire_config *config, quire_error *error)
{
    return guarded(error, [&] { checker(*config).run(); });
}

const quire_engine_options *quire_config_engine(const quire_config *config) { return &config->engine; }
const quire_model_options  *quire_config_model(const quire_config *config) { return &config->model; }

const char *quire_config_model_path(const quire_config *config) { return quire_config_string(config, "model.path"); }
const char *quire_config_model_preset(const quire_config *config)
{
    return quire_config_string(config, "model.preset");
}

const char *quire_config_string(const quire_config *config, const char *key)
{
    const value *v = config->find(key);
    return v != nullptr && v->type == kind::text ? v->text.c_str() : nullptr;
}

double quire_config_number(const quire_config *config, const char *key, double fallback)
{
    const value *v = config->find(key);
    return v != nullptr && v->counts ? v->number : fallback;
}

int64_t quire_config_integer(const quire_config *config, const char *key, int64_t fallback)
{
    const value *v = config->find(key);
    return v != nullptr && v->counts ? v->integer : fallback;
}

int quire_config_boolean(const quire_config *config, const char *key, int fallback)
{
    const value *v = config->find(key);
    return v != nullptr && v->type == kind::boolean ? v->boolean : fallback;
}

size_t quire_config_count(const quire_config *config, const char *key)
{
    const value *v = config->find(key);
    return v != nullptr && v->type == kind::array ? v->count : 0;
}

const char *quire_config_origin(const quire_config *config, const char *key)
{
    const value *v = config->find(key);
    return v != nullptr ? v->origin.c_str() : "built-in";
}

char *quire_config_print(const quire_config *config, quire_print how)
{
    char *copy = nullptr;
    (void)guarded(nullptr, [&] { copy = strdup(printer(config->values, how).run().c_str()); });
    return copy;
}

const quire_config_key *quire_config_key_at(size_t index) { return index < std::size(keys) ? &keys[index] : nullptr; }

void quire_config_destroy(quire_config *config) { delete config; }
