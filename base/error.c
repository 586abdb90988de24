#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

quire_status qr_fail(quire_error *error, quire_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

void qr_trace_error(quire_status status, const char *expr, const char *file, int line)
{
    if (getenv("QUIRE_TRACE_ERRORS") == NULL) return;
    fprintf(stderr, "quire: %s:%d: %s: %s\n", file, line, expr, quire_status_text(status));
}

const char *quire_status_text(quire_status status)
{
    switch (status) {
#define TEXT(name, value, text)                                                                                        \
    case QUIRE_##name: return text;
        QUIRE_STATUS_MAP(TEXT)
#undef TEXT
    }
    return "unknown status";
}
