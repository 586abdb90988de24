/* A small engine on a synthetic model: what most tests of engine/ need, and nothing else of the library. A refusal
 * fails the test with the library's own message. */
#ifndef SMALL_ENGINE_H
#define SMALL_ENGINE_H

#include <quire/quire.h>

/* 4 sequences, 64 blocks, 512 positions, 2 threads that are bound nowhere; the log shows errors only. */
quire_engine_options small_engine_options(void);
/* options NULL: the preset as it is. */
quire_model  *small_engine_model(const char *preset, const quire_model_options *options);
quire_engine *small_engine(const quire_engine_options *options, quire_model *model);

#endif
