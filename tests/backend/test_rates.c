/* test_rates.c - rates of the device: measured at the first call, kept, and mixed with what is measured again. */
#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <string.h>

/* The rate of the mean of two times is below twice either of the two rates, however slow the other one was. */
static bool mixes(double first, double mixed)
{
    return first > 0 && mixed > 0 && mixed < 2 * first;
}

Test(rates, are_kept_until_measured_again)
{
    grd_error error = {GRD_OK, ""};
    grd_engine *engine = grd_engine_open("cpu", .threads = 2);
    grd_rates first, same, mixed;
    cr_assert(grd_engine_rates(engine, &first, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_engine_rates(engine, &same, &error) == GRD_OK);
    cr_assert(memcmp(&first, &same, sizeof first) == 0, "measured twice");
    cr_assert(grd_engine_measure(engine));
    cr_assert(grd_engine_rates(engine, &mixed, &error) == GRD_OK);
    cr_assert(memcmp(&first, &mixed, sizeof first) != 0, "not measured again");
    cr_assert(mixes(first.matmul_flops_per_s, mixed.matmul_flops_per_s));
    cr_assert(mixes(first.matmul_bf16_flops_per_s, mixed.matmul_bf16_flops_per_s));
    cr_assert(mixes(first.copy_bytes_per_s, mixed.copy_bytes_per_s));
    cr_assert(mixes(first.map_flops_per_s, mixed.map_flops_per_s));
    cr_assert(mixes(1 / first.launch_s, 1 / mixed.launch_s));
    grd_engine_close(engine);
}

Test(rates, of_a_profile_are_not_measured)
{
    grd_error error = {GRD_OK, ""};
    grd_engine *engine = grd_engine_open("null:h100");
    grd_rates first, again;
    cr_assert(grd_engine_rates(engine, &first, &error) == GRD_OK, "%s", error.message);
    cr_assert_not(grd_engine_measure(engine));
    cr_assert(grd_engine_rates(engine, &again, &error) == GRD_OK);
    cr_assert(memcmp(&first, &again, sizeof first) == 0);
    grd_engine_close(engine);
}
