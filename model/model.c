/* quire_model: a checked description and the open files, a few kilobytes. The weights are read by the network. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/option_list.h"
#include "base/sized_struct.h"
#include "model/config_json.h"
#include "model/config_reader.h"
#include "model/declare.h"
#include "model/family.h"
#include "model/files.h"
#include "model/generation_config.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/presets.h"
#include "model/safetensors.h"

enum { NAME_BYTES = 128, PATH_BYTES = 4096 };

struct quire_model {
    quire_allocator allocator;
    char            name[NAME_BYTES];
    qr_architecture architecture;
    qr_tensors     *files; /* NULL: synthetic */
    qr_weights      weights;
    quire_dtype     weight_dtype; /* as asked for */
    uint32_t        weight_group_size;
    uint32_t        fewest_bits; /* of the codes that are kept */
    qr_generation   generation;
};

/* ---- create ---- */

/* The caller may have been compiled against an older or a newer struct. */
static quire_status take_options(const quire_model_options *given, quire_model_options *options, quire_error *error)
{
    *options = (quire_model_options){.size = sizeof *options};
    if (given != NULL)
        QR_TRY(qr_options_copy("quire_model_options", given, sizeof given->size, options, sizeof *options, error));
    QR_TRY(qr_option_resolve_all(QR_OF_MODEL, options, error));
    if (options->shape_count > 0 && options->shape == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "model.shape is NULL but %u overrides are given",
                       options->shape_count);
    return QUIRE_OK;
}

