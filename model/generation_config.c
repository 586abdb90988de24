/* The keys that transformers' generate() and vLLM take from generation_config.json. */
#include "model/generation_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "model/config_json.h"
#include "model/config_reader.h"
#include "model/files.h"

enum { PATH_BYTES = 4096 };

/* What changes the tokens and is not done here; with the value that means nothing (null always does). */
static const struct {
    const char *key;
    double      neutral;
} not_applied[] = {
    {"num_beams", 1},
    {"no_repeat_ngram_size", 0},
    {"encoder_no_repeat_ngram_size", 0},
    {"encoder_repetition_penalty", 1},
    {"min_length", 0},
    {"min_new_tokens", 0},
    {"typical_p", 1},
    {"epsilon_cutoff", 0},
    {"eta_cutoff", 0},
    {"top_h", 0},
    {"guidance_scale", 1},
    {"forced_decoder_ids", -1},
    {"sequence_bias", -1},
    {"exponential_decay_length_penalty", -1},
    {"penalty_alpha", 0},
    {"max_length", 20}, /* transformers' own default */
    {"max_time", -1},
    {"stop_strings", -1},
    {"length_penalty", 1},
    {"num_beam_groups", 1},
    {"diversity_penalty", 0},
    {"num_return_sequences", 1},
    {"presence_penalty", 0},
    {"frequency_penalty", 0},
};

static bool is_ignored(const qr_config_reader *r, size_t i)
{
    const json_t *value   = json_object_get(r->root, not_applied[i].key);
    const bool    neutral = json_is_number(value) && json_number_value(value) == not_applied[i].neutral;
    const bool    empty   = json_is_array(value) && json_array_size(value) == 0;
    return qr_config_has(r, not_applied[i].key) && !neutral && !empty;
}

static void warn_of(const char *origin, const char *names, qr_log *log)
{
    if (names[0] != 0)
        qr_log_write(log, QUIRE_LOG_WARN, "%s: not applied, a request must ask for its like: %s", origin, names);
}

static bool has_longer_bad_words(const qr_config_reader *r)
{
    size_t        i;
    const json_t *word;
    json_array_foreach(json_object_get(r->root, "bad_words_ids"), i, word) if (json_array_size(word) > 1) return true;
    return false;
}

/* All of them by name; another line where a message would be too long. */
static void warn_of_the_rest(const qr_config_reader *r, qr_log *log)
{
    enum { MOST_OF_A_LINE = 280, LONGEST = 48 };
    char   names[MOST_OF_A_LINE + LONGEST] = "";
    size_t length                          = 0;
    for (size_t i = 0; i < sizeof not_applied / sizeof *not_applied; i++) {
        if (!is_ignored(r, i)) continue;
        length += (size_t)snprintf(names + length, sizeof names - length, "%s\"%s\"", length > 0 ? ", " : "",
                                   not_applied[i].key);
        if (length < MOST_OF_A_LINE) continue;
        warn_of(r->origin, names, log);
        names[length = 0] = 0;
    }
    warn_of(r->origin, names, log);
    if (has_longer_bad_words(r)) warn_of(r->origin, "\"bad_words_ids\" of more than one id", log);
}

/* 0 is off, and so is what leaves the whole vocabulary. */
static uint32_t read_top_k(qr_config_reader *r, uint32_t vocab_size)
{
    const int64_t top_k = qr_config_integer(r, r->root, "top_k", -1, INT64_MAX, 0);
    return top_k > 0 && top_k < vocab_size ? (uint32_t)top_k : 0;
}

static double read_top_p(qr_config_reader *r)
{
    const double top_p = qr_config_number(r, r->root, "top_p", 0, 1, 1);
    if (top_p == 0) QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: top_p: 0 must be above 0", r->origin);
    return qr_config_has(r, "top_p") ? top_p : 0;
}

/* As vLLM takes them; but `do_sample: false` is greedy decoding here too, whatever stands beside it. */
static void read_sampling(qr_config_reader *r, uint32_t vocab_size, quire_sampling *s)
{
    const bool     sampled = qr_config_boolean(r, "do_sample", true);
    const bool     asked   = sampled && qr_config_has(r, "do_sample");
    const double   heat    = qr_config_number(r, r->root, "temperature", 0, 100, asked ? 1 : 0);
    const uint32_t top_k   = read_top_k(r, vocab_size);
    const double   top_p   = read_top_p(r);
    const double   min_p   = qr_config_number(r, r->root, "min_p", 0, 1, 0);
    s->repetition_penalty  = (float)qr_config_number(r, r->root, "repetition_penalty", 0.01, 100, 0);
    if (!sampled) return;
    s->temperature = (float)heat;
    s->top_k       = top_k;
    s->top_p       = (float)top_p;
    s->min_p       = (float)min_p;
}

/* ---- ids ---- */

typedef struct id_list {
    const char *key;
    int32_t    *ids; /* [capacity] */
    uint32_t   *count;
    uint32_t    capacity, vocab_size;
} id_list;

