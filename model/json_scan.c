#include "model/json_scan.h"

#include <jansson.h>
#include <string.h>

qr_json_scan qr_json_scan_of(const char *text, size_t length, uint32_t max_depth)
{
    return (qr_json_scan){.text = text, .length = length, .max_depth = max_depth};
}

static bool fail(qr_json_scan *scan, const char *problem)
{
    if (scan->problem == NULL) scan->problem = problem;
    return false;
}

static void skip_space(qr_json_scan *scan)
{
    while (scan->at < scan->length && memchr(" \t\r\n", scan->text[scan->at], 4) != NULL) scan->at++;
}

/* '\0' past the end; a NUL inside matches nothing that is looked for. */
static char peek(const qr_json_scan *scan) { return scan->at < scan->length ? scan->text[scan->at] : '\0'; }

static bool expect(qr_json_scan *scan, char wanted, const char *problem)
{
    skip_space(scan);
    if (peek(scan) != wanted) return fail(scan, problem);
    scan->at++;
    return true;
}

/* From an opening quote to past the closing one. */
static bool skip_string(qr_json_scan *scan)
{
    for (scan->at++; scan->at < scan->length; scan->at++) {
        if (scan->text[scan->at] == '\\')
            scan->at++;
        else if (scan->text[scan->at] == '"')
            return ++scan->at, true;
    }
    scan->at = scan->length;
    return fail(scan, "the text ends inside a string");
}

/* Objects and arrays by counting brackets; whether they match is Jansson's to say. */
static bool skip_value(qr_json_scan *scan)
{
    uint32_t depth = 0;
    while (scan->at < scan->length) {
        const char c = scan->text[scan->at];
        if (depth == 0 && (c == ',' || c == '}' || c == ']')) return true;
        if (c == '"') {
            if (!skip_string(scan)) return false;
            continue;
        }
        scan->at++;
        if (c == '{' || c == '[') {
            if (++depth > scan->max_depth) return fail(scan, "nested too deeply");
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return true;
        }
    }
    return fail(scan, "the text ends inside a value");
}

bool qr_json_scan_next(qr_json_scan *scan, qr_json_slice *key_out, qr_json_slice *value_out)
{
    if (!scan->started && !expect(scan, '{', "expected '{'")) return false;
    skip_space(scan);
    if (peek(scan) == '}') {
        scan->at++;
        return false;
    }
    if (scan->started) {
        if (!expect(scan, ',', "expected ',' or '}'")) return false;
        skip_space(scan);
    }
    scan->started = true;
    if (peek(scan) != '"') return fail(scan, "expected a name in quotes");
    const size_t key = scan->at;
    if (!skip_string(scan)) return false;
    *key_out = (qr_json_slice){scan->text + key, scan->at - key};
    if (!expect(scan, ':', "expected ':'")) return false;
    skip_space(scan);
    const size_t value = scan->at;
    if (!skip_value(scan)) return false;
    *value_out = (qr_json_slice){scan->text + value, scan->at - value};
    return true;
}

bool qr_json_scan_ended(qr_json_scan *scan)
{
    if (scan->problem != NULL) return false;
    skip_space(scan);
    return scan->at == scan->length || fail(scan, "something follows the closing '}'");
}

bool qr_json_slice_string(qr_json_slice slice, char *buffer, size_t capacity)
{
    if (slice.length < 2 || slice.length > 6 * capacity + 2) return false;
    json_t    *value = json_loadb(slice.text, slice.length, JSON_DECODE_ANY, NULL);
    const bool fits  = json_is_string(value) && json_string_length(value) < capacity;
    if (fits) memcpy(buffer, json_string_value(value), json_string_length(value) + 1);
    json_decref(value);
    return fits;
}
