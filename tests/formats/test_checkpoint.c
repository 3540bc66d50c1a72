/* Checkpoints: whole or not there, whatever fails and whenever the process dies; damage is named. */
#include "formats/checkpoint.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

TestSuite(checkpoint, .fini = scratch_remove);

enum { SIZE = 1000 };

/* Everything in a checkpoint says `mark`. */
static grd_status save(const char *root, uint64_t step, float mark, size_t keep, char **path, grd_error *error)
{
    float weight[SIZE], moment[SIZE];
    for (int i = 0; i < SIZE; i++) {
        weight[i] = mark + (float)i;
        moment[i] = -mark;
    }
    const grd_file_tensor model[] = {
        {.name = "h.0/w", .dims = grd_shape(SIZE / 4, 4), .data = weight, .size_bytes = sizeof weight},
        {.name = "b", .dtype = GRD_U8, .dims = grd_shape(3), .data = "\1\2\3", .size_bytes = 3},
        {.name = "wte", .dims = grd_shape(2), .data = weight, .size_bytes = 8}};
    const grd_file_tensor optimizer[] = {
        {.name = "h.0/w.m", .dims = grd_shape(SIZE), .data = moment, .size_bytes = sizeof moment}};
    grdi_checkpoint_writer writer;
    grdi_checkpoint_begin(&writer, root, step);
    grdi_checkpoint_add_tensors(&writer, "model.safetensors", model, 3);
    grdi_checkpoint_add_tensors(&writer, "optimizer.safetensors", optimizer, 1);
    json_t *state = json_pack("{s:I, s:f}", "step", (json_int_t)step, "mark", (double)mark);
    if (state)
        grdi_checkpoint_add_json(&writer, "state.json", state);
    else if (writer.error.status == GRD_OK)
        grd_fail(&writer.error, GRD_E_MEMORY, "no state");
    json_decref(state);
    grdi_checkpoint_add_file(&writer, "config.json", "{}", 2);
    return grdi_checkpoint_commit(&writer, keep, path, error);
}

/* Opens a checkpoint, which must be whole, and returns its mark. */
static float mark_of(const char *path)
{
    grd_error error = {0};
    grdi_checkpoint *checkpoint;
    cr_assert(grdi_checkpoint_open(path, &checkpoint, &error) == GRD_OK, "%s", error.message);
    size_t size;
    const char *text = grdi_checkpoint_file(checkpoint, "state.json", &size);
    json_t *state = grd_json_parse(text, size, "state", &error);
    float mark = (float)json_number_value(json_object_get(state, "mark"));
    json_decref(state);
    const grd_file_tensor *w = grd_safetensors_find(grdi_checkpoint_tensors(checkpoint, "model.safetensors"), "h.0/w");
    const grd_file_tensor *m =
        grd_safetensors_find(grdi_checkpoint_tensors(checkpoint, "optimizer.safetensors"), "h.0/w.m");
    cr_assert(w && m && grd_dims_equal(w->dims, grd_shape(SIZE / 4, 4)), "tensors are lost");
    for (int i = 0; i < SIZE; i++)
        cr_assert(((const float *)w->data)[i] == mark + (float)i && ((const float *)m->data)[i] == -mark, "element %d",
                  i);
    const char *config = grdi_checkpoint_file(checkpoint, "config.json", &size);
    cr_assert(size == 2 && memcmp(config, "{}", 2) == 0, "config.json");
    cr_assert(!grdi_checkpoint_file(checkpoint, "model.safetensors", &size) && size == 0, "tensors are no text");
    cr_assert(!grdi_checkpoint_tensors(checkpoint, "config.json") && !grdi_checkpoint_tensors(checkpoint, "none"),
              "no");
    grdi_checkpoint_close(checkpoint);
    return mark;
}

static void assert_steps(const char *root, size_t count, const uint64_t *want)
{
    uint64_t *steps;
    size_t found;
    cr_assert(grdi_checkpoint_list(root, &steps, &found, NULL) == GRD_OK && found == count, "%zu checkpoints", found);
    for (size_t i = 0; i < count; i++)
        cr_assert(steps[i] == want[i], "checkpoint %zu is of step %lu", i, steps[i]);
    grdi_free(steps);
}

static float newest_mark(const char *root, size_t back, uint64_t *step)
{
    char *path;
    grd_error error = {0};
    cr_assert(grdi_checkpoint_find(root, back, step, &path, &error) == GRD_OK && path, "%s", error.message);
    float mark = mark_of(path);
    grdi_free(path);
    return mark;
}

