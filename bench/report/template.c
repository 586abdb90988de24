/* Fills a template: one pass over its text, with the open sections on a stack. */
#include "bench/report/template.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bench/common/json_text.h"

enum { MOST_DEPTH = 16, MOST_COLUMNS = 16, MOST_NAME = 96 };

/* An open section, and the element whose turn it is. */
typedef struct frame {
    const json_t *in, *value; /* `in` NULL: once, without an element of its own */
    const char   *body;
    size_t        index;
    void         *member; /* {{*}} */
    char          key[MOST_NAME];
} frame;

typedef struct filler {
    const char *at, *end;
    frame       frames[MOST_DEPTH]; /* [depth] the first holds the document */
    size_t      depth;

    qr_value_writer *write;
    FILE            *to;
} filler;

/* ---- values ---- */

static frame *top(filler *f) { return &f->frames[f->depth - 1]; }

/* The number or name of the innermost element. */
static const char *key_of(const filler *f)
{
    size_t d = f->depth - 1;
    while (d > 0 && f->frames[d].key[0] == '\0') d--;
    return f->frames[d].key;
}

static const json_t *find(filler *f, const char *path)
{
    char        whole[2 * MOST_NAME];
    const char *at = strchr(path, '@');
    for (size_t d = f->depth; strcmp(path, ".") == 0; d--)
        if (f->frames[d - 1].value != NULL) return f->frames[d - 1].value;
    if (at == NULL)
        snprintf(whole, sizeof whole, "%s", path);
    else
        snprintf(whole, sizeof whole, "%.*s%s%s", (int)(at - path), path, key_of(f), at + 1);
    for (size_t d = f->depth; d > 0; d--) {
        const json_t *value = qr_json_at(f->frames[d - 1].value, whole);
        if (value != NULL) return value;
    }
    return NULL;
}

/* The value whose path ends before one of `ends`, as in "PATH:FORMAT". */
static const json_t *find_until(filler *f, const char *text, const char *ends)
{
    char path[MOST_NAME];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(text, ends), text);
    return find(f, path);
}

static bool is_something(const json_t *value)
{
    return !(
        value == NULL || json_is_null(value) || json_is_false(value) ||
        (json_is_string(value) && json_string_length(value) == 0) ||
        ((json_is_array(value) || json_is_object(value)) && json_array_size(value) + json_object_size(value) == 0));
}

static bool is_text(const json_t *value, const char *text)
{
    char number[32];
    snprintf(number, sizeof number, "%g", json_number_value(value));
    return strcmp(json_is_number(value) ? number : json_is_string(value) ? json_string_value(value) : "", text) == 0;
}

/* "PATH:FORMAT" */
static void write_value(filler *f, const char *tag)
{
    const char *format = strchr(tag, ':');
    json_t     *key    = tag[0] == '@' && strcspn(tag, ":") == 1 ? json_string(key_of(f)) : NULL;
    f->write(key ? key : find_until(f, tag, ":"), format ? format + 1 : "", f->to);
    json_decref(key);
}

/* ---- sections ---- */

static frame *push(filler *f, const json_t *value)
{
    qr_assert(f->depth < MOST_DEPTH);
    f->frames[f->depth] = (frame){.value = value, .body = f->at};
    return &f->frames[f->depth++];
}

/* Behind the {{/}} of the section whose body begins here. */
static void skip(filler *f)
{
    for (size_t open = 1; open > 0;) {
        const char *tag = memmem(f->at, (size_t)(f->end - f->at), "{{", 2);
        qr_assert(tag != NULL);
        open += strchr("#^*", tag[2]) != NULL;
        open -= tag[2] == '/';
        f->at = (const char *)memmem(tag, (size_t)(f->end - tag), "}}", 2) + 2;
    }
}

/* The element that is the next. False: there is none. */
static bool advance(frame *s)
{
    if (s->member != NULL) {
        s->value = json_object_iter_value(s->member);
        snprintf(s->key, sizeof s->key, "%s", json_object_iter_key(s->member));
        s->member = json_object_iter_next((json_t *)s->in, s->member);
        return true;
    }
    if (!json_is_array(s->in) || s->index >= json_array_size(s->in)) return false;
    s->value = json_array_get(s->in, s->index);
    snprintf(s->key, sizeof s->key, "%zu", s->index++);
    return true;
}

static void open_members(filler *f, const json_t *object)
{
    if (json_object_size(object) == 0) {
        skip(f);
        return;
    }
    frame *s  = push(f, object);
    s->in     = object;
    s->member = json_object_iter((json_t *)object);
    advance(s);
}

/* {{#...}}, {{^...}} or {{*...}} */
static void open_section(filler *f, char kind, const char *condition)
{
    const char   *wanted = strchr(condition, '=');
    const json_t *value  = find_until(f, condition, "=");
    const bool    holds  = condition + 1 == wanted && condition[0] == '@' ? strcmp(key_of(f), wanted + 1) == 0
                           : wanted                                       ? is_text(value, wanted + 1)
                                                                          : is_something(value);
    if (kind == '*')
        open_members(f, value);
    else if (holds == (kind == '^'))
        skip(f);
    else if (kind == '^' || wanted != NULL)
        push(f, NULL);
    else {
        frame *s = push(f, value);
        if (json_is_array(value)) s->in = value, advance(s);
    }
}

static void close_section(filler *f)
{
    frame *s = top(f);
    if (s->in != NULL && advance(s))
        f->at = s->body;
    else
        f->depth--;
}

