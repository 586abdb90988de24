/* The handlers of SIGINT and SIGTERM, and the flag that they raise. */
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "bench/session.h"
#include "cli/command.h"

static volatile int flag; /* a signal handler can reach nothing else */

static void interrupt(int number)
{
    static const char message[] = "quire: interrupted\n";
    (void)number;
    if (flag != QR_INTERRUPT_NONE) {
        (void)!write(STDERR_FILENO, message, sizeof message - 1);
        _exit(QR_EXIT_INTERRUPTED);
    }
    flag = QR_INTERRUPT_ASKED;
}

volatile int *qr_interrupt_install(void)
{
    const struct sigaction action = {.sa_handler = interrupt}; /* no SA_RESTART: poll must return */
    flag                          = QR_INTERRUPT_ENDS;
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &flag;
}

bool qr_interrupt_is_asked(void) { return flag == QR_INTERRUPT_ASKED; }
