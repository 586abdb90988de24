/* The files of a report, embedded by cmake/embed.cmake: those of bench/report/ and Chart.js. */
#ifndef QR_BENCH_REPORT_ASSETS_H
#define QR_BENCH_REPORT_ASSETS_H

#include <stddef.h>

typedef struct qr_asset {
    const unsigned char *bytes; /* [size] */
    size_t               size;
} qr_asset;

extern const qr_asset qr_asset_page_html, qr_asset_style_css, qr_asset_charts_js, qr_asset_chart_js;

#endif
