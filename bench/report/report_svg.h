/* Line charts as static SVG, for readers without scripts. Colours come from the page's style. */
#ifndef QR_BENCH_REPORT_SVG_H
#define QR_BENCH_REPORT_SVG_H

#include <stddef.h>
#include <stdio.h>

enum { QR_SVG_MOST_LINES = 8 };

typedef struct qr_svg_line {
    const char *label;
    double     *xs, *ys; /* [count] NAN: a gap */
    size_t      count;
} qr_svg_line;

typedef struct qr_svg_chart {
    const char        *title, *x_title, *y_title;
    const qr_svg_line *lines; /* [line_count] */
    size_t             line_count;
    const char *const *x_names; /* [x_name_count] at x = 0, 1, 2, ...; NULL: numbers */
    size_t             x_name_count;
} qr_svg_chart;

/* A <figure>, or nothing where no line has two points. The y axis is logarithmic when all values are above 0 and span
 * more than a factor of 30, and begins at 0 else. */
void qr_svg_chart_write(const qr_svg_chart *chart, FILE *to);

#endif