/* An id beyond the vocabulary can neither be chosen nor left out. */
static void add_id(qr_config_reader *r, const id_list *list, const json_t *value)
{
    if (!json_is_integer(value)) {
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: expected an integer, found %s", r->origin, list->key,
                    qr_json_type_name(value));
        return;
    }
    const json_int_t id = json_integer_value(value);
    if (id < 0) QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %lld is below 0", r->origin, list->key, (long long)id);
    if (id < 0 || id >= list->vocab_size) return;
    if (*list->count == list->capacity)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: more than %u ids", r->origin, list->key, list->capacity);
    else
        list->ids[(*list->count)++] = (int32_t)id;
}

/* One id or several. */
static void read_ids(qr_config_reader *r, const id_list *list)
{
    const json_t *value = json_object_get(r->root, list->key), *element;
    size_t        i;
    if (!qr_config_has(r, list->key)) return;
    if (!json_is_array(value)) add_id(r, list, value);
    json_array_foreach(value, i, element) add_id(r, list, element);
}

static bool ends_a_sequence(const qr_architecture *a, json_int_t id)
{
    for (uint32_t i = 0; i < a->eos_count; i++)
        if (a->eos_token_ids[i] == id) return true;
    return false;
}

/* A list of words, each of one id or several: of these only the former are applied; and as in transformers, no end of
 * sequence. */
static void read_bad_words(qr_config_reader *r, const qr_architecture *a, const id_list *list)
{
    size_t        i;
    const json_t *word;
    json_array_foreach(qr_config_array(r, list->key), i, word)
    {
        const json_t *first = json_array_get(word, 0);
        if (!json_is_array(word))
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s[%zu]: expected an array, found %s", r->origin, list->key, i,
                        qr_json_type_name(word));
        if (json_array_size(word) == 1 && !(json_is_integer(first) && ends_a_sequence(a, json_integer_value(first))))
            add_id(r, list, first);
    }
}

static void read_rules(qr_config_reader *r, const qr_architecture *a, qr_generation *g)
{
    const uint32_t vocab        = a->vocab_size;
    const id_list  suppressed   = {"suppress_tokens", g->banned, &g->banned_count, QUIRE_MAX_LISTED_IDS, vocab};
    const id_list  bad_words    = {"bad_words_ids", g->banned, &g->banned_count, QUIRE_MAX_LISTED_IDS, vocab};
    const id_list  first_banned = {"begin_suppress_tokens", g->first_banned, &g->first_banned_count, QUIRE_MAX_STOP_IDS,
                                   vocab};
    const id_list  forced_bos   = {"forced_bos_token_id", g->first_allowed, &g->first_allowed_count, QUIRE_MAX_STOP_IDS,
                                   vocab};
    const id_list  forced_eos   = {"forced_eos_token_id", g->last_allowed, &g->last_allowed_count, QUIRE_MAX_STOP_IDS,
                                   vocab};
    read_ids(r, &suppressed);
    read_bad_words(r, a, &bad_words);
    read_ids(r, &first_banned);
    read_ids(r, &forced_bos);
    read_ids(r, &forced_eos);
}

static quire_status read_root(qr_config_reader *r, qr_architecture *a, qr_generation *generation)
{
    const int64_t last = (int64_t)a->vocab_size - 1, start = a->decoder_start_token_id;
    if (qr_config_has(r, "eos_token_id")) {
        a->eos_count = 0;
        qr_config_read_eos(r, a);
    }
    if (a->encoder_layers > 0)
        a->decoder_start_token_id = (int32_t)qr_config_integer(r, r->root, "decoder_start_token_id", 0, last, start);
    read_sampling(r, a->vocab_size, &generation->sampling);
    read_rules(r, a, generation);
    generation->max_new_tokens = (uint32_t)qr_config_integer(r, r->root, "max_new_tokens", 1, UINT32_MAX, 0);
    return r->status;
}

quire_status qr_generation_parse(const char *text, size_t length, const char *origin, qr_architecture *architecture,
                                 qr_generation *generation_out, qr_log *log, quire_error *error)
{
    json_t *root;
    *generation_out = (qr_generation){0};
    QR_TRY(qr_config_parse(text, length, &origin, &root, error));
    qr_config_reader   r      = {.root = root, .origin = origin, .error = error};
    const quire_status status = read_root(&r, architecture, generation_out);
    if (status == QUIRE_OK) warn_of_the_rest(&r, log);
    json_decref(root);
    return status;
}

quire_status qr_generation_read(const char *folder, qr_architecture *architecture, qr_generation *generation_out,
                                qr_log *log, quire_error *error)
{
    char     path[PATH_BYTES], *text;
    uint64_t length;
    *generation_out = (qr_generation){0};
    if ((size_t)snprintf(path, sizeof path, "%s/generation_config.json", folder) >= sizeof path)
        return qr_fail(error, QUIRE_ERR_IO, "model.path: %zu bytes are too long", strlen(folder));
    struct stat file; /* of the name: a link to nothing is not an absent file */
    if (lstat(path, &file) != 0 && errno == ENOENT) return QUIRE_OK;
    quire_status status = qr_file_read_whole(path, QR_CONFIG_MAX_BYTES, NULL, &text, &length, error);
    if (status == QUIRE_OK) status = qr_generation_parse(text, length, path, architecture, generation_out, log, error);
    qr_deallocate(NULL, text, length);
    return status;
}
