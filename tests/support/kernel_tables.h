/* Every kernel table a test can run here: the machine's own, and emulated copies of the rest. */
#ifndef KERNEL_TABLES_H
#define KERNEL_TABLES_H

#include "kernels/kernels.h"

enum { KERNEL_TABLES_MAX = 9 };

/* Returns the count. The last of the machine's own tables is scalar; the emulated ones follow it. */
uint32_t kernel_tables(const qr_kernels *tables[KERNEL_TABLES_MAX]);

#endif
