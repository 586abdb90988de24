/* No JSON object may get the same key twice: Jansson would silently keep the last value. Preloaded into the
 * tool by the tests of cli/, these functions stand before Jansson's own and abort. */
#include <dlfcn.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

static void refuse(const char *what)
{
    fprintf(stderr, "a JSON object gets a key twice: %s\n", what);
    abort();
}

EXPORTED int json_object_set_new(json_t *object, const char *key, json_t *value)
{
    static int (*set)(json_t *, const char *, json_t *);
    if (set == NULL) *(void **)&set = dlsym(RTLD_NEXT, "json_object_set_new");
    if (key != NULL && json_object_get(object, key) != NULL) refuse(key);
    return set(object, key, value);
}

/* `at` stands behind the bracket that opened `made`; returns what follows the one that closes it. Members keep their
 * order, so those that the format nests are found by counting; those marked optional ("o*") stand last and may be
 * missing. */
static const char *check_level(const char *at, const json_t *made, const char *format)
{
    size_t colons = 0, optional = 0, elements = 0;
    void  *member = json_object_iter((json_t *)made);
    for (; *at != '\0' && *at != '}' && *at != ']'; at++) {
        if (*at == '*') {
            optional++;
        } else if (*at == ':') {
            if (colons++ > 0) member = json_object_iter_next((json_t *)made, member);
        } else if (*at == '{' || *at == '[') {
            const json_t *inner = json_is_array(made) ? json_array_get(made, elements) : json_object_iter_value(member);
            at                  = check_level(at + 1, inner, format) - 1;
            elements++;
        } else if (*at >= 'a' && json_is_array(made)) {
            elements++;
        }
    }
    if (json_is_object(made) && json_object_size(made) + optional < colons) refuse(format);
    return *at != '\0' ? at + 1 : at;
}

EXPORTED json_t *json_pack(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *made = json_vpack_ex(NULL, 0, format, arguments);
    va_end(arguments);
    if (made != NULL && (format[0] == '{' || format[0] == '[')) check_level(format + 1, made, format);
    return made;
}
