/* config.json as a whole: its model_type decides the family, which reads its own keys; what all have is read here. */
#include "model/config_json.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/config_reader.h"
#include "model/family.h"
#include "model/files.h"

enum { MAX_EOS = sizeof((qr_architecture *)0)->eos_token_ids / sizeof(int32_t) };

/* ---- what quire does not have ---- */

/* What the family has not read. */
static void refuse_features(qr_config_reader *r, const qr_architecture *a)
{
    static const char *const experts[] = {"num_local_experts", "num_experts", "n_routed_experts"};
    qr_config_refuse(r, a->quantisation.packing == QR_PACKING_MXFP4 && !a->mxfp4_experts, "quantization_config",
                     "mxfp4 is not supported with this model_type");
    for (size_t i = 0; a->experts == 0 && i < sizeof experts / sizeof *experts; i++)
        qr_config_refuse(r, qr_config_integer(r, r->root, experts[i], 0, INT64_MAX, 0) > 0, experts[i],
                         "a mixture of experts is not supported with this model_type");
}

/* ---- end of sequence ---- */

static void add_eos(qr_config_reader *r, qr_architecture *a, const json_t *value)
{
    if (!json_is_integer(value)) {
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: eos_token_id: expected an integer, found %s", r->origin,
                    qr_json_type_name(value));
        return;
    }
    const int64_t id = json_integer_value(value);
    if (id < 0 || id >= a->vocab_size) {
        if (!r->synthetic) /* a preset with an overridden vocabulary just has no such token */
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: eos_token_id: %lld is outside 0..%u (vocab_size - 1)", r->origin,
                        (long long)id, a->vocab_size - 1);
        return;
    }
    if (a->eos_count == MAX_EOS) {
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: eos_token_id: %u ids, at most %d are supported", r->origin,
                    a->eos_count + 1, MAX_EOS);
        return;
    }
    a->eos_token_ids[a->eos_count++] = (int32_t)id;
}

void qr_config_read_eos(qr_config_reader *r, qr_architecture *a)
{
    const json_t *value = json_object_get(r->root, "eos_token_id");
    if (!qr_config_has(r, "eos_token_id")) return;
    if (!json_is_array(value)) {
        add_eos(r, a, value);
        return;
    }
    size_t        i;
    const json_t *element;
    json_array_foreach(value, i, element) add_eos(r, a, element);
}

/* A vocabulary that is too small for the class's token just has no such token. */
static void add_default_eos(const qr_config_reader *r, const qr_model_type *type, qr_architecture *a)
{
    if (json_object_get(r->root, "eos_token_id") == NULL && type->default_eos.given &&
        type->default_eos.id < (int64_t)a->vocab_size)
        a->eos_token_ids[a->eos_count++] = type->default_eos.id;
}

/* ---- model_type and classes ---- */

static void check_class(qr_config_reader *r, const qr_model_type *type, const char *name)
{
    for (size_t i = 0; i < QR_TYPE_CLASSES && type->classes[i] != NULL; i++)
        if (strcmp(type->classes[i], name) == 0) return;
    QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                "%s: architectures: \"%.60s\" is not supported with model_type \"%s\", only %s", r->origin, name,
                type->name, type->classes[0]);
}

static void check_classes(qr_config_reader *r, const qr_model_type *type)
{
    size_t        i;
    const json_t *element;
    json_array_foreach(qr_config_array(r, "architectures"), i, element)
    {
        if (json_is_string(element))
            check_class(r, type, json_string_value(element));
        else
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: architectures[%zu]: expected a string, found %s", r->origin, i,
                        qr_json_type_name(element));
    }
}

/* The names are those of a model without files, which may hold more of them or fewer (model.c). */
static void read_tie(qr_config_reader *r, qr_architecture *a)
{
    a->tied           = qr_config_boolean(r, "tie_word_embeddings", a->family->tied_by_default);
    a->never_tied     = qr_config_has(r, "tie_word_embeddings") && !a->tied;
    a->embedding_name = a->family->embedding_names[0];
    a->head_name      = a->tied ? a->embedding_name : a->family->output_name;
}

