/* The key table as text: for people, for editors, for the manual. Each prints on stdout and gives the exit status. */
#ifndef QR_KEYS_H
#define QR_KEYS_H

int qr_keys_show(const char *pattern); /* keys whose name or help holds it; NULL: all */
int qr_keys_schema(void);              /* JSON Schema, draft 2020-12 */
int qr_keys_scdoc(void);               /* scdoc(5) paragraphs */

#endif
