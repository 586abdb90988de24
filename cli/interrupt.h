/* SIGINT and SIGTERM. Until there is something to keep they end the process at once with status 130, so that nobody
 * waits for weights to load; from then on the first one asks for an early end in good order, and a second one ends the
 * process. */
#ifndef QR_INTERRUPT_H
#define QR_INTERRUPT_H

/* Installs the handlers. Returns the flag (bench/session.h) that they raise, which lives as long as the process.
 * Thread: owner of the process. */
volatile int *qr_interrupt_install(void);

#endif
