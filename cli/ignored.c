/* See ignored.h. */
#include "cli/ignored.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_one_of(const char *value, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (value != NULL && strcmp(value, names[i]) == 0) return true;
    return false;
}

/* `key` itself or a member of its table. */
static bool is_within(const char *key, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(key, name, length) == 0 && (key[length] == '\0' || key[length] == '.');
}

const char *qr_ignored_because(const quire_config *config, const char *key, const char **value_out)
{
    static const char *const rated[]   = {"constant", "poisson", "gamma", "weibull"};
    const char              *profile   = quire_config_string(config, "load.profile");
    const char              *source    = quire_config_string(config, "workload.source");
    const bool               is_random = source == NULL || strcmp(source, "random") == 0;
    *value_out                         = profile;
    if (strcmp(key, "load.request_rate") == 0 && !is_one_of(profile, rated, sizeof rated / sizeof *rated))
        return "is of the profiles constant, poisson, gamma and weibull; load.profile is";
    if (strcmp(key, "load.streams") == 0 && profile != NULL && strcmp(profile, "concurrent") != 0)
        return "is of the profile concurrent; load.profile is";
    *value_out = source;
    if (!is_random && strcmp(key, "workload.num_prompts") == 0)
        return "is of random workloads, all requests are played; workload.source is";
    if (!is_random && (is_within(key, "workload.prompt_tokens") || is_within(key, "workload.output_tokens")))
        return "is of random workloads; workload.source is";
    return NULL;
}

bool qr_is_changed(const quire_config *config, const char *name)
{
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(i)) != NULL; i++)
        if (strcmp(key->name, name) == 0) break;
    const double fallback = key != NULL && key->fallback != NULL ? strtod(key->fallback, NULL) : NAN;
    return quire_config_number(config, name, fallback) != fallback &&
           strcmp(quire_config_origin(config, name), "default scenario") != 0;
}

/* Somebody chose these lengths, and not 128 as they are anyway. */
static bool is_chosen(const quire_config *config, const char *dist, const char *value)
{
    const char *origin = quire_config_origin(config, dist), *form = quire_config_string(config, dist);
    if (strcmp(origin, "built-in") == 0 || strcmp(origin, "default scenario") == 0) return false;
    return form == NULL || strcmp(form, "fixed") != 0 || quire_config_number(config, value, 128) != 128;
}

static void warn(const quire_config *config, const char *key, const char *origin_key)
{
    const char *value, *why = qr_ignored_because(config, key, &value);
    if (why != NULL) qr_warn("%s: %s %s \"%s\"", quire_config_origin(config, origin_key), key, why, value);
}

void qr_ignored_warn(const quire_config *config)
{
    static const char *const numbers[]    = {"workload.num_prompts", "load.request_rate", "load.streams"};
    static const char *const lengths[][3] = {
        {"workload.prompt_tokens", "workload.prompt_tokens.dist", "workload.prompt_tokens.value"},
        {"workload.output_tokens", "workload.output_tokens.dist", "workload.output_tokens.value"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (qr_is_changed(config, numbers[i])) warn(config, numbers[i], numbers[i]);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (is_chosen(config, lengths[i][1], lengths[i][2])) warn(config, lengths[i][0], lengths[i][1]);
}
