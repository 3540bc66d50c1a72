#!/usr/bin/env python3
"""Makes the tokenizers and ids that tests/data/test_tokenizer_golden.c compares with, by Hugging Face `tokenizers`.

    python3 make_tokenizer_goldens.py        (needs tokenizers; made with tokenizers 0.23.3)

mixed.txt: words of many scripts, digits, marks, white space of all kinds and special tokens, at random. NAME.json: a
tokenizer; NAME.ids: the ids of mixed.txt under it, uint16, with those that its template puts around them.
"""
import array
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre

FOLDER = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = """the of and In beginning God created heaven earth don't WE'LL I'M it's they've 's 'll ' " '' ’s naïve Straße
Ünïcode CamelCase Привет мир привет 你好 世界 こんにちは カタカナ 한국어 שלום مرحبا हिन्दी नमस्ते ไทย Ελλάδα 😀 👩‍👩‍👧 é ſ's ǅ ʰ º ª
x 1 22 333 4444 55555 ٣٤٥ Ⅷ ½ ² ... !!! -- — (a) [b] {c} a_b # @x $5 100% &amp; <b> // /path/to \\ <|endoftext|>
<tool> [MASK]""".split() + ["\u00a0", "\u3000", "\u2003", "\u200b", "\u0085",
                            "\x0b", "\x0c", "\x01", "\x7f", "\ufeff"] + [
    "e\u0301", "\u0915\u093c", "\u0958", "\u212b", "\u1112\u1161\u11ab", "a\u0323\u0302", "a\u0302\u0323", "\u0301x",
    "\u180e", "a\u180eb", "x\U00031350y", "1\U00010d402", "\u09be\u09fe\u094d", "\u0eba\u093c\u0eba"]
GAPS = [" "] * 12 + ["", "\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "  ", "   ", " \n", "\n ", "\n\n\n", "\r"]


def mixed_text():
    dice = random.Random(20240520)
    return "".join(dice.choice(WORDS) + dice.choice(GAPS) for _ in range(6000))


def save(name, tokenizer, text):
    tokenizer.save(os.path.join(FOLDER, name + ".json"), pretty=False)
    ids = array.array("H", tokenizer.encode(text).ids)
    with open(os.path.join(FOLDER, name + ".ids"), "wb") as file:
        ids.tofile(file)


def split_then_bytes(pattern):
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def trained(pre_tokenizer, text, vocab_size, special=("<|endoftext|>",)):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(special), show_progress=False,
                                  initial_alphabet=pre.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def chars(text):
    """One id per code point; the replacement character stands for all others."""
    train = text[:len(text) // 2]
    alphabet = sorted(set(train) - {"\ufffd"}) + ["\ufffd"]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, [], unk_token="\ufffd"))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def main():
    text = mixed_text()
    with open(os.path.join(FOLDER, "mixed.txt"), "w", encoding="utf-8", newline="") as file:
        file.write(text)
    gpt2 = pre.ByteLevel(add_prefix_space=False)
    save("gpt2", trained(gpt2, text, 700), text)
    save("llama3", trained(split_then_bytes(LLAMA3), text, 700), text)
    save("qwen2", trained(split_then_bytes(QWEN2), text, 100000), text)  # until no pair is left
    save("o200k", trained(split_then_bytes(O200K), text, 500), text)
    save("digits", trained(pre.Sequence([pre.Digits(individual_digits=True), gpt2]), text, 500), text)
    save("chars", chars(text), text)

    # As Qwen 2: normal form C first.
    tokenizer = trained(split_then_bytes(QWEN2), text, 500)
    tokenizer.normalizer = normalizers.NFC()
    save("nfc", tokenizer, text)

    # As Llama 3: whole pieces win over merges, a template, special tokens that come after the vocabulary.
    base = json.loads(trained(split_then_bytes(LLAMA3), text, 500).to_str())
    base["model"]["ignore_merges"] = True
    for word in ("Ġheaven", "Straà", "Ġcreated"):
        base["model"]["vocab"].setdefault(word, len(base["model"]["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(base))
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>", "<|endoftext|><"])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A <|end|>", special_tokens=[
            ("<|begin|>", tokenizer.token_to_id("<|begin|>")), ("<|end|>", tokenizer.token_to_id("<|end|>"))])])
    save("template", tokenizer, text)

    # As RoBERTa: a space before each text, and added tokens that take the white space around them along.
    tokenizer = trained(pre.ByteLevel(add_prefix_space=True), text, 500)
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    tokenizer.add_tokens([AddedToken("<tool>", rstrip=True, normalized=False), AddedToken("God", normalized=True)])
    save("prefix", tokenizer, text)


main()
