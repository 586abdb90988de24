/* See report_svg.h. Lengths are those of the viewBox. */
#include "bench/report/report_svg.h"

#include <math.h>
#include <stdbool.h>

#include "bench/report/report_html.h"

enum { WIDTH = 560, HEIGHT = 230, LEFT = 62, RIGHT = 12, TOP = 10, BOTTOM = 42, MOST_TICKS = 12 };

typedef struct axis {
    double low, high;
    bool   logarithmic;
    double ticks[MOST_TICKS];
    size_t tick_count;
} axis;

static double place(const axis *a, double value)
{
    return a->logarithmic ? log(value / a->low) / log(a->high / a->low) : (value - a->low) / (a->high - a->low);
}

static double left_of(const axis *a, double x) { return LEFT + (WIDTH - LEFT - RIGHT) * place(a, x); }
static double top_of(const axis *a, double y) { return TOP + (HEIGHT - TOP - BOTTOM) * (1 - place(a, y)); }

/* ---- axes ---- */

static void include(axis *a, double value)
{
    if (!isfinite(value)) return;
    a->low  = fmin(a->low, value);
    a->high = fmax(a->high, value);
}

/* 1, 2 or 5 times a power of ten, so that about five of them fill the axis. */
static double tick_length(double span)
{
    const double decade = pow(10, floor(log10(span / 5)));
    const double part   = span / 5 / decade;
    return decade * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

static void linear_ticks(axis *a)
{
    const double length = tick_length(a->high - a->low);
    const double first = ceil(a->low / length - 1e-9), last = floor(a->high / length + 1e-9);
    for (; a->tick_count < MOST_TICKS && first + (double)a->tick_count <= last; a->tick_count++)
        a->ticks[a->tick_count] = (first + (double)a->tick_count) * length;
}

/* 1 and 3 of each decade; 1 alone where there are many. */
static void logarithmic_ticks(axis *a)
{
    const bool few = a->high / a->low < 1e4;
    for (int decade = (int)floor(log10(a->low)); decade <= (int)ceil(log10(a->high)); decade++) {
        const double at[2] = {pow(10, decade), 3 * pow(10, decade)};
        for (int i = 0; i < (few ? 2 : 1); i++)
            if (at[i] >= a->low && at[i] <= a->high && a->tick_count < MOST_TICKS) a->ticks[a->tick_count++] = at[i];
    }
}

/* From the smallest and the largest value. False: there are none. */
static bool finish(axis *a, bool from_zero)
{
    if (!(a->low <= a->high)) return false;
    a->logarithmic = from_zero && a->low > 0 && a->high / a->low > 30;
    if (from_zero && !a->logarithmic) a->low = fmin(a->low, 0);
    if (a->low == a->high) a->high = a->low + 1;
    if (a->logarithmic)
        logarithmic_ticks(a);
    else
        linear_ticks(a);
    return true;
}

static void figure_at(double x, double y, const char *anchor, double value, FILE *to)
{
    fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    qr_html_figure(value, to);
    fputs("</text>", to);
}

static void draw_y(const axis *y, const char *title, FILE *to)
{
    for (size_t i = 0; i < y->tick_count; i++) {
        const double at = top_of(y, y->ticks[i]);
        fprintf(to, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, at, WIDTH - RIGHT);
        figure_at(LEFT - 6, at + 4, "end", y->ticks[i], to);
    }
    fprintf(to, "<text transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">",
            (HEIGHT - BOTTOM + TOP) / 2);
    qr_html_text(title, to);
    fputs("</text>\n", to);
}

static void draw_x(const axis *x, const qr_svg_chart *chart, FILE *to)
{
    for (size_t i = 0; i < chart->x_name_count; i++) {
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", left_of(x, (double)i), HEIGHT - BOTTOM + 16);
        qr_html_text(chart->x_names[i], to);
        fputs("</text>", to);
    }
    for (size_t i = 0; i < x->tick_count && chart->x_name_count == 0; i++)
        figure_at(left_of(x, x->ticks[i]), HEIGHT - BOTTOM + 16, "middle", x->ticks[i], to);
    fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (WIDTH + LEFT) / 2, HEIGHT - 6);
    qr_html_text(chart->x_title, to);
    fputs("</text>\n", to);
}

/* ---- lines ---- */

static void draw_line(const qr_svg_line *line, size_t number, const axis *x, const axis *y, FILE *to)
{
    bool drawing = false;
    fprintf(to, "<path class=\"line s%zu\" d=\"", number % 8 + 1);
    for (size_t i = 0; i < line->count; i++) {
        const bool there = isfinite(line->xs[i]) && isfinite(line->ys[i]) && (!y->logarithmic || line->ys[i] > 0);
        if (there) fprintf(to, "%c%.1f %.1f", drawing ? 'L' : 'M', left_of(x, line->xs[i]), top_of(y, line->ys[i]));
        drawing = there;
    }
    fputs("\"/>\n", to);
}

static void legend(const qr_svg_chart *chart, FILE *to)
{
    if (chart->line_count < 2) return;
    fputs("<ul>", to);
    for (size_t i = 0; i < chart->line_count; i++) {
        fprintf(to, "<li class=\"k%zu\">", i % 8 + 1);
        qr_html_text(chart->lines[i].label, to);
        fputs("</li>", to);
    }
    fputs("</ul>", to);
}

void qr_svg_chart_write(const qr_svg_chart *chart, FILE *to)
{
    axis   x = {.low = INFINITY, .high = -INFINITY}, y = x;
    size_t most = 0;
    for (size_t l = 0; l < chart->line_count; l++) {
        for (size_t i = 0; i < chart->lines[l].count; i++) {
            include(&x, chart->lines[l].xs[i]);
            include(&y, chart->lines[l].ys[i]);
        }
        if (chart->lines[l].count > most) most = chart->lines[l].count;
    }
    if (most < 2 || !finish(&x, false) || !finish(&y, true)) return;
    fputs("<figure><figcaption>", to);
    qr_html_text(chart->title, to);
    fputs("</figcaption>", to);
    legend(chart, to);
    fprintf(to, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    qr_html_text(chart->title, to);
    fputs("\">", to);
    draw_y(&y, chart->y_title, to);
    draw_x(&x, chart, to);
    for (size_t l = 0; l < chart->line_count; l++) draw_line(&chart->lines[l], l, &x, &y, to);
    fputs("</svg></figure>\n", to);
}
