/* Files that are not what they say: each class of malformed header is written to disk and must be refused with a
 * message that names the tensor (or the file) and never read beyond its end. Run under ASan as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "model/safetensors.h"
#include "support/kept_log.h"

static char folder[64]; /* of this run, removed at the end */

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t length)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* length prefix, header, `data` bytes 0, 1, 2, ...; prefix < 0: the true one. */
static void write_file(const char *name, const char *header, size_t header_bytes, long long prefix, size_t data)
{
    const uint64_t length = prefix < 0 ? header_bytes : (uint64_t)prefix;
    unsigned char *bytes  = malloc(8 + header_bytes + data);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data; i++) bytes[8 + header_bytes + i] = (unsigned char)i;
    write_bytes(name, bytes, 8 + header_bytes + data);
    free(bytes);
}

static quire_status open_one(const char *name, qr_tensors **files, quire_error *error)
{
    return qr_safetensors_open_file(path_of(name), NULL, files, error);
}

static void refused(const char *what, quire_status wanted, const char *words)
{
    qr_tensors        *files  = NULL;
    quire_error        error  = {0};
    const quire_status status = open_one("x.safetensors", &files, &error);
    if (status != wanted) fail_msg("%s: status %d, %s", what, status, error.message);
    assert_null(files);
    assert_int_equal(error.status, wanted);
    if (strstr(error.message, words) == NULL) fail_msg("%s: \"%s\" is not in: %s", what, words, error.message);
    if (strstr(error.message, "x.safetensors") == NULL) fail_msg("%s: no file name in: %s", what, error.message);
}

#define A(offsets) "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":" offsets "}"
#define B(offsets) "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":" offsets "}"
#define ENTRY(fields) "{" A("[0,16]") ",\"b\":{" fields "}}"
static const char GOOD[] = "{" A("[0,16]") "," B("[16,24]") "}";
enum { GOOD_DATA = 24 };

static void a_good_file_is_read_as_it_is(void **state)
{
    (void)state;
    static const char *const headers[] = {
        GOOD,
        "{" B("[16,24]") "," A("[0,16]") "}",                     /* any order of names */
        " \n{" A("[0,16]") ", \t" B(" [ 16 , 24 ] ") "}        ", /* white space, padding */
        "{\"__metadata__\":{\"format\":\"pt\"}," A("[0,16]") "," B("[16,24]") "}",
        "{" A("[0,16]") "," B("[16,24]") ",\"c\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[24,24]}}",
        "{\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}," B("[16,24]") "}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        qr_tensors *files;
        quire_error error = {0};
        write_file("x.safetensors", headers[i], strlen(headers[i]), -1, GOOD_DATA);
        if (open_one("x.safetensors", &files, &error) != QUIRE_OK) fail_msg("%zu: %s", i, error.message);
        const qr_tensor *a = qr_tensors_find(files, "a"), *b = qr_tensors_find(files, "b");
        assert_true(a != NULL && b != NULL && qr_tensors_find(files, "aa") == NULL);
        assert_true(a->rank == 2 && a->shape[0] == 2 && b->rank == 1 && b->shape[0] == 4);
        assert_int_equal(b->begin - a->begin, 16);
        assert_non_null(strstr(path_of("x.safetensors"), qr_tensors_file_name(files, a)));
        assert_non_null(strstr(qr_tensors_file_name(files, a), "/x.safetensors"));
        float               values[4], expected[4];
        const unsigned char bytes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        memcpy(expected, bytes, 16);
        assert_int_equal(qr_tensors_read(files, a, 0, 4, values, NULL), QUIRE_OK);
        assert_memory_equal(values, expected, 16);
        assert_int_equal(qr_tensors_read(files, a, 1, 2, values, NULL), QUIRE_OK);
        assert_memory_equal(values, expected + 1, 8);
        const uint32_t second = 0x13120000u; /* bytes 18, 19 as bf16 */
        assert_int_equal(qr_tensors_read(files, b, 1, 1, values, NULL), QUIRE_OK);
        assert_memory_equal(values, &second, 4);
        qr_tensors_close(files);
    }
}

