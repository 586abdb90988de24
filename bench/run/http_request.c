/* The ids are written by hand: a long prompt as a tree of JSON values would hold up the generator. */
#include "bench/run/http_request.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *qr_http_obstacle(const quire_request *r)
{
    if (r->beam_width > 1) return "beam search";
    if (r->encoder_features != NULL) return "features as the encoder's input";
    if (r->masked) return "a mask";
    if (r->allowed_count > 0 || r->first_allowed_count > 0 || r->last_allowed_count > 0)
        return "lists of allowed tokens";
    if (r->banned_count > 0 || r->first_banned_count > 0) return "lists of banned tokens";
    return r->prompt_logprobs ? "prompt_logprobs" : NULL;
}

/* ---- members ---- */

static void set_number(json_t *to, const char *name, double value, double off)
{
    if (value < off || value > off) json_object_set_new(to, name, json_real(value));
}

static void set_count(json_t *to, const char *name, int64_t value)
{
    if (value != 0) json_object_set_new(to, name, json_integer(value));
}

static void set_text(json_t *to, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') json_object_set_new(to, name, json_string(value));
}

static void set_bias(json_t *to, const quire_request *r)
{
    json_t *bias = json_object();
    for (uint32_t i = 0; i < r->logit_bias_count; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", r->logit_bias[i].token);
        json_object_set_new(bias, id, json_real((double)r->logit_bias[i].bias));
    }
    if (r->logit_bias_count > 0) json_object_set(to, "logit_bias", bias);
    json_decref(bias);
}

static void set_sampling(json_t *to, const quire_sampling *s)
{
    json_object_set_new(to, "temperature", json_real((double)s->temperature));
    if (s->temperature > 0) set_count(to, "seed", (int64_t)(s->seed & INT32_MAX)); /* all servers take so much */
    if (s->top_p > 0) set_number(to, "top_p", (double)s->top_p, 1);
    set_number(to, "presence_penalty", (double)s->presence_penalty, 0);
    set_number(to, "frequency_penalty", (double)s->frequency_penalty, 0);
}

static void set_extensions(json_t *to, const qr_http_form *form, const quire_request *r)
{
    json_t *stop = json_array();
    for (uint32_t i = 0; i < r->stop_count; i++) json_array_append_new(stop, json_integer(r->stop[i]));
    if (r->stop_count > 0) json_object_set(to, "stop_token_ids", stop);
    json_decref(stop);
    json_object_set_new(to, "ignore_eos", json_boolean(r->ignore_eos));
    if (form->wants_ids || r->n > 1) json_object_set_new(to, "return_token_ids", json_true());
    json_object_set_new(json_object_get(to, "stream_options"), "continuous_usage_stats", json_true());
    set_count(to, "top_k", r->sampling.top_k);
    set_number(to, "min_p", (double)r->sampling.min_p, 0);
    if (r->sampling.repetition_penalty > 0)
        set_number(to, "repetition_penalty", (double)r->sampling.repetition_penalty, 1);
    set_count(to, "min_tokens", r->min_tokens);
    set_count(to, "priority", r->priority);
    set_text(to, "cache_salt", r->cache_salt);
}

static json_t *head_of(const qr_http_form *form, const quire_request *r)
{
    json_t *to =
        json_pack("{s:s, s:b, s:{s:b}}", "model", form->model, "stream", 1, "stream_options", "include_usage", 1);
    if (to == NULL) return NULL;
    set_count(to, "max_tokens", r->max_tokens);
    if (r->n > 1) set_count(to, "n", r->n);
    set_count(to, "logprobs", r->logprobs);
    set_text(to, "user", r->tenant);
    set_sampling(to, &r->sampling);
    set_bias(to, r);
    if (form->takes_extensions) set_extensions(to, form, r);
    return to;
}

/* ---- the prompt ---- */

static void write_ids(const int32_t *ids, uint32_t count, FILE *to)
{
    for (uint32_t i = 0; i < count; i++) fprintf(to, "%c%d", i == 0 ? '[' : ',', ids[i]);
    fputs(count > 0 ? "]" : "[]", to);
}

/* Words that are one token each in most vocabularies: equal ids, equal words. */
static void write_words(const int32_t *ids, uint32_t count, FILE *to)
{
    static const char *const words[] = {"the", "of",   "and",  "to",   "in",    "is",    "that", "for",   "it",
                                        "as",  "was",  "with", "be",   "by",    "on",    "not",  "he",    "this",
                                        "are", "or",   "his",  "from", "at",    "which", "but",  "have",  "an",
                                        "had", "they", "you",  "were", "there", "one",   "all",  "we",    "can",
                                        "her", "has",  "been", "if",   "more",  "when",  "will", "would", "who",
                                        "so",  "no",   "out",  "up",   "said",  "what",  "its",  "about", "than"};
    fputc('"', to);
    for (uint32_t i = 0; i < count; i++)
        fprintf(to, "%s%s", i > 0 ? " " : "", words[(uint32_t)ids[i] % (sizeof words / sizeof *words)]);
    fputc('"', to);
}

char *qr_http_body(const qr_http_form *form, const quire_request *r, size_t *length_out)
{
    const bool     is_encoded = r->encoder_count > 0;
    const int32_t *ids        = is_encoded ? r->encoder_input : r->prompt;
    const uint32_t count      = is_encoded ? r->encoder_count : r->prompt_count;
    json_t        *head       = head_of(form, r);
    char *members = head != NULL ? json_dumps(head, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL, *body = NULL;
    FILE *to = members != NULL ? open_memstream(&body, length_out) : NULL;
    json_decref(head);
    if (to == NULL) return free(members), NULL;
    fprintf(to, "%.*s,\"prompt\":", (int)strlen(members) - 1, members); /* without the brace at its end */
    (form->takes_ids ? write_ids : write_words)(ids, count, to);
    fputc('}', to);
    free(members);
    const bool failed = ferror(to) != 0;
    if (fclose(to) == 0 && !failed) return body;
    free(body);
    return NULL;
}
