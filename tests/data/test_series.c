/* test_series.c - series from tables: equal steps, gaps, seasons, and windows that see nothing of what is held out. */
#include "base/memory.h"
#include "base/random.h"
#include "data/framing.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(series, .fini = scratch_remove);

static grdi_series *open_text(const char *csv, int input_count)
{
    static char *inputs[] = {"x"};
    grd_error error = {GRD_OK, ""};
    grdi_series *s;
    scratch_write(scratch_path("s.csv"), csv, strlen(csv));
    const grdi_series_options options = {
        .path = scratch_path("s.csv"), .time = "t", .target = "y", .inputs = inputs, .input_count = input_count};
    cr_assert(grdi_series_open(&options, &s, &error) == GRD_OK, "%s", error.message);
    return s;
}

static void expect_note(const grdi_series *s, const char *piece)
{
    for (size_t i = 0; i < s->note_count; i++)
        if (strstr(s->notes[i], piece)) return;
    cr_expect(false, "no note has '%s'", piece);
}

static void expect_time(const grdi_series *s, int64_t step, const char *want)
{
    char text[64];
    cr_expect_str_eq(grdi_series_time_text(s, step, text, sizeof text), want);
}

Test(series, gaps_are_filled_with_what_was_known_before)
{
    grdi_series *s = open_text("t,y,x\n2026-01-01 02:00,3,\n2026-01-01 00:00,1,\n2026-01-01 01:00,,7\n"
                               "2026-01-01 04:00,5,8\n2026-01-01 05:00,6,9\n2026-01-01 06:00,6,9\n"
                               "2026-01-01 07:00,6,9\n2026-01-01 08:00,6,9\n2026-01-01 09:00,6,9\n"
                               "2026-01-01 10:00,6,9\n2026-01-01 11:00,6,9\n2026-01-01 12:00,,9\n",
                               1);
    static const double y[] = {1, 1, 3, 3, 5, 6}, x[] = {7, 7, 7, 7, 8, 9};
    static const int known[] = {1, 0, 1, 0, 1, 1};
    char text[64];
    cr_assert(s->count == 12, "%lld steps", (long long)s->count);
    for (int i = 0; i < 6; i++) {
        cr_expect(s->values[2 * i] == y[i], "y[%d] is %g", i, s->values[2 * i]);
        cr_expect(s->values[2 * i + 1] == x[i], "x[%d] is %g", i, s->values[2 * i + 1]);
        cr_expect(s->known[i] == known[i], "known[%d]", i);
    }
    cr_expect_str_eq(grdi_series_step_text(s, text, sizeof text), "1 hour");
    expect_time(s, 3, "2026-01-01 03:00:00");
    expect_time(s, 13, "2026-01-01 13:00:00");
    expect_note(s, "not in the order of t");
    expect_note(s, "1 step of 1 hour without a row");
    expect_note(s, "1 row without y");
    expect_note(s, "1 after the last");
    grdi_series_free(s);
}

Test(series, months_and_years_are_steps_of_the_calendar)
{
    char text[64];
    grdi_series *s = open_text("t,y\n2025-10-31,1\n2025-11-30,2\n2025-12-31,3\n2026-01-31,4\n", 0);
    cr_expect_str_eq(grdi_series_step_text(s, text, sizeof text), "1 month");
    expect_time(s, 4, "2026-02-28");
    expect_time(s, 5, "2026-03-31");
    grdi_series_free(s);
    s = open_text("t,y\n19580329,1\n19580405,2\n19580412,3\n", 0);
    cr_expect_str_eq(grdi_series_step_text(s, text, sizeof text), "7 days");
    expect_time(s, 3, "1958-04-19");
    grdi_series_free(s);
    s = open_text("t,y\n1700,1\n1701,2\n1702,3\n", 0);
    cr_expect_str_eq(grdi_series_step_text(s, text, sizeof text), "1");
    expect_time(s, 3, "1703");
    grdi_series_free(s);
}

Test(series, uneven_times_are_said_and_taken_as_steps)
{
    grdi_series *s = open_text("t,y\n0,1\n1,2\n2,3\n2.5,4\n3.5,5\n4.5,6\n", 0);
    cr_expect(s->count == 6, "%lld steps", (long long)s->count);
    expect_note(s, "does not go on in equal steps");
    grdi_series_free(s);
}

/* ---- seasons ---- */

static double noise(uint64_t seed, uint64_t i)
{
    double sum = -6;
    for (uint32_t k = 0; k < 12; k++) sum += grdi_random_u32(seed, i, 7, k) / 4294967296.0;
    return sum;
}

