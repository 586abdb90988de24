/* Data comes from regular files of a bounded size; everything else is refused by name, and never waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "bench/common/input_file.h"
#include "support/scratch_file.h"

static void assert_refused(const char *path, uint64_t most_bytes, const char *says)
{
    quire_error error = {0};
    assert_null(qr_input_open(path, most_bytes, &error));
    assert_int_equal(error.status, QUIRE_ERR_IO);
    if (strstr(error.message, path) == NULL || strstr(error.message, says) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", path, error.message, says);
}

static void a_regular_file_is_read_from_its_start(void **state)
{
    (void)state;
    char        path[64], text[8] = "";
    quire_error error = {0};
    scratch_file_write("abc", path);
    FILE *file = qr_input_open(path, 3, &error);
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    assert_string_equal(text, "abc");
    fclose(file);
    assert_refused(path, 2, "the most that is read is 0 MiB");
    unlink(path);
}

static void a_sparse_giant_is_refused_with_its_size_and_the_limit(void **state)
{
    (void)state;
    char path[64];
    scratch_file_write("", path);
    assert_int_equal(truncate(path, (off_t)(QR_MOST_RESULT_BYTES + (1 << 20))), 0);
    assert_refused(path, QR_MOST_RESULT_BYTES, "257 MiB, the most that is read is 256 MiB");
    unlink(path);
}

static void devices_fifos_and_folders_are_refused_by_name(void **state)
{
    (void)state;
    char path[64];
    assert_refused("/dev/zero", QR_MOST_LINES_BYTES, "a character device, expected a regular file");
    assert_refused("/tmp", QR_MOST_LINES_BYTES, "a folder, expected a regular file");
    assert_refused("/nonexistent/x", QR_MOST_LINES_BYTES, "No such file");
    scratch_file_write("", path);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(path, QR_MOST_LINES_BYTES, "a FIFO, expected a regular file");
    unlink(path);
}

static void lines_come_one_by_one_up_to_their_limit(void **state)
{
    (void)state;
    char   path[64], *line = NULL;
    size_t room = 0;
    scratch_file_write("one\n\nfour\nlonger\nx", path);
    FILE *from = qr_input_open(path, 100, NULL);
    assert_int_equal(qr_input_line(from, &line, &room, 4), 3);
    assert_string_equal(line, "one");
    assert_int_equal(qr_input_line(from, &line, &room, 4), 0);
    assert_string_equal(line, "");
    assert_int_equal(qr_input_line(from, &line, &room, 4), 4);
    assert_int_equal(qr_input_line(from, &line, &room, 4), QR_LINE_TOO_LONG);
    rewind(from);
    for (int i = 0; i < 4; i++) assert_true(qr_input_line(from, &line, &room, 6) >= 0);
    assert_int_equal(qr_input_line(from, &line, &room, 6), 1); /* the last has no newline */
    assert_int_equal(qr_input_line(from, &line, &room, 6), QR_LINE_END);
    fclose(from);
    free(line);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_regular_file_is_read_from_its_start),
        cmocka_unit_test(a_sparse_giant_is_refused_with_its_size_and_the_limit),
        cmocka_unit_test(devices_fifos_and_folders_are_refused_by_name),
        cmocka_unit_test(lines_come_one_by_one_up_to_their_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
