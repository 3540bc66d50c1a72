/* data.h - from text to batches: tokenizers, text corpora, batches, and windows that score each token once. */
#ifndef GRADUS_DATA_H
#define GRADUS_DATA_H

#include <gradus/base.h>
#include <gradus/io.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- texts and token ids ---- */

/* Bytes that someone else owns. */
typedef struct grd_text {
    const void *data;
    size_t size_bytes;
} grd_text;

/* Token ids in memory: uint16 where the vocabulary has at most 65536 ids, else uint32. Zeroed means empty. */
typedef struct grd_ids {
    void *data;
    int64_t count;
    int32_t width_bytes; /* of one id: 2 or 4; 0 when empty */
    uint32_t first_unknown; /* code point of the first of them; U+FFFD for a byte that is not UTF-8 */
    int64_t unknown;     /* char: characters of the text that the tokenizer does not know, each now its unknown id */
} grd_ids;

/* What is to be said of the ids: how many characters were not known, and the first. False: nothing. */
GRD_API bool grd_ids_note(const grd_ids *ids, char *line, size_t size_bytes);

/* Copies `count` ids from position `first` on into `out`. The range must lie inside. */
GRD_API void grd_ids_read(const grd_ids *ids, int64_t first, int64_t count, int32_t *out);
/* Writes them as a token shard, which must have a format that all of them fit; errors as grd_tokens_write() (io.h). */
GRD_API grd_status grd_ids_save(const grd_ids *ids, const char *path, grd_token_format format, grd_error *error);
/* Frees the ids and leaves the struct empty. */
GRD_API void grd_ids_free(grd_ids *ids);

/* ---- tokenizers ---- */

/* A tokenizer never changes once it is made, so any number of threads may use it at once. */
typedef struct grd_tokenizer grd_tokenizer;

typedef enum grd_tokenizer_kind {
    GRD_TOKENIZER_BPE = 0, /* byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2) */
    GRD_TOKENIZER_BYTE,    /* ids 0..255 are the bytes; special tokens follow */
    GRD_TOKENIZER_CHAR     /* special tokens, the code points of the training text in order, one id for all others */
} grd_tokenizer_kind;

/* How text is cut into pieces before BPE; merges never cross pieces. */
typedef enum grd_pattern {
    GRD_PATTERN_GPT2 = 0,
    GRD_PATTERN_LLAMA3, /* also cl100k (GPT-4): digits in groups of at most three */
    GRD_PATTERN_QWEN2   /* as llama3, each digit alone */
} grd_pattern;

typedef struct grd_tokenizer_options {
    size_t size;                 /* sizeof(grd_tokenizer_options), or 0 for this version's */
    grd_tokenizer_kind kind;
    grd_pattern pattern;         /* bpe */
    int32_t vocab_size;          /* bpe: ids in all, special tokens and the 256 bytes included; 0: 4096 */
    int64_t min_count;           /* bpe: pairs seen less often are not merged; 0: 1 */
    const char *const *special;  /* `special_count` tokens in UTF-8, e.g. "<|endoftext|>"; not for ordinary text */
    int32_t special_count;
    int32_t threads;             /* 0: as many as OpenMP gives */
    bool mapped;                 /* the texts are mapped files, as those of a corpus: bpe lets their pages leave memory
                                  * once it has counted them */
    bool whole;                  /* bpe: counts all pieces of a text, however much memory they take */
} grd_tokenizer_options;

/* "bpe", "byte", "char"; "gpt2", "llama3", "qwen2". -1 for another name. */
GRD_API int grd_tokenizer_kind_from_name(const char *name);
GRD_API int grd_pattern_from_name(const char *name);

/* Trains a tokenizer on `count` texts (kind byte looks at none). NULL options are all defaults.
 *
 * bpe gives the ids of Hugging Face `tokenizers` (BpeTrainer with the ByteLevel alphabet, each text one sequence): the
 * most frequent pair is merged first, among equals the one with the lower ids. Special tokens take the first ids, the
 * bytes the next 256 in GPT-2's order. When pairs run out the vocabulary stays smaller. Two exceptions: pieces longer
 * than 4096 bytes (which no pattern makes out of prose) are counted in parts; and when the distinct pieces of a text
 * have more than 768 KiB and more than a twelfth of its bytes (random letters, genomes, languages without spaces),
 * parts of it spread evenly are counted, so that training takes at most about twice the text's size of memory; `whole`
 * counts all. Bytes that are not UTF-8 never fail: a
 * run of them is a piece of its own for bpe, and each is an unknown for char.
 *
 * GRD_E_ARGUMENT: vocab_size below 256 + special tokens, an empty or repeated special token, char without any text. On
 * failure *tokenizer is NULL. Free it with grd_tokenizer_free(). */
