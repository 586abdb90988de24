// The effective configuration, with origins or bare, and the template, as TOML.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>

#include "engine/config/object.h"

namespace qr::config {

namespace {

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
    printer(const quire_config &config, quire_print how)
        : keys_(config.keys), values_(config.values), template_(how == QUIRE_PRINT_TEMPLATE),
          bare_(how == QUIRE_PRINT_BARE)
    {
    }

    string run(const char *owner)
    {
        for (const auto &e : keys_.entries())
            if ((owner == nullptr || e.owner == owner) && is_printed(*e.key)) print_row(*e.key);
        return out_;
    }

  private:
    // Members are printed with their table or array.
    bool is_printed(const quire_config_key &row) const
    {
        const string_view name = row.name;
        if (name.find('[') != string_view::npos) return false;
        const size_t dot    = name.rfind('.');
        const auto  *parent = dot == string_view::npos ? nullptr : keys_.find(name.substr(0, dot));
        return parent == nullptr || !is_type(*parent, "table");
    }

    void print_row(const quire_config_key &row)
    {
        const string name = row.name;
        if (name.back() == '*') return print_any(row);
        if (is_type(row, "array") && keys_.find(name + "[]") == nullptr) return print_tables(row);
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
        const auto  *row = keys_.find(pattern_of(path));
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
        for (auto at = values_.lower_bound(path + "."); at != values_.end() && starts_with(at->first, path + "."); at++)
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
        for (auto at = values_.lower_bound(start); at != values_.end() && starts_with(at->first, start); at++) {
            const auto *spelt = keys_.find(pattern_of(at->first));
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
            for (const auto &member : keys_.entries()) {
                const string member_of = string(name) + "[].";
                if (!starts_with(member.key->name, member_of)) continue;
                const string key = member.key->name + member_of.size();
                if (key.find('.') != string::npos) continue;
                const string text = render(path + key);
                if (!text.empty()) out_ += key + " = " + text + comment(path + key) + "\n";
            }
        }
        section_ = name;
    }

    string member_help(const string &name) const
    {
        string out;
        for (const auto &member : keys_.entries()) {
            const string start = name + "[].";
            if (!starts_with(member.key->name, start)) continue;
            const string key = member.key->name + start.size();
            if (key.find('.') == string::npos)
                out += "#   " + key + ": " + member.key->type + ", " + member.key->help + "\n";
        }
        return out;
    }

    const key_table &keys_;
    const store     &values_;
    bool             template_, bare_;
    string           section_, out_;
};

} // namespace

string print(const quire_config &config, quire_print how, const char *owner) { return printer(config, how).run(owner); }

} // namespace qr::config
