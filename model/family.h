/* A model family: models that share one forward pass. A family is one file, which defines `qr_family_<name>`, and a
 * line in families.inc; its types (llama, mistral, ...) differ in numbers and in data of that file. */
#ifndef QR_FAMILY_H
#define QR_FAMILY_H

#include "model/architecture.h"

struct qr_declaration;
struct qr_config_reader;
struct qr_pass;

enum { QR_FAMILY_TYPES = 8, QR_TYPE_CLASSES = 2 };

/* A model_type of config.json, and the classes in its `architectures` whose tensors and arithmetic it stands for;
 * another head (a classifier, say) has other tensors. */
typedef struct qr_model_type {
    const char *name;
    const char *classes[QR_TYPE_CLASSES];
    const char *about; /* for people: what it has that others have not */
    struct {
        bool    given;
        int32_t id;
    } default_eos; /* of its configuration class: where config.json has no eos_token_id, which null is not */
} qr_model_type;

typedef enum qr_model_kind {
    QR_DECODER_ONLY = 1,
    QR_MIXTURE_OF_EXPERTS, /* decoder-only, too */
    QR_ENCODER_DECODER,
} qr_model_kind;

typedef struct qr_family {
    qr_model_kind kind;
    qr_model_type types[QR_FAMILY_TYPES]; /* up to the first without a name */

    /* Fills the architecture from config.json; `type` is an index into types. Complaints go to the reader. */
    void (*read_config)(struct qr_config_reader *reader, uint32_t type, qr_architecture *architecture);

    /* The one list of the model's tensors: counts them, checks files against them, loads them (declare.h). */
    void (*declare)(struct qr_declaration *declaration);

    /* One step's stages between copying blocks and the logits, run by every thread (network.h). */
    void (*forward)(struct qr_pass *pass);

    const char *const *embedding_names; /* NULL-terminated: files hold it under one of these, the first is preferred */
    const char        *encoder_embedding_name, *decoder_embedding_name; /* of a stack's own, or a copy; NULL: none */
    const char        *output_name;     /* of the output projection, where it is not tied */
    bool               tied_by_default; /* where config.json does not say */
    bool               wide_feed_out;   /* units of its feed-forward differ too much for int8: feed_out stays in bf16 */

    /* What published files carry and no forward pass reads, NULL-terminated patterns as of fnmatch(). */
    const char *const *unread_tensors;
} qr_family;

/* The family of a model_type and the type's index in it, or NULL. */
const qr_family *qr_family_find(const char *model_type, uint32_t *type_out);

/* The i-th family, NULL past the end. */
const qr_family *qr_family_at(uint32_t index);

/* "decoder-only", "mixture of experts", "encoder-decoder". */
const char *qr_model_kind_name(qr_model_kind kind);

/* All model types, "llama, mistral, ...", into text[capacity]. */
void qr_family_list_types(char *text, uint32_t capacity);

#endif
