/* Copies of structs by the size that they begin with: into the library, out of an array, and back to the caller. */
#include "base/sized_struct.h"

#include <string.h>

#include "base/error.h"

enum { LARGEST_STRUCT = 4096 };

bool qr_is_zero(const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < count; i++)
        if (byte[i] != 0) return false;
    return true;
}

quire_status qr_options_copy(const char *what, const void *from, size_t least, void *to, size_t to_size,
                             quire_error *error)
{
    size_t size = 0;
    memcpy(&size, from, sizeof size);
    if (size < least || size > LARGEST_STRUCT)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: size: %zu is not in %zu..%d; set it to sizeof(%s)", what, size,
                       least, LARGEST_STRUCT, what);
    if (size > to_size && !qr_is_zero((const char *)from + to_size, size - to_size))
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "%s: size: %zu is larger than this library's %zu and a field beyond that is set", what, size,
                       to_size);
    memset(to, 0, to_size);
    memcpy(to, from, size < to_size ? size : to_size);
    memcpy(to, &to_size, sizeof to_size);
    return QUIRE_OK;
}

quire_status qr_options_copy_element(const char *what, const void *array, size_t i, void *to, size_t to_size,
                                     quire_error *error)
{
    size_t stride;
    memcpy(&stride, array, sizeof stride);
    return qr_options_copy(what, (const char *)array + i * stride, sizeof stride, to, to_size, error);
}

void qr_options_give(const void *from, size_t from_size, void *to)
{
    size_t size;
    memcpy(&size, to, sizeof size);
    memcpy(to, from, size < from_size ? size : from_size);
    memcpy(to, &size, sizeof size);
    if (size > from_size && size <= LARGEST_STRUCT) memset((char *)to + from_size, 0, size - from_size);
}
