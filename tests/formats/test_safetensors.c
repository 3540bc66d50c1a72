/* Safetensors: files of our own, what the reference rejects, several files under an index, faults. */
#include "formats/safetensors.h"

#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(safetensors, .fini = scratch_remove);

static const float weights[6] = {1, 2, 3, 4, 5, 6};
static const int64_t counter = 9;
static const unsigned char flags[3] = {1, 0, 1};

static grd_status write_sample(const char *path, float scale, grd_error *error)
{
    float scaled[6];
    for (int i = 0; i < 6; i++)
        scaled[i] = scale * weights[i];
    const grd_file_tensor tensors[] = {
        {.name = "flags \"b\"\n", .dtype = GRD_BOOL, .dims = grd_shape(3), .data = flags, .size_bytes = 3},
        {.name = "w", .dtype = GRD_F32, .dims = grd_shape(2, 3), .data = scaled, .size_bytes = 24},
        {.name = "empty", .dtype = GRD_BF16, .dims = grd_shape(4, 0), .data = NULL, .size_bytes = 0},
        {.name = "\xc3\xa4", .dtype = GRD_I64, .dims = grd_scalar(), .data = &counter, .size_bytes = 8},
    };
    return grd_safetensors_write(path, tensors, 4, error);
}

static void assert_sample(const grd_safetensors *file, float scale)
{
    cr_assert(grd_safetensors_count(file) == 4, "%zu tensors", grd_safetensors_count(file));
    const grd_file_tensor *w = grd_safetensors_find(file, "w"), *c = grd_safetensors_find(file, "\xc3\xa4");
    const grd_file_tensor *b = grd_safetensors_find(file, "flags \"b\"\n"), *e = grd_safetensors_find(file, "empty");
    cr_assert(w && c && b && e, "a name is lost");
    cr_assert(w->dtype == GRD_F32 && grd_dims_equal(w->dims, grd_shape(2, 3)) && w->size_bytes == 24, "w");
    cr_assert(strcmp(w->dtype_name, "F32") == 0 && strcmp(w->name, "w") == 0, "w's words");
    for (int i = 0; i < 6; i++)
        cr_assert(((const float *)w->data)[i] == scale * weights[i], "w[%d]", i);
    cr_assert(c->dtype == GRD_I64 && c->dims.rank == 0 && *(const int64_t *)c->data == counter, "the scalar");
    cr_assert(b->dtype == GRD_BOOL && memcmp(b->data, flags, 3) == 0, "the flags");
    cr_assert(e->dtype == GRD_BF16 && grd_dims_equal(e->dims, grd_shape(4, 0)) && e->size_bytes == 0, "the empty one");
    cr_assert(grd_safetensors_find(file, "W") == NULL, "a name that is not there");
    cr_assert(grd_safetensors_at(file, 0) == c && grd_safetensors_at(file, 3) == b && !grd_safetensors_at(file, 4),
              "wide elements come first");
    cr_assert(strcmp(grd_safetensors_metadata(file, "format"), "pt") == 0, "metadata");
    cr_assert(grd_safetensors_metadata(file, "other") == NULL, "metadata that is not there");
}

