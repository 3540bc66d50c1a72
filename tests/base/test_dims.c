/* Statuses and errors, dtypes, shapes. */
#include <gradus/base.h>

#include <criterion/criterion.h>
#include <string.h>

Test(status, the_first_error_wins_and_is_one_line)
{
    grd_error error = {0};
    cr_assert(grd_fail(&error, GRD_E_IO, "%s: line\nend\x1b[2J", "a\tb") == GRD_E_IO, "returns its status");
    cr_assert(strcmp(error.message, "a b: line end [2J") == 0, "control characters stay: %s", error.message);
    cr_assert(grd_fail(&error, GRD_E_SHAPE, "later") == GRD_E_SHAPE, "returns its status all the same");
    cr_assert(error.status == GRD_E_IO && strstr(error.message, "line"), "the first error is replaced");
    cr_assert(grd_fail(NULL, GRD_E_MEMORY, "x") == GRD_E_MEMORY, "NULL is allowed");
}

Test(status, a_long_message_is_cut)
{
    grd_error error = {0};
    char text[3000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    grd_fail(&error, GRD_E_IO, "%s", text);
    cr_assert(strlen(error.message) == GRD_MESSAGE_MAX - 1, "%zu bytes", strlen(error.message));
}

Test(status, every_status_has_its_own_name)
{
    for (int a = 0; a <= GRD_E_SPACE; a++) {
        for (int b = a + 1; b <= GRD_E_SPACE + 1; b++)
            cr_assert(strcmp(grd_status_name((grd_status)a), grd_status_name((grd_status)b)) != 0, "%d and %d", a, b);
    }
}

Test(dtype, names_and_sizes)
{
    static const struct {
        grd_dtype dtype;
        const char *name;
        size_t size;
        bool is_float;
    } want[] = {
        {GRD_F32, "f32", 4, true}, {GRD_F64, "f64", 8, true},    {GRD_BF16, "bf16", 2, true},
        {GRD_F16, "f16", 2, true}, {GRD_I32, "i32", 4, false},   {GRD_I64, "i64", 8, false},
        {GRD_U8, "u8", 1, false},  {GRD_BOOL, "bool", 1, false},
    };
    for (size_t i = 0; i < GRD_DTYPE_COUNT; i++) {
        cr_assert(strcmp(grd_dtype_name(want[i].dtype), want[i].name) == 0, "name of %s", want[i].name);
        cr_assert(grd_dtype_size(want[i].dtype) == want[i].size, "size of %s", want[i].name);
        cr_assert(grd_dtype_is_float(want[i].dtype) == want[i].is_float, "kind of %s", want[i].name);
        cr_assert(grd_dtype_from_name(want[i].name) == want[i].dtype, "from name %s", want[i].name);
    }
    cr_assert(grd_dtype_size(GRD_DTYPE_COUNT) == 0 && grd_dtype_size((grd_dtype)-1) == 0, "size of no dtype");
    cr_assert(strcmp(grd_dtype_name(GRD_DTYPE_COUNT), "?") == 0, "name of no dtype");
    cr_assert(grd_dtype_from_name("F32") == GRD_DTYPE_COUNT && grd_dtype_from_name(NULL) == GRD_DTYPE_COUNT, "no name");
}

Test(dims, count)
{
    cr_assert(grd_dims_count(grd_scalar()) == 1, "a scalar");
    cr_assert(grd_dims_count(grd_shape(3, 4, 5)) == 60, "a block");
    cr_assert(grd_dims_count(grd_shape(3, 0, 5)) == 0, "an empty one");
    cr_assert(grd_dims_count(grd_shape(INT64_MAX)) == INT64_MAX, "the largest");
    cr_assert(grd_dims_count(grd_shape(INT64_MAX, 2)) == -1, "too large");
    cr_assert(grd_dims_count(grd_shape(INT64_MAX, INT64_MAX, 0)) == 0, "large sizes times zero");
    cr_assert(grd_dims_count(grd_shape(3, -1)) == -1, "a negative size");
    cr_assert(grd_dims_count(grd_shape(1, 1, 1, 1, 1, 1, 1, 1, 1)) == -1, "too many dimensions");
    grd_dims bad = {.rank = -1};
    cr_assert(grd_dims_count(bad) == -1, "a negative rank");
}

Test(dims, equal_and_text)
{
    char text[GRD_DIMS_TEXT_MAX];
    cr_assert(grd_dims_equal(grd_shape(2, 3), grd_shape(2, 3)), "the same");
    cr_assert(!grd_dims_equal(grd_shape(2, 3), grd_shape(3, 2)) && !grd_dims_equal(grd_shape(2), grd_shape(2, 1)),
              "others");
    cr_assert(strcmp(grd_dims_text(grd_shape(8, 1024, 768), text), "[8,1024,768]") == 0, "%s", text);
    cr_assert(strcmp(grd_dims_text(grd_scalar(), text), "[]") == 0, "%s", text);
    cr_assert(strcmp(grd_dims_text(grd_shape(1, 2, 3, 4, 5, 6, 7, 8, 9), text), "[1,2,3,4,5,6,7,8,...]") == 0, "%s",
              text);
    const int64_t m = INT64_MIN; /* twenty characters each: the longest text there is */
    cr_assert(strlen(grd_dims_text(grd_shape(m, m, m, m, m, m, m, m, m), text)) == 1 + 8 * 20 + 7 + 5, "%s", text);
}
