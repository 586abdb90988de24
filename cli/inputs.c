#include "cli/inputs.h"

#include <dirent.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/tool_config.h"

enum { MOST_PATH = 4096 };

typedef struct target {
    const char *what, *path;
    struct stat info;
} target;

/* Devices and pipes can be read and written. */
static bool is_target(const target *t, const char *input)
{
    struct stat info;
    const int   failed = strcmp(input, "-") == 0 ? fstat(STDIN_FILENO, &info) : stat(input, &info);
    return failed == 0 && info.st_dev == t->info.st_dev && info.st_ino == t->info.st_ino;
}

static bool is_kept(const target *t, const char *input, const char *role)
{
    if (input == NULL || !is_target(t, input)) return true;
    qr_complain("%s: %s: would overwrite %s", t->what, t->path, role);
    return false;
}

static bool ends_in(const char *name, const char *end)
{
    const size_t length = strlen(name), size = strlen(end);
    return length >= size && strcmp(name + length - size, end) == 0;
}

static bool is_read_of_models(const char *name)
{
    return ends_in(name, "config.json") || ends_in(name, ".safetensors") || ends_in(name, ".safetensors.index.json") ||
           ends_in(name, ".gguf");
}

/* `model`: a folder, or one file of a model, whose other parts lie beside it. */
static bool is_model_kept(const target *t, const char *model)
{
    struct stat info;
    char        folder[MOST_PATH];
    if (model == NULL) return true;
    snprintf(folder, sizeof folder, "%s", model);
    DIR *files = opendir(stat(model, &info) == 0 && S_ISREG(info.st_mode) ? dirname(folder) : folder);
    bool kept  = true;
    for (struct dirent *file; files != NULL && kept && (file = readdir(files)) != NULL;) {
        char path[MOST_PATH + sizeof file->d_name + 1];
        snprintf(path, sizeof path, "%s/%s", folder, file->d_name);
        if (is_read_of_models(file->d_name)) kept = is_kept(t, path, "a file of the model");
    }
    if (files != NULL) closedir(files);
    return kept;
}

static bool is_key_kept(const target *t, const quire_config *config, const char *key)
{
    char role[256];
    snprintf(role, sizeof role, "the file that %s names", key);
    return is_kept(t, quire_config_string(config, key), role);
}

/* "workload.mix[].prompt_tokens.file" stands for one of each entry. */
static bool is_list_kept(const target *t, const quire_config *config, const char *key, const char *brackets)
{
    char list[96], entry[192];
    bool kept = true;
    snprintf(list, sizeof list, "%.*s", (int)(brackets - key), key);
    for (size_t i = 0; kept && i < quire_config_count(config, list); i++) {
        snprintf(entry, sizeof entry, "%s[%zu]%s", list, i, brackets + 2);
        kept = is_key_kept(t, config, entry);
    }
    return kept;
}

bool qr_inputs_are_kept(const char *what, const char *path, const char *config_path, const quire_config *config)
{
    target    t      = {.what = what, .path = path};
    const int failed = qr_output_is_stdout(path) ? fstat(qr_stdout_descriptor(), &t.info) : stat(path, &t.info);
    if (failed || !S_ISREG(t.info.st_mode)) return true;
    bool kept =
        is_kept(&t, config_path, "the configuration") && is_model_kept(&t, quire_config_string(config, "model.path"));
    const quire_config_key *key;
    for (size_t i = 0; kept && (key = qr_tool_key_at(i)) != NULL; i++) {
        const char *brackets = strstr(key->name, "[]");
        if (strcmp(key->type, "path") != 0) continue;
        kept = brackets ? is_list_kept(&t, config, key->name, brackets) : is_key_kept(&t, config, key->name);
    }
    return kept;
}
