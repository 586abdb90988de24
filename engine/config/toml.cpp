// Text becomes a table, or an error with its place.
#include <cstring>
#include <vector>

#include "engine/config/toml.h"

namespace qr::config {

namespace {

constexpr int max_nesting = 16; // of tables, arrays and dotted keys

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

} // namespace

toml::table parse(string_view text, const source &from)
{
    depth_scan(text, from).run();
    try {
        toml::parse_result result = toml::parse(text);
        if (result) return std::move(result).table();
        const toml::parse_error &e = result.error();
        fail(QUIRE_ERR_FORMAT, from.place(e.source()) + ": " + string(e.description()));
    } catch (const malformed &) {
        const string line = from.has_lines ? ":" + std::to_string(line_of_malformed(text)) : "";
        fail(QUIRE_ERR_FORMAT, from.name + line + ": a key or a value is malformed");
    }
}

// ---- text from outside a file ----

static bool takes_bare_text(const key_table &keys, const string &path)
{
    const auto *row = keys.find(pattern_of(path));
    if (row == nullptr) return false;
    return is_type(*row, "string") || is_type(*row, "path") || is_type(*row, "choice") || is_type(*row, "size") ||
           is_type(*row, "duration");
}

toml::table parse_value(const key_table &keys, const string &path, const string &text, const source &from)
{
    const bool  in_quotes = !text.empty() && (text[0] == '"' || text[0] == '\'');
    toml::table document;
    if (text.size() > max_file_bytes) fail(QUIRE_ERR_INVALID, from.name + ": " + path + ": is larger than 1 MiB");
    if ((in_quotes || !takes_bare_text(keys, path)) && text.find('\n') == string::npos) {
        depth_scan(text, from).run();
        try {
            if (toml::parse_result result = toml::parse("v = " + text)) document = std::move(result).table();
        } catch (const malformed &) {
            document.clear();
        }
    }
    if (document.size() != 1) document = toml::table{{"v", text}};
    return document;
}

toml::table plain_value(const key_table &keys, const string &path, const string &text, const source &from)
{
    return takes_bare_text(keys, path) ? toml::table{{"v", text}} : parse_value(keys, path, text, from);
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

} // namespace qr::config
