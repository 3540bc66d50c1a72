/* cell.c - numbers, dates and times in the forms that tables have them. */
#include "data/cell.h"

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct scan {
    const char *at, *end;
} scan;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static char peek(const scan *s)
{
    return s->at < s->end ? *s->at : '\0';
}

static bool take(scan *s, char c)
{
    if (peek(s) != c || s->at == s->end) return false;
    s->at++;
    return true;
}

/* `least` to `most` digits, as many as there are. */
static bool digits(scan *s, int least, int most, int *value)
{
    int count = 0;
    for (*value = 0; count < most && s->at < s->end && is_digit(*s->at); count++)
        *value = 10 * *value + (*s->at++ - '0');
    return count >= least && !(s->at < s->end && is_digit(*s->at));
}

/* ---- numbers ---- */

enum { EXACT_DIGITS = 15, LONG_NUMBER = 15, NUMBER_TEXT_MAX = 400, EXPONENT_MAX = 100000 };

/* By the C library, which rounds correctly; its decimal sign is that of the program's locale. */
static double slow_number(const char *text, size_t length, char point)
{
    char copy[NUMBER_TEXT_MAX];
    const struct lconv *local = localeconv();
    for (size_t i = 0; i < length; i++) copy[i] = text[i] == point ? local->decimal_point[0] : text[i];
    copy[length] = '\0';
    return strtod(copy, NULL);
}

/* Up to 15 digits and a power of ten up to 22 are exact in a double, so one product or quotient rounds correctly
 * (Clinger, "How to read floating point numbers accurately", 1990). */
static double make_number(uint64_t mantissa, int digit_count, int exponent, const char *text, size_t length, char point)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (digit_count <= EXACT_DIGITS && exponent >= -22 && exponent <= 22)
        return exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
    double value = slow_number(text, length, point);
    return value < 0 ? -value : value;
}

/* Sums of squares of larger numbers may not be finite, and there are no such measurements. */
#define LARGEST 1e100

static bool read_number(const char *text, size_t length, bool comma, grdi_cell *cell)
{
    scan s = {text, text + length};
    uint64_t mantissa = 0;
    int significant = 0, exponent = 0, written = 0, whole_digits = 0, power = 0;
    char point = '.';
    bool negative = take(&s, '-'), fraction = false;
    if (!negative) take(&s, '+');
    bool zero_first = peek(&s) == '0';
    for (; s.at < s.end; s.at++) {
        bool sign = *s.at == '.' || (comma && *s.at == ',');
        if (sign && !fraction) {
            fraction = true;
            point = *s.at;
            continue;
        }
        if (!is_digit(*s.at)) break;
        written++;
        if (!fraction) whole_digits++;
        if (significant || *s.at != '0') significant++;
        if (significant > EXACT_DIGITS) continue; /* the slow way counts them */
        mantissa = 10 * mantissa + (uint64_t)(*s.at - '0');
        if (fraction) exponent--;
    }
    if (!written || length >= NUMBER_TEXT_MAX) return false;
    bool scientific = (peek(&s) == 'e' || peek(&s) == 'E') && s.at < s.end;
    if (scientific) {
        s.at++;
        bool down = take(&s, '-');
        if (!down) take(&s, '+');
        const char *first = s.at;
        for (; s.at < s.end && is_digit(*s.at); s.at++)
            if (power < EXPONENT_MAX) power = 10 * power + (*s.at - '0');
        if (s.at == first) return false;
        exponent += down ? -power : power;
    }
    if (s.at != s.end) return false;
    double value = make_number(mantissa, significant, exponent, text, length, point);
    if (!(value <= LARGEST)) return false;
    bool name = !fraction && !scientific && ((zero_first && whole_digits > 1) || whole_digits > LONG_NUMBER);
    cell->kind = name ? GRDI_CELL_CODE : GRDI_CELL_NUMBER;
    cell->value = negative ? -value : value;
    cell->marks = !fraction ? 0 : point == '.' ? GRDI_CELL_POINT : GRDI_CELL_COMMA;
    return true;
}

/* ---- times ---- */

/* Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so that a leap day is the last. */
static int64_t day_number(int year, int month, int day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool is_date(int year, int month, int day)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1 || month < 1 || month > 12 || day < 1) return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return day <= days[month - 1] + (month == 2 && leap);
}

/* "Nov" or "November", in whatever case. */
static bool month_name(scan *s, int *month)
{
    static const char *const names[] = {"january", "february", "march",     "april",   "may",      "june",
                                        "july",    "august",   "september", "october", "november", "december"};
    size_t length = 0;
    char lower[16];
    while (s->at + length < s->end && length < sizeof(lower) - 1) {
        char c = s->at[length] | 0x20;
        if (c < 'a' || c > 'z') break;
        lower[length++] = c;
    }
    lower[length] = '\0';
    for (int m = 0; m < 12; m++) {
        if (length != 3 && length != strlen(names[m])) continue;
        if (memcmp(lower, names[m], length) != 0) continue;
        *month = m + 1;
        s->at += length;
        return true;
    }
    return false;
}

static bool spaces(scan *s)
{
    const char *first = s->at;
    while (take(s, ' ')) continue;
    return s->at > first;
}

/* 26/11/2026, 11/26/2026, 26-11-2026, 26.11.2026, 26 Nov 2026; *marks: which order it can be. */
static bool day_or_month_first(scan *s, bool day_first, int date[3], unsigned *marks)
{
    int a, b, year;
    if (!digits(s, 1, 2, &a)) return false;
    char mark = peek(s);
    if (mark != '/' && mark != '-' && mark != '.' && mark != ' ') return false;
    s->at++;
    if (month_name(s, &b)) {
        if (!take(s, '-') && !take(s, ',')) mark = ' ';
        if (mark == ' ') spaces(s);
        date[1] = b, date[2] = a;
        return digits(s, 4, 4, &date[0]);
    }
    if (mark == ' ' || !digits(s, 1, 2, &b) || !take(s, mark) || !digits(s, 4, 4, &year)) return false;
    bool as_day = is_date(year, b, a), as_month = is_date(year, a, b) && mark != '.';
    if (mark != '.')
        *marks = as_day && as_month ? GRDI_CELL_EITHER : as_day ? GRDI_CELL_DAY_FIRST : GRDI_CELL_MONTH_FIRST;
    bool by_day = as_day && (day_first || !as_month);
    date[0] = year, date[1] = by_day ? b : a, date[2] = by_day ? a : b;
    return true;
}

/* Nov 26, 2026; Nov 2026. */
static bool name_first(scan *s, int date[3])
{
    int number;
    if (!month_name(s, &date[1]) || !spaces(s) || !digits(s, 1, 4, &number)) return false;
    if (number > 31) {
        date[0] = number, date[2] = 1;
        return number > 999;
    }
    take(s, ',');
    date[2] = number;
    return spaces(s) && digits(s, 4, 4, &date[0]);
}

/* 2026-11-26, 2026/11/26, 2026-11. */
static bool year_first(scan *s, int date[3])
{
    if (!digits(s, 4, 4, &date[0])) return false;
    char mark = peek(s);
    if (mark != '-' && mark != '/' && mark != '.') return false;
    s->at++;
    if (!digits(s, 1, 2, &date[1])) return false;
    date[2] = 1;
    return !take(s, mark) || digits(s, 1, 2, &date[2]);
}

/* Z, +01:00, +0100, -05; seconds to take away. */
static bool zone(scan *s, int *seconds)
{
    int hours, minutes = 0;
    *seconds = 0;
    if (take(s, 'Z') || s->at == s->end) return true;
    spaces(s);
    if (s->end - s->at == 3 && (memcmp(s->at, "UTC", 3) == 0 || memcmp(s->at, "GMT", 3) == 0)) return s->at += 3;
    bool behind = take(s, '-');
    if (!behind && !take(s, '+')) return false;
    if (s->end - s->at == 4) {
        if (!digits(s, 4, 4, &minutes)) return false;
        hours = minutes / 100, minutes %= 100;
    } else if (!digits(s, 2, 2, &hours) || (take(s, ':') && !digits(s, 2, 2, &minutes))) {
        return false;
    }
    *seconds = (hours * 3600 + minutes * 60) * (behind ? -1 : 1);
    return hours < 24 && minutes < 60;
}

