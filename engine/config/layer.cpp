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
    const auto  *row     = find_row(pattern);
    if (row == nullptr && !is_section(pattern)) fail_unknown(from_.place(key_at), path, node.is_table());
    if (row == nullptr) return apply_section(path, node);
    const target t{*row, path, from_.place(node.source())};
    if (starts_with(path, "sweep.") && string_view(row->name).back() == '*') return apply_axis(t, node);
    if (is_type(*row, "table")) return apply_table(t, node);
    if (is_type(*row, "array")) return apply_array(t, node);
    put(path, read_scalar(t, node), node);
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
        if (!is_plain && !has_free_names(path + ".*")) // a quoted key must not pass for a path
            fail_unknown(from_.place(m.name->source()), path.empty() ? name : path + "." + name, false);
        apply(path.empty() ? name : path + "." + name, *m.node, m.name->source());
    }
}

void layer::assign(source from, const string &path, const string &text)
{
    from_ = std::move(from);
    check_indices(values_, from_, path);
    const toml::table document = parse_value(path, text, from_);
    const size_t      dot      = path.rfind('.');
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
    const bool has_fixed = find_row(pattern_of(t.path) + ".dist") != nullptr;
    erase_below(t.path);
    if (const auto *table = node.as_table()) return apply_members(t.path, *table);
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
void layer::apply_axis(const target &t, const toml::node &node)
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

} // namespace

void settle(store &values, const layer &applied)
{
    for (const auto &group : exclusive_groups) settle_group(values, applied, group);
}

} // namespace qr::config