static quire_status create(const quire_model_options *given, quire_model_options *options, quire_model **model_out,
                           quire_error *error)
{
    *model_out = NULL;
    QR_TRY(take_options(given, options, error));
    quire_model *model = qr_allocate(&options->allocator, sizeof *model, 64);
    if (model == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory for a model's description");
    model->allocator         = options->allocator;
    model->weight_dtype      = options->weight_dtype;
    model->weight_group_size = options->weight_group_size;
    const bool codes         = options->weight_dtype == QUIRE_DTYPE_INT8 ||
                       options->weight_dtype == QUIRE_DTYPE_INT4; /* it would hold any number in their place */
    model->weights = (qr_weights){.architecture = &model->architecture,
                                  .seed         = options->weight_seed,
                                  .check        = codes || options->check_tensors == QUIRE_TOGGLE_ON};
    *model_out     = model;
    return QUIRE_OK;
}

static quire_status destroying_on_failure(quire_status status, quire_model **model)
{
    if (status != QUIRE_OK) {
        quire_model_destroy(*model);
        *model = NULL;
    }
    return status;
}

static void name_of_path(const char *path, char *name)
{
    char       *absolute = realpath(path, NULL);
    const char *slash    = strrchr(absolute ? absolute : path, '/');
    snprintf(name, NAME_BYTES, "%s", slash && slash[1] != '\0' ? slash + 1 : path);
    free(absolute);
}

/* *name, a tensor that should be a copy of *tied, stays what it is if its values are others. */
static quire_status compare_tied(const qr_tensors *files, const char *name, const char *tied, bool *differs_out,
                                 qr_log *log, quire_error *error)
{
    const qr_tensor *a = qr_tensors_find(files, name), *b = qr_tensors_find(files, tied);
    bool             same = true;
    if (a != NULL && b != NULL && a != b) QR_TRY(qr_tensors_same(files, a, b, &same, error));
    if (!same)
        qr_log_write(log, QUIRE_LOG_WARN,
                     "%s: tensor \"%s\": its values are not those of \"%s\", to which it should be tied; both are used",
                     qr_tensors_file_name(files, a), name, tied);
    *differs_out = !same;
    return QUIRE_OK;
}

/* As transformers 5 does it: what should be tied is tied where the files hold one tensor of it, under whichever name,
 * and where they hold several each is used for what it is called. */
static quire_status resolve_names(qr_architecture *a, const qr_tensors *files, qr_log *log, quire_error *error)
{
    const qr_family   *family          = a->family;
    const char *const *name            = family->embedding_names;
    const bool         output          = qr_tensors_find(files, family->output_name) != NULL;
    bool               encoder_differs = false, decoder_differs = false, output_differs;
    while (*name != NULL && qr_tensors_find(files, *name) == NULL) ++name;
    const char *shared = *name ? *name : a->tied && output ? family->output_name : a->embedding_name;
    if (a->encoder_layers > 0 && family->encoder_embedding_name != NULL) {
        QR_TRY(compare_tied(files, family->encoder_embedding_name, shared, &encoder_differs, log, error));
        QR_TRY(compare_tied(files, family->decoder_embedding_name, shared, &decoder_differs, log, error));
    }
    if (a->tied) QR_TRY(compare_tied(files, family->output_name, shared, &output_differs, log, error));
    const char *encoder       = encoder_differs ? family->encoder_embedding_name : shared;
    a->embedding_name         = decoder_differs ? family->decoder_embedding_name : shared;
    a->encoder_embedding_name = strcmp(encoder, a->embedding_name) != 0 ? encoder : NULL;
    a->head_name              = output || a->never_tied ? family->output_name : shared;
    return QUIRE_OK;
}

/* Files that would change the model, and that nothing here can read. */
static void warn_of_unread_files(const char *path, qr_log *log)
{
    char adapter[PATH_BYTES];
    snprintf(adapter, sizeof adapter, "%s/adapter_config.json", path);
    if (access(adapter, F_OK) == 0)
        qr_log_write(log, QUIRE_LOG_WARN, "%s: not read, adapters are not supported: this is the model without it",
                     qr_path_tail(adapter));
}

/* How many tensors have which format: "210 Q4_1, 61 F32". */
static void summarise(const qr_tensors *files, char *text, size_t capacity)
{
    enum { FORMATS = 16 };
    const qr_tensor_format *formats[FORMATS];
    uint32_t                counts[FORMATS], found = 0;
    for (uint32_t i = 0, f; i < qr_tensors_count(files); i++) {
        const qr_tensor_format *format = qr_tensors_at(files, i)->format;
        for (f = 0; f < found && formats[f] != format;) f++;
        if (f == FORMATS) continue;
        if (f == found) counts[found] = 0, formats[found++] = format;
        counts[f]++;
    }
    size_t used = 0;
    for (uint32_t f = 0; f < found && used < capacity; f++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%u %s", f ? ", " : "", counts[f], formats[f]->name);
}

static void log_found(const quire_model *model, qr_log *log)
{
    char summary[160] = "none";
    summarise(model->files, summary, sizeof summary);
    qr_log_write(log, QUIRE_LOG_INFO, "%s: %s of %u layers, tensors: %s", qr_tensors_name(model->files),
                 model->architecture.model_type, model->architecture.layers, summary);
}

/* Of a file whose matrices are in blocks or packed; those of another format than the products' become 8 bits. */
static void keep_codes(quire_model *model)
{
    model->fewest_bits = 8;
    for (uint32_t i = 0; i < qr_tensors_count(model->files); i++) {
        const qr_tensor *tensor = qr_tensors_at(model->files, i);
        if (tensor->rank != 2 || (tensor->format->block_elements == 1 && tensor->packed == NULL)) continue;
        model->weights.keeps_codes = model->weights.check = true; /* codes hold any number in the place of one */
        if (qr_tensors_codes(tensor).bits == 4) model->fewest_bits = 4;
    }
}

static quire_status load_gguf(quire_model *model, const char *path, quire_error *error)
{
    json_t *metadata, *config = NULL;
    QR_TRY(qr_gguf_open(path, &model->allocator, &model->files, &metadata, error));
    quire_status status = qr_gguf_translate(model->files, metadata, &config, error);
    if (status == QUIRE_OK)
        status = qr_architecture_of(config, qr_tensors_name(model->files), &model->architecture, error);
    json_decref(config);
    json_decref(metadata);
    return status;
}

/* The settings of AutoGPTQ's first folders, which config.json does not have. */
static quire_status read_quantisation(const char *folder, qr_quantisation *quantisation, quire_error *error)
{
    char     path[PATH_BYTES], *text;
    uint64_t length;
    json_t  *root = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/quantize_config.json", folder) >= sizeof path) return QUIRE_OK;
    if (quantisation->packing != QR_PACKING_NONE || access(path, F_OK) != 0) return QUIRE_OK;
    const char  *origin = path;
    quire_status status = qr_file_read_whole(path, QR_CONFIG_MAX_BYTES, NULL, &text, &length, error);
    if (status == QUIRE_OK) status = qr_config_parse(text, length, &origin, &root, error);
    qr_deallocate(NULL, text, length);
    if (status != QUIRE_OK) return status;
    qr_config_reader reader = {.root = root, .origin = origin, .error = error};
    qr_quantisation_read(&reader, root, quantisation);
    json_decref(root);
    return reader.status;
}

static quire_status load_folder(quire_model *model, const char *path, const quire_model_options *options, qr_log *log,
                                quire_error *error)
{
    char config[PATH_BYTES];
    if ((size_t)snprintf(config, sizeof config, "%s/config.json", path) >= sizeof config)
        return qr_fail(error, QUIRE_ERR_IO, "model.path: %zu bytes are too long", strlen(path));
    QR_TRY(qr_architecture_read(config, &model->architecture, error));
    if (model->architecture.rope.contradiction != NULL)
        qr_log_write(log, QUIRE_LOG_WARN,
                     "%s: rope_scaling and rope_parameters disagree about %s: rope_scaling is used",
                     qr_path_tail(config), model->architecture.rope.contradiction);
    if (options->generation_config == QUIRE_GENERATION_CONFIG_AUTO)
        QR_TRY(qr_generation_read(path, &model->architecture, &model->generation, log, error));
    warn_of_unread_files(path, log);
    QR_TRY(read_quantisation(path, &model->architecture.quantisation, error));
    QR_TRY(qr_safetensors_open(path, &model->allocator, log, &model->files, error));
    return qr_packed_gather(model->files, &model->architecture.quantisation, error);
}

static quire_status load(quire_model *model, const char *path, const quire_model_options *options, qr_log *log,
                         quire_error *error)
{
    char gguf[PATH_BYTES];
    QR_TRY(qr_gguf_find(path, gguf, sizeof gguf, error));
    name_of_path(path, model->name);
    QR_TRY(gguf[0] != '\0' ? load_gguf(model, gguf, error) : load_folder(model, path, options, log, error));
    QR_TRY(resolve_names(&model->architecture, model->files, log, error));
    model->weights.files = model->files;
    QR_TRY(qr_declare_check(&model->weights, log, error));
    if (model->weight_dtype == QUIRE_DTYPE_AUTO) keep_codes(model);
    log_found(model, log);
    return QUIRE_OK;
}

quire_status quire_model_load(const char *path, const quire_model_options *options, quire_model **model_out,
                              quire_error *error)
{
    quire_model_options o;
    *model_out = NULL;
    if (path == NULL || path[0] == '\0') return qr_fail(error, QUIRE_ERR_INVALID, "model.path: empty");
    QR_TRY(create(options, &o, model_out, error));
    qr_log log;
    qr_log_init(&log, &o.logger);
    const quire_status status = load(*model_out, path, &o, &log, error);
    qr_log_deinit(&log);
    return destroying_on_failure(status, model_out);
}

quire_status quire_model_synthetic(const char *preset, const quire_model_options *options, quire_model **model_out,
                                   quire_error *error)
{
    quire_model_options o;
    QR_TRY(create(options, &o, model_out, error));
    quire_model *model = *model_out;
    snprintf(model->name, sizeof model->name, "%s", preset ? preset : "");
    return destroying_on_failure(
        qr_architecture_preset(model->name, o.shape, o.shape_count, &model->architecture, error), model_out);
}

void quire_model_destroy(quire_model *model)
{
    if (model == NULL) return;
    const quire_allocator allocator = model->allocator;
    qr_tensors_close(model->files);
    qr_deallocate(&allocator, model, sizeof *model);
}

/* ---- describe ---- */

const qr_architecture *qr_model_architecture(const quire_model *model) { return &model->architecture; }
const qr_weights      *qr_model_weights(const quire_model *model) { return &model->weights; }

qr_dtype qr_model_weight_dtype(const quire_model *model)
{
    if (model->weight_dtype == QUIRE_DTYPE_F32) return QR_F32;
    if (model->weight_dtype == QUIRE_DTYPE_INT8 || model->weight_dtype == QUIRE_DTYPE_INT4) return QR_INT8;
    return model->weights.keeps_codes ? QR_INT8 : QR_BF16;
}

qr_code_format qr_model_weight_codes(const quire_model *model)
{
    const bool int4 = model->weight_dtype == QUIRE_DTYPE_INT4;
    if (model->weights.keeps_codes) return (qr_code_format){.bits = model->fewest_bits, .group = 32};
    return int4 ? (qr_code_format){.bits = 4, .group = model->weight_group_size} : (qr_code_format){0};
}

void quire_model_describe(const quire_model *model, quire_model_info *info)
{
    static const quire_dtype public_dtype[] = {
        [QR_F32] = QUIRE_DTYPE_F32, [QR_BF16] = QUIRE_DTYPE_BF16, [QR_INT8] = QUIRE_DTYPE_INT8};
    const qr_architecture *a     = &model->architecture;
    const qr_dtype         dtype = qr_model_weight_dtype(model);
    const qr_code_format   codes = qr_model_weight_codes(model);
    uint64_t               parameters, bytes;
    qr_declare_count(&model->weights, dtype, &codes, &parameters, &bytes);
    quire_model_info full = {
        .name                    = model->name,
        .architecture            = a->model_type,
        .parameters              = parameters,
        .weight_bytes            = bytes,
        .vocab_size              = a->vocab_size,
        .max_position_embeddings = a->max_position_embeddings,
        .max_encoder_positions   = a->max_encoder_positions,
        .encoder_feature_size    = a->feature_size,
        .hidden_size             = a->hidden_size,
        .layers                  = a->layers,
        .heads                   = a->heads,
        .kv_heads                = a->kv_heads,
        .head_dim                = a->head_dim,
        .encoder_layers          = a->encoder_layers,
        .decoder_start_token_id  = a->decoder_start_token_id,
        .eos_count               = a->eos_count,
        .weight_dtype            = codes.bits == 4 ? QUIRE_DTYPE_INT4 : public_dtype[dtype],
        .window                  = qr_widest_window(a),
        .sampling                = model->generation.sampling,
        .max_new_tokens          = model->generation.max_new_tokens,
        .active_parameters       = parameters - qr_idle_parameters(a),
        .banned                  = model->generation.banned,
        .first_banned            = model->generation.first_banned,
        .first_allowed           = model->generation.first_allowed,
        .last_allowed            = model->generation.last_allowed,
        .banned_count            = model->generation.banned_count,
        .first_banned_count      = model->generation.first_banned_count,
        .first_allowed_count     = model->generation.first_allowed_count,
        .last_allowed_count      = model->generation.last_allowed_count,
        .local_layers            = qr_local_layers(a),
        .local_window            = qr_local_layers(a) > 0 ? a->window : 0,
        .long_length             = qr_rope_long_length(&a->rope),
    };
    memcpy(full.eos_token_ids, a->eos_token_ids, sizeof full.eos_token_ids);
    qr_options_give(&full, sizeof full, info);
}

const char *quire_dtype_name(quire_dtype dtype)
{
    static const char *const names[] = {"auto", "f32", "bf16", "int8", "int4"};
    return (unsigned)dtype < sizeof names / sizeof *names ? names[dtype] : "?";
}

qr_model_facts qr_model_facts_from(const quire_model_info *info)
{
    qr_model_facts facts = {.encoder_decoder         = info->encoder_layers > 0,
                            .vocab_size              = info->vocab_size,
                            .decoder_layers          = info->layers,
                            .encoder_layers          = info->encoder_layers,
                            .heads                   = info->heads,
                            .kv_heads                = info->kv_heads,
                            .head_dim                = info->head_dim,
                            .window                  = info->window,
                            .local_layers            = info->local_layers,
                            .local_window            = info->local_window,
                            .max_position_embeddings = info->max_position_embeddings,
                            .max_encoder_positions   = info->max_encoder_positions,
                            .encoder_feature_size    = info->encoder_feature_size,
                            .long_length             = info->long_length,
                            .decoder_start_token_id  = info->decoder_start_token_id,
                            .eos_count               = info->eos_count};
    memcpy(facts.eos_token_ids, info->eos_token_ids, sizeof facts.eos_token_ids);
    return facts;
}

void qr_model_facts_of(const quire_model *model, qr_model_facts *facts_out)
{
    quire_model_info info = {.size = sizeof info};
    quire_model_describe(model, &info);
    *facts_out = qr_model_facts_from(&info);
}
