/* The architectures of GGUF files, and what their tensors are called in transformers. */
#ifndef QR_GGUF_NAMES_H
#define QR_GGUF_NAMES_H

#include "model/tensors.h"

/* A part of a layer, or outside of layers. Experts of a layer stand in one tensor: `to` is their module and `of_expert`
 * the part of each. */
typedef struct qr_gguf_renaming {
    const char *from, *to, *of_expert;
} qr_gguf_renaming;

typedef struct qr_gguf_architecture {
    const char             *name, *model_type;
    bool                    paired;   /* rows of q and k stand in pairs that rotate together */
    bool                    windowed; /* may have a window */
    bool                    gemma;
    bool                    experts;
    const qr_gguf_renaming *own; /* parts of a layer that others have not; NULL: none */
} qr_gguf_architecture;

/* Of one name there may be two: with experts and without. NULL: not known. */
const qr_gguf_architecture *qr_gguf_find_architecture(const char *name, bool experts);

/* Whether GGUF files of this model_type are read. */
bool qr_gguf_has_type(const char *model_type);

/* Gives the tensors the names that transformers has for them. Stacks of experts become a tensor for each; rows of q and
 * k that stand in pairs are marked to be read in halves, norms of Gemma to be read less one. ERR_FORMAT: a stack that
 * does not have `experts`, two tensors of one name. */
quire_status qr_gguf_rename(qr_tensors *files, const qr_gguf_architecture *architecture, uint32_t head_dim,
                            uint64_t experts, quire_error *error);

#endif
