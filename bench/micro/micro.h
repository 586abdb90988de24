/* Micro-benchmarks of the kernels, for `quire kernel`. They see internals and print ratios: absolute numbers of a
 * shared machine mean little. */
#ifndef QR_MICRO_H
#define QR_MICRO_H

#include <stdio.h>

/* Rows from 1 to 256 times one core's shard of a small model, every dtype, against a plain read (R), a register loop
 * (P) and oneDNN. `isa` caps the kernels (NULL: none). 0, or 1 after a message on stderr. */
int qr_micro_projection(const char *isa, unsigned rounds, FILE *out);

/* Plan, commit and submit of the scheduler with a model that takes no time, for several loads, `steps` steps each. */
int qr_micro_scheduler(unsigned steps, FILE *out);

#endif
