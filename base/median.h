/* Order of samples: what a benchmark and a measurement at start-up both need. */
#ifndef QR_BASE_MEDIAN_H
#define QR_BASE_MEDIAN_H

#include <stddef.h>

void qr_sort(double *values, size_t count); /* ascending */

/* The middle one, or the mean of the two middle ones. Sorts the values; count >= 1. */
double qr_median(double *values, size_t count);

#endif
