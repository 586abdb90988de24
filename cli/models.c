/* quire models: the families' types and the presets, from the lists that loading goes by. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "model/family.h"
#include "model/gguf_names.h"
#include "model/presets.h"

typedef struct settings {
    qr_arguments common;
    bool         json;
} settings;

/* What is known of one type, with its lists as arrays; NULL: no memory. */
static json_t *row_of(const qr_family *family, const qr_model_type *type)
{
    json_t *classes = json_array(), *presets = json_array();
    for (size_t i = 0; i < QR_TYPE_CLASSES && type->classes[i] != NULL; i++)
        json_array_append_new(classes, json_string(type->classes[i]));
    for (uint32_t i = 0; qr_preset_name(i) != NULL; i++) {
        qr_architecture a;
        if (qr_architecture_preset(qr_preset_name(i), NULL, 0, &a, NULL) != QUIRE_OK) continue;
        if (strcmp(a.model_type, type->name) == 0) json_array_append_new(presets, json_string(qr_preset_name(i)));
    }
    return json_pack("{s:s, s:s, s:o, s:b, s:s, s:o}", "model_type", type->name, "kind",
                     qr_model_kind_name(family->kind), "classes", classes, "gguf", qr_gguf_has_type(type->name),
                     "about", type->about, "presets", presets);
}

static json_t *rows_of_all(void)
{
    json_t *rows = json_array();
    for (uint32_t f = 0; qr_family_at(f) != NULL; f++)
        for (uint32_t t = 0; t < QR_FAMILY_TYPES && qr_family_at(f)->types[t].name != NULL; t++)
            if (json_array_append_new(rows, row_of(qr_family_at(f), &qr_family_at(f)->types[t])) != 0)
                return json_decref(rows), NULL;
    return rows;
}

/* ---- printing ---- */

static void print_list(const char *before, const json_t *list)
{
    size_t  i;
    json_t *name;
    json_array_foreach(list, i, name) fprintf(qr_stdout, "%s%s", i == 0 ? before : ", ", json_string_value(name));
    if (i > 0) fputc('\n', qr_stdout);
}

static const char *text(const json_t *row, const char *key) { return json_string_value(json_object_get(row, key)); }

static void print_table(const json_t *rows)
{
    size_t  i;
    json_t *row;
    fprintf(qr_stdout, "%-12s %-19s %-18s %s\n", "model_type", "kind", "read from", "architectures");
    json_array_foreach(rows, i, row)
    {
        const bool gguf = json_is_true(json_object_get(row, "gguf"));
        fprintf(qr_stdout, "%-12s %-19s %-18s ", text(row, "model_type"), text(row, "kind"),
                gguf ? "safetensors, GGUF" : "safetensors");
        print_list("", json_object_get(row, "classes"));
        fprintf(qr_stdout, "%12s %s\n", "", text(row, "about"));
        print_list("             presets: ", json_object_get(row, "presets"));
    }
}

static int show(void *context, const quire_config *config)
{
    (void)config;
    const settings *s    = context;
    json_t         *rows = rows_of_all();
    if (rows == NULL) return qr_complain("no memory for a list of models"), QR_EXIT_FAILED;
    if (s->json) {
        json_t *whole = json_pack("{s:s, s:O}", "schema", "quire.models/1", "models", rows);
        json_dumpf(whole, qr_stdout, JSON_INDENT(2));
        json_decref(whole);
        fputc('\n', qr_stdout);
    } else
        print_table(rows);
    json_decref(rows);
    return QR_EXIT_OK;
}

/* ---- options ---- */

enum { OPTION_JSON = 1 };

static const struct argp_option options[] = {
    {"json", OPTION_JSON, NULL, 0, "print quire.models/1 instead of a table", 0},
    {0},
};

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    (void)value;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case OPTION_JSON: s->json = true; return 0;
    case ARGP_KEY_END:
        if (s->common.assignment_count > 0)
            argp_error(state, "%s: `quire models` lists all models and takes no settings",
                       s->common.assignments[0].origin);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int qr_command_models(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser  = parse,
        .doc     = "List the models that can be loaded: by the model_type of config.json, the classes that its "
                   "`architectures` may name, and presets with synthetic weights."
                   "\vWhat is read of each and what is refused: docs/MODELS.md.",
    };
    settings s = {0};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, show, &s);
}
