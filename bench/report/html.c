/* Values of JSON as HTML and as plain text: escaping, and the ways in which a page writes a number. */
#include "bench/report/html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EN_DASH "\xe2\x80\x93"
#define MINUS "\xe2\x88\x92"
#define THIN_SPACE "\xe2\x80\xaf"

static void escaped(char c, FILE *to)
{
    switch (c) {
    case '<': fputs("&lt;", to); break;
    case '>': fputs("&gt;", to); break;
    case '&': fputs("&amp;", to); break;
    case '"': fputs("&quot;", to); break;
    case '\'': fputs("&#39;", to); break;
    default: fputc(c, to);
    }
}

void qr_html_text(const char *text, FILE *to)
{
    for (; *text != '\0'; text++) escaped(*text, to);
}

/* ---- numbers ---- */

static void grouped(double value, FILE *to)
{
    char      digits[400];
    const int length = snprintf(digits, sizeof digits, "%.0f", fabs(value));
    if (value < 0) fputs(MINUS, to);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) fputs(THIN_SPACE, to);
        fputc(digits[i], to);
    }
}

static void rounded_number(double value, FILE *to)
{
    const double size = fabs(value);
    if (!isfinite(value))
        fputs(EN_DASH, to);
    else if (size >= 999.5)
        grouped(value, to);
    else if (size >= 99.95 || value == round(value))
        fprintf(to, "%.0f", value);
    else
        fprintf(to, "%.*f", size >= 9.995 ? 1 : size >= 0.1 ? 2 : size >= 0.01 ? 3 : 5, value);
}

static void bytes(double value, FILE *to)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t                   unit    = 0;
    for (; value >= 1024 && unit < 4; unit++) value /= 1024;
    fprintf(to, "%.*f %s", value == floor(value) || value >= 99.95 ? 0 : 1, value, units[unit]);
}

/* "0.60 G", "4.2 M", "352 k": how many, where the magnitude counts. */
static void quantity(double value, FILE *to)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    int                      unit    = 0;
    for (; value >= 999.5 && unit < 4; unit++) value /= 1000;
    fprintf(to, "%.*f%s", unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value, units[unit]);
}

static void plain_number(double value, FILE *to) { fprintf(to, value == floor(value) ? "%.0f" : "%.6g", value); }
static void percent(double value, FILE *to) { rounded_number(100 * value, to); }
static void share(double value, FILE *to) { fprintf(to, "%.1f %%", 100 * value); }

static void ratio(double value, FILE *to)
{
    if (value < 10)
        fprintf(to, "%.3f", value);
    else
        rounded_number(value, to);
}

/* ---- values ---- */

typedef void number_writer(double value, FILE *to);

static void scalar(const json_t *value, number_writer *write, FILE *to)
{
    if (json_is_string(value))
        qr_html_text(json_string_value(value), to);
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "yes" : "no", to);
    else if (json_is_number(value))
        write(json_number_value(value), to);
    else if (value == NULL || json_is_null(value))
        fputs(EN_DASH, to);
    else { /* nested deeper than a page shows */
        char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
        qr_html_text(text != NULL ? text : "", to);
        free(text);
    }
}

static void any_value(const json_t *value, number_writer *write, FILE *to)
{
    const char *name, *before = "";
    json_t     *member;
    size_t      index;
    json_array_foreach(value, index, member)
    {
        fputs(index > 0 ? ", " : "", to);
        scalar(member, write, to);
    }
    json_object_foreach((json_t *)value, name, member)
    {
        fputs(before, to);
        qr_html_text(name, to);
        fputc(' ', to);
        scalar(member, write, to);
        before = ", ";
    }
    if (!json_is_array(value) && !json_is_object(value))
        scalar(value, write, to);
    else if (json_array_size(value) + json_object_size(value) == 0)
        fputs("none", to);
}

static void range(const json_t *value, FILE *to)
{
    const json_t *low = json_array_get(value, 0), *high = json_array_get(value, 1);
    if (!json_is_number(low) || !json_is_number(high)) return;
    rounded_number(json_number_value(low), to);
    fputs(" to ", to);
    rounded_number(json_number_value(high), to);
}

static void check(const json_t *value, FILE *to)
{
    const char   *unit   = json_string_value(json_object_get(value, "unit"));
    const json_t *number = json_object_get(value, "value");
    if (unit != NULL && unit[0] == '\0') {
        fputs(json_number_value(number) > 0 ? "yes" : "no", to);
        return;
    }
    scalar(number, rounded_number, to);
    if (unit != NULL) fputc(' ', to), qr_html_text(unit, to);
}

