/* The table of model families, by families.inc. */
#include "model/family.h"

#include <stdio.h>
#include <string.h>

#define FAMILY(name) extern const qr_family qr_family_##name;
#include "model/families.inc"
#undef FAMILY

static const qr_family *const families[] = {
#define FAMILY(name) &qr_family_##name,
#include "model/families.inc"
#undef FAMILY
};
enum { FAMILIES = sizeof families / sizeof *families };

const qr_family *qr_family_at(uint32_t index) { return index < FAMILIES ? families[index] : NULL; }

const char *qr_model_kind_name(qr_model_kind kind)
{
    static const char *const names[] = {[QR_DECODER_ONLY]       = "decoder-only",
                                        [QR_MIXTURE_OF_EXPERTS] = "mixture of experts",
                                        [QR_ENCODER_DECODER]    = "encoder-decoder"};
    return names[kind];
}

const qr_family *qr_family_find(const char *model_type, uint32_t *type_out)
{
    for (uint32_t f = 0; f < FAMILIES; f++)
        for (uint32_t t = 0; t < QR_FAMILY_TYPES && families[f]->types[t].name != NULL; t++)
            if (strcmp(families[f]->types[t].name, model_type) == 0) return *type_out = t, families[f];
    return NULL;
}

void qr_family_list_types(char *text, uint32_t capacity)
{
    uint32_t used = 0;
    for (uint32_t f = 0; f < FAMILIES; f++)
        for (uint32_t t = 0; t < QR_FAMILY_TYPES && families[f]->types[t].name != NULL && used < capacity; t++)
            used +=
                (uint32_t)snprintf(text + used, capacity - used, "%s%s", used ? ", " : "", families[f]->types[t].name);
}
