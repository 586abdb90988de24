/* GGUF: what the reference gives its blocks, and files that are not what they say: each class is written to disk and
 * must be refused with a message that names file, key or tensor, and byte. Run under ASan as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "model/gguf.h"
#include "model/gguf_config.h"

static char folder[64]; /* of this run, removed at the end */

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* ---- a file in the making ---- */

typedef struct image {
    unsigned char bytes[4096];
    size_t        size;
} image;

static void put(image *i, const void *bytes, size_t size)
{
    assert_true(i->size + size <= sizeof i->bytes);
    memcpy(i->bytes + i->size, bytes, size);
    i->size += size;
}

static void put_u8(image *i, uint8_t x) { put(i, &x, sizeof x); }
static void put_u32(image *i, uint32_t x) { put(i, &x, sizeof x); }
static void put_u64(image *i, uint64_t x) { put(i, &x, sizeof x); }

static void put_name(image *i, const char *name)
{
    put_u64(i, strlen(name));
    put(i, name, strlen(name));
}

static void put_beginning(image *i, uint32_t version, uint64_t tensors, uint64_t keys)
{
    put(i, "GGUF", 4);
    put_u32(i, version);
    put_u64(i, tensors);
    put_u64(i, keys);
}

enum { U32 = 4, BOOL = 7, STRING = 8, ARRAY = 9, F32_TENSOR = 0, Q4_0_TENSOR = 2 };

static void put_u32_key(image *i, const char *key, uint32_t value)
{
    put_name(i, key);
    put_u32(i, U32);
    put_u32(i, value);
}

static void put_tensor(image *i, const char *name, uint64_t inner, uint64_t outer, uint32_t type, uint64_t offset)
{
    put_name(i, name);
    put_u32(i, 2);
    put_u64(i, inner);
    put_u64(i, outer);
    put_u32(i, type);
    put_u64(i, offset);
}

static void put_data(image *i, size_t bytes)
{
    while (i->size % 32 != 0) put_u8(i, 0);
    for (size_t b = 0; b < bytes; b++) put_u8(i, (uint8_t)b);
}

static void write_as(const image *i, const char *name)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(i->bytes, 1, i->size, file), i->size);
    assert_int_equal(fclose(file), 0);
}

static quire_status open_it(const char *name, quire_error *error)
{
    qr_tensors        *files;
    json_t            *metadata;
    const quire_status status = qr_gguf_open(path_of(name), NULL, &files, &metadata, error);
    assert_true((status == QUIRE_OK) == (files != NULL) && (files != NULL) == (metadata != NULL));
    qr_tensors_close(files);
    json_decref(metadata);
    return status;
}

static void refused_as(quire_status wanted, const image *i, const char *words)
{
    quire_error error = {0};
    write_as(i, "x.gguf");
    const quire_status status = open_it("x.gguf", &error);
    if (status != wanted) fail_msg("%s: status %d, %s", words, status, error.message);
    if (strstr(error.message, words) == NULL) fail_msg("\"%s\" is not in: %s", words, error.message);
    if (strstr(error.message, "x.gguf") == NULL) fail_msg("no file name in: %s", error.message);
}

static void refused(const image *i, const char *words) { refused_as(QUIRE_ERR_FORMAT, i, words); }

/* ---- good files ---- */

static void compare(const qr_tensors *files, const char *name, float *scratch[2])
{
    char twin[32];
    snprintf(twin, sizeof twin, "%s.values", name);
    const qr_tensor *tensor = qr_tensors_find(files, name), *values = qr_tensors_find(files, twin);
    if (tensor == NULL || values == NULL) fail_msg("no %s", name);
    assert_string_equal(tensor->format->name, name);
    assert_int_equal(tensor->rank, 2);
    const uint64_t count = tensor->shape[0] * tensor->shape[1];
    assert_int_equal(values->shape[0] * values->shape[1], count);
    assert_int_equal(qr_tensors_read(files, tensor, 0, count, scratch[0], NULL), QUIRE_OK);
    assert_int_equal(qr_tensors_read(files, values, 0, count, scratch[1], NULL), QUIRE_OK);
    for (uint64_t i = 0; i < count; i++)
        if (memcmp(&scratch[0][i], &scratch[1][i], sizeof(float)) != 0)
            fail_msg("%s[%llu]: %.9g, the reference has %.9g", name, (unsigned long long)i, (double)scratch[0][i],
                     (double)scratch[1][i]);
    const uint64_t row = tensor->shape[1]; /* a row alone */
    assert_int_equal(qr_tensors_read(files, tensor, row, row, scratch[0], NULL), QUIRE_OK);
    assert_memory_equal(scratch[0], scratch[1] + row, row * sizeof(float));
}

