/* Scalars and strings are Jansson's to read, one at a time; what holds them is built here, without recursion. */
#include "model/json_read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* An object or array that is not yet closed, and the key of its next member. */
typedef struct level {
    json_t *container;
    char   *key;
} level;

typedef struct reader {
    const char      *text;
    size_t           length, at;
    level            stack[QR_JSON_MAX_DEPTH];
    uint32_t         depth;
    json_t          *root;
    qr_json_problem *problem;
} reader;

static const char AMBIGUOUS[] = "\x01"
                                "ambiguous"; /* as the only key of an object */

/* ---- words ---- */

static bool fail(reader *r, const char *problem)
{
    if (r->problem->line > 0) return false;
    snprintf(r->problem->text, sizeof r->problem->text, "%s", problem);
    r->problem->line = r->problem->column = 1;
    for (size_t i = 0; i < r->at && i < r->length; i++) {
        const bool end     = r->text[i] == '\n';
        r->problem->column = end ? 1 : r->problem->column + 1;
        r->problem->line += end;
    }
    return false;
}

static char peek(reader *r)
{
    while (r->at < r->length && memchr(" \t\r\n", r->text[r->at], 4) != NULL) r->at++;
    return r->at < r->length ? r->text[r->at] : '\0';
}

static bool expect(reader *r, char wanted, const char *problem)
{
    if (peek(r) != wanted) return fail(r, problem);
    r->at++;
    return true;
}

/* Of Jansson's error, which has no text when memory was short. */
static bool fail_scalar(reader *r, const json_error_t *error)
{
    return fail(r, error->text[0] != '\0' ? error->text : "no memory");
}

/* One scalar of `length` bytes at r->at, by Jansson. */
static json_t *decode(reader *r, size_t length, json_error_t *error)
{
    json_t *value = json_loadb(r->text + r->at, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, error);
    if (value != NULL) r->at += length;
    return value;
}

static json_t *take_string(reader *r)
{
    json_error_t error;
    size_t       end = r->at + 1;
    while (end < r->length && r->text[end] != '"') end += r->text[end] == '\\' ? 2 : 1;
    if (end >= r->length) return fail(r, "the text ends inside a string"), NULL;
    json_t *value = decode(r, end + 1 - r->at, &error);
    if (value == NULL) fail_scalar(r, &error);
    return value;
}

static json_t *take_number(reader *r, size_t length)
{
    json_error_t error;
    char         digits[400];
    json_t      *value = decode(r, length, &error);
    if (value != NULL) return value;
    if (json_error_code(&error) != json_error_numeric_overflow) return fail_scalar(r, &error), NULL;
    const char *word   = r->text[r->at] == '-' ? "-Infinity" : "Infinity";
    const bool integer = memchr(r->text + r->at, '.', length) == NULL && memchr(r->text + r->at, 'e', length) == NULL &&
                         memchr(r->text + r->at, 'E', length) == NULL;
    double number = INFINITY;
    if (integer && length < sizeof digits) {
        snprintf(digits, sizeof digits, "%.*s", (int)length, r->text + r->at);
        number = strtod(digits, NULL);
    }
    r->at += length;
    return isfinite(number) ? json_real(number) : json_string(word);
}

static json_t *take_word(reader *r)
{
    static const char *const words[]   = {"NaN", "Infinity", "-Infinity"};
    static const char        letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._";
    json_error_t             error;
    size_t                   length = 0;
    while (r->at + length < r->length && r->text[r->at + length] != '\0' &&
           strchr(letters, r->text[r->at + length]) != NULL)
        length++;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (length == strlen(words[i]) && strncmp(r->text + r->at, words[i], length) == 0) {
            r->at += length;
            return json_string(words[i]);
        }
    if (length == 0) return fail(r, "expected a value"), NULL;
    const char first = r->text[r->at];
    if (first == '-' || (first >= '0' && first <= '9')) return take_number(r, length);
    json_t *value = decode(r, length, &error);
    if (value == NULL) fail_scalar(r, &error);
    return value;
}

/* ---- what holds them ---- */

static bool is_open(const json_t *value) { return json_is_object(value) || json_is_array(value); }

