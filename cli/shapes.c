/* quire shapes: which matrix products a model consists of, and which of their dimensions grow while it decodes. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/session.h"
#include "cli/command.h"
#include "cli/shape_table.h"

enum { DEFAULT_PROMPT = 5, DEFAULT_INPUT = 7, DEFAULT_STEPS = 4, MOST_TOKENS = 1 << 20 };

typedef struct list {
    uint32_t tokens[QR_SHAPE_SEQUENCES], count;
} list;

typedef struct settings {
    qr_arguments common;
    list         prompts, inputs;
    uint32_t     steps;
    bool         json;
} settings;

/* ---- the table ---- */

static bool differs(const qr_shape_table *t, uint32_t step, size_t product)
{
    const qr_shape *now = qr_shape_at(t, step, product);
    return step > 0 && now->m > 0 && memcmp(now, qr_shape_at(t, step - 1, product), sizeof *now) != 0;
}

static uint32_t keys_of(const qr_product *product, const qr_shape *shape)
{
    return product->sums ? shape->k : shape->n;
}

/* "[rows, 64] x [64, keys]": what varies has a name. */
static void print_form(const qr_product *p)
{
    char text[64];
    if (qr_product_is_attention(p) && p->sums)
        snprintf(text, sizeof text, "[rows, keys] x [keys, %u]", p->n);
    else if (qr_product_is_attention(p))
        snprintf(text, sizeof text, "[rows, %u] x [%u, keys]", p->k, p->k);
    else
        snprintf(text, sizeof text, "[rows, %u] x %s[%u, %u]", p->k, p->matrices > 1 ? "2 of " : "", p->k, p->n);
    fprintf(qr_stdout, "%-36s", text);
}

static void print_name(const qr_shape_table *t, const qr_product *p)
{
    char text[64], whose[24] = "", where[32] = "";
    if (qr_product_is_attention(p) && t->run.sequence_count > 1)
        snprintf(whose, sizeof whose, " of %u", p->sequence + 1);
    if (p->heads > 1) snprintf(where, sizeof where, ", %u heads", p->heads);
    if (p->kind == QR_PRODUCT_EXPERT_ROWS) snprintf(where, sizeof where, ", %u a row", p->experts_per_token);
    snprintf(text, sizeof text, "%s%s%s", p->name, whose, where);
    fprintf(qr_stdout, "  %-30s ", text);
}

enum { CELL = 32, LEAST_WIDTH = 10 };

static void cell_text(const qr_shape_table *t, uint32_t step, size_t product, char text[CELL])
{
    const qr_product *p     = &t->products[product];
    const qr_shape   *shape = qr_shape_at(t, step, product);
    if (shape->m == 0)
        snprintf(text, CELL, "-");
    else if (qr_product_is_attention(p))
        snprintf(text, CELL, "%u x %u", shape->m, keys_of(p, shape));
    else
        snprintf(text, CELL, "%u", shape->m);
}

/* Of the widest cell and a space. */
static int width_of(const qr_shape_table *t)
{
    int width = LEAST_WIDTH;
    for (uint32_t step = 0; step < t->run.steps; step++)
        for (size_t i = 0; i < t->product_count; i++) {
            char text[CELL];
            cell_text(t, step, i, text);
            if ((int)strlen(text) >= width) width = (int)strlen(text) + 1;
        }
    return width;
}

/* With room for a mark before the next. */
static void print_cell(const qr_shape_table *t, uint32_t step, int width, const char *text, bool marked)
{
    fprintf(qr_stdout, "%*s%s", width, text, marked ? "*" : step + 1 < t->run.steps ? " " : "");
}

static void print_cells(const qr_shape_table *t, size_t product, int width)
{
    for (uint32_t step = 0; step < t->run.steps; step++) {
        char text[CELL];
        cell_text(t, step, product, text);
        print_cell(t, step, width, text, differs(t, step, product));
    }
    fputc('\n', qr_stdout);
}

static const char *kind_of(const qr_shape_step *step)
{
    if (step->rows == 0) return step->rows_encoder > 0 ? "encoder" : "-";
    if (step->rows_prompt == 0) return "decode";
    return step->rows_prompt < step->rows ? "both" : "prompt";
}

