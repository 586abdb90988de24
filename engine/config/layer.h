// One file, variable or assignment on its way into the values.
#ifndef QR_CONFIG_LAYER_H
#define QR_CONFIG_LAYER_H

#include <vector>

#include "engine/config/values.h"

namespace qr::config {

class layer {
  public:
    layer(const key_table &keys, store &values, source from) : keys_(keys), values_(values), from_(std::move(from)) {}

    void apply(const string &path, const toml::node &node, const toml::source_region &key_at);
    void apply_members(const string &path, const toml::table &table);
    void apply_default(const quire_config_key &key, const string &path);

    // An assignment from outside a file; `from` replaces the layer's source.
    void assign(source from, const string &path, const string &text);

    // The same, but text of a key that holds text is the value itself.
    void assign_value(source from, const string &path, const string &text);

    const std::vector<string> &touched() const { return touched_; }

  private:
    void put_document(const string &path, const toml::table &document);
    void apply_section(const string &path, const toml::node &node);
    void apply_table(const target &t, const toml::node &node);
    void apply_array(const target &t, const toml::node &node);
    void apply_axis(const target &t, const toml::node &node);
    void put(const string &path, value v, const toml::node &node);
    void complete(const string &path);
    void erase_below(const string &path);

    const key_table    &keys_;
    store              &values_;
    source              from_;
    std::vector<string> touched_;
};

// Keys that exclude each other: two in one layer are an error, one in a later layer replaces those before it, which
// become what they are in `built_in`.
void settle(const key_table &keys, store &values, const store &built_in, const layer &applied);

} // namespace qr::config

#endif