/* ---- tables ---- */

typedef struct column {
    char head[MOST_NAME], value[MOST_NAME]; /* value: PATH:FORMAT */
    bool may_be_zero, has_values, has_text;
} column;

/* "HEAD = PATH:FORMAT" lines; returns how many. */
static size_t parse_columns(const char *lines, column columns[MOST_COLUMNS], size_t most)
{
    size_t count = 0;
    for (; *lines == '\n'; lines += 1 + strcspn(lines + 1, "\n")) {
        column    *c      = &columns[count];
        const bool strict = lines[1] == '?';
        if (count == most || sscanf(lines + 1 + strict, "%95[^=]= %95[^\n]", c->head, c->value) != 2) continue;
        c->head[strlen(c->head) - 1] = '\0'; /* the space before "=" */
        c->may_be_zero               = !strict;
        count++;
    }
    return count;
}

/* Before the first element of an array, or member of an object. */
static frame rows_of(filler *f, const char *tag)
{
    const json_t *in = find_until(f, tag, "\n");
    return (frame){.in = in, .member = json_is_object(in) ? json_object_iter((json_t *)in) : NULL};
}

/* False: there is none. Else the caller lowers the depth. */
static bool push_row(filler *f, frame *rows)
{
    if (!advance(rows)) return false;
    snprintf(push(f, rows->value)->key, MOST_NAME, "%s", rows->key);
    return true;
}

static void look_at(filler *f, column *c, frame rows)
{
    for (; push_row(f, &rows); f->depth--) {
        const json_t *value = find_until(f, c->value, ":");
        c->has_values |= is_something(value) && (c->may_be_zero || json_number_value(value) != 0);
        c->has_text |= is_something(value) && !json_is_number(value) && strstr(c->value, ":check") == NULL;
    }
}

static void write_cell(filler *f, const column *c, bool is_first)
{
    fputs(is_first ? "<th scope=\"row\">" : c->has_text ? "<td class=\"text\">" : "<td>", f->to);
    write_value(f, c->value);
    fputs(is_first ? "</th>" : "</td>", f->to);
}

static void write_table(filler *f, const char *tag)
{
    column       columns[MOST_COLUMNS] = {0};
    const size_t count                 = parse_columns(strchr(tag, '\n'), columns, MOST_COLUMNS);
    fputs("<div class=\"scroll\"><table><thead><tr>", f->to);
    for (size_t c = 0; c < count; c++) {
        look_at(f, &columns[c], rows_of(f, tag));
        if (!columns[c].has_values && c > 0) continue;
        fprintf(f->to, "<th%s>%s</th>", columns[c].has_text ? " class=\"text\"" : "", columns[c].head);
    }
    fputs("</tr></thead><tbody>\n", f->to);
    for (frame rows = rows_of(f, tag); push_row(f, &rows); f->depth--) {
        const bool is_invalid = strcmp(qr_json_text_at(rows.value, "verdict"), "INVALID") == 0;
        fputs(is_invalid ? "<tr class=\"invalid\">" : "<tr>", f->to);
        for (size_t c = 0; c < count; c++)
            if (columns[c].has_values || c == 0) write_cell(f, &columns[c], c == 0);
        fputs("</tr>\n", f->to);
    }
    fputs("</tbody></table></div>\n", f->to);
}

static void write_facts(filler *f, const char *tag)
{
    column       facts[2 * MOST_COLUMNS] = {0};
    const char  *lines                   = strchr(tag, '\n');
    const size_t count                   = parse_columns(lines, facts, 2 * MOST_COLUMNS);
    bool         any                     = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = find_until(f, facts[i].value, ":");
        if (!is_something(value) && !json_is_false(value)) continue;
        if (!any) fprintf(f->to, "<div><h3>%.*s</h3><div class=\"scroll\"><table><tbody>\n", (int)(lines - tag), tag);
        any = true;
        fprintf(f->to, "<tr><th scope=\"row\">%s</th><td class=\"text\">", facts[i].head);
        write_value(f, facts[i].value);
        fputs("</td></tr>\n", f->to);
    }
    if (any) fputs("</tbody></table></div></div>\n", f->to);
}

/* ---- all ---- */

static void fill_tag(filler *f, const char *tag)
{
    if (strchr("#^*", tag[0]) != NULL)
        open_section(f, tag[0], tag + 1);
    else if (tag[0] == '/')
        close_section(f);
    else if (strncmp(tag, "table ", 6) == 0)
        write_table(f, tag + 6);
    else if (strncmp(tag, "facts ", 6) == 0)
        write_facts(f, tag + 6);
    else
        write_value(f, tag);
}

void qr_template_fill(const char *text, size_t size, const json_t *root, qr_value_writer *write, FILE *to)
{
    filler f = {.at = text, .end = text + size, .write = write, .to = to};
    push(&f, root);
    while (f.at < f.end) {
        const char *open  = memmem(f.at, (size_t)(f.end - f.at), "{{", 2);
        const char *close = open ? memmem(open, (size_t)(f.end - open), "}}", 2) : NULL;
        fwrite(f.at, 1, (size_t)((close ? open : f.end) - f.at), to);
        if (close == NULL) break;
        char *tag = strndup(open + 2, (size_t)(close - open) - 2);
        f.at      = close + 2;
        if (tag != NULL) fill_tag(&f, tag);
        free(tag);
    }
}