static void print_head(const qr_shape_table *t, int width)
{
    char number[12];
    fprintf(qr_stdout, "%-69s", "step");
    for (uint32_t step = 0; step < t->run.steps; step++) {
        snprintf(number, sizeof number, "%u", step + 1);
        print_cell(t, step, width, number, false);
    }
    fprintf(qr_stdout, "\n%-69s", "");
    for (uint32_t step = 0; step < t->run.steps; step++) print_cell(t, step, width, kind_of(&t->steps[step]), false);
    fputc('\n', qr_stdout);
}

static void print_table(const qr_shape_table *t)
{
    const int width = width_of(t);
    print_head(t, width);
    for (size_t i = 0; i < t->product_count; i++) {
        if (i == 0 || t->products[i].group != t->products[i - 1].group)
            fprintf(qr_stdout, "%s\n", t->groups[t->products[i].group]);
        print_name(t, &t->products[i]);
        print_form(&t->products[i]);
        print_cells(t, i, width);
    }
    fprintf(qr_stdout, "rows, and of attention rows x keys; *: not as in the step before; -: not run\n");
}

/* ---- JSON ---- */

static json_t *steps_json(const qr_shape_table *t)
{
    json_t *steps = json_array();
    for (uint32_t i = 0; i < t->run.steps; i++) {
        const qr_shape_step *s = &t->steps[i];
        json_array_append_new(steps, json_pack("{s:i, s:i, s:i, s:i, s:i}", "sequences", (int)s->sequences, "rows",
                                               (int)s->rows, "rows_prompt", (int)s->rows_prompt, "rows_encoder",
                                               (int)s->rows_encoder, "rows_logits", (int)s->rows_logits));
    }
    return steps;
}

/* [m, k, n] of each step; null where it is not run. */
static json_t *shapes_json(const qr_shape_table *t, size_t product)
{
    json_t *shapes = json_array();
    for (uint32_t step = 0; step < t->run.steps; step++) {
        const qr_shape *s = qr_shape_at(t, step, product);
        json_array_append_new(shapes,
                              s->m == 0 ? json_null() : json_pack("[i, i, i]", (int)s->m, (int)s->k, (int)s->n));
    }
    return shapes;
}

static json_t *product_json(const qr_shape_table *t, size_t i)
{
    const qr_product *p = &t->products[i];
    json_t           *object =
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:o}", "group", t->groups[p->group], "name", p->name, "layers",
                  (int)p->layers, "heads", (int)p->heads, "matrices", (int)p->matrices, "shapes", shapes_json(t, i));
    if (qr_product_is_attention(p)) json_object_set_new(object, "sequence", json_integer(p->sequence));
    return object;
}

static void print_json(const qr_shape_table *t, const quire_model_info *info)
{
    json_t *products = json_array();
    for (size_t i = 0; i < t->product_count; i++) json_array_append_new(products, product_json(t, i));
    json_t *whole = json_pack("{s:s, s:s, s:s, s:o, s:o}", "schema", "quire.shapes/1", "model", info->name,
                              "model_type", info->architecture, "steps", steps_json(t), "products", products);
    json_dumpf(whole, qr_stdout, JSON_INDENT(1));
    json_decref(whole);
    fputc('\n', qr_stdout);
}

/* ---- what is played ---- */

static uint32_t of_sequence(const list *l, uint32_t sequence)
{
    return l->count == 1 ? l->tokens[0] : l->tokens[sequence]; /* zero where there are none */
}

/* One length goes for all sequences. */
static bool plan_run(const settings *s, const quire_model_info *info, qr_shape_run *run)
{
    const bool encoder = info->encoder_layers > 0;
    list       prompts = s->prompts, inputs = s->inputs;
    if (!encoder && inputs.count > 0)
        return qr_complain("--inputs: %s is decoder-only, there is no encoder", info->name), false;
    if (!encoder && prompts.count == 0) prompts = (list){{DEFAULT_PROMPT}, 1};
    if (encoder && inputs.count == 0) inputs = (list){{DEFAULT_INPUT}, 1};
    *run = (qr_shape_run){.steps          = s->steps,
                          .sequence_count = prompts.count > inputs.count ? prompts.count : inputs.count};
    if (prompts.count > 1 && inputs.count > 1 && prompts.count != inputs.count)
        return qr_complain("--inputs: %u lengths beside %u of --prompts", inputs.count, prompts.count), false;
    for (uint32_t i = 0; i < run->sequence_count; i++) {
        run->prompt_tokens[i]  = of_sequence(&prompts, i);
        run->encoder_tokens[i] = of_sequence(&inputs, i);
    }
    return true;
}