/* 14:30, 14:30:05.25, 2:30 PM, with or without a zone; seconds of the day in UTC. */
static bool clock_time(scan *s, double *seconds)
{
    int hour, minute, second = 0, offset;
    double fraction = 0, part = 1;
    if (!digits(s, 1, 2, &hour) || !take(s, ':') || !digits(s, 2, 2, &minute)) return false;
    if (take(s, ':')) {
        if (!digits(s, 2, 2, &second)) return false;
        if (take(s, '.') || take(s, ','))
            for (; s->at < s->end && is_digit(*s->at); s->at++) fraction += (*s->at - '0') * (part /= 10);
    }
    const char *before = s->at;
    spaces(s);
    char half = s->end - s->at >= 2 && (s->at[1] | 0x20) == 'm' ? s->at[0] | 0x20 : '\0';
    if (half == 'a' || half == 'p') {
        if (hour < 1 || hour > 12) return false;
        hour = hour % 12 + (half == 'p' ? 12 : 0);
        s->at += 2;
    } else {
        s->at = before;
    }
    if (hour > 23 || minute > 59 || second > 60 || !zone(s, &offset)) return false;
    *seconds = hour * 3600.0 + minute * 60.0 + second + fraction - offset;
    return true;
}

static bool read_time(const char *text, size_t length, bool day_first, grdi_cell *cell)
{
    scan s = {text, text + length};
    int date[3] = {0, 0, 0};
    double seconds = 0;
    unsigned marks = 0;
    if (length < 6) return false;
    bool named = !is_digit(text[0]), by_year = is_digit(text[1]) && is_digit(text[2]) && is_digit(text[3]);
    bool found = named     ? name_first(&s, date)
                 : by_year ? year_first(&s, date)
                           : day_or_month_first(&s, day_first, date, &marks);
    if (!found || !is_date(date[0], date[1], date[2])) return false;
    if (s.at < s.end) {
        if (!take(&s, 'T') && !(take(&s, ','), spaces(&s))) return false;
        if (!clock_time(&s, &seconds) || s.at != s.end) return false;
    }
    cell->kind = GRDI_CELL_TIME;
    cell->marks = marks;
    cell->value = (double)day_number(date[0], date[1], date[2]) * 86400.0 + seconds;
    return true;
}

char *grdi_time_text(double seconds, char *text, size_t text_bytes)
{
    double days = floor(seconds / 86400);
    int of_day = (int)(seconds - days * 86400);
    int64_t z = (int64_t)days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, of_era = z - era * 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100), m = (5 * of_year + 2) / 153;
    int day = (int)(of_year - (153 * m + 2) / 5 + 1), month = (int)(m < 10 ? m + 3 : m - 9);
    long long year = years + era * 400 + (month <= 2);
    int used = snprintf(text, text_bytes, "%04lld-%02d-%02d", year, month, day);
    if (of_day && used > 0 && (size_t)used < text_bytes)
        snprintf(text + used, text_bytes - (size_t)used, " %02d:%02d:%02d", of_day / 3600, of_day / 60 % 60,
                 of_day % 60);
    return text;
}

/* ---- cells ---- */

static bool is_missing(const char *text, size_t length)
{
    static const char *const words[] = {"NA",  "N/A", "n/a",  "#N/A", "<NA>", "NaN",  "nan",
                                        "NAN", "na",  "null", "NULL", "Null", "None", "?"};
    if (length == 0) return true;
    for (size_t i = 0; length <= 4 && i < sizeof(words) / sizeof(words[0]); i++)
        if (strlen(words[i]) == length && memcmp(words[i], text, length) == 0) return true;
    return false;
}

grdi_cell grdi_cell_read(const char *text, size_t length, grdi_cell_style style)
{
    grdi_cell cell = {.kind = GRDI_CELL_MISSING};
    if (length > 0 && read_number(text, length, style.comma, &cell)) return cell;
    if (is_missing(text, length)) return cell;
    if (!read_time(text, length, style.day_first, &cell)) cell.kind = GRDI_CELL_TEXT;
    return cell;
}
