/* split.c - pre-tokenising with PCRE2, and with short cuts for the ASCII text that most corpora are made of. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/split.h"

#include "base/memory.h"
#include "data/pattern.h"
#include "data/utf8.h"

#include <pcre2.h>
#include <string.h>

/* GPT-2's encoder.py; the others as in the tokenizer.json files of the models they are named after. */
const char grdi_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char grdi_pattern_llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                   " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char grdi_pattern_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char grdi_pattern_o200k[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char grdi_pattern_digit[] = "\\p{N}";
const char grdi_pattern_digits[] = "\\p{N}+";

/* Which short cuts hold for a pattern. */
typedef enum scan { SCAN_NONE, SCAN_GPT2, SCAN_CL100K } scan;

struct grdi_splitter {
    int32_t count;
    bool cuttable;
    struct {
        pcre2_code *code;
        scan scan;
    } level[GRDI_SPLIT_LEVELS];
    pcre2_general_context *memory;
};

struct grdi_split_work {
    pcre2_match_data *match;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack;
};

/* One pass over one text. */
typedef struct splitting {
    const grdi_splitter *splitter;
    grdi_split_work *work;
    grdi_piece_function function;
    void *context;
    grd_error *error;
} splitting;

static void *allocate(PCRE2_SIZE size_bytes, void *unused)
{
    (void)unused;
    return grdi_alloc(size_bytes);
}

static void release(void *memory, void *unused)
{
    (void)unused;
    grdi_free(memory);
}

/* ---- making ---- */

static const struct {
    const char *pattern;
    scan scan;
} known_patterns[] = {
    {grdi_pattern_gpt2, SCAN_GPT2},  {grdi_pattern_llama3, SCAN_CL100K}, {grdi_pattern_qwen2, SCAN_CL100K},
    {grdi_pattern_o200k, SCAN_NONE}, {grdi_pattern_digit, SCAN_NONE},    {grdi_pattern_digits, SCAN_NONE},
};

static bool pattern_is_known(const char *pattern, scan *scan)
{
    for (size_t i = 0; i < sizeof(known_patterns) / sizeof(known_patterns[0]); i++)
        if (strcmp(pattern, known_patterns[i].pattern) == 0) {
            *scan = known_patterns[i].scan;
            return true;
        }
    return false;
}

static grd_status compile(const grdi_split_rule *rule, pcre2_compile_context *context, pcre2_code **code,
                          grd_error *error)
{
    int number = PCRE2_ERROR_HEAP_FAILED;
    PCRE2_SIZE offset;
    uint32_t options = PCRE2_UTF | (rule->literal ? PCRE2_LITERAL : PCRE2_UCP);
    char *pattern = rule->literal ? grdi_strdup(rule->pattern) : grdi_pattern_translate(rule->pattern);
    *code = NULL;
    if (pattern)
        *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &number, &offset, context);
    grdi_free(pattern);
    if (!*code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(number, why, sizeof(why));
        if (number == PCRE2_ERROR_HEAP_FAILED)
            return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory");
        return grd_fail(error, GRD_E_FORMAT, "pattern '%s': %s", rule->pattern, why);
    }
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE); /* where it fails, matching is slower and otherwise the same */
    return GRD_OK;
}

grd_status grdi_splitter_new(const grdi_split_rule *rules, int32_t count, grdi_splitter **made, grd_error *error)
{
    *made = NULL;
    if (count > GRDI_SPLIT_LEVELS)
        return grd_fail(error, GRD_E_UNSUPPORTED, "tokenizer: more than %d patterns", GRDI_SPLIT_LEVELS);
    grdi_splitter *splitter = grdi_alloc_zero(1, sizeof(*splitter));
    if (!splitter)
        return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory");
    grd_status status = GRD_OK;
    splitter->cuttable = true;
    splitter->memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = splitter->memory ? pcre2_compile_context_create(splitter->memory) : NULL;
    if (!context)
        status = grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory");
    for (int32_t i = 0; i < count && status == GRD_OK; i++) {
        status = compile(&rules[i], context, &splitter->level[i].code, error);
        splitter->count++;
        if (rules[i].literal || !pattern_is_known(rules[i].pattern, &splitter->level[i].scan))
            splitter->cuttable = false;
    }
    pcre2_compile_context_free(context);
    if (count == 0)
        splitter->cuttable = false; /* the text is one piece */
    if (status != GRD_OK) {
        grdi_splitter_free(splitter);
        return status;
    }
    *made = splitter;
    return GRD_OK;
}

