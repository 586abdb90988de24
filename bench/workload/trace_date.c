/* Dates of published traces: with a space or a T, a fraction or none, a zone or none. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/workload/trace_reader.h"

/* False: no such day or time of day. Second 60 is a leap second. */
static bool date_to_seconds(struct tm date, double second, double *out)
{
    struct tm normal = date;
    *out             = (double)timegm(&normal) + second;
    return normal.tm_mon == date.tm_mon && normal.tm_mday == date.tm_mday && normal.tm_hour == date.tm_hour &&
           normal.tm_min == date.tm_min && second >= 0 && second < 61;
}

/* "Z", "+02:00", "+0200" or "+02": seconds east of Greenwich. */
static bool zone_to_seconds(const char *text, double *out)
{
    unsigned hours = 0, minutes = 0;
    char     rest;
    *out = 0;
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0) return true;
    if ((text[0] != '+' && text[0] != '-') || text[strspn(text, "+-:0123456789")] != '\0') return false;
    const size_t length = strlen(text);
    const bool   read   = (length == 6 && sscanf(text + 1, "%2u:%2u%c", &hours, &minutes, &rest) == 2) ||
                      (length == 5 && sscanf(text + 1, "%2u%2u%c", &hours, &minutes, &rest) == 2) ||
                      (length == 3 && sscanf(text + 1, "%2u%c", &hours, &rest) == 1);
    *out = (text[0] == '-' ? -60.0 : 60.0) * (60 * hours + minutes);
    return read && hours <= 14 && minutes < 60;
}

/* A date without a zone among dates with one would be a guess. */
static quire_status check_zone(qr_trace_reader *r, const char *text, bool has_zone)
{
    if (r->count == 0) r->has_zone = has_zone;
    if (r->has_zone == has_zone) return QUIRE_OK;
    return qr_trace_bad(r,
                        has_zone ? "the date has a time zone, that of the first row has none"
                                 : "the date has no time zone, that of the first row has one",
                        text);
}

quire_status qr_trace_check_dates(qr_trace_reader *r, const char *text, bool is_date)
{
    if (r->count == 0) r->has_dates = is_date;
    if (r->has_dates == is_date) return QUIRE_OK;
    return qr_trace_bad(r,
                        is_date ? "the time is a date, that of the first row is a number"
                                : "the time is a number, that of the first row is a date",
                        text);
}

bool qr_trace_is_date(qr_trace_reader *r, const char *text, double *seconds_out, quire_status *status_out)
{
    int       used = 0;
    char      between[2];
    double    second, zone = 0;
    struct tm date = {0};
    *status_out    = QUIRE_OK;
    if (sscanf(text, "%4d-%2d-%2d%1[ Tt]%2d:%2d:%lf%n", &date.tm_year, &date.tm_mon, &date.tm_mday, between,
               &date.tm_hour, &date.tm_min, &second, &used) != 7)
        return false;
    date.tm_year -= 1900;
    date.tm_mon -= 1;
    const bool has_zone = text[used] != '\0';
    if (!date_to_seconds(date, second, seconds_out))
        *status_out = qr_trace_bad(r, "no such date or time of day", text);
    else if (has_zone && !zone_to_seconds(text + used, &zone))
        *status_out = qr_trace_bad(r, "the time zone is neither Z nor +HH:MM", text);
    else
        *status_out = qr_trace_check_dates(r, text, true);
    if (*status_out == QUIRE_OK) *status_out = check_zone(r, text, has_zone);
    *seconds_out -= zone;
    return true;
}
