#include "base/printable.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool obeyed(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character < 0xa0) ||
           (character >= 0x2028 && character <= 0x202e) /* separators, directions */ ||
           (character >= 0x2066 && character <= 0x2069) /* isolates */;
}

size_t qr_printable_length(const char *at)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* by length: less is overlong */
    const unsigned char  *byte    = (const unsigned char *)at;
    if (byte[0] < 0x80) return !obeyed(byte[0]);
    if (byte[0] < 0xc2 || byte[0] > 0xf4) return 0;
    const size_t length    = byte[0] >= 0xf0 ? 4 : byte[0] >= 0xe0 ? 3 : 2;
    uint32_t     character = byte[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((byte[i] & 0xc0) != 0x80) return 0;
        character = character << 6 | (byte[i] & 0x3f);
    }
    const bool surrogate = character >= 0xd800 && character < 0xe000;
    return character < least[length] || character > 0x10ffff || surrogate || obeyed(character) ? 0 : length;
}

void qr_printable_copy(char *out, size_t capacity, const char *text)
{
    const char *const end = out + capacity;
    while (*text != '\0') {
        const size_t length = qr_printable_length(text), written = length ? length : strlen("\\xNN");
        if (written >= (size_t)(end - out)) break;
        if (length)
            memcpy(out, text, length);
        else
            snprintf(out, written + 1, "\\x%02x", (unsigned char)*text);
        out += written;
        text += length ? length : 1;
    }
    *out = '\0';
}

int qr_whole_length(const char *text, int most)
{
    const int length = (int)strnlen(text, (size_t)most);
    int       first  = length; /* behind the last byte that begins a character */
    while (first > 0 && length - first < 3 && ((unsigned char)text[first - 1] & 0xc0) == 0x80) first--;
    if (first == 0) return length;
    const unsigned char begin = (unsigned char)text[first - 1];
    const int           bytes = begin >= 0xf0 ? 4 : begin >= 0xe0 ? 3 : begin >= 0xc0 ? 2 : 1;
    return bytes > length - first + 1 ? first - 1 : length;
}