void grdi_splitter_free(grdi_splitter *splitter)
{
    if (!splitter)
        return;
    for (int32_t i = 0; i < splitter->count; i++)
        pcre2_code_free(splitter->level[i].code);
    pcre2_general_context_free(splitter->memory);
    grdi_free(splitter);
}

void grdi_splitter_plain(grdi_splitter *splitter)
{
    for (int32_t i = 0; i < splitter->count; i++)
        splitter->level[i].scan = SCAN_NONE;
}

grd_status grdi_split_work_new(const grdi_splitter *splitter, grdi_split_work **made, grd_error *error)
{
    *made = NULL;
    grdi_split_work *work = grdi_alloc_zero(1, sizeof(*work));
    if (work) {
        work->match = pcre2_match_data_create(1, splitter->memory);
        work->limits = pcre2_match_context_create(splitter->memory);
        work->stack = pcre2_jit_stack_create(32 << 10, 4 << 20, splitter->memory);
    }
    if (!work || !work->match || !work->limits) {
        grdi_split_work_free(work);
        return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory");
    }
    pcre2_set_match_limit(work->limits, 100000000);
    pcre2_set_heap_limit(work->limits, 256 << 10); /* KiB */
    if (work->stack) /* NULL where there is no JIT compiler */
        pcre2_jit_stack_assign(work->limits, NULL, work->stack);
    *made = work;
    return GRD_OK;
}

void grdi_split_work_free(grdi_split_work *work)
{
    if (!work)
        return;
    pcre2_jit_stack_free(work->stack);
    pcre2_match_context_free(work->limits);
    pcre2_match_data_free(work->match);
    grdi_free(work);
}

/* ---- short cuts ---- */

/* Classes of ASCII bytes. Those left at zero (control characters, and all that is not ASCII) go to the regular
 * expression. */
enum { LETTER = 1, DIGIT, MARK, SPACE };

#define TIMES4(x) x, x, x, x
#define TIMES8(x) TIMES4(x), TIMES4(x)
#define TIMES10(x) TIMES8(x), x, x
#define TIMES26(x) TIMES8(x), TIMES8(x), TIMES10(x)

static const uint8_t class_of[256] = {
    ['\t'] = SPACE, ['\n'] = SPACE, ['\v'] = SPACE, ['\f'] = SPACE, ['\r'] = SPACE, [' '] = SPACE,
    ['!'] = TIMES8(MARK), MARK, MARK, MARK, TIMES4(MARK), /* ! to / */
    ['0'] = TIMES10(DIGIT),
    [':'] = MARK, MARK, MARK, MARK, MARK, MARK, MARK,     /* : to @ */
    ['A'] = TIMES26(LETTER),
    ['['] = MARK, MARK, MARK, MARK, MARK, MARK,           /* [ to ` */
    ['a'] = TIMES26(LETTER),
    ['{'] = MARK, MARK, MARK, MARK,                       /* { to ~ */
};

/* The end of the run of bytes of one class, or `at` when a byte follows that might belong to it (then only the regular
 * expression can tell). */
static size_t run_end(const uint8_t *text, size_t size_bytes, size_t at, uint8_t class)
{
    size_t end = at;
    while (end < size_bytes && class_of[text[end]] == class)
        end++;
    return end == size_bytes || class_of[text[end]] ? end : at;
}

/* The end of the piece at `at` where that is easy to tell, else `at`. */
static size_t scan_piece(scan scan, const uint8_t *text, size_t size_bytes, size_t at)
{
    size_t body = at + (text[at] == ' '), end = at;
    if (scan == SCAN_NONE || body >= size_bytes)
        return at;
    uint8_t class = class_of[text[body]];
    if (class == LETTER || (scan == SCAN_GPT2 && class == DIGIT)) {
        end = run_end(text, size_bytes, body, class);
    } else if (class == MARK && scan == SCAN_GPT2 && text[at] != '\'') { /* ' may begin 's, 'll, ... */
        end = run_end(text, size_bytes, body, class);
    } else if (text[at] == '\n' && at + 1 < size_bytes && class_of[text[at + 1]] > 0 &&
               class_of[text[at + 1]] < SPACE) {
        return at + 1;
    }
    return end > body ? end : at;
}

/* ---- splitting ---- */

static grd_status split_level(splitting *s, int32_t level, const uint8_t *text, size_t size_bytes);

