/* The table of keys as text for people, as JSON Schema for editors, as scdoc for the manual. */
#include "cli/keys.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/json_text.h"
#include "cli/command.h"
#include "cli/tool_config.h"

/* ---- for people ---- */

static bool matches(const quire_config_key *key, const char *pattern)
{
    return pattern == NULL || strcasestr(key->name, pattern) != NULL || strcasestr(key->help, pattern) != NULL;
}

int qr_keys_show(const char *pattern, bool found)
{
    const quire_config_key *key;
    for (size_t i = 0; (key = qr_tool_key_at(i)) != NULL; i++) {
        char flag[64] = "";
        if (!matches(key, pattern)) continue;
        if (!qr_flag_name(key, true, flag, sizeof flag)) qr_flag_name(key, false, flag, sizeof flag);
        fprintf(qr_stdout, "%s = %s  (%s%s%s)%s%s\n    %s\n", key->name, key->fallback ? key->fallback : "unset",
                key->type, key->range ? ": " : "", key->range ? key->range : "", flag[0] ? "  " : "", flag, key->help);
        found = true;
    }
    if (found) return QR_EXIT_OK;
    qr_complain("no flag or key has \"%s\" in its name or help; quire config keys lists all", pattern);
    return QR_EXIT_FAILED;
}

/* ---- for editors ---- */

/* "1..4096", ">0..1e6", "0..": bounds of a number. */
static void add_bounds(json_t *schema, const char *range)
{
    const char *low  = range[0] == '>' ? range + 1 : range;
    const char *dots = strstr(range, "..");
    json_object_set_new(schema, range[0] == '>' ? "exclusiveMinimum" : "minimum", json_real(strtod(low, NULL)));
    if (dots[2] != '\0') json_object_set_new(schema, "maximum", json_real(strtod(dots + 2, NULL)));
}

/* One of "a | 32 | 1..9 | forever": what a key of this type may be. */
static json_t *alternative(const char *type, const char *text)
{
    const bool is_text = strcmp(type, "string") == 0;
    json_t    *schema  = json_object();
    char      *end;
    const long number = strtol(text, &end, 10);
    if (strstr(text, "..") != NULL) {
        json_object_set_new(schema, "type", json_string(type));
        if (!is_text) add_bounds(schema, text);
    } else
        json_object_set_new(schema, "const", is_text || *end != '\0' ? json_string(text) : json_integer(number));
    return schema;
}

static void add_range(json_t *schema, const char *type, const char *range)
{
    json_t *alternatives = json_array();
    char   *copy = strdup(range), *rest = copy, *item;
    if (copy == NULL) qr_out_of_memory();
    while ((item = strsep(&rest, "|")) != NULL) {
        item += strspn(item, " ");
        item[strcspn(item, " ")] = '\0';
        json_array_append_new(alternatives, alternative(type, item));
    }
    free(copy);
    if (strstr(range, "..") == NULL) { /* words only: an enum reads better */
        json_t *words = json_array(), *one;
        size_t  i;
        json_array_foreach(alternatives, i, one) json_array_append(words, json_object_get(one, "const"));
        json_object_set_new(schema, "enum", words);
    } else if (json_array_size(alternatives) == 1)
        json_object_update(schema, json_array_get(alternatives, 0));
    else
        json_object_set(schema, "anyOf", alternatives);
    json_decref(alternatives);
}

static json_t *schema_of(const quire_config_key *key)
{
    static const struct {
        const char *type, *json;
    } types[]          = {{"integer", "integer"}, {"number", "number"},   {"boolean", "boolean"},
                          {"string", "string"},   {"path", "string"},     {"choice", "string"},
                          {"size", "string"},     {"duration", "string"}, {"array", "array"}};
    const char *type   = NULL;
    json_t     *schema = json_pack("{s:s}", "description", key->help);
    json_t     *fallback =
        key->fallback && key->fallback[0] != '{' ? json_loads(key->fallback, JSON_DECODE_ANY, NULL) : NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(key->type, types[i].type) == 0) type = types[i].json;
    if (type != NULL && key->range != NULL)
        add_range(schema, type, key->range);
    else if (type != NULL)
        json_object_set_new(schema, "type", json_string(type));
    if (fallback != NULL) json_object_set_new(schema, "default", fallback);
    return schema;
}

/* The object of a name's last but one part, made where it is missing: "a.b[].c" is a member of the items of a.b. */
static json_t *parent_of(json_t *root, char *name, const char **last)
{
    json_t *at = root;
    char   *part, *rest = name;
    for (part = strsep(&rest, "."); rest != NULL; part = strsep(&rest, ".")) {
        char *brackets = strstr(part, "[]");
        if (brackets != NULL) *brackets = '\0';
        json_t *properties = json_object_get(at, "properties");
        if (properties == NULL) json_object_set_new(at, "properties", properties = json_object());
        json_t *child = json_object_get(properties, part);
        if (child == NULL) json_object_set_new(properties, part, child = json_pack("{s:s}", "type", "object"));
        if (brackets != NULL && json_object_get(child, "items") == NULL)
            json_object_set_new(child, "items", json_pack("{s:s, s:b}", "type", "object", "additionalProperties", 0));
        at = brackets != NULL ? json_object_get(child, "items") : child;
    }
    *last = part;
    return at;
}

