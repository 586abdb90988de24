#include "model/gguf_names.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/experts.h"
#include "model/gguf.h"
#include "model/tensor_files.h"

typedef struct renamer {
    qr_tensors                 *files;
    const qr_gguf_architecture *architecture;
    uint64_t                    experts;
    quire_error                *error;
} renamer;

/* ---- architectures ---- */

static const qr_gguf_renaming gemma_names[]   = {{"post_attention_norm", "post_attention_layernorm", NULL},
                                                 {"ffn_norm", "pre_feedforward_layernorm", NULL},
                                                 {"post_ffw_norm", "post_feedforward_layernorm", NULL},
                                                 {NULL, NULL, NULL}};
static const qr_gguf_renaming mixtral_names[] = {{"ffn_gate_inp", "block_sparse_moe.gate", NULL},
                                                 {"ffn_gate_exps", "block_sparse_moe", "w1"},
                                                 {"ffn_up_exps", "block_sparse_moe", "w3"},
                                                 {"ffn_down_exps", "block_sparse_moe", "w2"},
                                                 {NULL, NULL, NULL}};
static const qr_gguf_renaming qwen3_names[]   = {{"ffn_gate_inp", "mlp.gate", NULL},
                                                 {"ffn_gate_exps", "mlp", "gate_proj"},
                                                 {"ffn_up_exps", "mlp", "up_proj"},
                                                 {"ffn_down_exps", "mlp", "down_proj"},
                                                 {NULL, NULL, NULL}};

static const qr_gguf_architecture architectures[] = {
    {.name = "llama", "llama", .paired = true, .windowed = true},
    {.name = "llama", "mixtral", .paired = true, .windowed = true, .own = mixtral_names, .experts = true},
    {.name = "granite", "granite", .paired = true},
    {.name = "smollm3", "smollm3", .paired = true}, /* every fourth layer is not rotated, config.json's default, too */
    {.name = "qwen2", "qwen2"},
    {.name = "qwen3", "qwen3"},
    {.name = "qwen3moe", "qwen3_moe", .own = qwen3_names, .experts = true},
    {.name = "gemma2", "gemma2", .windowed = true, .gemma = true, .own = gemma_names},
    {.name = "gemma3", "gemma3_text", .windowed = true, .gemma = true, .own = gemma_names}};

const qr_gguf_architecture *qr_gguf_find_architecture(const char *name, bool experts)
{
    const qr_gguf_architecture *found = NULL;
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (strcmp(architectures[i].name, name) == 0 && (found == NULL || architectures[i].experts == experts))
            found = &architectures[i];
    return found;
}

bool qr_gguf_has_type(const char *model_type)
{
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (strcmp(architectures[i].model_type, model_type) == 0) return true;
    return false;
}

/* ---- names ---- */

static const qr_gguf_renaming *find_renaming(const qr_gguf_renaming *names, const char *name, size_t length)
{
    for (; names != NULL && names->from != NULL; names++)
        if (strlen(names->from) == length && strncmp(names->from, name, length) == 0) return names;
    return NULL;
}

/* A name of GGUF in parts: "blk.LAYER.", unless it is outside of layers, what is renamed, and the end from its last dot
 * on. */
typedef struct parted_name {
    bool                    of_layer;
    uint32_t                layer;
    const char             *end;
    const qr_gguf_renaming *known; /* NULL: what is not known keeps its name, which no model asks for */
} parted_name;

static parted_name part_name(const renamer *r, const char *name)
{
    static const qr_gguf_renaming whole[]    = {{"token_embd", "model.embed_tokens", NULL},
                                                {"output_norm", "model.norm", NULL},
                                                {"output", "lm_head", NULL},
                                                {NULL, NULL, NULL}};
    static const qr_gguf_renaming of_layer[] = {{"attn_norm", "input_layernorm", NULL},
                                                {"attn_q", "self_attn.q_proj", NULL},
                                                {"attn_k", "self_attn.k_proj", NULL},
                                                {"attn_v", "self_attn.v_proj", NULL},
                                                {"attn_output", "self_attn.o_proj", NULL},
                                                {"attn_q_norm", "self_attn.q_norm", NULL},
                                                {"attn_k_norm", "self_attn.k_norm", NULL},
                                                {"ffn_gate", "mlp.gate_proj", NULL},
                                                {"ffn_up", "mlp.up_proj", NULL},
                                                {"ffn_down", "mlp.down_proj", NULL},
                                                {"ffn_norm", "post_attention_layernorm", NULL},
                                                {NULL, NULL, NULL}};
    parted_name                   p          = {.end = strrchr(name, '.')};
    int                           begin      = 0;
    if (p.end == NULL) return p;
    p.of_layer          = sscanf(name, "blk.%4u.%n", &p.layer, &begin) == 1 && begin > 0 && name + begin <= p.end;
    const char  *stem   = p.of_layer ? name + begin : name;
    const size_t length = (size_t)(p.end - stem);
    p.known = p.of_layer ? find_renaming(r->architecture->own, stem, length) : find_renaming(whole, stem, length);
    if (p.known == NULL && p.of_layer) p.known = find_renaming(of_layer, stem, length);
    return p;
}

