/* Allocation, formatted text, regions, growing arrays. */
#include "base/memory.h"
#include "faults.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

Test(memory, sizes_that_overflow_are_refused)
{
    cr_assert(grdi_alloc_zero(SIZE_MAX / 2, 3) == NULL && grdi_alloc_zero(SIZE_MAX, 1) == NULL, "alloc_zero");
    cr_assert(grdi_realloc(NULL, SIZE_MAX / 4, 8) == NULL && grdi_alloc(SIZE_MAX) == NULL, "realloc, alloc");
    void *none = grdi_alloc(0);
    cr_assert(none != NULL, "size 0 gives a valid pointer");
    grdi_free(none);
    grdi_free(NULL);
}

Test(memory, zeroed_and_copied)
{
    unsigned char *zero = grdi_alloc_zero(100, 3);
    for (int i = 0; i < 300; i++)
        cr_assert(zero[i] == 0, "byte %d", i);
    char *text = grdi_format("%d-%s", 7, "seven"), *copy = grdi_strdup(text);
    cr_assert(strcmp(copy, "7-seven") == 0, "%s", copy);
    grdi_free(zero);
    grdi_free(text);
    grdi_free(copy);
}

Test(memory, a_region_gives_zeroed_aligned_disjoint_memory_of_any_size)
{
    faults_install();
    grdi_region region = {0};
    unsigned char *pieces[200];
    size_t sizes[200];
    for (int i = 0; i < 200; i++) {
        sizes[i] = (size_t)(i % 10 == 9 ? i * 5000 : i % 7 * 11); /* now and then larger than a block */
        pieces[i] = grdi_region_alloc(&region, sizes[i]);
        cr_assert((uintptr_t)pieces[i] % 16 == 0, "alignment of piece %d", i);
        for (size_t j = 0; j < sizes[i]; j++)
            cr_assert(pieces[i][j] == 0, "piece %d is not zero", i);
        memset(pieces[i], i, sizes[i]);
    }
    for (int i = 0; i < 200; i++) {
        for (size_t j = 0; j < sizes[i]; j++)
            cr_assert(pieces[i][j] == (unsigned char)i, "piece %d was overwritten", i);
    }
    cr_assert(strcmp(grdi_region_format(&region, "%s!", grdi_region_strdup(&region, "hi")), "hi!") == 0, "texts");
    cr_assert(grdi_region_alloc(&region, SIZE_MAX) == NULL, "a size that cannot be");
    grdi_region_free(&region);
    cr_assert(faults_held() == 0, "%ld blocks leak", faults_held());
    cr_assert(grdi_region_alloc(&region, 1) != NULL, "usable again");
    grdi_region_free(&region);
}

Test(memory, a_region_survives_a_failed_allocation)
{
    faults_install();
    grdi_region region = {0};
    faults_fail_at(1);
    cr_assert(grdi_region_alloc(&region, 10) == NULL, "fails");
    char *text = grdi_region_strdup(&region, "kept");
    faults_fail_at(1);
    cr_assert(grdi_region_alloc(&region, 100000) == NULL && strcmp(text, "kept") == 0,
              "fails and keeps what was there");
    grdi_region_free(&region);
    cr_assert(faults_held() == 0, "%ld blocks leak", faults_held());
}

Test(memory, an_array_grows_and_stays_when_it_cannot)
{
    faults_install();
    int *array = NULL;
    size_t capacity = 0;
    for (size_t count = 0; count < 1000; count++) {
        if (count == 8) {
            faults_fail_at(1);
            cr_assert(!GRDI_GROW(array, capacity, count) && capacity == 8, "a failure leaves the array alone");
        }
        cr_assert(GRDI_GROW(array, capacity, count) && capacity > count, "count %zu", count);
        array[count] = (int)count;
    }
    for (int i = 0; i < 1000; i++)
        cr_assert(array[i] == i, "element %d", i);
    grdi_free(array);
    cr_assert(faults_held() == 0, "%ld blocks leak", faults_held());
}

Test(memory, mapped_pages_are_zero)
{
    unsigned char *pages = grdi_memory.map(1 << 20);
    cr_assert(pages != NULL && pages[0] == 0 && pages[(1 << 20) - 1] == 0, "zeroed");
    grdi_memory.unmap(pages, 1 << 20);
}
