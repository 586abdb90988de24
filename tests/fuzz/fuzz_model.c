/* A small model with edits in its files is refused in a sentence, or it loads, runs and ends every request. The input:
 * a byte that picks the model, then edits of six bytes: file, kind, place, value. */
#include <dirent.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "quire/quire.h"

enum { MOST_FILE = 1 << 18, MOST_FILES = 3, MOST_EDITS = 16, EDIT_BYTES = 6, MOST_STEPS = 100 };

static const struct base {
    const char *folder, *files[MOST_FILES];
} bases[] = {{"tests/models/llama-linear", {"config.json", "model.safetensors"}},
             {"tests/models/granite", {"config.json", "model.safetensors"}},
             {"tests/models/qwen2-mixed-window", {"config.json", "model.safetensors"}},
             {"tests/models/t5-two-embeddings", {"config.json", "model.safetensors"}},
             {"tests/fuzz/corpus/gguf", {"llama.gguf"}}};

typedef struct content {
    uint8_t bytes[MOST_FILE];
    size_t  size;
} content;

static void read_original(const struct base *base, size_t file, content *to)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", QUIRE_SOURCE_DIR, base->folder, base->files[file]);
    FILE *from = fopen(path, "rb");
    FUZZ_CHECK(from != NULL);
    to->size = fread(to->bytes, 1, sizeof to->bytes, from);
    fclose(from);
}

/* Most edits go where a file is read as text: all of config.json, the head of the others. */
static size_t place_of(const content *in, const uint8_t *edit)
{
    const size_t head = in->size < 4096 ? in->size : 4096;
    const size_t span = edit[5] % 8 == 0 ? in->size : head;
    return span * (size_t)(edit[2] << 8 | edit[3]) >> 16;
}

static void apply(content *in, const uint8_t *edit)
{
    static const char *const words[] = {"-1", "0", "1e99", "null", "[]", "{}", "\"\"", "4294967296", ",", ":"};
    const size_t             at      = place_of(in, edit);
    const char *const        word    = words[edit[4] % (sizeof words / sizeof *words)];
    if (at >= in->size) return;
    switch (edit[1] % 6) {
    case 0: in->bytes[at] ^= (uint8_t)(1u << edit[4] % 8); break;
    case 1: in->bytes[at] = edit[4]; break;
    case 2: memcpy(in->bytes + at, word, in->size - at < strlen(word) ? in->size - at : strlen(word)); break;
    case 3: memmove(in->bytes + at, in->bytes + at + 1, --in->size - at); break;
    case 4: in->bytes[at] = (uint8_t)('0' + edit[4] % 10); break;
    case 5: in->size = edit[5] % 16 == 0 ? at : in->size; break;
    }
}

static const char *write_model(const uint8_t *data, size_t size)
{
    static content     file;
    const struct base *base  = &bases[data[0] % (sizeof bases / sizeof *bases)];
    const char        *path  = NULL;
    size_t             files = 0;
    fuzz_clear_folder();
    while (files < MOST_FILES && base->files[files] != NULL) files++;
    for (size_t i = 0; i < files; i++) {
        read_original(base, i, &file);
        for (size_t at = 1, edits = 0; at + EDIT_BYTES <= size && edits < MOST_EDITS; at += EDIT_BYTES, edits++)
            if (data[at] % files == i) apply(&file, data + at);
        path = fuzz_named_file(base->files[i], file.bytes, file.size);
    }
    return files == 1 ? path : fuzz_folder();
}

static void drop_line(void *context, quire_log_level level, const char *line)
{
    (void)context, (void)level;
    FUZZ_CHECK(strchr(line, '\n') == NULL);
}

static void run(quire_engine *engine, const quire_model *model)
{
    quire_model_info info     = {.size = sizeof info};
    const int32_t    prompt[] = {0, 1, 2};
    quire_error      error    = {0};
    bool             ended    = false;
    quire_event      events[8];
    quire_model_describe(model, &info);
    const quire_request request = {.size          = sizeof request,
                                   .prompt        = prompt,
                                   .prompt_count  = 1,
                                   .encoder_input = prompt,
                                   .encoder_count = info.encoder_layers > 0 ? 3 : 0,
                                   .max_tokens    = 3};
    const quire_status  status  = quire_engine_submit(engine, &request, NULL, &error);
    fuzz_check_error(status, &error);
    for (int step = 0; status == QUIRE_OK && !ended; step++) {
        FUZZ_CHECK(step < MOST_STEPS && quire_engine_step(engine, NULL) == QUIRE_OK);
        const size_t got = quire_engine_poll(engine, events, 8);
        for (size_t i = 0; i < got; i++) ended |= events[i].kind == QUIRE_EVENT_FINISHED;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const quire_logger         logger        = {.write = drop_line, .level = QUIRE_LOG_WARN};
    const quire_model_options  model_options = {.size = sizeof model_options, .logger = logger};
    const quire_engine_options options       = {.size          = sizeof options,
                                                .max_num_seqs  = 2,
                                                .num_kv_blocks = 8,
                                                .max_model_len = 32,
                                                .threads       = 1,
                                                .bind          = QUIRE_BIND_NONE,
                                                .logger        = logger};
    quire_model               *model         = NULL;
    quire_engine              *engine        = NULL;
    quire_error                error         = {0};
    const char                *path          = size > 0 ? write_model(data, size) : NULL;
    if (path == NULL) return 0;
    quire_status status = quire_model_load(path, &model_options, &model, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) {
        status = quire_engine_create(&options, model, &engine, &error);
        fuzz_check_error(status, &error);
    }
    if (status == QUIRE_OK) run(engine, model);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}