static grd_status emit(splitting *s, int32_t level, const uint8_t *text, size_t size_bytes)
{
    if (size_bytes == 0)
        return GRD_OK;
    if (level == s->splitter->count)
        return s->function(s->context, text, size_bytes, s->error);
    return split_level(s, level, text, size_bytes);
}

/* The next match at or after `from`: [*start, *end), both size_bytes when there is none. */
static grd_status find_match(splitting *s, int32_t level, const uint8_t *text, size_t size_bytes, size_t from,
                             size_t *start, size_t *end)
{
    int rc = pcre2_match(s->splitter->level[level].code, text, size_bytes, from, PCRE2_NO_UTF_CHECK, s->work->match,
                         s->work->limits);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(rc, why, sizeof(why));
        return grd_fail(s->error, rc == PCRE2_ERROR_NOMEMORY ? GRD_E_MEMORY : GRD_E_FORMAT,
                        "tokenizer: its pattern fails on this text: %s (try another tokenizer)", why);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->work->match);
    *start = rc < 0 ? size_bytes : range[0];
    *end = rc < 0 ? size_bytes : range[1];
    return GRD_OK;
}

static grd_status split_level(splitting *s, int32_t level, const uint8_t *text, size_t size_bytes)
{
    scan scan = s->splitter->level[level].scan;
    grd_status status = GRD_OK;
    size_t at = 0, from = 0; /* pieces before `at` are done; the search goes on at `from` */
    while (at < size_bytes && status == GRD_OK) {
        size_t start = at, end = from == at ? scan_piece(scan, text, size_bytes, at) : at;
        if (end == at) {
            status = find_match(s, level, text, size_bytes, from, &start, &end);
            if (status != GRD_OK)
                break;
            if (start == end && end < size_bytes) { /* such a match cuts nothing: look behind the next character */
                uint32_t c;
                from = end + (size_t)grdi_utf8_decode(text + end, size_bytes - end, &c);
                continue;
            }
        }
        status = emit(s, level + 1, text + at, start - at);
        if (status == GRD_OK)
            status = emit(s, level + 1, text + start, end - start);
        at = from = end;
    }
    return status;
}

grd_status grdi_split_text(const grdi_splitter *splitter, grdi_split_work *work, const uint8_t *text, size_t size_bytes,
                           grdi_piece_function function, void *context, grd_error *error)
{
    splitting s = {splitter, work, function, context, error};
    size_t at = 0;
    while (at < size_bytes) {
        size_t valid = grdi_utf8_valid(text + at, size_bytes - at);
        grd_status status = emit(&s, 0, text + at, valid);
        if (status != GRD_OK)
            return status;
        at += valid;
        size_t invalid = grdi_utf8_invalid(text + at, size_bytes - at);
        if (invalid > 0)
            status = function(context, text + at, invalid, error);
        if (status != GRD_OK)
            return status;
        at += invalid;
    }
    return GRD_OK;
}

/* ---- cutting ---- */

static bool is_alphanumeric(uint8_t byte) { return class_of[byte] == LETTER || class_of[byte] == DIGIT; }

/* True when the character before `at` is UTF-8 and no white space. */
static bool ends_visible(const uint8_t *text, size_t at)
{
    uint32_t c;
    for (size_t length = 1; length <= 4 && length <= at; length++)
        if (grdi_utf8_decode(text + at - length, length, &c) == (int)length)
            return !grdi_is_space(c);
    return false;
}

/* In every known pattern a letter or digit ends its piece before a space, whatever follows; and a single line end
 * between visible characters ends its piece (o200k takes a slash with it), whether it is one of its own or belongs to
 * the mark before it. */
static bool can_cut(const uint8_t *text, size_t size_bytes, size_t at)
{
    if (text[at] == ' ')
        return is_alphanumeric(text[at - 1]);
    if (text[at - 1] != '\n' || at < 2 || text[at] == '/')
        return false;
    uint32_t next;
    return grdi_utf8_decode(text + at, size_bytes - at, &next) && !grdi_is_space(next) && ends_visible(text, at - 1);
}

size_t grdi_split_cut(const grdi_splitter *splitter, const uint8_t *text, size_t size_bytes, size_t target)
{
    if (!splitter->cuttable)
        return size_bytes;
    for (size_t at = target > 0 ? target : 1; at < size_bytes; at++)
        if (can_cut(text, size_bytes, at))
            return at;
    return size_bytes;
}