static void half_precision_is_converted_exactly(void **state)
{
    (void)state;
    static const char     header[] = "{\"h\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[0,12]}}";
    static const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x3555};
    static const float    values[] = {1, -2, 0x1p-24f, 65504, -0.0f, 0.333251953125f};
    unsigned char         bytes[8 + sizeof header - 1 + sizeof halves] = {sizeof header - 1};
    memcpy(bytes + 8, header, sizeof header - 1);
    memcpy(bytes + 8 + sizeof header - 1, halves, sizeof halves);
    write_bytes("x.safetensors", bytes, sizeof bytes);
    qr_tensors *files;
    float       out[6];
    assert_int_equal(open_one("x.safetensors", &files, NULL), QUIRE_OK);
    assert_int_equal(qr_tensors_read(files, qr_tensors_find(files, "h"), 0, 6, out, NULL), QUIRE_OK);
    assert_memory_equal(out, values, sizeof out);
    qr_tensors_close(files);
}

/* ---- the classes ---- */

static const struct malformed {
    const char *what, *header, *words;
    size_t      data;
} classes[] = {
    {"not an object", "[]", "expected '{'", 0},
    {"empty header", "", "expected '{'", 0},
    {"only spaces", "    ", "expected '{'", 0},
    {"unclosed", "{" A("[0,16]"), "near a", 16},
    {"unclosed string", "{\"a", "ends inside a string", 0},
    {"escape at the end", "{\"a\\", "ends inside a string", 0},
    {"name without quotes", "{a:{}}", "quotes", 0},
    {"no colon", "{\"a\" {}}", "\"a\"", 0},
    {"no value", "{\"a\":}", "\"a\"", 0},
    {"comma at the end", "{" A("[0,16]") ",}", "near a", 16},
    {"comma at the start", "{," A("[0,16]") "}", "quotes", 16},
    {"two commas", "{" A("[0,16]") ",," B("[16,24]") "}", "quotes", 24},
    {"no comma", "{" A("[0,16]") B("[16,24]") "}", "','", 24},
    {"something after the end", "{" A("[0,16]") "} x", "follows", 16},
    {"second object", "{" A("[0,16]") "}{}", "follows", 16},
    {"NUL padding", "{\"a\":1}", "\"a\"", 0},
    {"nested bomb", "{\"a\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}", "nested", 0},
    {"brackets do not match", "{\"a\":{\"dtype\":[}}}", "\"a\"", 0},
    {"bad name escape", "{\"\\u0000\":{}}", "not valid text", 0},
    {"name not UTF-8", "{\"\xff\xfe\":{}}", "not valid text", 0},
    {"entry is a number", "{\"a\":7}", "\"a\"", 0},
    {"entry is an array", "{\"a\":[]}", "\"a\"", 0},
    {"entry is null", "{\"a\":null}", "\"a\"", 0},
    {"no dtype", "{\"a\":{\"shape\":[2,2],\"data_offsets\":[0,16]}}", "\"a\": dtype", 16},
    {"dtype unknown", ENTRY("\"dtype\":\"F31\",\"shape\":[4],\"data_offsets\":[16,24]"), "\"b\": dtype: \"F31\"", 24},
    {"dtype lower case", ENTRY("\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[16,24]"), "\"b\": dtype", 24},
    {"dtype a number", ENTRY("\"dtype\":32,\"shape\":[2],\"data_offsets\":[16,24]"), "\"b\": dtype", 24},
    {"no shape", ENTRY("\"dtype\":\"BF16\",\"data_offsets\":[16,24]"), "\"b\": shape", 24},
    {"shape a number", ENTRY("\"dtype\":\"BF16\",\"shape\":4,\"data_offsets\":[16,24]"), "\"b\": shape", 24},
    {"shape negative", ENTRY("\"dtype\":\"BF16\",\"shape\":[-4],\"data_offsets\":[16,24]"), "\"b\": shape[0]", 24},
    {"shape two negatives", ENTRY("\"dtype\":\"BF16\",\"shape\":[-2,-2],\"data_offsets\":[16,24]"), "\"b\": shape", 24},
    {"zero hides a negative", ENTRY("\"dtype\":\"BF16\",\"shape\":[0,-1],\"data_offsets\":[16,16]"), "\"b\": shape[1]",
     16},
    {"shape fraction", ENTRY("\"dtype\":\"BF16\",\"shape\":[4.0],\"data_offsets\":[16,24]"), "\"b\": shape[0]", 24},
    {"shape exponent", ENTRY("\"dtype\":\"BF16\",\"shape\":[4e0],\"data_offsets\":[16,24]"), "\"b\": shape[0]", 24},
    {"shape a string", ENTRY("\"dtype\":\"BF16\",\"shape\":[\"4\"],\"data_offsets\":[16,24]"), "\"b\": shape[0]", 24},
    {"shape nested", ENTRY("\"dtype\":\"BF16\",\"shape\":[[4]],\"data_offsets\":[16,24]"), "\"b\": shape[0]", 24},
    {"rank 9", ENTRY("\"dtype\":\"BF16\",\"shape\":[4,1,1,1,1,1,1,1,1],\"data_offsets\":[16,24]"), "9 dimensions", 24},
    {"product overflows to the size",
     ENTRY("\"dtype\":\"BF16\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[16,16]"), "\"b\": shape", 16},
    {"product overflows by the element",
     ENTRY("\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[16,16]"), "\"b\": shape", 16},
    {"dimension above 64 bits", ENTRY("\"dtype\":\"BF16\",\"shape\":[18446744073709551617],\"data_offsets\":[16,24]"),
     "\"b\": ", 24},
    {"zero hides an overflow", ENTRY("\"dtype\":\"BF16\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[16,16]"),
     "\"b\": shape", 16},
    {"no offsets", ENTRY("\"dtype\":\"BF16\",\"shape\":[4]"), "\"b\": data_offsets", 24},
    {"one offset", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16]"), "\"b\": data_offsets", 24},
    {"three offsets", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16,24,32]"), "\"b\": data_offsets", 24},
    {"offsets an object", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":{}"), "\"b\": data_offsets", 24},
    {"offset negative", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[-8,0]"), "\"b\": data_offsets", 24},
    {"offset a fraction", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16.0,24]"), "\"b\": data_offs", 24},
    {"offsets reversed", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,16]"), "\"b\": data_offsets", 24},
    {"offset beyond the file", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]"), "\"b\": data_off",
     24},
    {"offset at 2^63 - 1",
     ENTRY("\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[9223372036854775807,"
           "9223372036854775807]"),
     "\"b\": data_offsets", 24},
    {"offset above 64 bits", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16,99999999999999999999]"),
     "\"b\": ", 24},
    {"bytes too few", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16,23]"), "\"b\": data_offsets", 23},
    {"bytes too many", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16,25]"), "\"b\": data_offsets", 25},
    {"overlap by one byte", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[15,23]"), "\"b\": at byte", 23},
    {"same bytes twice", ENTRY("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]"), "overlaps", 16},
    {"one inside the other", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[4,12]"), "\"b\": at byte", 16},
    {"hole between", ENTRY("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[17,25]"), "\"b\": begins at", 25},
    {"hole at the start", "{" A("[1,17]") "}", "\"a\": begins at", 17},
    {"bytes after the last", "{" A("[0,16]") "}", "after the last", 17},
    {"data and no tensor", "{}", "last tensor", 1},
    {"tensor twice", "{" A("[0,16]") "," A("[16,32]") "}", "\"a\": appears twice", 32},
    {"tensor twice by escape",
     "{" A("[0,16]") ",\"\\u0061\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[16,17]}}", "\"a\": appears twice",
     17},
    {"field twice", ENTRY("\"dtype\":\"BF16\",\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[16,24]"), "\"b\": dupl",
     24},
};