static void add_key(json_t *root, const quire_config_key *key)
{
    char        name[128];
    const char *last;
    snprintf(name, sizeof name, "%s", key->name);
    json_t *schema = schema_of(key), *parent = parent_of(root, name, &last);
    if (strcmp(last, "*") == 0) {
        json_object_set_new(parent, "additionalProperties", schema);
        return;
    }
    json_t *properties = json_object_get(parent, "properties");
    if (properties == NULL) json_object_set_new(parent, "properties", properties = json_object());
    char *brackets = strstr(name + (last - name), "[]");
    if (brackets != NULL) { /* the elements of an array */
        *brackets = '\0';
        json_object_set_new(json_object_get(properties, last), "items", schema);
        return;
    }
    json_t *present = json_object_get(properties, last);
    if (present != NULL)
        json_object_update_missing(present, schema), json_decref(schema);
    else
        json_object_set_new(properties, last, schema);
}

/* Sections take no names but their keys; a length is a number or a table, an axis a list or a range. */
static void close_sections(json_t *schema)
{
    const char *name;
    json_t     *section;
    json_object_set_new(schema, "additionalProperties", json_false());
    json_object_foreach(json_object_get(schema, "properties"), name, section)
    {
        if (json_object_get(section, "properties") != NULL && json_object_get(section, "additionalProperties") == NULL)
            json_object_set_new(section, "additionalProperties", json_false());
    }
}

static void loosen(json_t *root)
{
    static const char *const loose[][3] = {
        {"workload/properties/prompt_tokens", "object", "integer"},
        {"workload/properties/output_tokens", "object", "integer"},
        {"workload/properties/encoder_tokens", "object", "integer"},
        {"workload/properties/mix/items/properties/prompt_tokens", "object", "integer"},
        {"workload/properties/mix/items/properties/output_tokens", "object", "integer"},
        {"workload/properties/mix/items/properties/encoder_tokens", "object", "integer"},
        {"sweep/additionalProperties", "array", "string"}};
    for (size_t i = 0; i < sizeof loose / sizeof *loose; i++) {
        json_t *schema = (json_t *)qr_json_at(json_object_get(root, "properties"), loose[i][0]);
        json_object_del(schema, "type");
        json_object_set_new(schema, "type", json_pack("[s, s]", loose[i][1], loose[i][2]));
    }
}

int qr_keys_schema(void)
{
    json_t *root = json_pack("{s:s, s:s, s:s}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title",
                             "quire configuration", "type", "object");
    for (size_t i = 0; qr_tool_key_at(i) != NULL; i++) add_key(root, qr_tool_key_at(i));
    close_sections(root);
    loosen(root);
    const bool ok = json_dumpf(root, qr_stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0;
    json_decref(root);
    fputc('\n', qr_stdout);
    return ok ? QR_EXIT_OK : QR_EXIT_FAILED;
}

/* ---- for the manual ---- */

/* scdoc takes _ for underlining and * for bold, except behind a backslash. */
static void print_escaped(const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("_*\\[#", *text) != NULL) fputc('\\', qr_stdout);
        fputc(*text, qr_stdout);
    }
}

int qr_keys_scdoc(void)
{
    const quire_config_key *key;
    for (size_t i = 0; (key = qr_tool_key_at(i)) != NULL; i++) {
        fprintf(qr_stdout, "*");
        print_escaped(key->name);
        fprintf(qr_stdout, "* ");
        print_escaped(key->type);
        if (key->range != NULL) fprintf(qr_stdout, ", "), print_escaped(key->range);
        fprintf(qr_stdout, "\n\t");
        print_escaped(key->help);
        if (key->fallback != NULL) fprintf(qr_stdout, ". Default: "), print_escaped(key->fallback);
        fprintf(qr_stdout, "\n\n");
    }
    return QR_EXIT_OK;
}

static void print_cell(const char *text, const char *quote)
{
    fprintf(qr_stdout, "| %s", *text != '\0' ? quote : "");
    for (; *text != '\0'; text++) {
        if (*text == '|') fputc('\\', qr_stdout);
        fputc(*text, qr_stdout);
    }
}

int qr_keys_markdown(void)
{
    const quire_config_key *key;
    for (size_t i = 0; (key = qr_tool_key_at(i)) != NULL; i++) {
        const char *cells[] = {key->name, key->type, key->fallback ? key->fallback : "", key->range ? key->range : "",
                               key->help};
        for (size_t c = 0; c < sizeof cells / sizeof *cells; c++) {
            const char *quote = c == 0 || c == 2 ? "`" : "";
            print_cell(cells[c], quote);
            if (*cells[c] != '\0') fprintf(qr_stdout, "%s ", quote);
        }
        fputs("|\n", qr_stdout);
    }
    return QR_EXIT_OK;
}
