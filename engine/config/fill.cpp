// From values to the options of the library: each field of the list from the value of its key.
#include <cstring>

#include "base/option_list.h"
#include "engine/config/object.h"

namespace qr::config {

namespace {

template <typename Field> void write(void *at, Field field) { memcpy(at, &field, sizeof field); }

// The word that stands for "none" or "without limit", which the struct has as -1.
bool is_special(const qr_option &o, const value &v)
{
    return o.words != nullptr && (v.type == kind::text ? v.text : to_text(v.number)) == o.words;
}

uint32_t index_of(string_view words, const string &word)
{
    uint32_t i = 0;
    while (nth_word(words, i) != word) i++;
    return i;
}

// An unset value leaves the field 0, the default.
void fill(const qr_option &o, const value *v, void *options)
{
    void *at = static_cast<char *>(options) + o.offset;
    if (v == nullptr) return;
    switch (o.kind) {
    case QR_OPTION_COUNT:
    case QR_OPTION_POWER: return write(at, is_special(o, *v) ? UINT32_MAX : static_cast<uint32_t>(v->integer));
    case QR_OPTION_DURATION: return write(at, is_special(o, *v) ? UINT64_MAX : static_cast<uint64_t>(v->integer));
    case QR_OPTION_REAL: return write(at, is_special(o, *v) ? -1.0F : static_cast<float>(v->number));
    case QR_OPTION_SEED:
    case QR_OPTION_SIZE: return write(at, static_cast<uint64_t>(v->integer));
    case QR_OPTION_SWITCH: return write(at, v->boolean ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_OFF);
    case QR_OPTION_CHOICE: return write(at, static_cast<uint32_t>(o.least) + index_of(o.words, v->text));
    case QR_OPTION_TEXT:
        return write(at, o.words != nullptr && v->text == nth_word(o.words, 0) ? nullptr : v->text.c_str());
    }
}

void fill_all(const quire_config &config, qr_option_struct of, const string &element, void *options)
{
    for (size_t i = 0; i < qr_option_count; i++) {
        const qr_option &o = qr_option_list[i];
        if (o.of != of || o.key == nullptr) continue;
        fill(o, config.find(element.empty() ? o.key : element + strrchr(o.key, '.')), options);
    }
}

void fill_shape(quire_config &config)
{
    constexpr string_view start = "model.shape.";
    config.shape.clear();
    for (auto at = config.values.lower_bound(start); at != config.values.end() && starts_with(at->first, start); at++)
        config.shape.push_back({at->first.c_str() + start.size(), at->second.integer});
    config.model.shape       = config.shape.data();
    config.model.shape_count = static_cast<uint32_t>(config.shape.size());
}

void fill_tenants(quire_config &config)
{
    const value *tenants = config.find("tenant");
    config.tenants.assign(tenants ? tenants->count : 0,
                          quire_tenant_options{sizeof(quire_tenant_options), nullptr, 0, 0, 0, 0});
    for (size_t i = 0; i < config.tenants.size(); i++)
        fill_all(config, QR_OF_TENANT, "tenant[" + std::to_string(i) + "]", &config.tenants[i]);
    config.engine.tenants      = config.tenants.data();
    config.engine.tenant_count = static_cast<uint32_t>(config.tenants.size());
}

} // namespace

void fill_options(quire_config &config)
{
    config.engine      = quire_engine_options{};
    config.model       = quire_model_options{};
    config.engine.size = sizeof config.engine;
    config.model.size  = sizeof config.model;
    fill_all(config, QR_OF_ENGINE, "", &config.engine);
    fill_all(config, QR_OF_MODEL, "", &config.model);
    fill_tenants(config);
    fill_shape(config);
}

} // namespace qr::config
