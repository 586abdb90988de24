#include "base/median.h"

#include <stdlib.h>

static int ascending(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void qr_sort(double *values, size_t count)
{
    if (count > 1) qsort(values, count, sizeof *values, ascending);
}

double qr_median(double *values, size_t count)
{
    qr_sort(values, count);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}