/* __metadata__ is whatever a tool wants to note: nothing is asked of it but that its end can be found. */
static void metadata_may_be_anything(void **state)
{
    (void)state;
    static const char *const notes[] = {"null", "{}", "\"x\"", "{\"a\":{}}", "{\"a\":1,\"a\":NaN}"};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        char        header[256];
        qr_tensors *files;
        quire_error error = {0};
        snprintf(header, sizeof header, "{\"__metadata__\":%s," A("[0,16]") "}", notes[i]);
        write_file("x.safetensors", header, strlen(header), -1, 16);
        if (open_one("x.safetensors", &files, &error) != QUIRE_OK) fail_msg("%s: %s", notes[i], error.message);
        assert_int_equal(qr_tensors_count(files), 1);
        qr_tensors_close(files);
    }
}

static void metadata_may_be_as_long_as_a_header(void **state)
{
    (void)state;
    enum { BYTES = 5 << 20 };
    static const char tail[] = "\"}," A("[0,16]") "}";
    static const char head[] = "{\"__metadata__\":{\"a\":\"";
    char             *header = malloc(BYTES);
    qr_tensors       *files;
    quire_error       error = {0};
    memset(header, 'x', BYTES);
    memcpy(header, head, sizeof head - 1);
    memcpy(header + BYTES - (sizeof tail - 1), tail, sizeof tail - 1);
    write_file("x.safetensors", header, BYTES, -1, 16);
    free(header);
    if (open_one("x.safetensors", &files, &error) != QUIRE_OK) fail_msg("%s", error.message);
    qr_tensors_close(files);
}