Test(safetensors, what_is_written_is_read)
{
    faults_install();
    grd_error error = {0};
    cr_assert(write_sample(scratch_path("model.safetensors"), 1, &error) == GRD_OK, "%s", error.message);
    grd_safetensors *file;
    cr_assert(grd_safetensors_open(scratch_path("model.safetensors"), &file, &error) == GRD_OK, "%s", error.message);
    assert_sample(file, 1);
    grd_safetensors_close(file);
    cr_assert(grd_safetensors_open(scratch_path(""), &file, &error) == GRD_OK, "its folder: %s", error.message);
    assert_sample(file, 1);
    grd_safetensors_close(file);
    grd_safetensors_close(NULL);
    cr_assert(grd_safetensors_write(scratch_path("none.safetensors"), NULL, 0, &error) == GRD_OK, "no tensors");
    cr_assert(grd_safetensors_open(scratch_path("none.safetensors"), &file, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_safetensors_count(file) == 0 && grd_safetensors_find(file, "w") == NULL, "no tensors");
    grd_safetensors_close(file);
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(safetensors, data_is_aligned_to_the_widest_element)
{
    char name[] = "12345678";
    for (int length = 1; length <= 8; length++) {
        const grd_file_tensor tensor = {
            .name = name + 8 - length, .dtype = GRD_I64, .dims = grd_scalar(), .data = &counter, .size_bytes = 8};
        cr_assert(grd_safetensors_write(scratch_path("x.safetensors"), &tensor, 1, NULL) == GRD_OK, "write");
        grd_safetensors *file;
        cr_assert(grd_safetensors_open(scratch_path("x.safetensors"), &file, NULL) == GRD_OK, "read");
        uintptr_t address = (uintptr_t)grd_safetensors_at(file, 0)->data;
        cr_assert(address % 8 == 0, "a name of %d letters: address %lx", length, address);
        grd_safetensors_close(file);
    }
}

/* Writes a file from its header's text and `data_bytes` bytes of data. */
static void write_raw(const char *path, const char *header, size_t data_bytes)
{
    char bytes[4096];
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memset(bytes + 8 + length, 7, data_bytes);
    scratch_write(path, bytes, 8 + length + data_bytes);
}

#define TENSOR(name, dtype, shape, begin, end)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

/* Files that are unusual but valid; some are the reference's own tests. */
Test(safetensors, unusual_files_are_read)
{
    static const struct {
        const char *header;
        size_t data_bytes, count;
    } good[] = {
        {"{}", 0, 0},
        {"{}\r \t\n", 0, 0},
        {"\t\n{}\r ", 0, 0},
        {"{" TENSOR("a", "I32", "[2,2]", "0", "16") "}", 16, 1},
        {"{" TENSOR("a", "I32", "[]", "0", "4") "}", 4, 1},
        {"{" TENSOR("a", "I32", "[2,0]", "0", "0") "}", 0, 1},
        {"{\"__metadata__\":null," TENSOR("a", "U8", "[1]", "0", "1") "}", 1, 1},
        {"{\"__metadata__\":{}," TENSOR("a", "U8", "[1]", "0", "1") "}", 1, 1},
        /* in any order in the header, empty ones between, extra keys */
        {"{" TENSOR("b", "U8", "[3]", "2", "5") "," TENSOR("e", "F64", "[0]", "2", "2") "," TENSOR("a", "U8", "[2]",
                                                                                                   "0", "2") "}",
         5, 3},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"extra\":[[{}]]}}", 1, 1},
        /* dtypes that only others compute with */
        {"{" TENSOR("a", "F8_E4M3", "[3]", "0", "3") "," TENSOR("b", "F4", "[2,2]", "3", "5") "}", 5, 2},
        {"{" TENSOR("a", "C64", "[3]", "0", "24") "}", 24, 1},
        {"{" TENSOR("block-0", "U8", "[1]", "0", "1") "," TENSOR("a\\\\\\\"-0", "U8", "[0]", "0", "0") "}", 1, 2},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        grd_error error = {0};
        grd_safetensors *file;
        write_raw(scratch_path("x.safetensors"), good[i].header, good[i].data_bytes);
        cr_assert(grd_safetensors_open(scratch_path("x.safetensors"), &file, &error) == GRD_OK, "%s: %s",
                  good[i].header, error.message);
        cr_assert(grd_safetensors_count(file) == good[i].count, "%s", good[i].header);
        grd_safetensors_close(file);
    }
    grd_safetensors *file;
    write_raw(scratch_path("x.safetensors"), "{" TENSOR("a", "I16", "[2]", "0", "4") "}", 4);
    cr_assert(grd_safetensors_open(scratch_path("x.safetensors"), &file, NULL) == GRD_OK, "I16");
    const grd_file_tensor *a = grd_safetensors_find(file, "a");
    cr_assert(a->dtype == GRD_DTYPE_COUNT && strcmp(a->dtype_name, "I16") == 0 && a->size_bytes == 4, "I16");
    grd_safetensors_close(file);
}

static const struct {
    const char *header;
    size_t data_bytes;
    const char *message; /* part of it */
} bad[] = {
    {"{", 0, "json"},
    {"[]", 0, "the header is not a JSON object"},
    {"{} x", 0, "json: end of file expected"},
    {"{\"\xff\":1}", 0, "unable to decode byte 0xff"},
    {"{\"a\":1}", 0, "tensor 'a': its description is not an object"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor 'a': dtype is missing"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor 'a': dtype is missing or not a text"},
    {"{" TENSOR("a", "Q7", "[1]", "0", "1") "}", 1, "tensor 'a': unknown dtype 'Q7'"},
    {"{" TENSOR("a", "f32", "[1]", "0", "4") "}", 4, "tensor 'a': unknown dtype 'f32'"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor 'a': shape is missing or not a list"},
    {"{" TENSOR("a", "U8", "[-1]", "0", "1") "}", 1, "tensor 'a': dimension 0 of the shape is not a whole number"},
    {"{" TENSOR("a", "U8", "[1,1.0]", "0", "1") "}", 1, "tensor 'a': dimension 1 of the shape"},
    {"{" TENSOR("a", "U8", "[\"1\"]", "0", "1") "}", 1, "tensor 'a': dimension 0 of the shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor 'a': data_offsets is not a list of two"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, "tensor 'a': data_offsets is not a list"},
    {"{" TENSOR("a", "U8", "[1]", "-1", "0") "}", 1, "tensor 'a': data_offsets is not a list of two whole numbers"},
    {"{" TENSOR("a", "U8", "[1]", "0", "1.0") "}", 1, "tensor 'a': data_offsets is not a list of two whole numbers"},
    {"{" TENSOR("a", "U8", "[0]", "-0", "0") "}", 0, "a negative number in the header"},
    {"{" TENSOR("a\\\"-0", "U8", "[0]", "0", "-0") "}", 0, "a negative number in the header"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1\",\"data_offsets\":[0,1]}}", 1, "json"},
    {"{" TENSOR("a", "U8", "[1]", "1", "0") "}", 1, "tensor 'a': its data ends before it begins"},
    {"{" TENSOR("a", "I32", "[2,2]", "0", "4") "}", 4, "tensor 'a': I32[2,2] needs 16 bytes, data_offsets give 4"},
    {"{" TENSOR("a", "I32", "[2,9223372036854775807]", "0", "16") "}", 16, "tensor 'a': its shape is too large"},
    {"{" TENSOR("a", "I32", "[4611686018427387904,4,0]", "0", "0") "}", 0, "tensor 'a': its shape is too large"},
    {"{" TENSOR("a", "I32", "[2305843009213693952,4]", "0", "16") "}", 16, "tensor 'a': its shape is too large"},
    {"{" TENSOR("a", "I32", "[2,18446744073709551614]", "0", "16") "}", 16, "json: too big integer"},
    {"{" TENSOR("a", "F4", "[3]", "0", "1") "}", 1, "tensor 'a': its elements do not fill whole bytes"},
    {"{" TENSOR("a", "U8", "[1]", "1", "2") "}", 2, "tensor 'a': its data begins at byte 1, leaving a gap from byte 0"},
    {"{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("b", "U8", "[2]", "1", "3") "}", 3,
     "tensor 'b': its data begins at byte 1, overlapping the tensor that ends at byte 2"},
    {"{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("b", "U8", "[2]", "0", "2") "}", 2, "overlapping the tensor"},
    {"{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("b", "U8", "[2]", "3", "5") "}", 5,
     "tensor 'b': its data begins at byte 3, leaving a gap from byte 2"},
    {"{" TENSOR("a", "U8", "[9]", "0", "9") "}", 8, "tensor 'a': its data ends at byte 9, but the file has 8 bytes"},
    {"{" TENSOR("a", "U8", "[9]", "0", "9") "}", 10, "1 bytes after the last tensor"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{" TENSOR("a", "U8", "[1]", "0", "1") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 1, "duplicate object key"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "duplicate object key"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"format\":7}}", 0, "__metadata__: 'format' is not a text"},
    {"{\"a\":{\"x\":"
     "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
     "[[["
     "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
     "[[[",
     0, "levels of nesting"},
};

static void assert_refused(const char *path, grd_status status, const char *part)
{
    grd_error error = {0};
    grd_safetensors *file;
    cr_assert(grd_safetensors_open(path, &file, &error) == status, "'%s' expected, got: %s", part, error.message);
    cr_assert(file == NULL && error.status == status, "what is left after '%s'", part);
    cr_assert(strstr(error.message, part), "'%s' lacks '%s'", error.message, part);
    cr_assert(strstr(error.message, "/x."), "'%s' lacks the file's name", error.message);
}

Test(safetensors, bad_files_are_refused_with_their_reason)
{
    faults_install();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_raw(scratch_path("x.safetensors"), bad[i].header, bad[i].data_bytes);
        assert_refused(scratch_path("x.safetensors"), GRD_E_FORMAT, bad[i].message);
    }
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(safetensors, bad_lengths_are_refused)
{
    const char *path = scratch_path("x.safetensors");
    scratch_write(path, "", 0);
    assert_refused(path, GRD_E_FORMAT, "0 bytes are too few");
    scratch_write(path, "\2\0\0\0\0\0\0", 7);
    assert_refused(path, GRD_E_FORMAT, "7 bytes are too few");
    scratch_write(path, "<\0\0\0\0\0\0\0", 8);
    assert_refused(path, GRD_E_FORMAT, "the header ends after the file does");
    scratch_write(path, "\3\0\0\0\0\0\0\0{}", 10);
    assert_refused(path, GRD_E_FORMAT, "the header ends after the file does");
    scratch_write(path, "\0\0\0\0\0\0\0\0", 8);
    assert_refused(path, GRD_E_FORMAT, "json");
    scratch_write(path, "\1\xe1\xf5\5\0\0\0\0{}", 10); /* 100,000,001 */
    assert_refused(path, GRD_E_FORMAT, "a header of 100000001 bytes");
    scratch_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_refused(path, GRD_E_FORMAT, "a header of 18446744073709551615 bytes");
    write_raw(path, "{" TENSOR("a", "U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1);
    assert_refused(path, GRD_E_UNSUPPORTED, "tensor 'a': 9 dimensions (at most 8");
    cr_assert(grd_safetensors_open(scratch_path("none"), &(grd_safetensors *){NULL}, NULL) == GRD_E_IO,
              "a missing file");
}

Test(safetensors, tensors_that_cannot_be_written_are_refused)
{
    static const struct {
        grd_file_tensor tensor;
        const char *message;
    } refused[] = {
        {{.name = "\xff", .dims = {1, {1}}, .data = weights, .size_bytes = 4}, "not UTF-8"},
        {{.name = "\xed\xa0\x80", .dims = {1, {1}}, .data = weights, .size_bytes = 4}, "not UTF-8"},
        {{.name = "\xc3", .dims = {1, {1}}, .data = weights, .size_bytes = 4}, "not UTF-8"},
        {{.name = NULL, .dims = {1, {1}}, .data = weights, .size_bytes = 4}, "no name"},
        {{.name = "first", .dims = {1, {1}}, .data = weights, .size_bytes = 4}, "'first': its name is taken"},
        {{.name = "__metadata__", .dims = {1, {1}}, .data = weights, .size_bytes = 4}, "its name is taken"},
        {{.name = "a", .dims = {1, {2}}, .data = weights, .size_bytes = 4}, "'a': size_bytes does not fit"},
        {{.name = "a", .dtype = GRD_DTYPE_COUNT, .dims = {1, {1}}, .data = weights, .size_bytes = 4},
         "dtype or its dims"},
        {{.name = "a", .dims = {1, {-1}}, .data = weights, .size_bytes = 4}, "dtype or its dims"},
        {{.name = "a", .dims = {9, {1}}, .data = weights, .size_bytes = 4}, "dtype or its dims"},
    };
    const char *path = scratch_path("x.safetensors");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        grd_error error = {0};
        const grd_file_tensor tensors[] = {{.name = "first", .dims = grd_shape(1), .data = weights, .size_bytes = 4},
                                           refused[i].tensor};
        cr_assert(grd_safetensors_write(path, tensors, 2, &error) == GRD_E_ARGUMENT, "case %zu", i);
        cr_assert(strstr(error.message, refused[i].message), "'%s' lacks '%s'", error.message, refused[i].message);
    }
    cr_assert(write_sample(path, 1, NULL) == GRD_OK, "and good ones are still written");
}

Test(safetensors, a_streaming_writer_wants_what_it_was_told)
{
    const grd_file_tensor tensors[] = {{.name = "a", .dims = grd_shape(2)}, {.name = "b", .dims = grd_shape(1)}};
    const grd_file_tensor unsorted[] = {{.name = "a", .dtype = GRD_U8, .dims = grd_shape(2)}, {.name = "b"}};
    const char *path = scratch_path("x.safetensors");
    grdi_safetensors_writer writer;
    grd_error error = {0};
    cr_assert(grdi_safetensors_writer_open(&writer, path, unsorted, 2, NULL) == GRD_E_ARGUMENT, "wider after narrower");
    cr_assert(strstr(writer.out.error.message, "wider"), "%s", writer.out.error.message);
    grdi_safetensors_writer_abandon(&writer);
    grdi_safetensors_writer_open(&writer, path, tensors, 2, NULL);
    cr_assert(grdi_safetensors_writer_put(&writer, weights, 16) == GRD_E_ARGUMENT, "too much");
    cr_assert(grdi_safetensors_writer_commit(&writer, &error) == GRD_E_ARGUMENT, "too much");
    cr_assert(strstr(error.message, "more data"), "%s", error.message);
    grdi_safetensors_writer_open(&writer, path, tensors, 2, NULL);
    grdi_safetensors_writer_put(&writer, weights, 8);
    error.status = GRD_OK;
    cr_assert(grdi_safetensors_writer_commit(&writer, &error) == GRD_E_ARGUMENT, "too little");
    cr_assert(strstr(error.message, "less data"), "%s", error.message);
    grdi_safetensors_writer_open(&writer, path, tensors, 2, NULL);
    grdi_safetensors_writer_put(&writer, weights, 7);
    grdi_safetensors_writer_put(&writer, (const char *)weights + 7, 5);
    cr_assert(grdi_safetensors_writer_commit(&writer, NULL) == GRD_OK, "in pieces");
    grd_safetensors *file;
    cr_assert(grd_safetensors_open(path, &file, NULL) == GRD_OK, "reads");
    cr_assert(memcmp(grd_safetensors_find(file, "b")->data, weights + 2, 4) == 0, "the pieces are in order");
    grd_safetensors_close(file);
}

static void write_shards(void)
{
    write_raw(scratch_path("x-1.safetensors"), "{" TENSOR("a", "U8", "[1]", "0", "1") "}", 1);
    write_raw(scratch_path("x-2.safetensors"),
              "{" TENSOR("b", "U8", "[2]", "0", "2") "," TENSOR("rest", "U8", "[1]", "2", "3") "}", 3);
}

static const char *write_index(const char *text)
{
    const char *path = scratch_path("model.safetensors.index.json");
    scratch_write(path, text, strlen(text));
    return path;
}

Test(safetensors, an_index_joins_its_shards)
{
    faults_install();
    write_shards();
    const char *text =
        "{\"metadata\":{\"total_size\":3},\"weight_map\":{\"b\":\"x-2.safetensors\",\"a\":\"x-1.safetensors\"}}";
    grd_safetensors *file;
    grd_error error = {0};
    cr_assert(grd_safetensors_open(write_index(text), &file, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_safetensors_count(file) == 2 && !grd_safetensors_find(file, "rest"), "the tensors that it lists");
    cr_assert(grd_safetensors_find(file, "a")->size_bytes == 1 && grd_safetensors_find(file, "b")->size_bytes == 2,
              "both");
    grd_safetensors_close(file);
    cr_assert(grd_safetensors_open(scratch_path(""), &file, &error) == GRD_OK, "their folder: %s", error.message);
    grd_safetensors_close(file);
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(safetensors, a_bad_index_is_refused)
{
    static const struct {
        const char *index, *message;
    } refused[] = {
        {"{}", "weight_map is missing"},
        {"{\"weight_map\":{}}", "weight_map is missing or empty"},
        {"{\"weight_map\":{\"a\":1}}", "tensor 'a': its place is not the name of a file"},
        {"{\"weight_map\":{\"a\":\"../x-1.safetensors\"}}", "tensor 'a': its place is not the name of a file"},
        {"{\"weight_map\":{\"a\":\"x-2.safetensors\"}}", "tensor 'a': not in 'x-2.safetensors'"},
        {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"c\":\"x-2.safetensors\"}}",
         "tensor 'c': not in 'x-2.safetensors'"},
        {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"a\":\"x-2.safetensors\"}}", "duplicate"},
    };
    faults_install();
    write_shards();
    grd_safetensors *file;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        grd_error error = {0};
        cr_assert(grd_safetensors_open(write_index(refused[i].index), &file, &error) == GRD_E_FORMAT, "case %zu", i);
        cr_assert(strstr(error.message, refused[i].message), "'%s' lacks '%s'", error.message, refused[i].message);
    }
    cr_assert(grd_safetensors_open(write_index("{\"weight_map\":{\"a\":\"none\"}}"), &file, NULL) == GRD_E_IO,
              "no shard");
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(safetensors, every_fault_leaves_the_old_file_and_leaks_nothing)
{
    const char *path = scratch_path("x.safetensors");
    cr_assert(write_sample(path, 1, NULL) == GRD_OK, "the first");
    faults_install();
    long n = 1;
    for (bool hit = true; hit; n++) {
        grd_error error = {0};
        faults_fail_at(n);
        grd_status status = write_sample(path, 2, &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(status == error.status && (status == GRD_OK || hit), "fault %ld: %s", n, error.message);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak after '%s'", n, faults_held(), error.message);
        grd_safetensors *file;
        cr_assert(grd_safetensors_open(path, &file, &error) == GRD_OK || status != GRD_OK, "fault %ld: %s", n,
                  error.message);
        const grd_file_tensor *w = grd_safetensors_find(file, "w");
        bool is_new = ((const float *)w->data)[0] == 2;
        cr_assert(is_new || status != GRD_OK, "fault %ld: reported as written, but is not", n);
        assert_sample(file, is_new ? 2 : 1);
        grd_safetensors_close(file);
        cr_assert(write_sample(path, 1, NULL) == GRD_OK, "again");
    }
    cr_assert(n > 30, "only %ld operations", n);
}

Test(safetensors, every_fault_while_reading_is_an_error_without_leaks)
{
    write_shards();
    const char *path = write_index("{\"weight_map\":{\"b\":\"x-2.safetensors\",\"a\":\"x-1.safetensors\"}}");
    faults_install();
    long n = 1;
    for (bool hit = true; hit; n++) {
        grd_error error = {0};
        grd_safetensors *file;
        faults_fail_at(n);
        grd_status status = grd_safetensors_open(path, &file, &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(status == error.status && (status == GRD_OK) == (file != NULL), "fault %ld: %s", n, error.message);
        cr_assert(status == GRD_OK || hit, "fault %ld: %s", n, error.message);
        cr_assert(status == GRD_OK || status == GRD_E_MEMORY || status == GRD_E_IO || strstr(error.message, "json"),
                  "fault %ld: damage reported where there is none: %s", n, error.message);
        if (file)
            cr_assert(grd_safetensors_find(file, "a") && grd_safetensors_find(file, "b"), "fault %ld", n);
        grd_safetensors_close(file);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak", n, faults_held());
    }
    cr_assert(n > 30, "only %ld operations", n);
}