/* What people call a member of a result. */
static void name(const json_t *value, FILE *to)
{
    static const char *const names[][2] = {{"ttft", "TTFT"},
                                           {"ttft_service", "service TTFT"},
                                           {"itl", "ITL"},
                                           {"tpot", "TPOT"},
                                           {"ntpot", "NTPOT"},
                                           {"e2el", "E2E"},
                                           {"read_gbs", "Memory read bandwidth (R)"},
                                           {"read_block_gbs", "Memory read bandwidth, one KV block at a time"},
                                           {"f32_gflops", "f32 peak (P)"},
                                           {"bf16_gflops", "bf16 peak (P)"},
                                           {"int8_gops", "int8 peak (P)"},
                                           {"barrier_ns", "Barrier of all threads"}};
    const char              *shown      = json_string_value(value);
    for (size_t i = 0; shown != NULL && i < sizeof names / sizeof *names; i++)
        if (strcmp(shown, names[i][0]) == 0) shown = names[i][1];
    qr_html_text(shown != NULL ? shown : "", to);
}

static void shell(const json_t *value, FILE *to)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,+@%";
    const char       *word    = json_string_value(value);
    if (word == NULL) return;
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        fputs(word, to);
        return;
    }
    fputs("&#39;", to);
    for (; *word != '\0'; word++)
        if (*word == '\'')
            fputs("&#39;\\&#39;&#39;", to);
        else
            escaped(*word, to);
    fputs("&#39;", to);
}

static int without_less_than(const char *text, size_t size, void *context)
{
    FILE *to = context;
    for (size_t i = 0; i < size; i++)
        if (text[i] == '<' ? fputs("\\u003c", to) == EOF : fputc(text[i], to) == EOF) return -1;
    return 0;
}

/* "<" occurs in strings only, where an escape means the same: neither </script> nor <!-- can come out. */
static void script(const json_t *value, FILE *to)
{
    json_dump_callback(value, without_less_than, to, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
}

static const struct {
    const char    *name;
    number_writer *number; /* NULL: `value` writes it */
    void (*value)(const json_t *value, FILE *to);
} formats[] = {{"", rounded_number, NULL}, {"plain", plain_number, NULL}, {"B", bytes, NULL},
               {"%", percent, NULL},       {"share", share, NULL},        {"N", quantity, NULL},
               {"ratio", ratio, NULL},     {"range", NULL, range},        {"check", NULL, check},
               {"name", NULL, name},       {"shell", NULL, shell},        {"json", NULL, script}};

static void convert(const json_t *value, const char *format, FILE *to)
{
    const bool   with_sign = format[1] == '+';
    char        *at;
    const int    width     = (int)strtol(format + 1 + with_sign, &at, 10);
    const int    precision = *at == '.' ? (int)strtol(at + 1, &at, 10) : -1; /* as if it were not given */
    const double number    = json_number_value(value) * (at[1] == '*' ? strtod(at + 2, NULL) : 1);
    if (!json_is_number(value))
        fprintf(to, "%*.*s", width, *at == 's' ? precision : -1,
                json_is_string(value) ? json_string_value(value) : "-");
    else if (*at == 'g' && fabs(number) >= 1000) /* no exponent: 90680, not 9.068e+04 */
        fprintf(to, "%*.0f", width, number);
    else if (*at == 'g')
        fprintf(to, "%*.*g", width, precision, number);
    else
        fprintf(to, with_sign ? "%+*.*f" : "%*.*f", width, precision, number);
}

void qr_text_value(const json_t *value, const char *format, FILE *to)
{
    if (format[0] == '%')
        convert(value, format, to);
    else if (format[0] != '\0')
        qr_html_value(value, format, to);
    else if (json_is_number(value))
        plain_number(json_number_value(value), to);
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "yes" : "no", to);
    else
        fputs(json_is_string(value) ? json_string_value(value) : "-", to);
}

void qr_html_value(const json_t *value, const char *format, FILE *to)
{
    if (format[0] == '%' && format[1] != '\0' && json_is_number(value)) {
        convert(value, format, to);
        return;
    }
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, format) != 0) continue;
        if (formats[i].value != NULL)
            formats[i].value(value, to);
        else
            any_value(value, formats[i].number, to);
        return;
    }
    any_value(value, rounded_number, to);
    if (json_is_number(value)) fprintf(to, " %s", format);
}