static void every_malformed_class_is_refused_with_its_tensor(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        write_file("x.safetensors", classes[i].header, strlen(classes[i].header), -1, classes[i].data);
        char words[128];
        snprintf(words, sizeof words, "%s",
                 strcmp(classes[i].words, "after the last") == 0 ? "1 bytes follow the last tensor \"a\""
                                                                 : classes[i].words);
        refused(classes[i].what, QUIRE_ERR_FORMAT, words);
    }
    assert_true(sizeof classes / sizeof *classes >= 40);
}

static void a_header_length_that_is_not_true_is_refused(void **state)
{
    (void)state;
    static const long long lengths[] = {0,         1,         sizeof GOOD - 2, sizeof GOOD + GOOD_DATA,
                                        100000000, 100000001, 0xffffffff,      INT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_file("x.safetensors", GOOD, sizeof GOOD - 1, lengths[i], GOOD_DATA);
        refused("length", QUIRE_ERR_FORMAT, "header");
    }
    unsigned char all_ones[40];
    memset(all_ones, 0xff, sizeof all_ones);
    write_bytes("x.safetensors", all_ones, sizeof all_ones);
    refused("length 2^64 - 1", QUIRE_ERR_FORMAT, "18446744073709551615");
}

/* In a sparse file that is long enough. */
static void a_header_above_the_limit_is_not_even_read(void **state)
{
    (void)state;
    write_file("x.safetensors", GOOD, sizeof GOOD - 1, QR_SAFETENSORS_MAX_HEADER + 1, GOOD_DATA);
    assert_int_equal(truncate(path_of("x.safetensors"), QR_SAFETENSORS_MAX_HEADER + 100), 0);
    refused("long header", QUIRE_ERR_FORMAT, "the limit is 100000000");
}

static void names_are_bounded_at_a_kibibyte(void **state)
{
    (void)state;
    for (int extra = 0; extra <= 1; extra++) {
        char header[1400], name[1100];
        memset(name, 'n', sizeof name);
        name[1024 + extra] = '\0';
        snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", name);
        write_file("x.safetensors", header, strlen(header), -1, 1);
        if (extra == 1) {
            refused("long name", QUIRE_ERR_FORMAT, "nnnn");
            continue;
        }
        qr_tensors *files;
        assert_int_equal(open_one("x.safetensors", &files, NULL), QUIRE_OK);
        assert_non_null(qr_tensors_find(files, name));
        qr_tensors_close(files);
    }
}

