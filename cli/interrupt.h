/* SIGINT and SIGTERM. Until there is something to keep they end the process at once with status 130, so that nobody
 * waits for weights to load; from then on the first one asks for an early end in good order, and the second one, of
 * either kind, ends the process. */
#ifndef QR_INTERRUPT_H
#define QR_INTERRUPT_H

#include <stdbool.h>

/* Installs the handlers, and makes a closed pipe an error of the write. Returns the flag (bench/session.h) that they
 * raise, which lives as long as the process. Thread: owner of the process. */
volatile int *qr_interrupt_install(void);

/* Has a signal asked for an early end? Thread: any. */
bool qr_interrupt_is_asked(void);

#endif