Test(checkpoint, what_is_saved_is_found_and_opened)
{
    faults_install();
    const char *root = scratch_path("run/checkpoints");
    uint64_t step;
    char *path;
    cr_assert(grdi_checkpoint_find(root, 0, &step, &path, NULL) == GRD_OK && path == NULL, "none yet");
    cr_assert(save(root, 200, 2, 2, &path, NULL) == GRD_OK, "save");
    cr_assert(strcmp(path, scratch_path("run/checkpoints/step-000200")) == 0, "%s", path);
    cr_assert(mark_of(path) == 2, "comes back");
    grdi_free(path);
    cr_assert(newest_mark(root, 0, &step) == 2 && step == 200, "found");
    cr_assert(grdi_checkpoint_find(root, 1, &step, &path, NULL) == GRD_OK && path == NULL, "none before");
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(checkpoint, the_newest_are_kept_and_later_ones_go)
{
    const char *root = scratch_path("checkpoints");
    uint64_t step;
    for (uint64_t s = 999998; s <= 1000001; s++)
        cr_assert(save(root, s, (float)(s - 999990), 3, NULL, NULL) == GRD_OK, "save");
    assert_steps(root, 3, (const uint64_t[]){999999, 1000000, 1000001});
    cr_assert(newest_mark(root, 0, &step) == 11 && step == 1000001, "by number, not by name");
    cr_assert(newest_mark(root, 2, &step) == 9 && step == 999999, "the third");
    /* Going back to an earlier one and on from there: what lay ahead must not be taken for the newest. */
    cr_assert(save(root, 1000000, 77, 2, NULL, NULL) == GRD_OK, "save again");
    assert_steps(root, 2, (const uint64_t[]){999999, 1000000});
    cr_assert(newest_mark(root, 0, &step) == 77, "replaced");
    cr_assert(save(root, 1000001, 78, 0, NULL, NULL) == GRD_OK, "keep all");
    assert_steps(root, 3, (const uint64_t[]){999999, 1000000, 1000001});
}

/* A run that went back from a damaged 3 to 2 must not keep 3 in the place of 2. */
Test(checkpoint, those_that_were_passed_over_go)
{
    const char *root = scratch_path("passed-over");
    for (uint64_t step = 1; step <= 3; step++)
        cr_assert(save(root, step, (float)step, 2, NULL, NULL) == GRD_OK);
    grdi_checkpoint_writer writer;
    cr_assert(grdi_checkpoint_begin(&writer, root, 4) == GRD_OK);
    grdi_checkpoint_add_file(&writer, "config.json", "{}", 2);
    writer.follows = 2;
    cr_assert(grdi_checkpoint_commit(&writer, 2, NULL, NULL) == GRD_OK);
    assert_steps(root, 2, (const uint64_t[]){2, 4});
}

Test(checkpoint, leftovers_and_other_files_are_passed_over_and_cleared_away)
{
    const char *root = scratch_path("checkpoints");
    cr_assert(save(root, 100, 1, 0, NULL, NULL) == GRD_OK, "save");
    grdi_directory_make(scratch_path("checkpoints/step-000200.tmp-1234"), NULL);
    scratch_write(scratch_path("checkpoints/step-000200.tmp-1234/model.safetensors"), "half", 4);
    grdi_directory_make(scratch_path("checkpoints/step-000100.replaced"), NULL);
    grdi_directory_make(scratch_path("checkpoints/step-12"), NULL);
    grdi_directory_make(scratch_path("checkpoints/step-000300x"), NULL);
    scratch_write(scratch_path("checkpoints/notes.txt"), "mine", 4);
    assert_steps(root, 1, (const uint64_t[]){100});
    cr_assert(save(root, 300, 3, 0, NULL, NULL) == GRD_OK, "save");
    cr_assert(!grdi_path_exists(scratch_path("checkpoints/step-000200.tmp-1234")), "an unfinished one stays");
    cr_assert(!grdi_path_exists(scratch_path("checkpoints/step-000100.replaced")), "a replaced one stays");
    cr_assert(grdi_path_exists(scratch_path("checkpoints/notes.txt")), "someone's file is gone");
    cr_assert(grdi_path_exists(scratch_path("checkpoints/step-000300x")), "someone's folder is gone");
    assert_steps(root, 2, (const uint64_t[]){100, 300});
}

Test(checkpoint, a_replacement_interrupted_between_its_renames_loses_nothing)
{
    const char *root = scratch_path("checkpoints");
    uint64_t step;
    cr_assert(save(root, 100, 1, 0, NULL, NULL) == GRD_OK, "save");
    cr_assert(rename(scratch_path("checkpoints/step-000100"), scratch_path("checkpoints/step-000100.replaced")) == 0,
              "-");
    cr_assert(newest_mark(root, 0, &step) == 1 && step == 100, "found under its other name");
    cr_assert(save(root, 200, 2, 0, NULL, NULL) == GRD_OK, "save");
    cr_assert(grdi_path_exists(scratch_path("checkpoints/step-000100")), "gets its name back");
    cr_assert(newest_mark(root, 1, &step) == 1 && step == 100, "and is whole");
}

static void flip_bit(const char *path, size_t byte)
{
    size_t size;
    char *bytes = scratch_read(path, &size);
    bytes[byte % size] ^= 1;
    scratch_write(path, bytes, size);
    free(bytes);
}

static void assert_damaged(const char *path, const char *file, const char *part)
{
    grd_error error = {0};
    grdi_checkpoint *checkpoint;
    cr_assert(grdi_checkpoint_open(path, &checkpoint, &error) != GRD_OK && checkpoint == NULL, "%s %s: opens", file,
              part);
    cr_assert(strstr(error.message, file) && strstr(error.message, part), "'%s' lacks '%s' or '%s'", error.message,
              file, part);
}

Test(checkpoint, a_flipped_bit_is_named_by_file_and_tensor)
{
    faults_install();
    const char *root = scratch_path("checkpoints");
    char *path;
    static const struct {
        const char *file;
        size_t from_end; /* bytes */
        const char *part;
    } flips[] = {
        {"model.safetensors", 1, "tensor 'b' does not match its checksum"}, /* three bytes at the end */
        {"model.safetensors", 3, "tensor 'b' does not match its checksum"},
        {"model.safetensors", 4, "tensor 'wte' does not match its checksum"}, /* 8 bytes */
        {"model.safetensors", 11, "tensor 'wte' does not match its checksum"},
        {"model.safetensors", 12, "tensor 'h.0/w' does not match its checksum"},
        {"model.safetensors", 2000, "tensor 'h.0/w' does not match its checksum"},
        {"model.safetensors", 4 * SIZE + 12, "the header does not match its checksum"}, /* its padding or last brace */
        {"optimizer.safetensors", 1, "tensor 'h.0/w.m' does not match its checksum"},
        {"state.json", 5, "does not match its checksum"},
        {"config.json", 1, "does not match its checksum"},
    };
    for (size_t i = 0; i < sizeof flips / sizeof *flips; i++) {
        cr_assert(save(root, 200, 2, 2, &path, NULL) == GRD_OK, "save");
        char *file = grdi_path_join(path, flips[i].file);
        size_t size;
        free(scratch_read(file, &size));
        flip_bit(file, size - flips[i].from_end);
        assert_damaged(path, flips[i].file, flips[i].part);
        grdi_free(file);
        grdi_free(path);
    }
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

/* No bit anywhere in the checkpoint may flip unnoticed, in checksums.json neither. */
Test(checkpoint, any_flipped_bit_is_noticed)
{
    const char *root = scratch_path("checkpoints");
    char *path;
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "state.json", "config.json",
                                        "checksums.json"};
    cr_assert(save(root, 200, 2, 2, &path, NULL) == GRD_OK, "save");
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char *file = grdi_path_join(path, files[f]);
        size_t size, unnoticed = 0;
        char *bytes = scratch_read(file, &size);
        const size_t byte_stride = size > 2000 ? 61 : 1; /* the large ones are sampled */
        const int bit_stride = size > 2000 ? 5 : 1;
        for (size_t byte = 0; byte < size; byte += byte_stride) {
            for (int bit = 0; bit < 8; bit += bit_stride) {
                grdi_checkpoint *checkpoint;
                bytes[byte] ^= (char)(1 << bit);
                scratch_write(file, bytes, size);
                bytes[byte] ^= (char)(1 << bit);
                if (grdi_checkpoint_open(path, &checkpoint, NULL) == GRD_OK) {
                    unnoticed++;
                    grdi_checkpoint_close(checkpoint);
                }
            }
        }
        scratch_write(file, bytes, size);
        free(bytes);
        grdi_free(file);
        cr_assert(unnoticed == 0, "%s: %zu flips pass", files[f], unnoticed);
    }
    cr_assert(mark_of(path) == 2, "and without a flip it opens");
    grdi_free(path);
}

