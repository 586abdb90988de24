#include "model/tensor_format.h"

#include <string.h>

#include "base/number.h"

static void decode_f32(const void *from, uint64_t count, float *out) { memcpy(out, from, count * sizeof *out); }

static void decode_f16(const void *from, uint64_t count, float *out)
{
    const unsigned char *bytes = from;
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = qr_f32_of_f16(half);
    }
}

static void decode_bf16(const void *from, uint64_t count, float *out)
{
    const unsigned char *bytes = from;
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = qr_f32_of_bf16(half);
    }
}

static const qr_tensor_format dtypes[] = {
    {"F64", 1, 8, NULL, {0}, NULL},         {"F32", 1, 4, decode_f32, {0}, NULL}, {"F16", 1, 2, decode_f16, {0}, NULL},
    {"BF16", 1, 2, decode_bf16, {0}, NULL}, {"I64", 1, 8, NULL, {0}, NULL},       {"I32", 1, 4, NULL, {0}, NULL},
    {"I16", 1, 2, NULL, {0}, NULL},         {"I8", 1, 1, NULL, {0}, NULL},        {"U64", 1, 8, NULL, {0}, NULL},
    {"U32", 1, 4, NULL, {0}, NULL},         {"U16", 1, 2, NULL, {0}, NULL},       {"U8", 1, 1, NULL, {0}, NULL},
    {"BOOL", 1, 1, NULL, {0}, NULL},        {"C64", 1, 8, NULL, {0}, NULL},       {"F8_E4M3", 1, 1, NULL, {0}, NULL},
    {"F8_E5M2", 1, 1, NULL, {0}, NULL},     {"F8_E8M0", 1, 1, NULL, {0}, NULL},
};

const qr_tensor_format *qr_tensor_format_of_dtype(const char *dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, dtype) == 0) return &dtypes[i];
    return NULL;
}
