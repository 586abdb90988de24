// Numbers with units, ranges, choices, and the axes of sweeps.
#include "engine/config/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace qr::config {

namespace {

constexpr size_t max_axis = 1000; // values of one sweep axis

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

double read_bound(const quire_config_key &row, string_view text)
{
    int64_t quantity = 0;
    if (is_type(row, "duration") && read_quantity(text, time_units, quantity)) return static_cast<double>(quantity);
    double bound = 0;
    std::from_chars(text.data(), text.data() + text.size(), bound);
    return bound;
}

// The i-th of "a | b | c", "" past the end.
string_view alternative(string_view range, size_t i)
{
    for (; i > 0 && !range.empty(); i--) {
        const size_t bar = range.find(" | ");
        range            = bar == string_view::npos ? string_view() : range.substr(bar + 3);
    }
    return range.substr(0, range.find(" | "));
}

bool is_numbers(string_view one) { return one.find("..") != string_view::npos; }

bool is_word(const quire_config_key &row, string_view text)
{
    string_view one;
    for (size_t i = 0; row.range != nullptr && !(one = alternative(row.range, i)).empty(); i++)
        if (!is_numbers(one) && one == text) return true;
    return false;
}

// "0..15", ">0..1", "1.."
void check_numbers(const target &t, string_view range, double x, const string &text)
{
    const bool exclusive = range.front() == '>';
    if (exclusive) range.remove_prefix(1);
    const size_t dots = range.find("..");
    const string low(range.substr(0, dots)), high(range.substr(dots + 2));
    if (!low.empty() && exclusive && x <= read_bound(t.row, low)) t.fail(text + " must be above " + low);
    if (!low.empty() && x < read_bound(t.row, low)) t.fail(text + " is below the minimum " + low);
    if (!high.empty() && x > read_bound(t.row, high)) t.fail(text + " is above the maximum " + high);
}

void check_range(const target &t, double x, const string &text)
{
    if (t.row.range == nullptr || is_word(t.row, text)) return;
    string_view one;
    for (size_t i = 0; !(one = alternative(t.row.range, i)).empty(); i++)
        if (is_numbers(one)) return check_numbers(t, one, x, text);
    t.fail(text + " is not one of " + t.row.range);
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
    if (!is_word(t.row, v.text)) t.fail(quoted(v.text) + " is not one of " + t.row.range);
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

} // namespace

value read_scalar(const target &t, const toml::node &node)
{
    const auto *text = node.as_string();
    if (text != nullptr && is_word(t.row, text->get())) { // also where numbers are expected
        value v;
        v.text = text->get();
        return v;
    }
    if (is_type(t.row, "integer")) return read_integer(t, node);
    if (is_type(t.row, "number")) return read_number(t, node);
    if (is_type(t.row, "boolean")) return read_boolean(t, node);
    if (is_type(t.row, "choice")) return read_choice(t, node);
    if (is_type(t.row, "size")) return read_size(t, node);
    if (is_type(t.row, "duration")) return read_duration(t, node);
    return read_string(t, node, "a string");
}

namespace {

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

} // namespace

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
    for (size_t i = 0; i < values.size(); i++)
        if (std::find(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(i), values[i]) !=
            values.begin() + static_cast<std::ptrdiff_t>(i))
            t.fail(quoted(values[i]) + " appears twice");
    return values;
}

} // namespace qr::config
