/* A filter behind Jansson's indented output. It holds back each run of white space until the next character shows what
 * it separates: inside an array, and not beside an object or another array, it is dropped. */
#include "bench/common/json_text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"

enum { MOST_DEPTH = 64, MOST_SPACE = 2 + 2 * MOST_DEPTH };

typedef struct filter {
    FILE  *to;
    char   open[MOST_DEPTH]; /* [depth] brackets */
    size_t depth;
    char   space[MOST_SPACE]; /* [space_count] held back */
    size_t space_count;
    char   last; /* the last character that is no white space */
    bool   in_string, escaped;
} filter;

static bool separates_values(const filter *f, char next)
{
    const bool in_array = f->depth > 0 && f->open[f->depth - 1] == '[';
    return in_array && strchr("{[", next) == NULL && strchr("}]", f->last) == NULL;
}

static int release_space(filter *f, char next)
{
    const size_t count = f->space_count;
    f->space_count     = 0;
    if (count == 0) return 0;
    if (!separates_values(f, next)) return fwrite(f->space, 1, count, f->to) == count ? 0 : -1;
    return f->last == ',' && fputc(' ', f->to) == EOF ? -1 : 0;
}

static int nest(filter *f, char c)
{
    if (c == '{' || c == '[') {
        if (f->depth == MOST_DEPTH) return -1;
        f->open[f->depth++] = c;
    } else if ((c == '}' || c == ']') && f->depth > 0) {
        f->depth--;
    }
    return 0;
}

static int take(filter *f, char c)
{
    if (f->in_string) {
        f->in_string = f->escaped || c != '"';
        f->escaped   = !f->escaped && c == '\\';
        return fputc(c, f->to) == EOF ? -1 : 0;
    }
    if (c == ' ' || c == '\n') {
        if (f->space_count == MOST_SPACE) return -1;
        f->space[f->space_count++] = c;
        return 0;
    }
    if (release_space(f, c) != 0 || nest(f, c) != 0) return -1;
    f->in_string = c == '"';
    f->last      = c;
    return fputc(c, f->to) == EOF ? -1 : 0;
}

static int take_all(const char *text, size_t size, void *context)
{
    int status = 0;
    for (size_t i = 0; i < size && status == 0; i++) status = take(context, text[i]);
    return status;
}

json_t *qr_json_number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

json_t *qr_json_string(const char *text)
{
    json_t *string = json_string(text);
    if (string != NULL || text == NULL) return string;
    const size_t size  = 4 * strlen(text) + 1;
    char        *plain = malloc(size);
    if (plain == NULL) return NULL;
    qr_printable_copy(plain, size, text);
    string = json_string(plain);
    free(plain);
    return string;
}

json_t *qr_json_whole(uint64_t value) { return json_integer((json_int_t)value); }

const json_t *qr_json_at(const json_t *from, const char *path)
{
    char name[128];
    while (from != NULL && *path != '\0') {
        const size_t length = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)length, path);
        from = json_is_array(from) && isdigit((unsigned char)name[0]) ? json_array_get(from, strtoul(name, NULL, 10))
                                                                      : json_object_get(from, name);
        path += length + (path[length] == '/');
    }
    return from;
}

double qr_json_number_at(const json_t *from, const char *path)
{
    const json_t *value = qr_json_at(from, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *qr_json_text_at(const json_t *from, const char *path)
{
    const char *text = json_string_value(qr_json_at(from, path));
    return text ? text : "";
}

bool qr_json_write(const json_t *value, FILE *to)
{
    filter f = {.to = to};
    return json_dump_callback(value, take_all, &f, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
           fputc('\n', to) != EOF;
}