static void a_description_is_bounded(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    char *header = malloc(BYTES);
    memset(header, ' ', BYTES);
    memcpy(header, "{\"a\":{", 6);
    memcpy(header + BYTES - 2, "}}", 2);
    write_file("x.safetensors", header, BYTES, -1, 0);
    refused("long description", QUIRE_ERR_FORMAT, "\"a\": its description is 1048570 bytes");
    free(header);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    const size_t  whole                                      = 8 + sizeof GOOD - 1 + GOOD_DATA;
    unsigned char bytes[8 + sizeof GOOD - 1 + GOOD_DATA + 1] = {0};
    write_file("x.safetensors", GOOD, sizeof GOOD - 1, -1, GOOD_DATA);
    FILE *file = fopen(path_of("x.safetensors"), "rb");
    assert_int_equal(fread(bytes, 1, whole, file), whole);
    fclose(file);
    for (size_t length = 0; length <= whole + 1; length++) {
        if (length == whole) continue;
        write_bytes("x.safetensors", bytes, length);
        refused("cut", QUIRE_ERR_FORMAT, length >= 8 + sizeof GOOD - 1 ? "tensor" : "header");
    }
}

/* Every single byte of a good header changed to each of a few others, and random ones: an error or a table that lies
 * inside the file. */
static void a_changed_header_never_points_outside_the_file(void **state)
{
    (void)state;
    static const char with[]   = "\0{}[],:\"\\019-.eE ";
    unsigned          accepted = 0;
    char              header[sizeof GOOD];
    for (size_t at = 0; at + 1 < sizeof GOOD; at++)
        for (size_t w = 0; w < sizeof with + 4; w++) {
            memcpy(header, GOOD, sizeof GOOD);
            header[at] = w < sizeof with ? with[w] : (char)qr_random_below(7, at, w, 256);
            write_file("x.safetensors", header, sizeof GOOD - 1, -1, GOOD_DATA);
            qr_tensors *files;
            quire_error error = {0};
            if (open_one("x.safetensors", &files, &error) != QUIRE_OK) {
                assert_true(error.message[0] != '\0');
                continue;
            }
            accepted++;
            for (uint32_t i = 0; i < qr_tensors_count(files); i++)
                assert_true(qr_tensors_at(files, i)->end <= 8 + sizeof GOOD - 1 + GOOD_DATA);
            qr_tensors_close(files);
        }
    assert_true(accepted > 0); /* a changed name is still a name */
}

/* ---- while reading ---- */

static void a_file_cut_after_opening_is_an_error_and_no_signal(void **state)
{
    (void)state;
    write_file("x.safetensors", GOOD, sizeof GOOD - 1, -1, GOOD_DATA);
    qr_tensors *files;
    quire_error error = {0};
    float       out[4];
    assert_int_equal(open_one("x.safetensors", &files, NULL), QUIRE_OK);
    assert_int_equal(truncate(path_of("x.safetensors"), 8 + sizeof GOOD - 1 + 20), 0);
    assert_int_equal(qr_tensors_read(files, qr_tensors_find(files, "b"), 0, 4, out, &error), QUIRE_ERR_IO);
    assert_non_null(strstr(error.message, "x.safetensors: tensor \"b\""));
    /* "a" is still whole, but who knows what else happened */
    assert_int_equal(qr_tensors_read(files, qr_tensors_find(files, "a"), 0, 4, out, &error), QUIRE_ERR_IO);
    assert_non_null(strstr(error.message, "changed"));
    qr_tensors_close(files);
}

