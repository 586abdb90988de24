/* The shape of a small decoder, for tests in which no model is computed. */
#ifndef SIMULATED_MODEL_H
#define SIMULATED_MODEL_H

#include "quire/model.h"

static const quire_model_info simulated_model = {.size                    = sizeof simulated_model,
                                                 .vocab_size              = 1000,
                                                 .layers                  = 2,
                                                 .kv_heads                = 2,
                                                 .head_dim                = 8,
                                                 .max_position_embeddings = 4096,
                                                 .decoder_start_token_id  = -1};

#endif
