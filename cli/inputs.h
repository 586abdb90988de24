/* What a command reads must not be what it writes. */
#ifndef QR_INPUTS_H
#define QR_INPUTS_H

#include <stdbool.h>

#include "quire/config.h"

/* False, and a complaint that begins with `what`: the file `path` ("-": standard output) is, perhaps by another name,
 * the configuration `config_path` (NULL: none), a file that a key of `config` names ("-": standard input), or one of
 * the model. Before anything is opened for writing. */
bool qr_inputs_are_kept(const char *what, const char *path, const char *config_path, const quire_config *config);

#endif
