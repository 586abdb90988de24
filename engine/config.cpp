// quire_config: one flat map from key to value, filled layer by layer (built-in, file, environment, assignments), each
// value checked against the table of keys. This is the C interface, which no exception leaves; the parts are in
// config/.
#include "quire/config.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <new>

#include <unistd.h>

#include "base/printable.h"
#include "engine/config/layer.h"
#include "engine/config/object.h"

using namespace qr::config;

namespace {

quire_status report(quire_error *error, quire_status status, const char *message) noexcept
{
    if (error != nullptr) {
        error->status = status;
        qr_printable_copy(error->message, sizeof error->message, message);
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

// Of an axis: "sweep[0].key", "sweep[0].values[1]". Of other free names: "output.label[0].name",
// "output.label[0].value".
void number_names(const quire_config_key &row, const key_table &keys, const store &values, store &views)
{
    const string start(row.name, strlen(row.name) - 1), base = start.substr(0, start.size() - 1);
    const bool   is_axis = is_type(row, "axis");
    size_t       names   = 0;
    for (auto at = values.lower_bound(start); at != values.end() && starts_with(at->first, start); at++) {
        if (keys.find(pattern_of(at->first)) != &row || at->first.back() == ']') continue;
        const string name = base + "[" + std::to_string(names++) + "]";
        add_view(views, name + (is_axis ? ".key" : ".name"), at->first.substr(start.size()), at->second);
        if (!is_axis) {
            add_view(views, name + ".value", at->second.text, at->second);
            continue;
        }
        for (size_t i = 0; i < at->second.count; i++) {
            const string element = "[" + std::to_string(i) + "]";
            add_view(views, name + ".values" + element, find(values, at->first + element)->text, at->second);
        }
        set_count(views, name + ".values", at->second.count);
    }
    set_count(views, base, names);
}

// ---- layers ----

// Applies to a copy, so that a failed call changes nothing. The options point into the values and follow them.
template <typename Body> void commit(quire_config &config, const source &from, Body &&body)
{
    store next = config.values;
    layer applying(config.keys, next, from);
    body(applying);
    settle(config.keys, next, config.built_in, applying);
    store views;
    for (const auto &e : config.keys.entries())
        if (has_any_name(*e.key)) number_names(*e.key, config.keys, next, views);
    config.values = std::move(next);
    config.views  = std::move(views);
    fill_options(config);
}

const source built_in{"built-in", false};

template <typename Keys> void apply_defaults(quire_config &config, const Keys &first, const Keys &last)
{
    commit(config, built_in, [&](layer &applying) {
        for (auto key = first; key != last; key++)
            if (string_view(key->name).find('[') == string_view::npos) applying.apply_default(*key, key->name);
    });
    config.built_in = config.values;
}

void add_keys(quire_config &config, const string &owner, const quire_config_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const quire_config_key *known = config.keys.find(keys[i].name);
        if (known != nullptr && strcmp(known->name, keys[i].name) == 0)
            fail(QUIRE_ERR_INVALID, string("quire_config_add_keys: ") + keys[i].name + " appears twice");
        config.keys.add(owner, keys[i]);
    }
    apply_defaults(config, keys, keys + count);
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
    if (opened.file == nullptr && errno == ENOMEM) throw std::bad_alloc();
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
    commit(config, from, [&](layer &applying) { applying.apply_members("", document); });
}

string trimmed(string_view text)
{
    while (!text.empty() && isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
    while (!text.empty() && isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
    return string(text);
}

// sweep."load.streams" -> sweep.load.streams, where a file takes a name in quotes; elsewhere they stay and are refused.
string unquoted(const key_table &keys, const string &key)
{
    const size_t open = key.find_first_of("\"'");
    if (open == string::npos || open == 0 || key.size() < open + 3 || key.back() != key[open]) return key;
    if (key[open - 1] != '.' || !keys.has_free_names(key.substr(0, open - 1))) return key;
    return key.substr(0, open) + key.substr(open + 1, key.size() - open - 2);
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

} // namespace

// ---- the C interface ----

quire_status quire_config_create(quire_config **config_out, quire_error *error)
{
    *config_out = nullptr;
    return guarded(error, [&] {
        auto *config = new quire_config;
        try {
            apply_defaults(*config, library_keys().begin(), library_keys().end());
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
        const string      key   = unquoted(config->keys, trimmed(text.substr(0, equal)));
        if (equal == string_view::npos || key.empty())
            fail(QUIRE_ERR_INVALID, from.name + ": " + quoted(text) + ": expected section.key=value");
        commit(*config, from, [&](layer &applying) { applying.assign(from, key, trimmed(text.substr(equal + 1))); });
    });
}

quire_status quire_config_set_value(quire_config *config, const char *key, const char *value, const char *origin,
                                    quire_error *error)
{
    return guarded(error, [&] {
        const source from{origin ? origin : "quire_config_set_value", false};
        if (key == nullptr || value == nullptr) fail(QUIRE_ERR_INVALID, from.name + ": key or value is NULL");
        commit(*config, from, [&](layer &applying) { applying.assign_value(from, key, value); });
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
    return guarded(error, [&] { check(*config); });
}

const quire_engine_options *quire_config_engine(const quire_config *config) { return &config->engine; }
const quire_model_options  *quire_config_model(const quire_config *config) { return &config->model; }

const char *quire_config_model_path(const quire_config *config) { return quire_config_string(config, "model.path"); }
const char *quire_config_model_preset(const quire_config *config)
{
    return quire_config_string(config, "model.preset");
}

quire_status quire_config_add_keys(quire_config *config, const char *owner, const quire_config_key *keys, size_t count,
                                   quire_error *error)
{
    return guarded(error, [&] { add_keys(*config, owner, keys, count); });
}

// Without the memory to tell, it is known.
static bool is_known(const quire_config *config, const char *key) noexcept
{
    bool known = true;
    (void)guarded(nullptr, [&] {
        const string pattern = pattern_of(key);
        known                = config->keys.find(pattern) != nullptr || config->is_view(pattern);
    });
    return known;
}

// A key that nobody registered is a mistake of the program, which would otherwise go unseen for ever.
static const value *find_known(const quire_config *config, const char *key)
{
    if (const value *v = config->find(key)) return v;
    if (is_known(config, key)) return nullptr;
    fprintf(stderr, "quire_config: %s: no such key is registered\n", key);
    abort();
}

bool quire_config_is_set(const quire_config *config, const char *key) { return find_known(config, key) != nullptr; }

bool quire_config_is_default(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key), *standard = find(config->built_in, key);
    if (v == nullptr || standard == nullptr) return v == standard;
    return v->text == standard->text && v->number == standard->number && v->boolean == standard->boolean &&
           v->count == standard->count;
}

const char *quire_config_string(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key);
    return v != nullptr && v->type == kind::text ? v->text.c_str() : nullptr;
}

double quire_config_number(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key);
    return v != nullptr && v->counts ? v->number : std::numeric_limits<double>::quiet_NaN();
}

int64_t quire_config_integer(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key);
    return v != nullptr && v->counts ? v->integer : 0;
}

bool quire_config_boolean(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key);
    return v != nullptr && v->type == kind::boolean && v->boolean;
}

size_t quire_config_count(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key);
    return v != nullptr && v->type == kind::array ? v->count : 0;
}

const char *quire_config_origin(const quire_config *config, const char *key)
{
    const value *v = find_known(config, key);
    return v != nullptr ? v->origin.c_str() : "built-in";
}

quire_status quire_config_refuse(const quire_config *config, const char *key, quire_error *error, const char *format,
                                 ...)
{
    char    reason[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return guarded(error, [&] {
        const value *v = find_known(config, key);
        fail(QUIRE_ERR_INVALID, (v ? v->place : "configuration") + ": " + config->keys.shown(key) + ": " + reason);
    });
}

char *quire_config_print(const quire_config *config, quire_print how, const char *owner)
{
    char *copy = nullptr;
    (void)guarded(nullptr, [&] { copy = strdup(print(*config, how, owner).c_str()); });
    return copy;
}

const quire_config_key *quire_config_key_at(const quire_config *config, size_t index)
{
    return index < config->keys.entries().size() ? config->keys.entries()[index].key : nullptr;
}

void quire_free(void *memory) { free(memory); }

void quire_config_destroy(quire_config *config) { delete config; }
