/* fuzz_corpus.c - any bytes as the text to train on: refused with a message, or cut in two parts that are the text and
 * whose windows score every token once. The first two bytes choose the tokenizer and the part for validation. */
#include "fuzz.h"
#include "tokenizers.h"

#include "base/log.h"

static void check_windows(const grd_corpus *corpus, const grd_tokenizer *t)
{
    enum { CONTEXT = 8 };
    grd_score score;
    grd_error error = {0};
    grd_status status = grd_score_corpus(corpus, GRD_VALIDATION, t, CONTEXT, &score, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        return;
    }
    int32_t inputs[CONTEXT], targets[CONTEXT];
    int64_t scored = 0;
    for (int64_t w = 0; w < score.windows; w++) {
        grd_score_get(&score, w, inputs, targets);
        for (int i = 0; i < CONTEXT; i++) scored += targets[i] != GRD_IGNORE;
    }
    FUZZ_CHECK(scored == score.tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    const grd_tokenizer *t = fuzz_tokenizer(fuzz_below(&in, FUZZ_TOKENIZERS));
    grd_corpus_options options = {.validation_part = fuzz_byte(&in) / 256.0, .threads = 1, .pipes = true};
    size_t length = (size_t)(in.end - in.at);
    grd_error error = {0};
    grd_corpus *corpus;
    grdi_log_level(GRDI_LOG_WARN);
    fuzz_files_clear();
    fuzz_file_put("/dev/null", in.at, length); /* a path that exists: this is asked of the real file system */
    grd_status status = grd_corpus_open("/dev/null", &options, &corpus, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!corpus);
        return 0;
    }
    grd_corpus_info info = grd_corpus_about(corpus);
    FUZZ_CHECK(info.size_bytes[0] + info.size_bytes[1] + 3 * info.marks == (int64_t)length);
    status = grd_corpus_encode(corpus, t, &error);
    FUZZ_CHECK(status == GRD_OK || (status == GRD_E_FORMAT && info.invalid_files > 0));
    if (status == GRD_OK) check_windows(corpus, t);
    grd_corpus_free(corpus);
    return 0;
}