Test(checkpoint, missing_cut_and_foreign_files_are_named)
{
    const char *root = scratch_path("checkpoints");
    char *path;
    cr_assert(save(root, 200, 2, 2, &path, NULL) == GRD_OK, "save");
    const char *state = scratch_path("checkpoints/step-000200/state.json");
    scratch_write(state, "{}", 2);
    assert_damaged(path, "state.json", "2 bytes where");
    cr_assert(unlink(state) == 0, "unlink");
    assert_damaged(path, "state.json", "No such file");
    const char *sums = scratch_path("checkpoints/step-000200/checksums.json");
    const char *other = "{\"algorithm\":\"crc\",\"files\":{}}";
    scratch_write(sums, other, strlen(other));
    assert_damaged(path, "checksums.json", "not a list of xxh3-64 checksums");
    const char *list = "{\"../x\":{}}";
    char outside[200];
    snprintf(outside, sizeof outside, "{\"algorithm\":\"xxh3-64\",\"xxh3\":\"%016llx\",\"files\":%s}",
             (unsigned long long)XXH3_64bits(list, strlen(list)), list);
    scratch_write(sums, outside, strlen(outside));
    assert_damaged(path, "checksums.json", "'../x' is no file name");
    const char *altered = "{\"algorithm\":\"xxh3-64\",\"xxh3\":\"26fb1ce8c73b4b2f\",\"files\":{}}";
    scratch_write(sums, altered, strlen(altered));
    assert_damaged(path, "checksums.json", "does not match its own checksum");
    cr_assert(unlink(sums) == 0, "unlink");
    assert_damaged(path, "checksums.json", "No such file");
    grdi_free(path);
}

