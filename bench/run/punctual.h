/* A thread that is to act on time beside others that compute. */
#ifndef QR_BENCH_PUNCTUAL_H
#define QR_BENCH_PUNCTUAL_H

#include <stdbool.h>

/* Asks the scheduler of Linux to run the calling thread soon after it wakes, or no more: a short time slice has an
 * early deadline (EEVDF, Linux 6.12). Older kernels, and threads of a real-time class, stay as they are. */
void qr_punctual(bool wanted);

#endif