/* An object or array comes empty, with its bracket taken. */
static json_t *take_value(reader *r)
{
    switch (peek(r)) {
    case '{': r->at++; return json_object();
    case '[': r->at++; return json_array();
    case '"': return take_string(r);
    default: return take_word(r);
    }
}

static json_t *ambiguous(void) { return json_pack("{s:b}", AMBIGUOUS, 1); }

/* A complete value goes where the innermost open one wants it. Takes it in any case. */
static bool attach(reader *r, json_t *value)
{
    level *top = r->depth > 0 ? &r->stack[r->depth - 1] : NULL;
    if (top == NULL) {
        r->root = value;
        return true;
    }
    if (json_is_array(top->container)) return json_array_append_new(top->container, value) == 0 || fail(r, "no memory");
    const json_t *old = json_object_get(top->container, top->key);
    if (old != NULL && !json_equal(old, value)) {
        json_decref(value);
        value = ambiguous();
    }
    const bool attached = json_object_set_new(top->container, top->key, value) == 0;
    free(top->key);
    top->key = NULL;
    return attached || fail(r, "no memory");
}

static bool push(reader *r, json_t *container)
{
    if (r->depth == QR_JSON_MAX_DEPTH) {
        json_decref(container);
        return fail(r, "nested too deeply");
    }
    r->stack[r->depth++] = (level){container, NULL};
    return true;
}

static bool closes(reader *r)
{
    const char wanted = json_is_object(r->stack[r->depth - 1].container) ? '}' : ']';
    const bool closed = peek(r) == wanted;
    r->at += closed;
    return closed;
}

static bool take_key(reader *r)
{
    if (peek(r) != '"') return fail(r, "expected a name in quotes");
    json_t *key = take_string(r);
    if (key == NULL) return false; /* a NUL inside ends it: whoever reads a key asks for one without */
    char **to = &r->stack[r->depth - 1].key;
    *to       = strdup(json_string_value(key));
    json_decref(key);
    return *to != NULL ? expect(r, ':', "expected ':'") : fail(r, "no memory");
}

/* To the place of the next value: past what closes, a comma, a key. False: at the end, or a problem. */
static bool next_place(reader *r, bool first)
{
    while (r->depth > 0 && closes(r)) {
        if (!attach(r, r->stack[--r->depth].container)) return false;
        first = false;
    }
    if (r->depth == 0) return false;
    const bool object = json_is_object(r->stack[r->depth - 1].container);
    if (!first && !expect(r, ',', object ? "expected ',' or '}'" : "expected ',' or ']'")) return false;
    return !object || take_key(r);
}

static void read_all(reader *r)
{
    for (bool more = true; more;) {
        json_t *value = take_value(r);
        if (value == NULL) {
            fail(r, "no memory");
            return;
        }
        const bool open = is_open(value);
        more            = (open ? push(r, value) : attach(r, value)) && next_place(r, open);
    }
    if (peek(r) != '\0' || r->at < r->length) fail(r, "something follows the end");
}

json_t *qr_json_read(const char *text, size_t length, qr_json_problem *problem_out)
{
    *problem_out = (qr_json_problem){0};
    reader r     = {.text = text, .length = length, .problem = problem_out};
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        fail(&r, "the text begins with a byte order mark, which JSON does not allow");
    else
        read_all(&r);
    if (problem_out->line == 0) return r.root;
    json_decref(r.root);
    for (; r.depth > 0; r.depth--) {
        json_decref(r.stack[r.depth - 1].container);
        free(r.stack[r.depth - 1].key);
    }
    return NULL;
}

/* ---- what a value is ---- */

bool qr_json_is_ambiguous(const json_t *value) { return json_object_get(value, AMBIGUOUS) != NULL; }

const char *qr_json_type_name(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer", "a number with a fraction",
                                        "true",      "false",    "null"};
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    const char              *text    = json_string_value(value);
    if (qr_json_is_ambiguous(value)) return "the key twice, with different values";
    for (size_t i = 0; text != NULL && i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i]) == 0) return words[i];
    if (json_is_real(value) && fabs(json_real_value(value)) >= 0x1p63) return "a number beyond 64 bits";
    return names[json_typeof(value)];
}
