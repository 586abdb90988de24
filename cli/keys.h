/* The key table as text: for people, for editors, for the manual. Each prints on stdout and gives the exit status. */
#ifndef QR_KEYS_H
#define QR_KEYS_H

#include <stdbool.h>

/* Keys whose name or help holds `pattern`; NULL: all. None is an error, unless a flag was `found` already. */
int qr_keys_show(const char *pattern, bool found);
int qr_keys_schema(void);   /* JSON Schema, draft 2020-12 */
int qr_keys_markdown(void); /* a table row for each, for docs/CONFIGURATION.md */
int qr_keys_scdoc(void);    /* scdoc(5) paragraphs */

#endif