Test(checkpoint, misuse_is_an_error_and_leaves_nothing)
{
    faults_install();
    const char *root = scratch_path("checkpoints");
    const grd_file_tensor wrong = {.name = "w", .dims = grd_shape(2), .data = "1234", .size_bytes = 4};
    grd_error error = {0};
    grdi_checkpoint_writer writer;
    cr_assert(grdi_checkpoint_begin(&writer, root, 1) == GRD_OK, "begin");
    cr_assert(grdi_checkpoint_add_file(&writer, "a", "1", 1) == GRD_OK, "add");
    cr_assert(grdi_checkpoint_add_file(&writer, "a", "1", 1) == GRD_E_ARGUMENT, "a name twice");
    cr_assert(grdi_checkpoint_commit(&writer, 1, NULL, &error) == GRD_E_ARGUMENT && strstr(error.message, "'a'"), "%s",
              error.message);
    grdi_checkpoint_begin(&writer, root, 1);
    cr_assert(grdi_checkpoint_add_file(&writer, "../a", "1", 1) == GRD_E_ARGUMENT, "a path");
    grdi_checkpoint_abandon(&writer);
    grdi_checkpoint_begin(&writer, root, 1);
    cr_assert(grdi_checkpoint_add_tensors(&writer, "w.safetensors", &wrong, 1) == GRD_E_ARGUMENT, "a wrong size");
    grdi_checkpoint_abandon(&writer);
    grdi_checkpoint_abandon(&writer);
    cr_assert(grdi_checkpoint_commit(&writer, 1, NULL, NULL) != GRD_OK, "commit after abandon");
    cr_assert(!grdi_directory_has_entries(root), "something is left");
    scratch_write(scratch_path("source"), "text", 4);
    grdi_checkpoint_begin(&writer, root, 1);
    grdi_checkpoint_copy_file(&writer, "tokenizer.json", scratch_path("source"));
    cr_assert(grdi_checkpoint_commit(&writer, 1, NULL, NULL) == GRD_OK, "copy");
    size_t size;
    char *copy = scratch_read(scratch_path("checkpoints/step-000001/tokenizer.json"), &size);
    cr_assert(strcmp(copy, "text") == 0, "%s", copy);
    free(copy);
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

/* Saving over an existing checkpoint of the same step with an older one beside it: after each fault both the folder and
 * the next save must be well. */
Test(checkpoint, every_fault_leaves_a_whole_newest_checkpoint)
{
    const char *root = scratch_path("checkpoints");
    faults_install();
    cr_assert(save(root, 100, 1, 2, NULL, NULL) == GRD_OK && save(root, 200, 2, 2, NULL, NULL) == GRD_OK, "before");
    long n = 1;
    for (bool hit = true; hit; n++) {
        grd_error error = {0};
        uint64_t step;
        faults_fail_at(n);
        grd_status status = save(root, 200, 3, 2, NULL, &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(status == error.status && (status == GRD_OK || hit), "fault %ld: %s", n, error.message);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak after '%s'", n, faults_held(), error.message);
        float mark = newest_mark(root, 0, &step);
        cr_assert(step == 200 && (mark == 3 || (mark == 2 && status != GRD_OK)), "fault %ld: mark %g", n, (double)mark);
        cr_assert(newest_mark(root, 1, &step) == 1 && step == 100, "fault %ld: the one before", n);
        cr_assert(save(root, 200, 2, 2, NULL, NULL) == GRD_OK, "fault %ld: the next save", n);
        char **names;
        size_t count;
        cr_assert(grdi_directory_list(root, &names, &count, NULL) == GRD_OK && count == 2, "fault %ld: leftovers", n);
        grdi_names_free(names, count);
    }
    cr_assert(n > 100, "only %ld operations", n);
}

Test(checkpoint, every_fault_while_opening_is_an_error_without_leaks)
{
    const char *root = scratch_path("checkpoints");
    faults_install();
    char *path;
    cr_assert(save(root, 200, 2, 2, &path, NULL) == GRD_OK, "save");
    long held = faults_held(), n = 1;
    for (bool hit = true; hit; n++) {
        grd_error error = {0};
        grdi_checkpoint *checkpoint;
        faults_fail_at(n);
        grd_status status = grdi_checkpoint_open(path, &checkpoint, &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(status == error.status && (status == GRD_OK || hit), "fault %ld: %s", n, error.message);
        cr_assert((status == GRD_OK) == (checkpoint != NULL), "fault %ld: the result", n);
        cr_assert(!strstr(error.message, "damaged"), "fault %ld: there is no damage: %s", n, error.message);
        grdi_checkpoint_close(checkpoint);
        cr_assert(faults_held() == held, "fault %ld: %ld things leak", n, faults_held() - held);
    }
    cr_assert(n > 50, "only %ld operations", n);
    grdi_free(path);
}

/* Saves step `step` in a process that dies at its n-th file operation; false when it came through. */
static bool save_and_die(const char *root, uint64_t step, float mark, long n)
{
    pid_t child = fork();
    if (child == 0) {
        faults_die_at(n);
        _exit(save(root, step, mark, 2, NULL, NULL) == GRD_OK ? 0 : 1);
    }
    int result;
    cr_assert(child > 0 && waitpid(child, &result, 0) == child && WIFEXITED(result), "fork");
    cr_assert(WEXITSTATUS(result) == 0 || WEXITSTATUS(result) == 9, "the child ends with %d", WEXITSTATUS(result));
    return WEXITSTATUS(result) != 0;
}

/* Removing old checkpoints is the last thing a save does: dying there must not leave half of one under its name. */
Test(checkpoint, a_process_killed_at_any_point_leaves_no_half_checkpoint)
{
    const char *root = scratch_path("checkpoints");
    faults_install();
    bool was_killed = true;
    for (long n = 1; was_killed; n++) {
        cr_assert(save(root, 100, 1, 2, NULL, NULL) == GRD_OK && save(root, 200, 2, 2, NULL, NULL) == GRD_OK, "before");
        was_killed = save_and_die(root, 300, 3, n);
        uint64_t *steps;
        size_t count;
        cr_assert(grdi_checkpoint_list(root, &steps, &count, NULL) == GRD_OK && count >= 2, "kill %ld: %zu", n, count);
        for (size_t i = 0; i < count; i++) {
            uint64_t step;
            cr_assert(newest_mark(root, count - 1 - i, &step) == (float)(steps[i] / 100), "kill %ld: step %lu", n,
                      step);
        }
        cr_assert(was_killed || (steps[0] == 200 && steps[1] == 300), "the old one stays");
        grdi_free(steps);
    }
}

/* As every_fault_leaves..., but the process dies at its n-th file operation, as by kill -9. */
Test(checkpoint, a_process_killed_at_any_point_leaves_a_whole_newest_checkpoint)
{
    const char *root = scratch_path("checkpoints");
    faults_install();
    cr_assert(save(root, 100, 1, 2, NULL, NULL) == GRD_OK && save(root, 200, 2, 2, NULL, NULL) == GRD_OK, "before");
    int kills = 0;
    for (long n = 1;; n++) {
        uint64_t step;
        bool was_killed = save_and_die(root, 200, 3, n);
        float mark = newest_mark(root, 0, &step);
        cr_assert(step == 200 && (mark == 2 || mark == 3), "kill %ld: mark %g of step %lu", n, (double)mark, step);
        cr_assert(newest_mark(root, 1, &step) == 1, "kill %ld: the one before", n);
        cr_assert(save(root, 200, 2, 2, NULL, NULL) == GRD_OK, "kill %ld: the next save", n);
        char **names;
        size_t count;
        cr_assert(grdi_directory_list(root, &names, &count, NULL) == GRD_OK && count == 2, "kill %ld: leftovers", n);
        grdi_names_free(names, count);
        if (!was_killed)
            break;
        kills++;
    }
    cr_assert(kills > 30, "only %d kills", kills);
}
