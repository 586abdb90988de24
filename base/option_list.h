/* The one list of options. Everything that is said of an option is said in its line of options.inc: the ranges and
 * defaults that create checks, the key of the configuration file with its environment variable, flag and help, and
 * docs/CONFIGURATION.md come from there. A new option is a line there and a field in quire/options.h. */
#ifndef QR_BASE_OPTION_LIST_H
#define QR_BASE_OPTION_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "quire/options.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qr_option_kind {
    QR_OPTION_COUNT,    /* uint32_t; in a file an integer */
    QR_OPTION_POWER,    /* uint32_t, a power of two; an integer */
    QR_OPTION_SEED,     /* uint64_t, any value; an integer */
    QR_OPTION_SIZE,     /* uint64_t, bytes; "4GiB" */
    QR_OPTION_DURATION, /* uint64_t, ns; "20us" */
    QR_OPTION_REAL,     /* float; a number */
    QR_OPTION_SWITCH,   /* quire_toggle, auto = the default; true or false */
    QR_OPTION_CHOICE,   /* an enum; `words` are the names of `least` to `most` */
    QR_OPTION_TEXT,     /* const char *, NULL = the first of `words`; all of them if there are several */
} qr_option_kind;

typedef enum qr_option_struct { QR_OF_ENGINE, QR_OF_MODEL, QR_OF_TENANT } qr_option_struct;

/* A field of 0 becomes `fallback`; a fallback of 0 is computed from other options, or means "off". */
typedef struct qr_option {
    const char      *key;  /* "scheduler.max_num_seqs"; NULL: in no file */
    const char      *name; /* of the field */
    qr_option_struct of;
    size_t           offset;
    qr_option_kind   kind;
    double           fallback, least, most;
    const char *words; /* COUNT, DURATION, REAL: how a file writes the value besides the range, which the struct has
                        * as "all ones" (QUIRE_UNLIMITED, ...), as -1 in a REAL. NULL: there is none */
    const char *help;
} qr_option;

extern const qr_option qr_option_list[];
extern const size_t    qr_option_count;

const qr_option *qr_option_find(const char *key);          /* NULL: no such key */
size_t           qr_option_width(const qr_option *option); /* bytes of the field */

/* One field replaces its zero by the default and is checked. ERR_INVALID names key, value and what is allowed.
 * *options: of the struct that the option is of. */
quire_status qr_option_resolve(const qr_option *option, void *options, quire_error *error);

/* The same for every field of the struct. */
quire_status qr_option_resolve_all(qr_option_struct of, void *options, quire_error *error);

#ifdef __cplusplus
}
#endif

#endif