GRD_API grd_status grd_tokenizer_train(const grd_text *texts, size_t count, const grd_tokenizer_options *options,
                                       grd_tokenizer **tokenizer, grd_error *error);

/* Reads a Hugging Face tokenizer.json, or the one in the folder `path`: byte-level BPE (GPT-2, Llama 3, Qwen 2, ...)
 * with its pre-tokenizer patterns, added tokens, ignore_merges, add_prefix_space, template and NFC normalizer, or what
 * grd_tokenizer_save() wrote. GRD_E_UNSUPPORTED for other models (SentencePiece, WordPiece, Unigram) and settings;
 * GRD_E_FORMAT for damaged files. On failure *tokenizer is NULL. */
GRD_API grd_status grd_tokenizer_load(const char *path, grd_tokenizer **tokenizer, grd_error *error);
/* Writes tokenizer.json in Hugging Face's format, all of it or, on failure, nothing. A tokenizer that was loaded is
 * written as it was read. */
GRD_API grd_status grd_tokenizer_save(const grd_tokenizer *tokenizer, const char *path, grd_error *error);
/* Writes the tokenizer_config.json that goes beside it in a model's folder: without it transformers may guess a class
 * from the model's kind that does not do what tokenizer.json says. `context` is the longest text in tokens, 0 if
 * unlimited. */
GRD_API grd_status grd_tokenizer_save_config(const grd_tokenizer *tokenizer, const char *path, int64_t context,
                                             grd_error *error);
GRD_API void grd_tokenizer_free(grd_tokenizer *tokenizer);

GRD_API grd_tokenizer_kind grd_tokenizer_kind_of(const grd_tokenizer *tokenizer);
/* Ids are below this. */
GRD_API int32_t grd_tokenizer_vocab_size(const grd_tokenizer *tokenizer);
/* The bytes that an id stands for, owned by the tokenizer; NULL and size 0 when there is no such id. They need not be
 * whole UTF-8 characters. */
GRD_API const uint8_t *grd_tokenizer_token(const grd_tokenizer *tokenizer, int32_t id, size_t *size_bytes);
/* The id of exactly these bytes (special tokens: their content), or -1. */
GRD_API int32_t grd_tokenizer_find(const grd_tokenizer *tokenizer, const void *bytes, size_t size_bytes);
/* The id of the special token that ends a text: the first of <|endoftext|>, <|end_of_text|>, <|eot|>, <eos>, </s> that
 * the tokenizer has as special token; -1 if none. */
GRD_API int32_t grd_tokenizer_end_of_text(const grd_tokenizer *tokenizer);
GRD_API bool grd_tokenizer_is_special(const grd_tokenizer *tokenizer, int32_t id);

typedef struct grd_encode_options {
    size_t size;        /* sizeof(grd_encode_options), or 0 for this version's */
    bool plain;         /* special tokens in the text are text like any other */
    bool template_ids;  /* put the ids around the text that the file's template asks for (Llama 3: <|begin_of_text|>) */
    int32_t threads;    /* 0: as many as OpenMP gives. The ids do not depend on it */
} grd_encode_options;

/* The ids of a text. NULL options are all defaults. Free `ids` with grd_ids_free(). */
GRD_API grd_status grd_tokenizer_encode(const grd_tokenizer *tokenizer, grd_text text,
                                        const grd_encode_options *options, grd_ids *ids, grd_error *error);
/* Writes the text of `count` ids into `out` (at most `capacity` bytes, no zero byte after them) and returns how many
 * bytes the whole text has, so a first call with capacity 0 measures. -1 when an id does not exist. `skip_special`
 * leaves special tokens out. Encoding and decoding gives back the same bytes for bpe and byte (without a prefix space
 * or a normalizer); for char, unknown characters come back as U+FFFD. */
GRD_API int64_t grd_tokenizer_decode(const grd_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                                     bool skip_special, char *out, size_t capacity);

/* ---- text corpora ---- */

/* The texts of one file or of all files of a folder, in two parts. */
typedef struct grd_corpus grd_corpus;

typedef enum grd_part { GRD_TRAIN = 0, GRD_VALIDATION = 1 } grd_part;

