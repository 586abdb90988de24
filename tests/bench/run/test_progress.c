/* What the line of progress calls each part of a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/run/progress.h"

#define SECOND INT64_C(1000000000)

static char        shown[1024];
static int         terminal;
static qr_progress progress;

/* What goes to stderr is caught until caught() gives it back. */
static void catch_stderr(void)
{
    fflush(stderr);
    terminal         = dup(STDERR_FILENO);
    FILE *const file = tmpfile();
    assert_non_null(file);
    dup2(fileno(file), STDERR_FILENO);
    fclose(file);
}

static const char *caught(void)
{
    fflush(stderr);
    lseek(STDERR_FILENO, 0, SEEK_SET);
    const ssize_t size                 = read(STDERR_FILENO, shown, sizeof shown - 1);
    shown[size > 0 ? (size_t)size : 0] = '\0';
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    return shown;
}

static const char *line_of(qr_progress_state state)
{
    const quire_stats stats = {.size = sizeof stats};
    state.total             = UINT32_MAX;
    state.now_ns = state.wall_ns = 12 * SECOND;
    catch_stderr();
    qr_progress_show(&progress, &stats, &state);
    return caught();
}

static void each_part_of_a_run_has_its_name(void **state)
{
    (void)state;
    progress = (qr_progress){.mode = QR_PROGRESS_PLAIN};
    assert_non_null(strstr(line_of((qr_progress_state){0}), "warming up"));
    assert_non_null(strstr(line_of((qr_progress_state){.warm = true}), "measuring"));
    assert_non_null(strstr(line_of((qr_progress_state){.warm = true, .is_virtual = true}), "simulating"));
    line_of((qr_progress_state){.warm = true, .closed = true, .end_ns = 20 * SECOND}); /* the end of the grace */
    assert_non_null(strstr(shown, "waiting for running requests"));
    assert_non_null(strstr(shown, "  8 s left"));
}

static const char *verification(int64_t wall_ns, uint32_t done)
{
    catch_stderr();
    qr_progress_show_verification(&progress, wall_ns, done, 3);
    return caught();
}

static void verification_says_how_many_are_left(void **state)
{
    (void)state;
    progress = (qr_progress){.mode = QR_PROGRESS_PLAIN, .shown_ns = SECOND, .shown_wall_ns = SECOND};
    assert_string_equal(verification(2 * SECOND, 0), "[1] 2 s  verifying 0 of 3\n"); /* at once */
    assert_string_equal(verification(3 * SECOND, 1), "");
    assert_string_equal(verification(13 * SECOND, 2), "[1] 13 s  verifying 2 of 3\n");
    progress = (qr_progress){.mode = QR_PROGRESS_PLAIN};
    assert_string_equal(verification(2 * SECOND, 0), ""); /* a run too short for any line */
    progress = (qr_progress){.mode = QR_PROGRESS_JSONL, .shown_ns = SECOND};
    assert_string_equal(verification(2 * SECOND, 0),
                        "{\"t_s\": 2.0, \"phase\": \"verifying\", \"done\": 0, \"total\": 3}\n");
    progress = (qr_progress){.mode = QR_PROGRESS_NONE, .shown_ns = SECOND};
    assert_string_equal(verification(20 * SECOND, 0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_of_a_run_has_its_name),
        cmocka_unit_test(verification_says_how_many_are_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
