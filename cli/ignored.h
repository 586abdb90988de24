/* Keys that are set but have no effect with the rest of the configuration. */
#ifndef QR_IGNORED_H
#define QR_IGNORED_H

#include "cli/command.h"

/* Why `key` has no effect here; *value_out is the value that decides it. NULL: it may have one. */
const char *qr_ignored_because(const quire_config *config, const char *key, const char **value_out);

/* A number that is written and not what it is anyway: a template spells out all defaults. */
bool qr_is_changed(const quire_config *config, const char *key);

/* A warning on stderr for each key of the workload and the load that is changed and ignored. */
void qr_ignored_warn(const quire_config *config);

#endif