typedef struct grd_corpus_options {
    size_t size;            /* sizeof(grd_corpus_options), or 0 for this version's */
    double validation_part; /* in (0, 1); 0: 0.1 */
    bool no_validation;     /* everything is for training */
    int32_t threads;        /* 0: as many as OpenMP gives */
    const char *scratch;    /* NULL: ids lie in memory. A directory: in a mapped file there that has no name, so that
                             * those of a large text do not fill memory; gone when the corpus is freed or the program
                             * ends. Copied */
    int64_t scratch_from;   /* bytes of text from which on scratch is used */
    bool pipes;             /* `path` may be a pipe or a terminal, read to its end into a file without a name */
} grd_corpus_options;

/* Maps the text at `path` and splits it. One file: the last `validation_part` of its bytes, beginning after the first
 * line end at or after byte floor(size * (1 - part)) (where the text has no line end near there: at a space, or between
 * characters). A folder, with its sub-folders but without hidden names, in bytewise order of paths: whole files from
 * the end until the part is reached. A UTF-8 byte order mark at the start of a file is left out (see grd_corpus_info);
 * line ends stay as they are. GRD_E_IO: missing, unreadable, or a pipe without `pipes`. GRD_E_FORMAT: empty, or binary
 * (holds NUL bytes; UTF-16 is named as such); in a folder, such files are left out instead, as are pipes, devices and
 * links to nothing (see grd_corpus_info). On failure *corpus is NULL. The files must not be changed before the corpus
 * is freed with grd_corpus_free(). */
GRD_API grd_status grd_corpus_open(const char *path, const grd_corpus_options *options, grd_corpus **corpus,
                                   grd_error *error);
GRD_API void grd_corpus_free(grd_corpus *corpus);
/* The texts of a part, owned by the corpus: train a tokenizer on grd_corpus_texts(corpus, GRD_TRAIN, &count). */
GRD_API const grd_text *grd_corpus_texts(const grd_corpus *corpus, grd_part part, size_t *count);
/* Encodes both parts. Between the texts of a folder goes the tokenizer's end-of-text token, if it has one. The
 * tokenizer is needed only during the call. A second call replaces the ids. GRD_E_FORMAT: see grd_corpus_fits(). */
GRD_API grd_status grd_corpus_encode(grd_corpus *corpus, const grd_tokenizer *tokenizer, grd_error *error);
/* The ids of a part, owned by the corpus; empty before grd_corpus_encode(). */
GRD_API const grd_ids *grd_corpus_ids(const grd_corpus *corpus, grd_part part);

typedef struct grd_corpus_info {
    int64_t files;           /* files that hold text */
    int64_t empty_files;     /* files of a folder that hold none; left out */
    int64_t marks;           /* byte order marks left out */
    int64_t size_bytes[2];   /* of each grd_part */
    int64_t count[2];        /* ids of each grd_part; 0 before grd_corpus_encode() */
    int64_t skipped_files;   /* files of a folder that are no text; left out */
    int64_t invalid_files;   /* files with bytes that are not UTF-8 */
    uint64_t checksum;       /* of all texts in their order (XXH3, each seeded with that of those before) */
} grd_corpus_info;
GRD_API grd_corpus_info grd_corpus_about(const grd_corpus *corpus);
/* What a person should hear about the texts, one line for each `index` from 0 on: marks and files that were left out,
 * bytes that are not UTF-8, characters that the tokenizer did not know. False: there is no line of that number. */
GRD_API bool grd_corpus_note(const grd_corpus *corpus, int32_t index, char *line, size_t size_bytes);
/* GRD_E_FORMAT, naming file and byte, when the texts are not what such a tokenizer can take: a char tokenizer takes
 * UTF-8 only. grd_corpus_encode() asks this itself. */
GRD_API grd_status grd_corpus_fits(const grd_corpus *corpus, grd_tokenizer_kind kind, grd_error *error);

/* ---- batches ---- */

/* Batches of windows of `context` tokens as a pure function of (seed, index): any batch at any time, in any order. */
typedef struct grd_batches grd_batches;

typedef enum grd_order { GRD_ORDER_SHUFFLED = 0, GRD_ORDER_SEQUENTIAL } grd_order;

typedef struct grd_batches_options {
    size_t size;        /* sizeof(grd_batches_options), or 0 for this version's */
    int64_t batch;      /* windows in a batch; 0: 1 */
    int64_t context;    /* tokens in a window; at least 1 */
    grd_order order;
    uint64_t seed;      /* shuffled */
    int32_t vocab_size; /* when not 0, grd_batches_get() refuses ids that are not below it */
} grd_batches_options;