static void what_is_no_regular_file_is_refused(void **state)
{
    (void)state;
    qr_tensors *files;
    quire_error error = {0};
    assert_int_equal(open_one("absent.safetensors", &files, &error), QUIRE_ERR_IO);
    assert_non_null(strstr(error.message, "absent.safetensors"));
    assert_int_equal(qr_safetensors_open_file(folder, NULL, &files, &error), QUIRE_ERR_IO);
    assert_int_equal(mkfifo(path_of("pipe.safetensors"), 0600), 0);
    assert_int_equal(open_one("pipe.safetensors", &files, &error), QUIRE_ERR_IO); /* and does not wait for a writer */
    unlink(path_of("pipe.safetensors"));
}

/* ---- shards ---- */

#define SHARD_1 "m-1.safetensors"
#define SHARD_2 "m-2.safetensors"

static void write_shards(const char *index)
{
    static const char first[] = "{" A("[0,16]") "}", second[] = "{" B("[0,8]") "}";
    write_file(SHARD_1, first, sizeof first - 1, -1, 16);
    write_file(SHARD_2, second, sizeof second - 1, -1, 8);
    write_bytes("model.safetensors.index.json", index, strlen(index));
}

static void shards_are_one_table(void **state)
{
    (void)state;
    unlink(path_of("model.safetensors"));
    write_shards("{\"metadata\":{\"total_size\":24},\"weight_map\":{\"a\":\"" SHARD_1 "\", \"b\" : \"" SHARD_2 "\" }}");
    qr_tensors *files;
    quire_error error = {0};
    if (qr_safetensors_open(folder, NULL, NULL, &files, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(qr_tensors_count(files), 2);
    assert_non_null(strstr(qr_tensors_file_name(files, qr_tensors_find(files, "b")), "/" SHARD_2));
    qr_tensors_close(files);
}

static void an_index_that_is_not_true_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char  *index, *words;
        quire_status status;
    } cases[] = {
        {"{}", "weight_map: missing", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{}}", "empty", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":[]}", "weight_map", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"" SHARD_1 "\"", "index.json", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":7}}", "\"a\"", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"\"}}", "\"a\"", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"../" SHARD_1 "\"}}", "\"a\"", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "\"a\"", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", "m-3.safetensors", QUIRE_ERR_IO},
        {"{\"weight_map\":{\"a\":\"" SHARD_1 "\"},\"weight_map\":{\"a\":\"" SHARD_1 "\"}}", "twice", QUIRE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"" SHARD_1 "\"}} x", "follows", QUIRE_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_tensors *files;
        quire_error error = {0};
        write_shards(cases[i].index);
        const quire_status status = qr_safetensors_open(folder, NULL, NULL, &files, &error);
        if (status != cases[i].status || strstr(error.message, cases[i].words) == NULL)
            fail_msg("%s: %d, %s", cases[i].index, status, error.message);
        assert_null(files);
    }
}

#define FIRST "{" A("[0,16]") "}"
#define SECOND "{" B("[0,8]") "}"
#define BOTH "{" A("[0,16]") "," B("[16,24]") "}"
#define MAP(entries) "{\"weight_map\":{" entries "}}"
#define IN(name, shard) "\"" name "\":\"" shard "\""

