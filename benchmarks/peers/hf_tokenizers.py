#!/usr/bin/env python3
"""Compares Gradus with Hugging Face `tokenizers`: ids, decoding, merges, and the speed of training and encoding.

    python3 hf_tokenizers.py --gradus BUILD_DIR [--text FILE] [--megabytes 5] [--seed 1] [--rounds 3] [--vocab N...]

Needs `tokenizers` (`pip install tokenizers`) and a build of Gradus with its shared library. Three tokenizer.json files
are made by training theirs with exactly the set-ups of GPT-2, Llama 3 (ignore_merges, a template) and Qwen 2 (NFC), on
a text that is meant to be hard: many scripts, marks, emoji, digits, contractions, runs of white space, special tokens,
unassigned code points. With --text the same is done with the beginning of that text, and training on all of it is
timed. Prints Markdown; exit status 1 when anything differs.
"""
import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPECIAL = ["<|endoftext|>", "<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>"]

# ---- the text ----

# First and last code points of scripts, and of other places where tokenizers differ.
RANGES = [(0x20, 0x7E)] * 4 + [
    (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F), (0xB80, 0xBFF),
    (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF),
    (0x1200, 0x137F), (0x13A0, 0x13FF), (0x1680, 0x169F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1D00, 0x1DBF),
    (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x20D0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x23FF),
    (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2C00, 0x2C5F), (0x2DE0, 0x2DFF), (0x2E80, 0x2FDF), (0x3000, 0x303F),
    (0x3040, 0x30FF), (0x3130, 0x318F), (0x3400, 0x34FF), (0x4E00, 0x9FFF), (0xA000, 0xA0FF), (0xA640, 0xA69F),
    (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFB50, 0xFDFF), (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F), (0xFF00, 0xFFEF), (0xFFF0, 0xFFFD), (0x10000, 0x100FF), (0x10330, 0x1034F), (0x10400, 0x1044F),
    (0x10A00, 0x10A5F), (0x11080, 0x110CF), (0x12000, 0x120FF), (0x16F00, 0x16F9F), (0x1D100, 0x1D1FF),
    (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x200FF),
    (0x2F800, 0x2FA1F), (0x30000, 0x300FF), (0x50000, 0x500FF), (0xE0000, 0xE01EF), (0x10FF00, 0x10FFFF)]
CONTRACTIONS = ["don't", "DON'T", "I'll", "WE'LL", "they've", "THEY'VE", "it's", "IT'S", "I'm", "I'M", "you'd", "YOU'D",
                "we're", "WE'RE", "'s", "'S", "'ſ", "it'ſ", "'ll'd", "''s", "o’clock", "'tis", "'re're", "'LLx", "'Ve1"]
EMOJI = ["👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "1️⃣", "☺︎", "🧑🏿‍🚀", "😀😀😀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
MARKS = ["\u0301", "\u0323", "\u0302", "\u0327", "\u05b8", "\u064b", "\u093c", "\u094d", "\u0e38", "\u3099", "\u20dd",
         "\u1dc4", "\ufe0f", "\u200d", "\u0345", "\u0344", "\u0f71", "\u0f72"]
PLAIN = """the of and to in a that it is was for on with as be at by this had not are but from or have an they which you
were her all she there would their we him been has when who will more no if out so said what up its about into than them
can only other new some could time these two may then do first any my now such like our over man me even most made after
also did many before must through years where much your way well down should because each just those people how too
little state good very make world still own see men work long get here between both life being under never day same
another know while last might us great old year off come since against go came right used take three""".split()
SPACES = [" "] * 30 + ["", "", "\n", "\n", "\r\n", "\n\n", "\r\n\r\n", "\t", "\t\t", "  ", "   ", "    \n", " \n ",
                       "\r",
                       "\r\r\n", "\v", "\f", "\x85", "\xa0", " \xa0 ", "\u2003", "\u3000", "\u2028", "\u2029", "\u200b",
                       "\u1680", "\ufeff", "\x1c", "\x1f", " " * 40, "\n" * 9, " \t" * 5]


def a_word(dice):
    kind = dice.random()
    if kind < 0.45:
        word = dice.choice(PLAIN)
        return word.upper() if dice.random() < 0.1 else word.capitalize() if dice.random() < 0.1 else word
    if kind < 0.50:
        return dice.choice(CONTRACTIONS)
    if kind < 0.53:
        return dice.choice(EMOJI)
    if kind < 0.60:
        return "".join(dice.choice("0123456789") for _ in range(dice.randrange(1, 9)))
    if kind < 0.62:
        return dice.choice(SPECIAL + ["<|endoftext|", "<|im_start", "|>", "<tool>", "[MASK]"])
    if kind < 0.65:
        return "".join(dice.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(dice.randrange(1, 6)))
    if kind < 0.67:
        return "".join(chr(dice.choice([0, 1, 7, 0x1b, 0x7f, 0x80, 0x9f, 0xad])) for _ in range(dice.randrange(1, 3)))
    first, last = dice.choice(RANGES)
    word = ""
    for _ in range(dice.randrange(1, 9)):
        word += chr(dice.randint(first, last))
        while dice.random() < 0.08:
            word += dice.choice(MARKS)
    return word


def hard_text(size_bytes, seed):
    dice = random.Random(seed)
    parts, size = [], 0
    while size < size_bytes:
        part = a_word(dice) + dice.choice(SPACES)
        parts.append(part)
        size += len(part.encode())
    return "".join(parts)


# ---- their tokenizers ----

def byte_level(kind):
    if kind == "gpt2":
        return pre.ByteLevel(add_prefix_space=False)
    return pre.Sequence([pre.Split(Regex(LLAMA3 if kind == "llama3" else QWEN2), "isolated"),
                         pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def untrained(kind):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(kind)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def trainer(vocab):
    return trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<|endoftext|>"], show_progress=False,
                               initial_alphabet=pre.ByteLevel.alphabet())


def trained(kind, text, vocab):
    tokenizer = untrained(kind)
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator([text], trainer(vocab))
    return tokenizer


def with_special(kind, tokenizer, dice):
    if kind == "llama3":
        tree = json.loads(tokenizer.to_str())
        tree["model"]["ignore_merges"] = True
        vocab, pieces = tree["model"]["vocab"], sorted(tree["model"]["vocab"])
        for _ in range(200):  # tokens that no merge makes: only a whole piece gives them
            vocab.setdefault(dice.choice(pieces) + dice.choice(pieces), len(vocab))
        for word in PLAIN[:50]:
            vocab.setdefault("Ġ" + word, len(vocab))
        tokenizer = Tokenizer.from_str(json.dumps(tree))
    if kind != "gpt2":
        tokenizer.add_special_tokens(SPECIAL[1:])
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("[MASK]", lstrip=True)])
    if kind == "llama3":
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[
                ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))])])
    return tokenizer


