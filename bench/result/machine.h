/* Facts of the machine and the environment, for the context of a result. Read below `root` ("" = /). */
#ifndef QR_BENCH_MACHINE_H
#define QR_BENCH_MACHINE_H

#include <jansson.h>

/* {"cpu", "nodes", "memory", "cgroup", "env", "loadavg", "warnings"}; what cannot be read is null. A new reference. */
json_t *qr_machine_json(const char *root);

#endif
