/* tokenizers.h - tokenizers that targets of encoding and decoding share, made once. */
#ifndef TESTS_FUZZ_TOKENIZERS_H
#define TESTS_FUZZ_TOKENIZERS_H

#include <gradus/data.h>

/* 0 to 2: bpe with the patterns of gpt2, llama3, qwen2; 3: byte; 4: char. All have the special token <|endoftext|>. */
enum { FUZZ_TOKENIZERS = 5 };
const grd_tokenizer *fuzz_tokenizer(int index);

#endif
