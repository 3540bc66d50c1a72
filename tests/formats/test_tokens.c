/* Token shards: the layout that llm.c and nanoGPT give them, what is refused, faults. */
#include "formats/tokens.h"

#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

TestSuite(tokens, .fini = scratch_remove);

static const int32_t some[5] = {1, 50256, 0, 65535, 7};

/* The bytes of a shard by the description in llm.c's dev/data/data_common.py. */
static size_t shard_bytes(uint8_t *bytes, int32_t magic, int32_t version, int32_t count, int token_bytes)
{
    int32_t header[256] = {magic, version, count};
    memcpy(bytes, header, 1024);
    for (int i = 0; i < 5; i++)
        memcpy(bytes + 1024 + i * token_bytes, &some[i], (size_t)token_bytes);
    return (size_t)(1024 + 5 * token_bytes);
}

static void assert_tokens(const char *path, grd_token_format asked, grd_token_format found)
{
    grd_error error = {0};
    grd_tokens *tokens;
    int32_t out[5] = {0};
    cr_assert(grd_tokens_open(path, asked, &tokens, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_tokens_count(tokens) == 5 && grd_tokens_format(tokens) == found, "count or format");
    cr_assert(grd_tokens_read(tokens, 0, 5, out, &error) == GRD_OK && memcmp(out, some, sizeof some) == 0, "all");
    cr_assert(grd_tokens_read(tokens, 3, 2, out, &error) == GRD_OK && out[0] == 65535 && out[1] == 7, "the last two");
    cr_assert(grd_tokens_read(tokens, 5, 0, out, &error) == GRD_OK, "none at the end");
    cr_assert(grd_tokens_read(tokens, 3, 3, out, &error) == GRD_E_ARGUMENT, "beyond the end");
    cr_assert(strstr(error.message, "3 tokens from 3 on were asked for, but there are 5"), "%s", error.message);
    cr_assert(grd_tokens_read(tokens, 1, SIZE_MAX, out, NULL) == GRD_E_ARGUMENT, "a range that overflows");
    error.status = GRD_OK;
    cr_assert(grd_tokens_check(tokens, 65536, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_tokens_check(tokens, 50257, &error) == GRD_E_FORMAT, "a token outside the vocabulary");
    cr_assert(strstr(error.message, "token 65535 at position 3 is outside"), "%s", error.message);
    grd_tokens_close(tokens);
}

Test(tokens, each_format_is_written_byte_for_byte_and_read)
{
    static const struct {
        grd_token_format format;
        int32_t magic, version;
        int token_bytes;
    } kinds[] = {{GRD_TOKENS_GPT2, 20240520, 1, 2}, {GRD_TOKENS_LLAMA3, 20240801, 7, 4}};
    faults_install();
    const char *path = scratch_path("x.bin");
    for (int i = 0; i < 2; i++) {
        grd_error error = {0};
        uint8_t want[2048];
        size_t want_bytes = shard_bytes(want, kinds[i].magic, kinds[i].version, 5, kinds[i].token_bytes), size;
        cr_assert(grd_tokens_write(path, kinds[i].format, some, 5, &error) == GRD_OK, "%s", error.message);
        char *got = scratch_read(path, &size);
        cr_assert(size == want_bytes && memcmp(got, want, size) == 0, "format %d", kinds[i].format);
        free(got);
        assert_tokens(path, GRD_TOKENS_AUTO, kinds[i].format);
        assert_tokens(path, kinds[i].format, kinds[i].format);
    }
    cr_assert(grd_tokens_write(path, GRD_TOKENS_RAW_U16, some, 5, NULL) == GRD_OK, "raw");
    size_t size;
    char *raw = scratch_read(path, &size);
    cr_assert(size == 10 && memcmp(raw, "\1\0\x50\xc4\0\0\xff\xff\7\0", 10) == 0, "raw");
    free(raw);
    assert_tokens(path, GRD_TOKENS_RAW_U16, GRD_TOKENS_RAW_U16);
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(tokens, what_does_not_fit_is_refused_with_its_reason)
{
    static const struct {
        int32_t magic, version, count;
        int token_bytes, extra; /* bytes more than the tokens */
        grd_token_format format;
        const char *message;
    } bad[] = {
        {20240521, 1, 5, 2, 0, GRD_TOKENS_AUTO, "begins with 20240521, not with 20240520 or 20240801"},
        {20240520, 2, 5, 2, 0, GRD_TOKENS_AUTO, "version 2 of the gpt-2 token format (only version 1"},
        {20240801, 1, 5, 4, 0, GRD_TOKENS_AUTO, "version 1 of the llama-3 token format (only version 7"},
        {20240520, 1, 5, 2, 0, GRD_TOKENS_LLAMA3, "a gpt-2 shard where a llama-3 shard was expected"},
        {20240520, 1, 0, 2, 0, GRD_TOKENS_AUTO, "counts 0 tokens"},
        {20240520, 1, -1, 2, 0, GRD_TOKENS_AUTO, "counts -1 tokens"},
        {20240520, 1, 6, 2, 0, GRD_TOKENS_AUTO, "1034 bytes, but 6 tokens need 1036 (the shard is cut off)"},
        {20240520, 1, 4, 2, 0, GRD_TOKENS_AUTO, "1034 bytes, but 4 tokens need 1032 (the shard is damaged)"},
        {20240801, 7, INT32_MAX, 4, 0, GRD_TOKENS_AUTO, "1044 bytes, but 2147483647 tokens need 8589935612"},
        {20240520, 1, 5, 2, 1, GRD_TOKENS_AUTO, "1035 bytes"},
        {0, 0, 0, 2, 1, GRD_TOKENS_RAW_U16, "are not a number of uint16 tokens"},
        {20240520, 1, 5, 2, -1034, GRD_TOKENS_RAW_U16, "0 bytes are not a number of uint16 tokens"},
        {20240520, 1, 5, 2, -11, GRD_TOKENS_AUTO, "1023 bytes are fewer than the header"},
        {20240520, 1, 5, 2, 0, (grd_token_format)9, "9 is no token format"},
    };
    faults_install();
    const char *path = scratch_path("x.bin");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t bytes[2048] = {0};
        size_t size = shard_bytes(bytes, bad[i].magic, bad[i].version, bad[i].count, bad[i].token_bytes);
        scratch_write(path, bytes, (size_t)((int)size + bad[i].extra));
        grd_error error = {0};
        grd_tokens *tokens;
        cr_assert(grd_tokens_open(path, bad[i].format, &tokens, &error) != GRD_OK && !tokens, "%s", bad[i].message);
        cr_assert(strstr(error.message, bad[i].message), "'%s' lacks '%s'", error.message, bad[i].message);
        cr_assert(strstr(error.message, "/x.bin: "), "'%s' lacks the path", error.message);
    }
    cr_assert(faults_held() == 0, "%ld things leak", faults_held());
}

Test(tokens, a_token_that_no_vocabulary_has)
{
    uint8_t bytes[2048];
    size_t size = shard_bytes(bytes, 20240801, 7, 5, 4);
    memset(bytes + 1024 + 8, 0xff, 4);
    scratch_write(scratch_path("x.bin"), bytes, size);
    grd_tokens *tokens;
    int32_t out[5];
    grd_error error = {0};
    cr_assert(grd_tokens_open(scratch_path("x.bin"), GRD_TOKENS_AUTO, &tokens, NULL) == GRD_OK, "opens");
    cr_assert(grd_tokens_read(tokens, 0, 5, out, NULL) == GRD_OK && out[2] == -1 && out[3] == 65535, "comes out as -1");
    cr_assert(grd_tokens_check(tokens, INT32_MAX, &error) == GRD_E_FORMAT, "check");
    cr_assert(strstr(error.message, "token 4294967295 at position 2"), "%s", error.message);
    grd_tokens_close(tokens);
}

Test(tokens, tokens_that_cannot_be_written_are_refused)
{
    const char *path = scratch_path("x.bin");
    static const int32_t wide[3] = {1, 65536, 2}, negative[2] = {5, -1};
    grd_error error = {0};
    cr_assert(grd_tokens_write(path, GRD_TOKENS_GPT2, wide, 3, &error) == GRD_E_ARGUMENT, "too wide");
    cr_assert(strstr(error.message, "token 65536 at position 1 does not fit the gpt-2 format"), "%s", error.message);
    cr_assert(grd_tokens_write(path, GRD_TOKENS_LLAMA3, negative, 2, NULL) == GRD_E_ARGUMENT, "negative");
    cr_assert(grd_tokens_write(path, GRD_TOKENS_GPT2, some, 0, NULL) == GRD_E_ARGUMENT, "none");
    cr_assert(grd_tokens_write(path, GRD_TOKENS_AUTO, some, 5, NULL) == GRD_E_ARGUMENT, "no format");
    grdi_tokens_writer writer;
    cr_assert(grdi_tokens_writer_open(&writer, path, GRD_TOKENS_GPT2, (size_t)INT32_MAX + 1) == GRD_E_ARGUMENT, "many");
    grdi_tokens_writer_abandon(&writer);
    grdi_tokens_writer_open(&writer, path, GRD_TOKENS_GPT2, 6);
    grdi_tokens_writer_put(&writer, some, 5);
    error.status = GRD_OK;
    cr_assert(grdi_tokens_writer_commit(&writer, &error) == GRD_E_ARGUMENT, "one too few");
    cr_assert(strstr(error.message, "5 tokens came where 6 were announced"), "%s", error.message);
    grdi_tokens_writer_open(&writer, path, GRD_TOKENS_GPT2, 6);
    grdi_tokens_writer_put(&writer, some, 5);
    cr_assert(grdi_tokens_writer_put(&writer, some, 2) == GRD_E_ARGUMENT, "one too many");
    grdi_tokens_writer_abandon(&writer);
    cr_assert(access(path, F_OK) != 0, "nothing was written");
}

enum { MANY = 300001 };
static int32_t many[MANY], back[MANY];

static grd_status write_many(const char *path, int32_t first, grd_error *error)
{
    for (int i = 0; i < MANY; i++)
        many[i] = (first + i) % 50257;
    grdi_tokens_writer writer;
    grdi_tokens_writer_open(&writer, path, GRD_TOKENS_GPT2, MANY);
    grdi_tokens_writer_put(&writer, many, 77777);
    grdi_tokens_writer_put(&writer, many + 77777, MANY - 77777);
    return grdi_tokens_writer_commit(&writer, error);
}

Test(tokens, every_fault_leaves_the_old_shard_and_leaks_nothing)
{
    const char *path = scratch_path("x.bin");
    cr_assert(write_many(path, 1, NULL) == GRD_OK, "the first");
    faults_install();
    long n = 1;
    for (bool hit = true; hit; n++) {
        grd_error error = {0};
        faults_fail_at(n);
        grd_status status = write_many(path, 2, &error);
        grd_tokens *tokens = NULL;
        grd_status read_status = faults_hit() ? GRD_OK : grd_tokens_open(path, GRD_TOKENS_AUTO, &tokens, &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(hit || (status == GRD_OK && read_status == GRD_OK), "fault %ld: %s", n, error.message);
        if (!tokens)
            cr_assert(grd_tokens_open(path, GRD_TOKENS_AUTO, &tokens, NULL) == GRD_OK, "fault %ld: no shard", n);
        cr_assert(grd_tokens_count(tokens) == MANY && grd_tokens_read(tokens, 0, MANY, back, NULL) == GRD_OK, "count");
        cr_assert(back[0] == 2 || (back[0] == 1 && status != GRD_OK), "fault %ld: begins with %d", n, back[0]);
        for (int i = 0; i < MANY; i++)
            cr_assert(back[i] == (back[0] + i) % 50257, "fault %ld: token %d", n, i);
        grd_tokens_close(tokens);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak", n, faults_held());
        cr_assert(write_many(path, 1, NULL) == GRD_OK, "again");
    }
    cr_assert(n > 15, "only %ld operations", n);
}