static void rename_tensor(const renamer *r, char *name)
{
    char              renamed[QR_GGUF_NAME_BYTES];
    const parted_name p      = part_name(r, name);
    int               length = -1;
    if (p.known == NULL || p.known->of_expert != NULL) return;
    if (p.of_layer)
        length = snprintf(renamed, sizeof renamed, "model.layers.%u.%s%s", p.layer, p.known->to, p.end);
    else
        length = snprintf(renamed, sizeof renamed, "%s%s", p.known->to, p.end);
    if (length >= 0 && (size_t)length < sizeof renamed) memcpy(name, renamed, (size_t)length + 1);
}

/* ---- experts ---- */

/* Whether the tensor is a matrix of every expert of a layer. */
static bool is_stack(const renamer *r, const qr_tensor *tensor, parted_name *name_out)
{
    *name_out = part_name(r, tensor->name);
    return tensor->rank == 3 && name_out->known != NULL && name_out->known->of_expert != NULL &&
           strcmp(name_out->end, ".weight") == 0;
}

static quire_status count_experts(const renamer *r, uint64_t *count_out)
{
    parted_name name;
    *count_out = 0;
    for (uint32_t i = 0; i < r->files->count; i++) {
        const qr_tensor *tensor = &r->files->tensors[i];
        if (!is_stack(r, tensor, &name)) continue;
        if (tensor->shape[0] != r->experts || r->experts > QR_MAX_EXPERTS)
            return QR_BAD_TENSOR(r->error, qr_tensors_file_name(r->files, tensor), tensor,
                                 "%llu experts, expert_count is %llu; the limit is %d",
                                 (unsigned long long)tensor->shape[0], (unsigned long long)r->experts, QR_MAX_EXPERTS);
        *count_out += r->experts;
    }
    return QUIRE_OK;
}

/* A tensor of each expert of stack number `stack`. */
static quire_status add_experts(const renamer *r, uint32_t stack, const parted_name *name, char *names)
{
    qr_tensors *files = r->files;
    for (uint64_t e = 0; e < files->tensors[stack].shape[0]; e++, names += QR_GGUF_NAME_BYTES) {
        qr_tensor *one;
        QR_TRY(qr_tensors_reserve(files, &one, r->error));
        const qr_tensor *all   = &files->tensors[stack];
        const uint64_t   bytes = (all->end - all->begin) / all->shape[0];
        *one                   = *all;
        one->name              = names;
        one->rank              = 2;
        one->shape[0]          = all->shape[1];
        one->shape[1]          = all->shape[2];
        one->begin += e * bytes;
        one->end = one->begin + bytes;
        snprintf(names, QR_GGUF_NAME_BYTES, "model.layers.%u.%s.experts.%llu.%s%s", name->layer, name->known->to,
                 (unsigned long long)e, name->known->of_expert, name->end);
        files->count++;
    }
    return QUIRE_OK;
}

/* Stacks become a tensor for each expert, as transformers has them. */
static quire_status part_experts(const renamer *r)
{
    qr_tensors    *files = r->files;
    const uint32_t whole = files->count;
    uint64_t       count;
    parted_name    name;
    QR_TRY(count_experts(r, &count));
    if (count == 0) return QUIRE_OK;
    if (count > QR_TENSORS_MAX)
        return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: %llu matrices of experts, at most %d", qr_tensors_name(files),
                       (unsigned long long)count, QR_TENSORS_MAX);
    files->more_name_bytes = count * QR_GGUF_NAME_BYTES;
    files->more_names      = qr_allocate(&files->allocator, files->more_name_bytes, 64);
    if (files->more_names == NULL)
        return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its experts' names", qr_tensors_name(files));
    char *names = files->more_names;
    for (uint32_t i = 0; i < whole; i++) {
        if (!is_stack(r, &files->tensors[i], &name)) continue;
        QR_TRY(add_experts(r, i, &name, names));
        names += files->tensors[i].shape[0] * QR_GGUF_NAME_BYTES;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < files->count; i++)
        if (i >= whole || !is_stack(r, &files->tensors[i], &name)) files->tensors[kept++] = files->tensors[i];
    files->count = kept;
    return QUIRE_OK;
}

static bool is_q_or_k(const char *name)
{
    const char *part = strstr(name, ".self_attn.");
    return part != NULL &&
           (strncmp(part, ".self_attn.q_proj.", 18) == 0 || strncmp(part, ".self_attn.k_proj.", 18) == 0);
}

static bool is_norm(const char *name)
{
    static const char end[]  = "norm.weight";
    const size_t      length = strlen(name);
    return length >= sizeof end - 1 && strcmp(name + length - (sizeof end - 1), end) == 0;
}

quire_status qr_gguf_rename(qr_tensors *files, const qr_gguf_architecture *architecture, uint32_t head_dim,
                            uint64_t experts, quire_error *error)
{
    const renamer  r      = {.files = files, .architecture = architecture, .experts = experts, .error = error};
    const uint32_t paired = architecture->paired && head_dim % 2 == 0 ? head_dim : 0;
    for (uint32_t i = 0; i < files->count; i++) {
        qr_tensor            *tensor = &files->tensors[i];
        const qr_tensor_file *file   = &files->files[tensor->file];
        rename_tensor(&r, file->names + (tensor->name - file->names));
        if (architecture->gemma && is_norm(tensor->name)) tensor->raised = 1; /* to what norms multiply with */
        if (paired > 0 && is_q_or_k(tensor->name) && tensor->shape[0] % paired == 0) tensor->paired_rows = paired;
    }
    files->config_name = "its metadata";
    QR_TRY(part_experts(&r));
    QR_TRY(qr_tensors_check_names(files, 0, error));
    qr_tensors_sort(files);
    return QUIRE_OK;
}