static void blocks_have_the_values_of_the_reference(void **state)
{
    (void)state;
    static const char *const names[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16"};
    static float             scratch[2][1024];
    qr_tensors              *files;
    json_t                  *metadata;
    quire_error              error = {0};
    if (qr_gguf_open(QUIRE_SOURCE_DIR "/tests/fuzz/corpus/gguf/blocks.gguf", NULL, &files, &metadata, &error) != 0)
        fail_msg("%s", error.message);
    assert_string_equal(json_string_value(json_object_get(metadata, "general.name")), "blocks");
    assert_true(json_is_array(json_object_get(metadata, "some.words")));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        compare(files, names[i], (float *[]){scratch[0], scratch[1]});
    qr_tensors_close(files);
    json_decref(metadata);
}

/* scale * code + minimum, without minimum of code - 8. */
static void compare_codes(const qr_tensors *files, const char *name, float *values)
{
    static uint8_t       codes[1024];
    static float         scales[32], minima[32];
    const qr_tensor     *tensor = qr_tensors_find(files, name);
    const qr_code_format format = qr_tensors_codes(tensor);
    const uint64_t       rows = tensor->shape[0], k = tensor->shape[1];
    assert_int_equal(format.group, 32);
    assert_int_equal(
        qr_tensors_read_codes(files, tensor, 0, rows, codes, scales, format.has_minimum ? minima : NULL, NULL),
        QUIRE_OK);
    assert_int_equal(qr_tensors_read(files, tensor, 0, rows * k, values, NULL), QUIRE_OK);
    for (uint64_t i = 0; i < rows * k; i++) {
        const int   code  = format.bits == 8 ? (int8_t)codes[i] : format.has_minimum ? codes[i] : codes[i] - 8;
        const float value = scales[i / 32] * (float)code + (format.has_minimum ? minima[i / 32] : 0);
        if (value != values[i]) fail_msg("%s[%llu]: %.9g as codes", name, (unsigned long long)i, (double)value);
    }
}

static void codes_have_the_values_of_their_blocks(void **state)
{
    (void)state;
    static const char *const names[] = {"Q4_0", "Q4_1", "Q8_0", "Q4_K"}, *const others[] = {"Q5_0", "Q6_K", "F16"};
    static float values[1024];
    qr_tensors  *files;
    json_t      *metadata;
    const char  *path = QUIRE_SOURCE_DIR "/tests/fuzz/corpus/gguf/blocks.gguf";
    assert_int_equal(qr_gguf_open(path, NULL, &files, &metadata, NULL), QUIRE_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) compare_codes(files, names[i], values);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(qr_tensors_codes(qr_tensors_find(files, others[i])).bits, 0);
    qr_tensors_close(files);
    json_decref(metadata);
}

static void keys_of_every_type_are_read(void **state)
{
    (void)state;
    static const struct {
        uint32_t    type, size;
        uint64_t    bits;
        const char *text;
    } cases[] = {
        {0, 1, 0xff, "255"},
        {1, 1, 0xff, "-1"},
        {2, 2, 0xfffe, "65534"},
        {3, 2, 0xfffe, "-2"},
        {4, 4, 0xffffffff, "4294967295"},
        {5, 4, 0xffffffff, "-1"},
        {6, 4, 0x3fc00000, "1.5"},
        {6, 4, 0x7fc00000, "\"NaN\""},
        {7, 1, 1, "true"},
        {10, 8, 1ull << 62, "4611686018427387904"},
        {10, 8, 1ull << 63, "9.2233720368547758e18"},
        {11, 8, UINT64_MAX, "-1"},
        {12, 8, 0xbff8000000000000, "-1.5"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        image       i = {.size = 0};
        qr_tensors *files;
        json_t     *metadata;
        put_beginning(&i, c % 2 ? 3 : 2, 0, 1);
        put_name(&i, "k");
        put_u32(&i, cases[c].type);
        put(&i, &cases[c].bits, cases[c].size);
        write_as(&i, "x.gguf");
        assert_int_equal(qr_gguf_open(path_of("x.gguf"), NULL, &files, &metadata, NULL), QUIRE_OK);
        char *text = json_dumps(json_object_get(metadata, "k"), JSON_ENCODE_ANY);
        assert_string_equal(text, cases[c].text);
        free(text);
        json_decref(metadata);
        qr_tensors_close(files);
    }
}

/* ---- hostile ones ---- */

static void what_is_not_gguf_is_refused(void **state)
{
    (void)state;
    image i = {.size = 0};
    refused(&i, "needs 4 bytes");
    put(&i, "GGUG\3\0\0\0", 8);
    refused(&i, "does not begin with \"GGUF\"");
    i.size = 0;
    put_beginning(&i, 1, 0, 0);
    refused_as(QUIRE_ERR_UNSUPPORTED, &i, "version 1 at byte 4");
    i.size = 0;
    put_beginning(&i, 3u << 24, 0, 0);
    refused_as(QUIRE_ERR_UNSUPPORTED, &i, "little-endian");
}

static void counts_are_bounded_by_the_file(void **state)
{
    (void)state;
    image i = {.size = 0};
    put_beginning(&i, 3, UINT64_MAX, 0);
    refused(&i, "18446744073709551615 tensors at byte 8");
    i.size = 0;
    put_beginning(&i, 3, 0, UINT64_MAX);
    refused(&i, "18446744073709551615 keys at byte 16");
    i.size = 0;
    put_beginning(&i, 3, 0, 2);
    put_u32_key(&i, "a", 1);
    refused(&i, "a key at byte 41 needs 8 bytes, the file has 41");
}

static void put_array(image *i, uint32_t type, uint64_t count)
{
    i->size = 0;
    put_beginning(i, 3, 0, 1);
    put_name(i, "big");
    put_u32(i, ARRAY);
    put_u32(i, type);
    put_u64(i, count);
}

static void keys_that_cannot_be_are_refused(void **state)
{
    (void)state;
    image i;
    put_array(&i, U32, UINT64_MAX / 2);
    refused(&i, "big at byte 51 needs 18446744073709551615 bytes");
    put_array(&i, U32, 1000);
    refused(&i, "big at byte 51 needs 4000 bytes, the file has 51");
    put_array(&i, STRING, UINT64_MAX);
    put_name(&i, "one");
    refused(&i, "big at byte 62 needs 8 bytes");
    put_array(&i, STRING, 2);
    put_u64(&i, UINT64_MAX - 4);
    refused(&i, "big at byte 59 needs 18446744073709551611 bytes");
    put_array(&i, ARRAY, 1);
    refused(&i, "key \"big\" at byte 39: an array of arrays");
    put_array(&i, 13, 1);
    refused(&i, "key \"big\" at byte 39: type 13 is not known");

    i.size = 0;
    put_beginning(&i, 3, 0, 2);
    put_u32_key(&i, "a.b", 1);
    put_u32_key(&i, "a.b", 1);
    refused(&i, "key \"a.b\" at byte 43: appears twice");
    i.size = 0;
    put_beginning(&i, 3, 0, 1);
    put_u32_key(&i, "a\xff", 1);
    refused(&i, "a key at byte 24: its name is not UTF-8");
    i.size = 0;
    put_beginning(&i, 3, 0, 1);
    put_u64(&i, 1ull << 40);
    refused(&i, "a name of 1099511627776 bytes");
    i.size = 0;
    put_beginning(&i, 3, 0, 1);
    put_u32_key(&i, "general.alignment", 24);
    refused(&i, "general.alignment: must be a power of two");
}

static void tensors_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t    inner, outer;
        uint32_t    type;
        uint64_t    offset;
        const char *words;
    } cases[] = {
        {"b", 8, 4, F32_TENSOR, 96, "tensor \"b\": at byte 224 it overlaps \"a\", which ends at byte 256"},
        {"b", 8, 4, F32_TENSOR, 100, "tensor \"b\": offset 100 at byte 98 is not a multiple of 32"},
        {"b", 8, 4, F32_TENSOR, 160, "tensor \"b\": ends at byte 128 + 288, the file has 384 bytes"},
        {"b", 8, 4, F32_TENSOR, UINT64_MAX - 31, "tensor \"b\": offset 18446744073709551584"},
        {"b", 1ull << 63, 1, F32_TENSOR, 128, "tensor \"b\": the product of its dimensions overflows"},
        {"b", 8, 1ull << 63, F32_TENSOR, 128, "tensor \"b\": the product of its dimensions overflows"},
        {"b", 1ull << 61, 1, Q4_0_TENSOR, 128, "tensor \"b\": ends at byte 128 + 1297036692682702976"},
        {"b", 24, 4, Q4_0_TENSOR, 128, "tensor \"b\": rows of 24 elements are not whole blocks of Q4_0, which have 32"},
        {"b", 8, 4, 4, 128, "tensor \"b\": type 4 at byte 94 is not known"},
        {"b", 8, 4, 1000, 128, "tensor \"b\": type 1000"},
        {"a", 8, 4, F32_TENSOR, 128, "tensor \"a\": appears twice"},
        {"\xc0\x80", 8, 4, F32_TENSOR, 128, "a tensor at byte 65: its name is not UTF-8"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        image i = {.size = 0};
        put_beginning(&i, 3, 2, 0);
        put_tensor(&i, "a", 8, 4, F32_TENSOR, 0);
        put_tensor(&i, cases[c].name, cases[c].inner, cases[c].outer, cases[c].type, cases[c].offset);
        put_data(&i, 256);
        refused(&i, cases[c].words);
    }
    image i = {.size = 0};
    put_beginning(&i, 3, 1, 0);
    put_name(&i, "a");
    put_u32(&i, 5);
    put_data(&i, 64);
    refused(&i, "tensor \"a\": 5 dimensions at byte 33, must be 1 to 4");
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    image i = {.size = 0};
    put_beginning(&i, 3, 1, 1);
    put_name(&i, "words");
    put_u32(&i, ARRAY);
    put_u32(&i, STRING);
    put_u64(&i, 2);
    put_name(&i, "one");
    put_name(&i, "two");
    put_tensor(&i, "a", 8, 4, F32_TENSOR, 0);
    put_data(&i, 128);
    write_as(&i, "x.gguf");
    assert_int_equal(open_it("x.gguf", NULL), QUIRE_OK);
    while (i.size-- > 0) refused(&i, "x.gguf");
}

/* ---- parts ---- */

static void put_part(image *i, uint32_t count, const char *tensor)
{
    i->size = 0;
    put_beginning(i, 3, 1, 1);
    put_u32_key(i, "split.count", count);
    put_tensor(i, tensor, 8, 4, F32_TENSOR, 0);
    put_data(i, 128);
}

static void parts_are_one_model(void **state)
{
    (void)state;
    image       i;
    quire_error error = {0};
    put_part(&i, 2, "b");
    write_as(&i, "m-00001-of-00002.gguf");
    assert_int_equal(open_it("m-00001-of-00002.gguf", &error), QUIRE_ERR_IO);
    assert_non_null(strstr(error.message, "m-00002-of-00002.gguf"));
    write_as(&i, "m-00002-of-00002.gguf");
    assert_int_equal(open_it("m-00001-of-00002.gguf", &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "\"b\": appears twice"));
    assert_int_equal(open_it("m-00002-of-00002.gguf", &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "is part 2 of 2; the first is to be given"));
    write_as(&i, "other.gguf");
    assert_int_equal(open_it("other.gguf", &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "its name must end with -00001-of-00002.gguf"));
    put_part(&i, 2, "a");
    write_as(&i, "m-00002-of-00002.gguf");
    qr_tensors *files;
    json_t     *metadata;
    assert_int_equal(qr_gguf_open(path_of("m-00001-of-00002.gguf"), NULL, &files, &metadata, &error), QUIRE_OK);
    assert_int_equal(qr_tensors_count(files), 2);
    assert_non_null(strstr(qr_tensors_file_name(files, qr_tensors_find(files, "a")), "m-00002-of-00002.gguf"));
    json_decref(metadata);
    qr_tensors_close(files);
}

static void a_folder_may_hold_one_model(void **state)
{
    (void)state;
    image       i;
    char        found[256], scratch[64];
    quire_error error = {0};
    put_part(&i, 1, "a");
    strcpy(scratch, folder);
    snprintf(folder, sizeof folder, "%s/one", scratch);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(qr_gguf_find(folder, found, sizeof found, &error), QUIRE_OK);
    assert_string_equal(found, "");
    write_as(&i, "m-00001-of-00002.gguf");
    write_as(&i, "m-00002-of-00002.gguf");
    assert_int_equal(qr_gguf_find(folder, found, sizeof found, &error), QUIRE_OK);
    assert_string_equal(found, path_of("m-00001-of-00002.gguf"));
    write_as(&i, "n.gguf");
    assert_int_equal(qr_gguf_find(folder, found, sizeof found, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "n.gguf"));
    write_as(&i, "model.safetensors");
    assert_int_equal(qr_gguf_find(folder, found, sizeof found, &error), QUIRE_OK);
    assert_string_equal(found, "");
    strcpy(folder, scratch);
}

int main(void)
{
    strcpy(folder, "/tmp/quire-test-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_have_the_values_of_the_reference),
        cmocka_unit_test(codes_have_the_values_of_their_blocks),
        cmocka_unit_test(keys_of_every_type_are_read),
        cmocka_unit_test(what_is_not_gguf_is_refused),
        cmocka_unit_test(counts_are_bounded_by_the_file),
        cmocka_unit_test(keys_that_cannot_be_are_refused),
        cmocka_unit_test(tensors_that_cannot_be_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(parts_are_one_model),
        cmocka_unit_test(a_folder_may_hold_one_model),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char      command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) == 0 ? failed : 1;
}
