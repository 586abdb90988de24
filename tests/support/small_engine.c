#include "support/small_engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

quire_engine_options small_engine_options(void)
{
    return (quire_engine_options){.size          = sizeof(quire_engine_options),
                                  .max_num_seqs  = 4,
                                  .num_kv_blocks = 64,
                                  .max_model_len = 512,
                                  .threads       = 2,
                                  .bind          = QUIRE_BIND_NONE,
                                  .logger        = {.level = QUIRE_LOG_ERROR}};
}

quire_model *small_engine_model(const char *preset, const quire_model_options *options)
{
    quire_model *model = NULL;
    quire_error  error = {0};
    if (quire_model_synthetic(preset, options, &model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return model;
}

quire_engine *small_engine(const quire_engine_options *options, quire_model *model)
{
    quire_engine *engine = NULL;
    quire_error   error  = {0};
    if (quire_engine_create(options, model, &engine, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return engine;
}
