/* One pass over the line. It knows strings and brackets; everything else is for the parser of the rest to judge. */
#include "bench/workload/request_text.h"

#include <stdlib.h>
#include <string.h>

typedef struct scan {
    const char        *at, *end;
    const char *const *names;
    qr_request_text   *to;
    size_t             depth;
    bool               failed; /* out of memory */
} scan;

static void emit(scan *s, const char *from)
{
    const size_t more = (size_t)(s->at - from);
    const size_t room = QR_MOST_REQUEST_REST - s->to->length;
    s->to->is_too_long |= more > room;
    const size_t written = more > room ? room : more;
    memcpy(s->to->rest + s->to->length, from, written);
    s->to->length += written;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

static bool is_digit(const char *at, const char *end) { return at < end && *at >= '0' && *at <= '9'; }

/* A token id and what ends it. Returns the place of the comma or bracket; NULL: it is something else. */
static const char *plain_id(const char *at, const char *end, int32_t *id_out)
{
    int64_t id = 0;
    at         = skip_space(at, end);
    if (!is_digit(at, end) || (*at == '0' && is_digit(at + 1, end))) return NULL;
    for (; is_digit(at, end) && id <= INT32_MAX; at++) id = 10 * id + (*at - '0');
    at      = skip_space(at, end);
    *id_out = (int32_t)id;
    return id <= INT32_MAX && at < end && (*at == ',' || *at == ']') ? at : NULL;
}

static size_t most_ids(const char *at, const char *end)
{
    const char *close = memchr(at, ']', (size_t)(end - at));
    size_t      count = 1;
    for (end = close ? close : end; at < end && (at = memchr(at, ',', (size_t)(end - at))) != NULL; at++) count++;
    return count;
}

/* Takes ids until one ends the list or something else comes; then the last one stays in the rest, so that it is
 * something else behind the same comma there. */
static void take_ids(scan *s, struct qr_request_ids *list)
{
    const char *const start = s->at, *last = start, *at = start, *next;
    list->ids = malloc((most_ids(start, s->end) + 1) * sizeof *list->ids);
    s->failed = list->ids == NULL;
    if (s->failed) return;
    while ((next = plain_id(at, s->end, &list->ids[list->count])) != NULL) {
        list->count++;
        last  = at;
        s->at = next;
        if (*next == ']') break;
        at = next + 1;
    }
    if (next == NULL && list->count > 0) {
        list->count--;
        s->at = last;
    }
    list->cut_at = s->to->length;
    list->cut    = (size_t)(s->at - start);
}

static const char *skip_digits(const char *at, const char *end)
{
    if (!is_digit(at, end)) return NULL;
    while (is_digit(at, end)) at++;
    return at;
}

/* Behind a number as JSON has it, or NULL. */
static const char *skip_number(const char *at, const char *end)
{
    if (at < end && *at == '-') at++;
    const bool zero = at < end && *at == '0';
    if ((at = zero ? at + 1 : skip_digits(at, end)) == NULL) return NULL;
    if (at < end && *at == '.' && (at = skip_digits(at + 1, end)) == NULL) return NULL;
    if (at == end || (*at != 'e' && *at != 'E')) return at;
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    return skip_digits(at, end);
}

/* One frame and what ends it: `size` numbers, as many as the first has. Returns the place of the comma or bracket
 * behind it; NULL: it is something else. */
static const char *plain_frame(scan *s, const char *at, float *to, size_t room, size_t *size_out)
{
    const char *const end = s->end;
    at                    = skip_space(at, end);
    if (at == end || *at++ != '[') return NULL;
    for (size_t i = 0;; i++, at++) {
        const char *const number = skip_space(at, end), *const behind = skip_number(number, end);
        at = behind ? skip_space(behind, end) : end;
        if (at == end || (*at != ',' && *at != ']') || i >= room) return NULL;
        to[i]     = strtof(number, NULL);
        *size_out = i + 1;
        if (*at == ']') break;
    }
    at = skip_space(at + 1, end);
    return at < end && (*at == ',' || *at == ']') ? at : NULL;
}

/* As take_ids(), frame by frame. */
static void take_frames(scan *s)
{
    struct qr_request_features *to    = &s->to->features;
    const char *const           start = s->at;
    const char                 *last = start, *at = start, *next;
    const size_t                room = (size_t)(s->end - start) / 2 + 1; /* a number and what ends it */
    size_t                      size = 0, used = 0;
    to->values = malloc(room * sizeof *to->values);
    s->failed  = to->values == NULL;
    if (s->failed) return;
    while ((next = plain_frame(s, at, to->values + used, room - used, &size)) != NULL) {
        if (to->frames == 0) to->size = size;
        if (size != to->size) break;
        to->frames++;
        used += size;
        last  = at;
        s->at = next;
        if (*next == ']') break;
        at = next + 1;
    }
    if ((next == NULL || size != to->size) && to->frames > 0) {
        to->frames--;
        s->at = last;
    }
    to->cut_at = s->to->length;
    to->cut    = (size_t)(s->at - start);
}

/* The six bits of a character of base64 (RFC 4648, section 4), or -1. */
static int bits_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Behind what is base64 from `at` on, its padding too; bytes go to `to`. A slash may be escaped, as JSON allows. */
static const char *decode(const char *at, const char *end, unsigned char *to, size_t *bytes_out)
{
    uint32_t word = 0, pending = 0;
    size_t   bytes = 0;
    for (; at < end; at++) {
        const int bits = bits_of(*at);
        if (bits < 0 && *at == '\\' && end - at > 1 && at[1] == '/') continue;
        if (bits < 0) break;
        word = word << 6 | (uint32_t)bits;
        pending += 6;
        if (pending < 8) continue;
        pending -= 8;
        to[bytes++] = (unsigned char)(word >> pending);
    }
    for (int i = 0; i < 2 && at < end && *at == '='; i++) at++;
    *bytes_out = bytes;
    return at;
}

/* The quote that ends a string, or the end of the line. */
static const char *closing_quote(const char *at, const char *end)
{
    while (at < end && *at != '"') at += *at == '\\' && end - at > 1 ? 2 : 1;
    return at < end ? at : end;
}

/* The string without what is base64 at its begin. */
static void take_encoded(scan *s)
{
    struct qr_request_features *to = &s->to->features;
    const char *const start = s->at, *const end = closing_quote(start, s->end);
    to->values = malloc((size_t)(end - start) + 1);
    s->failed  = to->values == NULL;
    if (s->failed) return;
    const char *const bad = decode(start, end, (unsigned char *)to->values, &to->bytes);
    to->encoded           = true;
    to->left              = (size_t)(end - bad);
    to->cut_at            = s->to->length;
    to->cut               = (size_t)(bad - start);
    s->at                 = end + (end < s->end);
    emit(s, bad);
}

static bool is_features(const scan *s, const char *quoted, size_t length)
{
    static const char name[] = "\"encoder_features\"";
    return length == sizeof name - 1 && memcmp(quoted, name, length) == 0 && s->to->features.values == NULL;
}

/* The list that a name between quotes is; NULL: none, or one that was there before. */
static struct qr_request_ids *list_of(scan *s, const char *quoted, size_t length)
{
    for (size_t i = 0; i < QR_REQUEST_LISTS; i++)
        if (strlen(s->names[i]) == length - 2 && memcmp(s->names[i], quoted + 1, length - 2) == 0)
            return s->to->lists[i].ids == NULL ? &s->to->lists[i] : NULL;
    return NULL;
}

/* Behind a string: is it the name of a list, or of features? */
static void try_list(scan *s, const char *string, size_t length)
{
    const char *colon = skip_space(s->at, s->end);
    if (s->depth != 1 || length < 2 || colon == s->end || *colon != ':') return;
    const char            *open     = skip_space(colon + 1, s->end);
    const char             opening  = open < s->end ? *open : 0;
    const bool             features = (opening == '[' || opening == '"') && is_features(s, string, length);
    struct qr_request_ids *list     = opening == '[' ? list_of(s, string, length) : NULL;
    if (list == NULL && !features) return;
    const char *from = s->at;
    s->at            = open + 1;
    s->depth += opening == '[';
    emit(s, from);
    if (list != NULL)
        take_ids(s, list);
    else if (opening == '[')
        take_frames(s);
    else
        take_encoded(s);
}

static void scan_string(scan *s)
{
    const char *const from = s->at, *const quote = closing_quote(from + 1, s->end);
    s->at               = quote + (quote < s->end);
    const size_t length = (size_t)(s->at - from);
    emit(s, from);
    try_list(s, from, length);
}

static void scan_other(scan *s)
{
    const char *const from = s->at;
    for (; s->at < s->end && *s->at != '"'; s->at++) {
        if (*s->at == '{' || *s->at == '[') s->depth++;
        if ((*s->at == '}' || *s->at == ']') && s->depth > 0) s->depth--;
    }
    emit(s, from);
}

bool qr_request_text_read(const char *line, size_t length, const char *const names[QR_REQUEST_LISTS],
                          qr_request_text *text_out)
{
    scan s         = {.at = line, .end = line + length, .names = names, .to = text_out};
    *text_out      = (qr_request_text){0};
    text_out->rest = malloc(length < QR_MOST_REQUEST_REST ? length + 1 : QR_MOST_REQUEST_REST);
    s.failed       = text_out->rest == NULL;
    while (s.at < s.end && !s.failed && !text_out->is_too_long)
        if (*s.at == '"')
            scan_string(&s);
        else
            scan_other(&s);
    return !s.failed;
}

void qr_request_text_deinit(qr_request_text *text)
{
    for (size_t i = 0; i < QR_REQUEST_LISTS; i++) free(text->lists[i].ids);
    free(text->features.values);
    free(text->rest);
}

size_t qr_request_text_place(const qr_request_text *text, size_t place)
{
    size_t missing = 0;
    for (size_t i = 0; i < QR_REQUEST_LISTS; i++)
        if (text->lists[i].cut_at < place) missing += text->lists[i].cut;
    if (text->features.cut_at < place + text->features.encoded) missing += text->features.cut; /* wrong from there on */
    return place + missing;
}