/* shuffled: a source of N tokens has W = max(1, (N - context) / context) windows of context + 1 tokens, one every
 * `context` tokens from an offset that changes from epoch to epoch, so that in time every alignment is seen. Each epoch
 * takes every window of every source once, in an order of its own. Sample s is window s mod W of epoch s / W; batch m
 * holds the samples m * batch to m * batch + batch - 1. sequential: llm.c's order. A batch takes batch * context + 1
 * tokens at position p (inputs without the last, targets without the first), then p += batch * context; where fewer are
 * left, the next source, then around again.
 *
 * Sources must outlive the batches. GRD_E_ARGUMENT when no source has enough tokens; shorter ones are passed over. */
GRD_API grd_status grd_batches_of_ids(const grd_ids *const *sources, size_t count, const grd_batches_options *options,
                                      grd_batches **batches, grd_error *error);
/* The same over token shards. */
GRD_API grd_status grd_batches_of_shards(const grd_tokens *const *sources, size_t count,
                                         const grd_batches_options *options, grd_batches **batches, grd_error *error);
GRD_API void grd_batches_free(grd_batches *batches);
/* Windows (shuffled) or batches (sequential) after which the order begins anew. */
GRD_API int64_t grd_batches_epoch(const grd_batches *batches);
/* Elements of one batch's inputs, and of its targets: batch * context. */
GRD_API size_t grd_batches_size(const grd_batches *batches);
/* Batch `index` >= 0: inputs and targets, each [batch, context]; targets are the inputs shifted by one. Allocates
 * nothing; safe from several threads. GRD_E_FORMAT when an id is not below the options' vocab_size. */
GRD_API grd_status grd_batches_get(const grd_batches *batches, int64_t index, int32_t *inputs, int32_t *targets,
                                   grd_error *error);

/* Reads batches ahead in a thread of its own. */
typedef struct grd_prefetch grd_prefetch;

/* Starts with batch `first`, then first + stride, ... Allocates nothing after this call. `batches` must outlive it. */
GRD_API grd_status grd_prefetch_new(const grd_batches *batches, int64_t first, int64_t stride, grd_prefetch **prefetch,
                                    grd_error *error);
/* The next batch: inputs and targets [batch, context], owned by the prefetch and valid until the next call. */
GRD_API grd_status grd_prefetch_next(grd_prefetch *prefetch, const int32_t **inputs, const int32_t **targets,
                                     grd_error *error);
GRD_API void grd_prefetch_free(grd_prefetch *prefetch);

/* ---- scoring ---- */

#define GRD_IGNORE (-100) /* the target of a position that is not scored */

/* Windows that score every token of a text once: they overlap by half, and each scored token has at least context / 2
 * tokens before it in its window (fewer only at the start). Bits per byte = sum of -log2 p(target) over all windows /
 * size_bytes. */
typedef struct grd_score {
    const grd_ids *ids;
    const int64_t *separators; /* positions of tokens that are no text and not scored, rising; owned by the corpus */
    int64_t separator_count;
    int64_t context;
    int32_t start_id;          /* a token put before the first one so that it is scored too, or -1 */
    int64_t windows;           /* how many there are */
    int64_t tokens;            /* tokens that are scored */
    int64_t size_bytes;        /* of the text scored; 0 when not known */
} grd_score;

/* The windows over a part of an encoded corpus. With an end-of-text token, that goes before the text and all of it is
 * scored; else the first token is not, and its bytes do not count. GRD_E_ARGUMENT when nothing can be scored. */
GRD_API grd_status grd_score_corpus(const grd_corpus *corpus, grd_part part, const grd_tokenizer *tokenizer,
                                    int64_t context, grd_score *score, grd_error *error);
/* The windows over ids whose text is not known (size_bytes is 0); start_id may be -1. */
GRD_API grd_status grd_score_ids(const grd_ids *ids, int64_t context, int32_t start_id, grd_score *score,
                                 grd_error *error);
/* Window `index`: inputs [context] and targets [context], with GRD_IGNORE where a position is not scored. Inputs past
 * the end are 0. A window that does not exist has no target, which fills a last batch. */
GRD_API void grd_score_get(const grd_score *score, int64_t index, int32_t *inputs, int32_t *targets);

#ifdef __cplusplus
}
#endif
#endif
