/* test_check_table.c - what the preflight finds in tables and series: mistakes planted in good ones. */
#include "scratch.h"
#include "train/check_set.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(check_table, .fini = scratch_remove);

enum { ROWS = 200, TEXT_MAX = 64 * 1024 };

typedef enum spoil {
    GOOD,
    CONSTANT,
    NUMBER_TELLS,
    LOGARITHM_TELLS,
    CATEGORY_TELLS,
    CATEGORY_NEARLY_TELLS,
    SEPARATED,
    NEARLY_SEPARATED,
    ROW_NUMBER,
    MOSTLY_MISSING,
    CODE,
    ROWS_TWICE,
    ALL_TWICE,
    TWO_LABELS,
    ONE_CLASS,
    BY_CLASS,
    OUT_OF_ORDER,
    STUCK,
    INPUT_FROM_THE_FUTURE
} spoil;

typedef struct found {
    char failed[512];
    int count;
} found;

static void note_result(void *context, const grd_check_result *r)
{
    found *f = context;
    f->count++;
    if (!r->passed) strcat(strcat(f->failed, " "), r->name);
}

/* The names of the checks of a file that did not pass, each with a space before it. */
static found look(const char *csv, const char *target, const char *time, bool classifies, int order)
{
    found f = {"", 0};
    grd_error error = {GRD_OK, ""};
    const grd_check_options options = {.size = sizeof options, .on_result = note_result, .context = &f};
    grdi_checker c = {.options = &options, .error = &error};
    char set[256];
    grd_settings *settings = grd_settings_new();
    scratch_write(scratch_path("table.csv"), csv, strlen(csv));
    snprintf(set, sizeof set, "data.path=%s", scratch_path("table.csv"));
    cr_assert(grd_settings_set(settings, set, &error) == GRD_OK);
    snprintf(set, sizeof set, "data.target=%s", target);
    cr_assert(grd_settings_set(settings, set, &error) == GRD_OK);
    if (time) {
        snprintf(set, sizeof set, "data.time=%s", time);
        cr_assert(grd_settings_set(settings, set, &error) == GRD_OK);
        cr_assert(grd_settings_set(settings, "data.inputs=[other]", &error) == GRD_OK);
    }
    settings->data.order = order;
    cr_assert(grdi_check_table(&c, settings, classifies) == GRD_OK, "%s", error.message);
    int failed = 0;
    for (const char *at = f.failed; *at; at++) failed += *at == ' ';
    cr_assert(f.count >= 5 && c.found == failed, "%d checks, found:%s", f.count, f.failed);
    grd_settings_free(settings);
    return f;
}

static double noise(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (1 << 24);
}

/* Size and weight of things of three kinds, and what they cost. */
static const char *things(spoil what)
{
    static const char *const kinds[] = {"cup", "pot", "pan"};
    static char text[TEXT_MAX];
    size_t used = (size_t)sprintf(text, "size,weight,place,kind,cost\n");
    unsigned state = 5;
    double size = 0, weight = 0;
    for (int i = 0; i < ROWS; i++) {
        if (what == ALL_TWICE && i == ROWS / 2) { /* the whole table again */
            const char *rows = strchr(text, '\n') + 1;
            memcpy(text + used, rows, used - (size_t)(rows - text));
            used += used - (size_t)(rows - text);
            text[used] = '\0';
            break;
        }
        int k = what == BY_CLASS ? i * 3 / ROWS : what == ONE_CLASS ? i % 50 == 0 : (int)(3 * noise(&state));
        bool again = i % 10 == 1 && (what == ROWS_TWICE || what == TWO_LABELS);
        if (!again) size = 3 + k + 4 * noise(&state), weight = 1 + noise(&state);
        double cost = 2 * size + weight + noise(&state);
        if (what == ROWS_TWICE || what == TWO_LABELS) cost = 2 * size + weight;
        char cell[32];
        snprintf(cell, sizeof cell, "%.6f", weight);
        if (what == MOSTLY_MISSING && i % 5) strcpy(cell, "NaN");
        if (what == CODE && i % 20 == 3) strcpy(cell, "-999");
        if (what == CONSTANT) strcpy(cell, "7");
        if (what == NUMBER_TELLS) snprintf(cell, sizeof cell, "%.6f", 3 * cost - 1);
        if (what == LOGARITHM_TELLS) snprintf(cell, sizeof cell, "%.6f", log(cost));
        if (what == NEARLY_SEPARATED) k = k > 0;
        double own = what == NEARLY_SEPARATED && i == 77 ? 1 - k : k;
        if (what == SEPARATED || what == NEARLY_SEPARATED)
            snprintf(cell, sizeof cell, "%.6f", own + 0.5 * noise(&state));
        if (what == ROW_NUMBER) cost = i * 7 % ROWS + 1;
        bool tells = what == CATEGORY_TELLS || (what == CATEGORY_NEARLY_TELLS && i != 77);
        const char *place = tells ? kinds[(k + 1) % 3] : noise(&state) < 0.5 ? "left" : "right";
        if (what == CATEGORY_NEARLY_TELLS && i == 77) place = kinds[k];
        if (again) place = "left";
        if (what == TWO_LABELS) place = "left";
        if (what == ROWS_TWICE) place = "left", k = 1;
        if (what == ROWS_TWICE && i % 10 > 1) k = i % 3;
        used += (size_t)sprintf(text + used, "%.6f,%s,%s,%s,%.6f\n", size, cell, place,
                                kinds[(k + (again && what == TWO_LABELS)) % 3], cost);
    }
    return text;
}