/* What the model that is read from them needs is not known here: so all are read, and what disagrees is named. */
static void an_index_and_its_shards_may_disagree(void **state)
{
    (void)state;
    static const struct {
        const char     *index, *first, *second, *warning;
        const char     *file_of_a; /* NULL: no tensor */
        qr_tensor_doubt doubt_of_a;
    } cases[] = {
        {MAP(IN("a", SHARD_1) "," IN("b", SHARD_2)), FIRST, SECOND, NULL, SHARD_1, QR_TENSOR_SURE},
        {MAP(IN("a", SHARD_1) "," IN("b", SHARD_2) "," IN("c", SHARD_2) "," IN("d", SHARD_2)), FIRST, SECOND,
         "weight_map names and no file holds: \"c\" and 1 more", SHARD_1, QR_TENSOR_SURE},
        {MAP(IN("b", SHARD_2) "," IN("c", SHARD_1)), FIRST, SECOND, "weight_map does not name: \"a\"\n", SHARD_1,
         QR_TENSOR_SURE},
        {MAP(IN("a", SHARD_2)), FIRST, SECOND, "no file holds: \"a\"", NULL, QR_TENSOR_SURE},
        {MAP(IN("a", SHARD_2) "," IN("b", SHARD_2) "," IN("c", SHARD_1)), FIRST, SECOND,
         "another file than weight_map says: \"a\"\n", SHARD_1, QR_TENSOR_MISPLACED},
        {MAP(IN("a", SHARD_1) "," IN("b", SHARD_2)), FIRST, BOTH, "more than one file holds: \"a\"\n", SHARD_1,
         QR_TENSOR_SURE},
        {MAP(IN("c", SHARD_1) "," IN("a", SHARD_2)), BOTH, BOTH, "more than one file holds: \"a\" and 1", SHARD_2,
         QR_TENSOR_SURE},
        {MAP(IN("c", SHARD_2) "," IN("d", SHARD_1)), FIRST, FIRST, "more than one file holds: \"a\"", SHARD_2,
         QR_TENSOR_SURE},
        {MAP(IN("a", SHARD_1) "," IN("b", SHARD_2)), FIRST, "{" B("[0,8]") "," A("[8,24]") "}",
         "more than one file holds: \"a\"\n", SHARD_1, QR_TENSOR_CONTESTED},
        {MAP(IN("a", SHARD_1)), FIRST, FIRST, NULL, SHARD_1, QR_TENSOR_SURE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_tensors *files;
        quire_error error = {0};
        kept_log    kept  = {0};
        qr_log      log   = kept_log_init(&kept);
        write_shards(cases[i].index);
        write_file(SHARD_1, cases[i].first, strlen(cases[i].first), -1, strcmp(cases[i].first, FIRST) ? 24 : 16);
        const size_t data = strcmp(cases[i].second, SECOND) == 0 ? 8 : strcmp(cases[i].second, FIRST) == 0 ? 16 : 24;
        write_file(SHARD_2, cases[i].second, strlen(cases[i].second), -1, data);
        if (qr_safetensors_open(folder, NULL, &log, &files, &error) != QUIRE_OK) fail_msg("%zu: %s", i, error.message);
        if (cases[i].warning ? strstr(kept.text, cases[i].warning) == NULL : kept.length > 0)
            fail_msg("%zu: %s", i, kept.text);
        assert_true(kept.length == 0 ||
                    strstr(kept.text, strrchr(folder, '/')) != NULL); /* which model's index it is */
        const qr_tensor *a = qr_tensors_find(files, "a");
        assert_true((a != NULL) == (cases[i].file_of_a != NULL));
        if (a != NULL && strstr(qr_tensors_file_name(files, a), cases[i].file_of_a) == NULL) fail_msg("%zu", i);
        if (a != NULL && a->doubt != cases[i].doubt_of_a) fail_msg("%zu: doubt %d", i, a->doubt);
        qr_tensors_close(files);
        qr_log_deinit(&log);
    }
}

static void the_same_values_in_another_type_are_the_same(void **state)
{
    (void)state;
    static const char *const header = "{\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                      "\"h\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]},"
                                      "\"i\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[12,16]},"
                                      "\"j\":{\"dtype\":\"I16\",\"shape\":[2],\"data_offsets\":[16,20]},"
                                      "\"k\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[20,24]},"
                                      "\"l\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[24,28]}}";
    /* little-endian 1.0 and 2.0 but for i, 1.0 and 4.0 */
    static const unsigned char data[28] = {0,    0,    0x80, 0x3f, 0,    0,    0,    0x40, 0x80, 0x3f,
                                           0,    0x40, 0x80, 0x3f, 0x80, 0x40, 0x80, 0x3f, 0,    0x40,
                                           0x80, 0x3f, 0,    0x40, 0x80, 0x3f, 0,    0x40};
    unsigned char              file[1024];
    const size_t               length = strlen(header);
    memset(file, 0, 8);
    file[0] = (unsigned char)(length & 255), file[1] = (unsigned char)(length >> 8);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, sizeof data);
    write_bytes("x.safetensors", file, 8 + length + sizeof data);
    qr_tensors *files;
    assert_int_equal(open_one("x.safetensors", &files, NULL), QUIRE_OK);
    static const struct {
        const char *a, *b;
        bool        same;
    } cases[] = {{"f", "h", true},  {"h", "f", true},  {"f", "i", false}, {"h", "i", false}, {"h", "j", false},
                 {"h", "k", false}, {"h", "l", false}, {"k", "l", false}, {"f", "f", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool             same = !cases[i].same;
        const qr_tensor *a = qr_tensors_find(files, cases[i].a), *b = qr_tensors_find(files, cases[i].b);
        assert_int_equal(qr_tensors_same(files, a, b, &same, NULL), QUIRE_OK);
        if (same != cases[i].same) fail_msg("%s, %s", cases[i].a, cases[i].b);
    }
    qr_tensors_close(files);
}

static void a_folder_without_weights_says_so(void **state)
{
    (void)state;
    unlink(path_of("model.safetensors.index.json"));
    qr_tensors *files;
    quire_error error = {0};
    assert_int_equal(qr_safetensors_open(folder, NULL, NULL, &files, &error), QUIRE_ERR_IO);
    assert_non_null(strstr(error.message, "model.safetensors"));
}

/* ---- memory ---- */

typedef struct counting {
    int    left; /* allocations until failure */
    size_t live;
} counting;

static void *count_allocate(void *context, size_t size, size_t alignment)
{
    counting *c = context;
    if (c->left-- <= 0) return NULL;
    c->live += size;
    return aligned_alloc(alignment, (size + alignment) / alignment * alignment);
}

static void count_deallocate(void *context, void *pointer, size_t size)
{
    if (pointer != NULL) ((counting *)context)->live -= size;
    free(pointer);
}

static void running_out_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    write_file("x.safetensors", GOOD, sizeof GOOD - 1, -1, GOOD_DATA);
    bool succeeded = false;
    for (int left = 0; left < 20 && !succeeded; left++) {
        counting              c         = {.left = left};
        const quire_allocator allocator = {&c, count_allocate, count_deallocate};
        qr_tensors           *files;
        const quire_status    status = qr_safetensors_open_file(path_of("x.safetensors"), &allocator, &files, NULL);
        succeeded                    = status == QUIRE_OK;
        if (!succeeded) assert_int_equal(status, QUIRE_ERR_NO_MEMORY);
        qr_tensors_close(files);
        assert_int_equal(c.live, 0);
    }
    assert_true(succeeded);
}

