/* --dry-run: what a run would do, where, in how much memory and time; without doing it. */
#ifndef QR_DRY_RUN_H
#define QR_DRY_RUN_H

#include "cli/command.h"

/* Prints the plan of each configuration on stdout; with `times` the time of its runs too. Exit status USAGE: one cannot
 * fit into memory, or is wrong. */
int qr_dry_run(const quire_config *const *configs, size_t count, bool times);

#endif