static void assert_found(found f, const char *name, int what)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s", name);
    cr_assert(strstr(f.failed, wanted), "plant %d: %s did not find it, found:%s", what, name, f.failed);
}

Test(check_table, tables)
{
    static const struct {
        spoil what;
        const char *target, *check;
    } plants[] = {{CONSTANT, "cost", "constant_columns"},
                  {NUMBER_TELLS, "cost", "target_leak"},
                  {LOGARITHM_TELLS, "cost", "target_leak"},
                  {CATEGORY_TELLS, "kind", "target_leak"},
                  {CATEGORY_NEARLY_TELLS, "kind", "target_leak"},
                  {SEPARATED, "kind", "target_leak"},
                  {NEARLY_SEPARATED, "kind", "target_leak"},
                  {ROW_NUMBER, "cost", "target"},
                  {ALL_TWICE, "cost", "overlap"},
                  {MOSTLY_MISSING, "cost", "missing_values"},
                  {CODE, "cost", "values"},
                  {ROWS_TWICE, "cost", "overlap"},
                  {TWO_LABELS, "kind", "conflicting_labels"},
                  {ONE_CLASS, "kind", "label_balance"},
                  {BY_CLASS, "kind", "order"}};
    cr_assert_str_eq(look(things(GOOD), "cost", NULL, false, GRD_ORDER_SHUFFLED).failed, "");
    cr_assert_str_eq(look(things(GOOD), "kind", NULL, false, GRD_ORDER_SEQUENTIAL).failed, "");
    cr_assert_str_eq(look(things(BY_CLASS), "kind", NULL, false, GRD_ORDER_SHUFFLED).failed, "");
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++) {
        int order = plants[i].what == BY_CLASS ? GRD_ORDER_SEQUENTIAL : GRD_ORDER_SHUFFLED;
        assert_found(look(things(plants[i].what), plants[i].target, NULL, false, order), plants[i].check,
                     plants[i].what);
    }
}

/* Rows that are there twice, by one in `every`, though inputs of ten values alone tell no rows apart. */
static const char *few_inputs(int every, int digits)
{
    static char text[TEXT_MAX];
    size_t used = (size_t)sprintf(text, "rooms,floor,cost\n");
    unsigned state = 9;
    for (int i = 0, rooms = 0, floor = 0; i < ROWS; i++) {
        double cost = noise(&state);
        if (i % every == 1) {
            const char *last = text + used - 1;
            while (last[-1] != '\n') last--;
            used += (size_t)sprintf(text + used, "%.*s", (int)(text + used - last), last);
            continue;
        }
        rooms = (int)(5 * noise(&state)), floor = (int)(2 * noise(&state));
        used += (size_t)sprintf(text + used, "%d,%d,%.*f\n", rooms, floor, digits, 3 * rooms + floor + cost);
    }
    return text;
}

Test(check_table, a_target_of_many_digits_tells_rows_apart)
{
    assert_found(look(few_inputs(10, 6), "cost", NULL, false, GRD_ORDER_SHUFFLED), "overlap", ROWS_TWICE);
    cr_assert_str_eq(look(few_inputs(ROWS + 1, 6), "cost", NULL, false, GRD_ORDER_SHUFFLED).failed, "");
    cr_assert_str_eq(look(few_inputs(10, 0), "cost", NULL, false, GRD_ORDER_SHUFFLED).failed, "");
}

/* Numbers that are classes. */
Test(check_table, classes_in_numbers)
{
    static char text[TEXT_MAX];
    size_t used = (size_t)sprintf(text, "x,y\n");
    unsigned state = 3;
    for (int i = 0; i < ROWS; i++)
        used += (size_t)sprintf(text + used, "%.6f,%d\n", noise(&state), i % 50 == 0 ? 1 : 0);
    assert_found(look(text, "y", NULL, true, GRD_ORDER_SHUFFLED), "label_balance", ONE_CLASS);
    cr_assert_str_eq(look(text, "y", NULL, false, GRD_ORDER_SHUFFLED).failed, "");
}

/* A wave with noise, by the hour. */
static const char *hours(spoil what)
{
    static char text[TEXT_MAX];
    double values[ROWS + 2];
    unsigned state = 11;
    for (int i = 0; i < ROWS + 2; i++) {
        values[i] = 10 + 5 * sin(i * 0.26) + noise(&state);
        if (what == STUCK && i > 50 && i < 120) values[i] = values[50];
    }
    size_t used = (size_t)sprintf(text, "when,load,other\n");
    for (int i = 0; i < ROWS; i++) {
        int at = what == OUT_OF_ORDER && i % 40 == 7 ? i + 1 : what == OUT_OF_ORDER && i % 40 == 8 ? i - 1 : i;
        double other = what == INPUT_FROM_THE_FUTURE ? values[at + 1] : noise(&state);
        used +=
            (size_t)sprintf(text + used, "2026-01-%02dT%02d:00,%.5f,%.5f\n", 1 + at / 24, at % 24, values[at], other);
    }
    return text;
}

Test(check_table, series)
{
    cr_assert_str_eq(look(hours(GOOD), "load", "when", false, GRD_ORDER_SHUFFLED).failed, "");
    assert_found(look(hours(OUT_OF_ORDER), "load", "when", false, GRD_ORDER_SHUFFLED), "time_order", OUT_OF_ORDER);
    assert_found(look(hours(STUCK), "load", "when", false, GRD_ORDER_SHUFFLED), "stuck_values", STUCK);
    assert_found(look(hours(INPUT_FROM_THE_FUTURE), "load", "when", false, GRD_ORDER_SHUFFLED), "target_leak",
                 INPUT_FROM_THE_FUTURE);
}