static int make_folder(void **state)
{
    (void)state;
    /* thousands of small files: in memory where that exists */
    snprintf(folder, sizeof folder, "%s/quire-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"x.safetensors", SHARD_1, SHARD_2, "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(path_of(names[i]));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_is_read_as_it_is),
        cmocka_unit_test(half_precision_is_converted_exactly),
        cmocka_unit_test(metadata_may_be_anything),
        cmocka_unit_test(metadata_may_be_as_long_as_a_header),
        cmocka_unit_test(every_malformed_class_is_refused_with_its_tensor),
        cmocka_unit_test(a_header_length_that_is_not_true_is_refused),
        cmocka_unit_test(a_header_above_the_limit_is_not_even_read),
        cmocka_unit_test(names_are_bounded_at_a_kibibyte),
        cmocka_unit_test(a_description_is_bounded),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_changed_header_never_points_outside_the_file),
        cmocka_unit_test(a_file_cut_after_opening_is_an_error_and_no_signal),
        cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(shards_are_one_table),
        cmocka_unit_test(an_index_that_is_not_true_is_refused),
        cmocka_unit_test(an_index_and_its_shards_may_disagree),
        cmocka_unit_test(the_same_values_in_another_type_are_the_same),
        cmocka_unit_test(a_folder_without_weights_says_so),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
