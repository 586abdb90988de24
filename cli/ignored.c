/* Which keys a load profile or a workload source leaves without effect, and the warnings about those that are set. */
#include "cli/ignored.h"

#include "bench/result/result_json.h"
#include "bench/workload/workload.h"

#include <string.h>

/* `key` itself or a member of its table. */
static bool is_within(const char *key, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(key, name, length) == 0 && (key[length] == '\0' || key[length] == '.');
}

/* What a server reads nothing of; a model that is named gives its vocabulary. */
static bool is_of_engine(const char *key)
{
    return qr_is_engine_key(key) && strchr(key, '[') == NULL && strcmp(key, "model.path") != 0 &&
           strcmp(key, "model.preset") != 0 && strcmp(key, "model.max_model_len") != 0;
}

const char *qr_ignored_because(const quire_config *config, const char *key, const char **value_out)
{
    const char *profile   = quire_config_string(config, "load.profile");
    const char *source    = quire_config_string(config, "workload.source");
    const bool  is_random = strcmp(source, "random") == 0;
    *value_out            = profile;
    if (strcmp(key, "load.request_rate") == 0 && !qr_profile_is_rated(profile))
        return "only applies to profiles that have a rate (constant, poisson, ...); load.profile is";
    if (strcmp(key, "load.streams") == 0 && strcmp(profile, "concurrent") != 0)
        return "only applies to the profile concurrent; load.profile is";
    *value_out = source;
    if (qr_target_is_http(config) && is_of_engine(key)) {
        *value_out = quire_config_string(config, "run.target");
        return "only applies to an engine of this process; run.target is";
    }
    if (!is_random && strcmp(key, "workload.num_prompts") == 0)
        return "only applies to random workloads, otherwise all requests are played; workload.source is";
    if (!is_random && (is_within(key, "workload.prompt_tokens") || is_within(key, "workload.output_tokens")))
        return "only applies to random workloads; workload.source is";
    return NULL;
}

bool qr_is_changed(const quire_config *config, const char *key)
{
    return !quire_config_is_default(config, key) && strcmp(quire_config_origin(config, key), "default scenario") != 0;
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
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(config, i)) != NULL; i++)
        if (is_of_engine(key->name) && qr_is_changed(config, key->name)) warn(config, key->name, key->name);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (qr_is_changed(config, numbers[i])) warn(config, numbers[i], numbers[i]);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (qr_is_changed(config, lengths[i][1]) || qr_is_changed(config, lengths[i][2]))
            warn(config, lengths[i][0], lengths[i][1]);
}
