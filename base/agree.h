/* Ranks that begin something together: none goes on where one has failed. */
#ifndef QR_BASE_AGREE_H
#define QR_BASE_AGREE_H

#include <stddef.h>

#include "quire/comm.h"
#include "quire/status.h"

/* Every rank calls it with how it fared, `status` and *error; all return the same: the first failure, with rank and
 * host. *least (NULL: none) becomes the least of all ranks' values. A comm of NULL is one rank. */
quire_status qr_agree(const quire_comm *comm, quire_status status, uint64_t *least, quire_error *error);

/* Every rank's `size` bytes, one after the other, to be given to qr_deallocate(NULL, all, size * ranks); NULL: failed.
 */
char *qr_gather_all(const quire_comm *comm, const void *mine, size_t size);

/* ERR_IO, as the caller's error. */
quire_status qr_unreachable(const quire_comm *comm, quire_error *error);

#endif
