/* Keeps the support library non-empty: ISO C forbids an empty translation unit. */
typedef int qr_test_support_empty;
