#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void qr_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "quire: %s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