static int64_t season_of(int64_t count, uint64_t seed, double (*value)(int64_t i, uint64_t seed))
{
    double *v = malloc((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) v[i] = value(i, seed);
    int64_t season = grdi_series_find_season(v, count, 1);
    free(v);
    return season;
}

static double yearly(int64_t i, uint64_t seed)
{
    return 0.05 * (double)i + 3 * sin(2 * M_PI * (double)i / 12) + noise(seed, (uint64_t)i);
}

static double daily_and_weekly(int64_t i, uint64_t seed)
{
    return 2 * sin(2 * M_PI * (double)i / 24) + (i / 24 % 7 < 5 ? 3 : 0) + 0.3 * noise(seed, (uint64_t)i);
}

static double nothing(int64_t i, uint64_t seed)
{
    return noise(seed, (uint64_t)i);
}

static double walk(int64_t i, uint64_t seed)
{
    static double at;
    at = i ? at + noise(seed, (uint64_t)i) : 0;
    return at;
}

Test(series, a_season_is_found_and_none_is_made_up)
{
    int found = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cr_expect(season_of(240, seed, yearly) == 12, "seed %d: %d", (int)seed, (int)season_of(240, seed, yearly));
        cr_expect(season_of(2000, seed, daily_and_weekly) == 168, "seed %d", (int)seed);
        cr_expect(season_of(500, seed, nothing) == 1, "seed %d: noise has a season of %d", (int)seed,
                  (int)season_of(500, seed, nothing));
        found += season_of(500, seed, walk) > 1;
    }
    cr_expect(found <= 4, "%d of 20 random walks have a season", found); /* some do look like it */
    cr_expect(season_of(3, 1, yearly) == 1);
}

/* ---- what is learnt from ---- */

static grdi_series *made(int64_t count, int64_t changed_from)
{
    char *text = malloc((size_t)count * 48 + 16);
    size_t used = (size_t)sprintf(text, "t,y,x\n");
    for (int64_t i = 0; i < count; i++)
        used += (size_t)sprintf(text + used, "%lld,%.6f,%.6f\n", (long long)i,
                                i < changed_from ? yearly(i, 1) : 1000 * noise(2, (uint64_t)i), noise(3, (uint64_t)i));
    grdi_series *s = open_text(text, 1);
    free(text);
    return s;
}

Test(series, nothing_of_the_held_out_part_is_seen)
{
    enum { COUNT = 200, SPLIT = 180 };
    grd_error error = {GRD_OK, ""};
    grdi_series *a = made(COUNT, COUNT), *b = made(COUNT, SPLIT);
    grdi_framing f[2] = {{.horizon = 5, .season = 12}, {.horizon = 5, .season = 12}};
    cr_assert(grdi_framing_fit(&f[0], a, SPLIT, &error) == GRD_OK, "%s", error.message);
    cr_assert(grdi_framing_fit(&f[1], b, SPLIT, &error) == GRD_OK, "%s", error.message);
    f[0].context = f[1].context = 24;
    cr_expect(f[0].lag == 12 && f[0].scale > 0);
    cr_expect(f[0].lag == f[1].lag && f[0].scale == f[1].scale && f[0].mean[0] == f[1].mean[0] &&
              f[0].deviation[1] == f[1].deviation[1]);
    float *x[2] = {grdi_framing_inputs(&f[0], a), grdi_framing_inputs(&f[1], b)};
    int64_t channels = grdi_framing_channels(&f[0]);
    cr_expect(channels == 3);
    cr_expect(memcmp(x[0], x[1], (size_t)(SPLIT * channels) * sizeof(float)) == 0);
    for (int64_t last = grdi_framing_first(&f[0]); last + 5 < SPLIT; last++) {
        float y[2][5], w[2][5];
        grdi_framing_targets(&f[0], a, last, y[0], w[0]);
        grdi_framing_targets(&f[1], b, last, y[1], w[1]);
        cr_assert(memcmp(y[0], y[1], sizeof y[0]) == 0);
        for (int64_t h = 1; h <= 5; h++) { /* what is told is what came */
            double value = grdi_framing_value(&f[0], a, last, h, y[0][h - 1]);
            cr_assert(fabs(value - a->values[(last + h) * 2]) < 1e-5);
        }
    }
    grdi_free(x[0]), grdi_free(x[1]);
    grdi_series_free(a), grdi_series_free(b);
}

/* Over a season and more, step h is forecast by the newest value of its place in the season that is known. */
Test(series, simple_forecasts)
{
    grdi_series *s = open_text("t,y\n0,10\n1,11\n2,12\n3,13\n4,14\n5,15\n", 0);
    static const double seasonal[] = {12, 13, 14, 12, 13, 14, 12};
    for (int64_t h = 1; h <= 7; h++) {
        cr_expect(grdi_simple_forecast(s, 4, h, 1) == 14);
        cr_expect(grdi_simple_forecast(s, 4, h, 3) == seasonal[h - 1], "h %d", (int)h);
    }
    grdi_framing fitted = {.horizon = 1, .season = 3};
    grd_error error = {GRD_OK, ""};
    grdi_series *wave = open_text("t,y\n0,1\n1,5\n2,2\n3,3\n4,4\n5,\n6,8\n7,9\n", 0);
    cr_assert(grdi_framing_fit(&fitted, wave, 7, &error) == GRD_OK, "%s", error.message);
    cr_expect(fitted.naive_mae == 8.0 / 3, "%g", fitted.naive_mae); /* of |3 - 1|, |4 - 5|, |8 - 3| */
    grdi_series_free(wave);
    const grdi_framing f = {.context = 2, .lag = 1, .season = 4}; /* both are scored, whichever is built upon */
    cr_expect(grdi_framing_first(&f) == 3, "%d", (int)grdi_framing_first(&f));
    grdi_series_free(s);
}