static int show_model(const settings *s, const quire_config *config, const quire_model *model)
{
    qr_shape_table   table = {0};
    quire_model_info info  = {.size = sizeof info};
    quire_error      error = {0};
    qr_shape_run     run;
    quire_model_describe(model, &info);
    if (!plan_run(s, &info, &run)) return QR_EXIT_USAGE;
    const quire_status status = qr_shape_table_init(&table, model, quire_config_engine(config), &run, &error);
    if (status == QUIRE_OK && s->json) print_json(&table, &info);
    if (status == QUIRE_OK && !s->json) print_table(&table);
    qr_shape_table_deinit(&table);
    return status == QUIRE_OK ? QR_EXIT_OK : qr_report_error(&error);
}

static int show(void *context, const quire_config *config)
{
    const quire_logger logger = qr_logger_of(config);
    quire_model       *model  = NULL;
    quire_error        error  = {0};
    if (qr_session_open_model(config, &logger, &model, &error) != QUIRE_OK) return qr_report_error(&error);
    const int status = show_model(context, config, model);
    quire_model_destroy(model);
    return status;
}

/* ---- options ---- */

enum { OPTION_PROMPTS = 1, OPTION_INPUTS, OPTION_STEPS, OPTION_JSON };

static const struct argp_option options[] = {
    {"prompts", OPTION_PROMPTS, "N,...", 0,
     "tokens of each sequence's prompt, 1..1048576 (default 5; encoder-decoder: the model's start token)", 0},
    {"inputs", OPTION_INPUTS, "N,...", 0, "tokens of each encoder input, 1..1048576 (default 7)", 0},
    {"steps", OPTION_STEPS, "N", 0, "steps to show, 1..32 (default 4)", 0},
    {"json", OPTION_JSON, NULL, 0, "print quire.shapes/1 instead of a table", 0},
    {0},
};

static uint32_t read_number(struct argp_state *state, const char *flag, const char *text, long most, char **end)
{
    const long number = strtol(text, end, 10);
    if (*end == text || (**end != '\0' && **end != ',') || number < 1 || number > most)
        argp_error(state, "%s: %s is not in 1..%ld", flag, text, most);
    return (uint32_t)number;
}

static void read_list(struct argp_state *state, const char *flag, const char *text, list *out)
{
    char *end;
    *out = (list){.count = 0};
    for (;; text = end + 1) {
        if (out->count == QR_SHAPE_SEQUENCES) argp_error(state, "%s: more than %d lengths", flag, QR_SHAPE_SEQUENCES);
        out->tokens[out->count++] = read_number(state, flag, text, MOST_TOKENS, &end);
        if (*end == '\0') return;
    }
}

static void read_steps(struct argp_state *state, const char *text, settings *s)
{
    char *end;
    s->steps = read_number(state, "--steps", text, QR_SHAPE_STEPS, &end);
    if (*end != '\0') argp_error(state, "--steps: %s is not in 1..%d", text, QR_SHAPE_STEPS);
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case OPTION_PROMPTS: read_list(state, "--prompts", value, &s->prompts); return 0;
    case OPTION_INPUTS: read_list(state, "--inputs", value, &s->inputs); return 0;
    case OPTION_STEPS: read_steps(state, value, s); return 0;
    case OPTION_JSON: s->json = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int qr_command_shapes(int argc, char **argv)
{
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "[CONFIG]",
        .doc      = "Show the shape of every matrix product of a model in the first steps of some sequences: products "
                    "from the model's own list, rows and keys from the planner. Nothing is computed."
                    "\vdocs/DECODING.md explains what it shows.\n\n"
                    "  quire shapes --model llama-3.2-1b --prompts 5\n"
                    "  quire shapes --model t5-small --inputs 7,4 --steps 6",
    };
    settings s = {.steps = DEFAULT_STEPS};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, show, &s);
}