# ---- ours ----

class Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size_bytes", ctypes.c_size_t)]


class Ids(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("count", ctypes.c_int64), ("width_bytes", ctypes.c_int32)]


class EncodeOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("plain", ctypes.c_bool), ("template_ids", ctypes.c_bool),
                ("threads", ctypes.c_int32)]


class Ours:
    """A tokenizer.json in Gradus, through its C interface."""

    def __init__(self, library, path):
        self.library = library
        self.error = ctypes.create_string_buffer(4096)
        self.handle = ctypes.c_void_p()
        self.check(library.grd_tokenizer_load(path.encode(), ctypes.byref(self.handle), self.error))
        library.grd_tokenizer_decode.restype = ctypes.c_int64

    def check(self, status):
        if status:
            sys.exit("error: " + self.error.raw[4:].split(b"\0")[0].decode())

    def encode(self, data, threads=0):
        """Ids as a list, and the seconds that encoding took."""
        ids, options = Ids(), EncodeOptions(ctypes.sizeof(EncodeOptions), False, True, threads)
        begun = time.perf_counter()
        self.check(self.library.grd_tokenizer_encode(self.handle, Text(data, len(data)), ctypes.byref(options),
                                                     ctypes.byref(ids), self.error))
        seconds = time.perf_counter() - begun
        kind = ctypes.c_uint16 if ids.width_bytes == 2 else ctypes.c_int32
        values = list((kind * ids.count).from_address(ids.data)) if ids.count else []
        self.library.grd_ids_free(ctypes.byref(ids))
        return values, seconds

    def decode(self, ids):
        array = (ctypes.c_int32 * len(ids))(*ids)
        arguments = self.handle, array, ctypes.c_int64(len(ids)), ctypes.c_bool(False)
        size = self.library.grd_tokenizer_decode(*arguments, None, ctypes.c_size_t(0))
        out = ctypes.create_string_buffer(size + 1)
        self.library.grd_tokenizer_decode(*arguments, out, ctypes.c_size_t(size))
        return out.raw[:size]


# ---- comparing ----

def plain_text(args):
    with open(args.text, encoding="utf-8", newline="") as file:
        return file.read(int(args.megabytes * 1e6))


def first_difference(ours, theirs, tokenizer):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    show = [tokenizer.decode(ids[max(at - 3, 0):at + 5], skip_special_tokens=False) for ids in (ours, theirs)]
    return f"at {at}: ours {ours[at:at + 5]} {show[0]!r}, theirs {theirs[at:at + 5]} {show[1]!r}"


def documents(text):
    """The text in parts of about 16,000 characters, for their encode_batch; ids of the parts are not compared."""
    return [text[i:i + 16000] for i in range(0, len(text), 16000)]


