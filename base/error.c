#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/printable.h"

quire_status qr_fail(quire_error *error, quire_status status, const char *format, ...)
{
    if (error != NULL) {
        char    text[sizeof error->message + 4]; /* the last character that fits is whole */
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        error->status = status;
        qr_printable_copy(error->message, sizeof error->message, text);
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
