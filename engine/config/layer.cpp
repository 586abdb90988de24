// Applying a document, and keys that exclude each other.
#include "engine/config/layer.h"

#include <algorithm>
#include <cstring>

namespace qr::config {

namespace {

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

} // namespace

void layer::apply(const string &path, const toml::node &node, const toml::source_region &key_at)
{
    const string pattern = pattern_of(path);
    const auto  *row     = keys_.find(pattern);
    if (keys_.is_skipped(path.substr(0, path.find('.')))) return;
    if (row == nullptr && !keys_.is_section(pattern)) keys_.fail_unknown(from_.place(key_at), path, node.is_table());
    if (row == nullptr) return apply_section(path, node);
    const target t{keys_, *row, path, from_.place(node.source())};
    if (is_type(*row, "axis")) return apply_axis(t, node);
    if (is_type(*row, "table")) return apply_table(t, node);
    if (is_type(*row, "array")) return apply_array(t, node);
    value v = read_scalar(t, node);
    if (is_type(*row, "path")) v.text = from_.beside(v.text);
    put(path, v, node);
}

void layer::apply_members(const string &path, const toml::table &table)
{
    struct member {
        const toml::key  *name;
        const toml::node *node;
    };
    std::vector<member> members; // in the order of the text, so that the first mistake is the one reported
    for (const auto &[name, node] : table) members.push_back({&name, &node});
    std::stable_sort(members.begin(), members.end(),
                     [](const member &a, const member &b) { return a.name->source().begin < b.name->source().begin; });
    for (const auto &m : members) {
        const string name(m.name->str());
        const bool   is_plain = name.find_first_of(".[]") == string::npos;
        if (!is_plain && !keys_.has_free_names(path)) // a quoted key must not pass for a path
            keys_.fail_unknown(from_.place(m.name->source()), path.empty() ? name : path + "." + name, false);
        apply(path.empty() ? name : path + "." + name, *m.node, m.name->source());
    }
}

void layer::assign(source from, const string &path, const string &text)
{
    from_ = std::move(from);
    check_indices(values_, from_, path);
    put_document(path, parse_value(keys_, path, text, from_));
}

void layer::assign_value(source from, const string &path, const string &text)
{
    from_ = std::move(from);
    check_indices(values_, from_, path);
    put_document(path, plain_value(keys_, path, text, from_));
}

void layer::put_document(const string &path, const toml::table &document)
{
    const size_t dot = path.rfind('.');
    if (dot != string::npos && path.substr(dot) == ".dist")
        erase_below(path.substr(0, dot)); // another form: none of the old numbers apply
    apply(path, *document.get("v"), {});
}

void layer::apply_section(const string &path, const toml::node &node)
{
    const auto *table = node.as_table();
    if (table == nullptr)
        fail(QUIRE_ERR_INVALID, from_.place(node.source()) + ": [" + path + "] is a section, found " + found(node));
    apply_members(path, *table);
}

void layer::apply_table(const target &t, const toml::node &node)
{
    const bool has_fixed = keys_.find(pattern_of(t.path) + ".dist") != nullptr;
    erase_below(t.path);
    if (const auto *table = node.as_table()) {
        apply_members(t.path, *table);
        return complete(t.path);
    }
    if (!has_fixed || !node.is_integer()) t.expected(has_fixed ? "a table or an integer" : "a table", node);
    value fixed;
    fixed.text = "fixed";
    put(t.path + ".dist", fixed, node);
    apply(t.path + ".value", node, node.source());
}

void layer::apply_array(const target &t, const toml::node &node)
{
    const auto *array = node.as_array();
    if (array == nullptr && node.is_table()) t.fail("is a list of tables: write [[" + t.path + "]]");
    if (array == nullptr) t.expected("an array", node);
    if (array->size() > 4096) t.fail("an array has at most 4096 elements");
    erase_below(t.path);
    const auto *scalar = keys_.find(pattern_of(t.path) + "[]");
    for (size_t i = 0; i < array->size(); i++) {
        const string      path    = t.path + "[" + std::to_string(i) + "]";
        const toml::node &element = (*array)[i];
        if (scalar != nullptr)
            put(path, read_scalar(target{keys_, *scalar, path, from_.place(element.source())}, element), element);
        else if (element.is_table())
            apply_members(path, *element.as_table()), complete(path);
        else
            t.expected("an array of tables", element);
    }
    value v;
    v.type  = kind::array;
    v.count = array->size();
    put(t.path, v, node);
}

// Kept as sweep.<key> with its values as text, ready to be assigned.
void layer::apply_axis(const target &t, const toml::node &node)
{
    const string key   = t.path.substr(strlen(t.row.name) - 1); // behind "sweep."
    const auto  *row   = keys_.find(pattern_of(key));
    const auto   texts = axis_values(t, node);
    if (row == nullptr || is_type(*row, "axis")) keys_.fail_unknown(t.place, key, false);
    for (const auto &text : texts) // each must do as a value of its key
        if (!is_type(*row, "table") && !is_type(*row, "array"))
            read_scalar(target{keys_, *row, key, t.place}, *plain_value(keys_, key, text, from_).get("v"));
    erase_below(t.path);
    for (size_t i = 0; i < texts.size(); i++) {
        value v;
        v.text = is_type(*row, "path") ? from_.beside(texts[i]) : texts[i];
        put(t.path + "[" + std::to_string(i) + "]", v, node);
    }
    value v;
    v.type  = kind::array;
    v.count = texts.size();
    put(t.path, v, node);
}

// The members of a table or an element that were left out get their defaults.
void layer::complete(const string &path)
{
    const string start = pattern_of(path) + ".";
    for (const auto &e : keys_.entries()) {
        const string_view name = e.key->name;
        if (!starts_with(name, start) || name.find_first_of(".[*", start.size()) != string_view::npos) continue;
        const string member = path + "." + string(name.substr(start.size()));
        const auto   at     = values_.lower_bound(member);
        if (at == values_.end() || !starts_with(at->first, member)) apply_default(*e.key, member);
    }
}

void layer::apply_default(const quire_config_key &key, const string &path)
{
    if (key.fallback == nullptr) return;
    const source      from{"built-in", false};
    const toml::table document = parse(string("v = ") + key.fallback, from);
    layer             built_in(keys_, values_, from);
    built_in.apply(path, *document.get("v"), {});
}

void layer::put(const string &path, value v, const toml::node &node)
{
    v.origin      = from_.origin(node.source());
    v.place       = from_.place(node.source());
    values_[path] = std::move(v);
    touched_.push_back(path);
}

void layer::erase_below(const string &path)
{
    for (auto at = values_.lower_bound(path); at != values_.end() && starts_with(at->first, path);) {
        const char next = at->first.size() > path.size() ? at->first[path.size()] : '\0';
        at              = next == '.' || next == '[' || next == '\0' ? values_.erase(at) : std::next(at);
    }
}

namespace {

// ---- keys that exclude each other ----

constexpr const char *exclusive_groups[][3] = {
    {"model.path", "model.preset", nullptr},
    {"kv_cache.size", "kv_cache.num_kv_blocks", "kv_cache.memory_fraction"},
};

// "auto" and 0 choose nothing.
bool chooses(const store &values, const char *key)
{
    const auto at = values.find(string_view(key));
    return at != values.end() && at->second.text != "auto" && !(at->second.counts && at->second.number == 0);
}

void reset(store &values, const store &built_in, const char *key)
{
    values.erase(key);
    if (const value *v = find(built_in, key)) values[key] = *v;
}

// Two in one layer contradict each other; one in a later layer replaces those of earlier layers.
void settle_group(const key_table &keys, store &values, const store &built_in, const layer &applied,
                  const char *const (&group)[3])
{
    const char *chosen = nullptr;
    for (const char *key : group) {
        const auto &touched = applied.touched();
        if (key == nullptr || std::find(touched.begin(), touched.end(), key) == touched.end()) continue;
        if (chosen != nullptr && chooses(values, chosen) && chooses(values, key))
            fail(QUIRE_ERR_INVALID,
                 find(values, key)->place + ": " + keys.shown(key) + ": mutually exclusive with " + keys.shown(chosen));
        if (chosen == nullptr || chooses(values, key)) chosen = key;
    }
    for (const char *key : group)
        if (chosen != nullptr && key != nullptr && key != chosen) reset(values, built_in, key);
}

} // namespace

void settle(const key_table &keys, store &values, const store &built_in, const layer &applied)
{
    for (const auto &group : exclusive_groups) settle_group(keys, values, built_in, applied, group);
}

} // namespace qr::config