static quire_status read_root(qr_config_reader *r, qr_architecture *a)
{
    *a               = (qr_architecture){.attention_scale        = 1,
                                         .embedding_scale        = 1,
                                         .residual_scale         = 1,
                                         .logits_scale           = 1,
                                         .decoder_start_token_id = -1};
    const char *name = qr_config_string(r, r->root, "model_type", NULL);
    uint32_t    type = 0;
    if (name == NULL) {
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: model_type: missing", r->origin);
        return r->status;
    }
    a->family = qr_family_find(name, &type);
    if (a->family == NULL) {
        char known[256];
        qr_family_list_types(known, sizeof known);
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: model_type: \"%.40s\" is not supported, only %s", r->origin, name,
                    known);
        return r->status;
    }
    a->type = type;
    snprintf(a->model_type, sizeof a->model_type, "%s", name);
    check_classes(r, &a->family->types[type]);
    const json_t *quantised = qr_config_object(r, "quantization_config");
    if (quantised != NULL) qr_quantisation_read(r, quantised, &a->quantisation);
    read_tie(r, a);
    a->type = type;
    a->family->read_config(r, type, a);
    refuse_features(r, a);
    qr_config_read_eos(r, a);
    add_default_eos(r, &a->family->types[type], a);
    return r->status;
}

/* ---- the text ---- */

static quire_status apply(json_t *root, const char *origin, const quire_shape_override *change, quire_error *error)
{
    const json_t *old = change->name ? json_object_get(root, change->name) : NULL;
    if (old == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "model.shape: %s has no key \"%.60s\" in its config.json", origin,
                       change->name ? change->name : "");
    if (!json_is_number(old) && !json_is_boolean(old) && !json_is_null(old))
        return qr_fail(error, QUIRE_ERR_INVALID, "model.shape: %s is %s and cannot be changed to a number",
                       change->name, qr_json_type_name(old));
    json_t *changed = json_is_boolean(old) ? json_boolean(change->value != 0) : json_integer(change->value);
    json_object_del(root, change->name);
    if (json_object_set_new(root, change->name, changed) != 0)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "model.shape: no memory");
    return QUIRE_OK;
}

quire_status qr_config_parse(const char *text, size_t length, const char **origin, json_t **root_out,
                             quire_error *error)
{
    qr_json_problem where;
    *origin   = qr_path_tail(*origin);
    *root_out = qr_json_read(text, length, &where);
    if (*root_out == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%d:%d: %s", *origin, where.line, where.column, where.text);
    if (json_is_object(*root_out)) return QUIRE_OK;
    const char *found = qr_json_type_name(*root_out);
    json_decref(*root_out);
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: expected an object, found %s", *origin, found);
}

quire_status qr_architecture_parse(const char *text, size_t length, const char *origin,
                                   const quire_shape_override *overrides, uint32_t override_count,
                                   qr_architecture *architecture_out, quire_error *error)
{
    json_t      *root;
    quire_status status = QUIRE_OK;
    QR_TRY(qr_config_parse(text, length, &origin, &root, error));
    for (uint32_t i = 0; i < override_count && status == QUIRE_OK; i++)
        status = apply(root, origin, &overrides[i], error);
    if (status == QUIRE_OK) {
        qr_config_reader r = {.root = root, .origin = origin, .error = error, .synthetic = override_count > 0};
        status             = read_root(&r, architecture_out);
    }
    json_decref(root);
    return status;
}

quire_status qr_architecture_of(const json_t *root, const char *origin, qr_architecture *architecture_out,
                                quire_error *error)
{
    qr_config_reader r = {.root = root, .origin = origin, .error = error};
    return read_root(&r, architecture_out);
}

quire_status qr_architecture_read(const char *path, qr_architecture *architecture_out, quire_error *error)
{
    char        *text;
    uint64_t     length;
    quire_status status = qr_file_read_whole(path, QR_CONFIG_MAX_BYTES, NULL, &text, &length, error);
    if (status == QUIRE_OK) status = qr_architecture_parse(text, length, path, NULL, 0, architecture_out, error);
    qr_deallocate(NULL, text, length);
    return status;
}