def compare_kind(kind, name, args, library, folder, text):
    """One row: ids, decoded text and speed with a tokenizer of one kind that a third of the text made."""
    tokenizer = with_special(kind, trained(kind, text[:len(text) // 3], 8000), random.Random(args.seed))
    path = os.path.join(folder, kind + ".json")
    tokenizer.save(path)
    ours, data = Ours(library, path), text.encode()
    speeds, same = {"ours": [], "ours, one thread": [], "theirs": [], "theirs, batch": []}, True
    for _ in range(args.rounds):
        ids, seconds = ours.encode(data)
        speeds["ours"].append(len(data) / seconds)
        speeds["ours, one thread"].append(len(data) / ours.encode(data, 1)[1])
        begun = time.perf_counter()
        expected = tokenizer.encode(text).ids
        speeds["theirs"].append(len(data) / (time.perf_counter() - begun))
        parts = documents(text)
        begun = time.perf_counter()
        tokenizer.encode_batch_fast(parts)
        speeds["theirs, batch"].append(len(data) / (time.perf_counter() - begun))
        if ids != expected:
            same = False
            print(f"{kind}: ids differ", first_difference(ids, expected, tokenizer), file=sys.stderr)
    text_again = ours.decode(ids)
    theirs_again = tokenizer.decode(expected, skip_special_tokens=False).encode()
    decoded = text_again == theirs_again and (text_again == data or kind != "gpt2")
    verdicts = ["same" if good else "DIFFERENT" for good in (same, decoded)]
    print(f"| {name} | {kind} | {len(expected):,} | {verdicts[0]} | {verdicts[1]} | "
          + " | ".join(f"{max(s) / 1e6:.1f}" for s in speeds.values()) + " |", flush=True)
    return same and decoded


def merges_of(path):
    with open(path, encoding="utf-8") as file:
        tree = json.load(file)["model"]
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in tree["merges"]], tree["vocab"]


def train_ours(args, text_path, out, vocab, kind):
    begun = time.perf_counter()
    subprocess.run([os.path.join(args.gradus, "gradus"), "tokenize", "train", text_path, "--vocab", str(vocab),
                    "--pattern", kind, "--out", out, "--quiet", "--whole"], check=True)
    return time.perf_counter() - begun


def compare_merges(kind, args, folder, text):
    path, out, theirs = (os.path.join(folder, name) for name in ("text.txt", "ours.json", "theirs.json"))
    text = text.replace("\0", "")  # Gradus takes a file with zero bytes for no text
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    train_ours(args, path, out, args.merges_vocab, kind)
    tokenizer = untrained(kind)
    tokenizer.train_from_iterator([text], trainer(args.merges_vocab))
    tokenizer.save(theirs)
    same = merges_of(out) == merges_of(theirs)
    print(f"| {kind} | {args.merges_vocab:,} | {len(merges_of(out)[0]):,} | {'same' if same else 'DIFFERENT'} |",
          flush=True)
    return same


def time_training(vocab, args, folder):
    ours, theirs = [], []
    for _ in range(args.rounds):
        tokenizer = untrained("gpt2")
        begun = time.perf_counter()
        tokenizer.train([args.text], trainer(vocab))
        theirs.append(time.perf_counter() - begun)
        ours.append(train_ours(args, args.text, os.path.join(folder, "timed.json"), vocab, "gpt2"))
    print(f"| {vocab:,} | {' '.join(f'{s:.2f}' for s in ours)} | {' '.join(f'{s:.2f}' for s in theirs)} | "
          f"{min(ours) / min(theirs):.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--gradus", required=True, help="build directory")
    parser.add_argument("--text", help="UTF-8 text on which the training of tokenizers is timed")
    parser.add_argument("--megabytes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab", type=int, nargs="*", default=[4096, 32000, 50257])
    parser.add_argument("--merges-vocab", type=int, default=8000)
    parser.add_argument("--kinds", nargs="*", default=["gpt2", "llama3", "qwen2"])
    args = parser.parse_args()
    library = ctypes.CDLL(os.path.join(args.gradus, "engine", "libgradus.so"))
    text = hard_text(int(args.megabytes * 1e6), args.seed)
    print(f"tokenizers {tokenizers.__version__}, {os.cpu_count()} processors, {len(text.encode()):,} bytes of mixed "
          f"text, seed {args.seed}\n")
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        print("| text | tokenizer | tokens | ids | decoded | MB/s: ours | ours, one thread | theirs | theirs, batch |"
              "\n"
              "|---|---|---|---|---|---|---|---|---|")
        for kind in args.kinds:
            ok = compare_kind(kind, "mixed", args, library, folder, text) and ok
            if args.text:
                ok = compare_kind(kind, os.path.basename(args.text), args, library, folder, plain_text(args)) and ok
        print("\n| pattern | vocabulary | merges | trained on the text |\n|---|---|---|---|")
        for kind in args.kinds:
            ok = compare_merges(kind, args, folder, text) and ok
        if args.text:
            print(f"\n{args.text}: {os.path.getsize(args.text):,} bytes\n\n"
                  "| vocabulary | training, ours (s) | theirs (s) | best ours / best theirs |\n|---|---|---|---|")
            for vocab in args.vocab:
                time_training(vocab, args, folder)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
