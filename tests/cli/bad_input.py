#!/usr/bin/env python3
"""Gives the gradus command damaged and foreign files of every kind it reads, and wrong use of what it writes.

Usage: bad_input.py GRADUS [--show]

Each case is run plain and with --json. It must end with its exit code (2 unless it says otherwise) and one line of
"error: <place>: <what>" that holds the case's pieces; with --json the same line stands on stdout as an error event, and
nothing else does. No file may appear, change or go. --show prints every message, to be read as a user would.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from bad_input_cases import CASES, case, edit, gone
from bad_input_data import ROWS, golden, series_text

LIMIT_S = int(os.environ.get("GRADUS_TEST_LIMIT_S", 0)) or None  # of one command; tests/CMakeLists.txt sets it
TEXT = "all work and no play makes jack a dull boy\n" * 100
CONFIG = """model: {layers: 1, heads: 2, width: 16, context: 16}
data: {path: good.txt, tokenizer: byte}
train: {steps: 2}
"""


# ---- safetensors: what the reference implementation refuses ----

def tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(1,), begin=0, end=4, **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def safetensors(name, content, *pieces):
    case(f"safetensors: {name}", "inspect x.safetensors", "x.safetensors", *pieces, files={"x.safetensors": content})


safetensors("empty", b"", "too few")
safetensors("seven bytes", b"1234567", "7 bytes are too few")
safetensors("only a length", struct.pack("<Q", 8), "header ends after the file")
safetensors("header of 2^63 bytes", struct.pack("<Q", 1 << 63) + b"{}", "a header of 9223372036854775808 bytes")
safetensors("header that is cut", tensors({"a": tensor()}, bytes(4))[:30], "header ends after the file")
safetensors("header that is no JSON", tensors(b"{'a': 1}"), ":1:", "json")
safetensors("header that is a list", tensors(b"[1, 2]"), "not a JSON object")
safetensors("header of bytes that are not UTF-8", tensors(b'{"\xff": 1}'), ":1:2: json", "byte 0xff")
safetensors("header with a name twice", tensors(b'{"a": 1, "a": 2}'), "duplicate", "a")
safetensors("no dtype", tensors({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "'a'", "dtype is missing")
safetensors("unknown dtype", tensors({"a": tensor("F31")}, bytes(4)), "'a'", "unknown dtype 'F31'")
safetensors("shape that is no list", tensors({"a": {**tensor(), "shape": 1}}, bytes(4)), "'a'", "shape")
safetensors("negative size", tensors({"a": tensor(shape=[-1])}, bytes(4)), "'a'", "dimension 0")
safetensors("fractional size", tensors({"a": tensor(shape=[1.0])}, bytes(4)), "'a'", "dimension 0")
safetensors("sizes that overflow", tensors({"a": tensor(shape=[1 << 40, 1 << 40])}, bytes(4)), "'a'", "too large")
safetensors("nine dimensions", tensors({"a": tensor(shape=[1] * 9)}, bytes(4)), "'a'", "9 dimensions (at most 8")
safetensors("no offsets", tensors({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "'a'", "data_offsets")
safetensors("three offsets", tensors({"a": {**tensor(), "data_offsets": [0, 4, 8]}}, bytes(8)), "'a'", "data_offsets")
safetensors("offsets backwards", tensors({"a": tensor(begin=4, end=0)}, bytes(4)), "'a'", "ends before it begins")
safetensors("offsets that do not fit the shape", tensors({"a": tensor(end=8)}, bytes(8)), "'a'", "needs 4 bytes")
safetensors("a gap", tensors({"a": tensor(begin=4, end=8)}, bytes(8)), "'a'", "gap")
safetensors("an overlap", tensors({"a": tensor(), "b": tensor(shape=[2], end=8)}, bytes(8)), "'b'", "overlapping")
safetensors("data that is cut", tensors({"a": tensor(shape=[2], end=8)}, bytes(7)), "'a'", "cut off")
safetensors("data left over", tensors({"a": tensor()}, bytes(5)), "1 bytes after the last tensor")
safetensors("half a byte", tensors({"a": tensor("F4", end=1)}, bytes(1)), "'a'", "whole bytes")
safetensors("metadata that is no text", tensors({"__metadata__": {"step": 1}}), "__metadata__", "'step'")
safetensors("metadata that is no object", tensors({"__metadata__": "pt"}), "__metadata__")
safetensors("another format", b"PK\x03\x04" + bytes(60), "the header ends after the file")


def index(name, weight_map, *pieces):
    text = json.dumps({"weight_map": weight_map}) if weight_map is not None else "{}"
    case(f"safetensors index: {name}", "inspect hf", *pieces,
         files={"hf/model.safetensors.index.json": text, "hf/model.safetensors": b"remove",
                "hf/a.safetensors": tensors({"a": tensor()}, bytes(4))},
         change=lambda folder: (folder / "hf/model.safetensors").unlink())


index("no weight_map", None, "model.safetensors.index.json: weight_map is missing")
index("a shard that is not there", {"a": "b.safetensors"}, "hf/b.safetensors", "No such file")
index("a tensor that is not there", {"b": "a.safetensors"}, "'b'", "a.safetensors")
index("a shard elsewhere", {"a": "../good.txt"}, "'a'", "not the name of a file beside the index")


# ---- tokenizer.json ----

ALPHABET = [c for c in range(33, 127)] + [c for c in range(161, 173)] + [c for c in range(174, 256)]


def tokenizer_json(model=None, vocab=None, merges=(), **more):
    if vocab is None:
        vocab = {chr(c): i for i, c in enumerate(ALPHABET)}
    return {"added_tokens": [], "normalizer": None, "post_processor": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "model": {"type": "BPE", "vocab": vocab, "merges": list(merges), **(model or {})}, **more}


def tokenizer(name, content, *pieces):
    text = content if isinstance(content, (bytes, str)) else json.dumps(content)
    case(f"tokenizer: {name}", "tokenize encode t.json --text hello", "t.json", *pieces, files={"t.json": text})


tokenizer("empty", "", "t.json:1:")
tokenizer("binary", bytes(range(256)), "zero byte")
tokenizer("cut", json.dumps(tokenizer_json())[:-40], "json")
tokenizer("a list", "[]", "model")
tokenizer("nested without end", "[" * 1000, "levels of nesting")
tokenizer("a key twice", '{"model": 1, "model": 2}', "duplicate", "model")
tokenizer("no model", {"version": "1.0"}, "model", "is this a tokenizer.json?")
tokenizer("WordPiece", tokenizer_json({"type": "WordPiece"}), "model.type", "'WordPiece'")
tokenizer("SentencePiece's byte_fallback", tokenizer_json({"byte_fallback": True}), "byte_fallback")
tokenizer("no vocabulary", {**tokenizer_json(), "model": {"type": "BPE", "merges": []}}, "vocab or merges are missing")
tokenizer("empty vocabulary", tokenizer_json(vocab={}), "model.vocab", "empty")
tokenizer("an id twice", tokenizer_json(vocab={"a": 0, "b": 0}), "model.vocab", "token 'b'")
tokenizer("a negative id", tokenizer_json(vocab={"a": -1}), "model.vocab", "token 'a'")
tokenizer("an id of 2^40", tokenizer_json(vocab={"a": 1 << 40}), "model.vocab", "token 'a'")
tokenizer("an id that is a text", tokenizer_json(vocab={"a": "0"}), "model.vocab", "token 'a'")
tokenizer("a merge of nothing", tokenizer_json(merges=["h"]), "model.merges", "not a pair")
tokenizer("a merge of an unknown token", tokenizer_json(merges=["h zz"]), "model.merges", "'h zz'")
tokenizer("a merge that makes nothing", tokenizer_json(merges=[["h", "e"]]), "model.merges", "'h e'")
tokenizer("an unknown pre-tokenizer", tokenizer_json(pre_tokenizer={"type": "Metaspace"}), "pre_tokenizer", "Metaspace")
tokenizer("a pattern that is none", tokenizer_json(pre_tokenizer={"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}), "(a")
tokenizer("an unknown normalizer", tokenizer_json(normalizer={"type": "Lowercase"}), "normalizer", "Lowercase")
tokenizer("an added token without content", tokenizer_json(added_tokens=[{"id": 300}]), "added_tokens")
tokenizer("a template of unknown tokens", tokenizer_json(post_processor={
    "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [999], "tokens": ["<s>"]}}}), "post_processor")
case("tokenizer: a folder without one", "tokenize encode empty --text hello", "tokenizer.json", files={"empty": None})
case("tokenizer: an id that is not there", "tokenize decode run/tokenizer.json 5 99999", "99999")
case("tokenizer: an id that is no number", "tokenize decode run/tokenizer.json 5 x", "'x'")


# ---- token shards ----

def shard(tokens, magic=20240520, version=1, count=None, code="H"):
    header = struct.pack("<3i", magic, version, len(tokens) if count is None else count) + bytes(4 * 253)
    return header + struct.pack(f"<{len(tokens)}{code}", *tokens)


def tokens(name, content, *pieces):
    case(f"shard: {name}", "inspect x.bin", "x.bin", *pieces, files={"x.bin": content})


TRAIN_SHARD = ("train --set data.tokens=[x.bin] --set model.vocab=10 --set model.context=4 --set train.steps=1 "
               "--set train.batch=1")
tokens("empty", b"", "0 bytes")
tokens("a header that is cut", shard([1])[:1000], "1000 bytes")
tokens("another magic", shard([1], magic=7), "7", "20240520")
tokens("another version", shard([1], version=2), "version 2")
tokens("no token", shard([]), "0 tokens")
tokens("a negative count", shard([1], count=-1), "-1")
tokens("too few tokens", shard([1, 2], count=3), "3")
tokens("too many tokens", shard([1, 2, 3], count=2), "2")
tokens("llama3 with tokens of two bytes", shard([1, 2], magic=20240801, version=7), "2")
case("shard: a token beyond the vocabulary", "train shard.yaml", "x.bin", "token 10 at position 31", "vocabulary of 10",
     files={"x.bin": shard([9] * 31 + [10] * 33), "shard.yaml":
            "data: {tokens: [x.bin]}\nmodel: {vocab: 10, layers: 1, heads: 1, width: 8, context: 4}\n"
            "train: {steps: 1, batch: 1}\n"})
case("shard: not there", "train shard.yaml", "nosuch.bin", "No such file",
     files={"shard.yaml": "data: {tokens: [nosuch.bin]}\nmodel: {vocab: 10}\ntrain: {steps: 1}\n"})
case("shard: shorter than a window", "train shard.yaml", "token", files={
    "x.bin": shard([1, 2, 3]), "shard.yaml": "data: {tokens: [x.bin]}\nmodel: {vocab: 10}\ntrain: {steps: 1}\n"})
case("shard: a folder", "inspect x.bin", "x.bin", files={"x.bin": None})


# ---- Hugging Face folders ----

HF = {"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16,
      "intermediate_size": 32, "vocab_size": 257, "max_position_embeddings": 16}


def hf(name, config, *pieces, weights=None):
    text = config if isinstance(config, (bytes, str)) else json.dumps(config)
    files = {"hf/config.json": text, "hf/model.safetensors": tensors({}) if weights is None else weights}
    case(f"config.json: {name}", "train --data good.txt --set init.from=hf --set train.steps=1 --set out=new "
         "--set data.tokenizer=run/tokenizer.json", "hf", *pieces, files=files)


def without(key):
    return {k: v for k, v in HF.items() if k != key}


hf("empty", "", "hf/config.json:1:")
hf("binary", bytes(range(1, 99)), "hf/config.json:")
hf("a list", "[]", "must be an object")
hf("no model_type", without("model_type"), "model_type: is missing")
hf("a model that we have not", {**HF, "model_type": "mamba"}, "model_type: 'mamba' is not supported (GPT-2, Llama")
hf("no layers", without("num_hidden_layers"), "num_hidden_layers: is missing")
hf("layers as text", {**HF, "num_hidden_layers": "1"}, "num_hidden_layers: must be a whole number")
hf("negative width", {**HF, "hidden_size": -16}, "hidden_size: -16 is outside")
hf("heads that do not divide", {**HF, "num_attention_heads": 3}, "heads")
hf("an activation that we have not", {**HF, "hidden_act": "gelu"}, "hidden_act: 'gelu'")
hf("a rope scaling that we have not", {**HF, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'")
hf("a key twice", '{"model_type": "llama", "model_type": "gpt2"}', "duplicate", "model_type")
hf("no weights", HF, "tensor 'model.embed_tokens.weight' is missing")
hf("weights of another shape", HF, "embed_tokens", "[3,3]", weights=tensors(
    {"model.embed_tokens.weight": tensor(shape=[3, 3], end=36)}, bytes(36)))
hf("weights of whole numbers", HF, "embed_tokens", "I64", weights=tensors(
    {"model.embed_tokens.weight": tensor("I64", shape=[257, 16], end=257 * 16 * 8)}, bytes(257 * 16 * 8)))
case("config.json: not there", "train --data good.txt --set init.from=hf", "hf/config.json", files={"hf": None})


# ---- config.yaml ----

def config(name, text, *pieces, code=2):
    case(f"yaml: {name}", "train x.yaml", "x.yaml", *pieces, files={"x.yaml": text}, code=code)


config("binary", bytes(range(256)) * 4, "x.yaml:1:1: not YAML", "control character 0x00")
config("Latin-1", "out: caf\xe9\n".encode("latin-1"), "x.yaml:1:9: not YAML: byte 0xe9 is not UTF-8")
config("a directive of bytes that are no characters", b"%\xfd\xf2tan^@iko\xf4z\xd4\x94\x94\x94\x1f_", "not UTF-8")
config("UTF-16", CONFIG.encode("utf-16"), "x.yaml:1:1: not YAML")
config("a tab for indentation", "train:\n\tsteps: 1\n", "x.yaml:2:", "not YAML")
config("an open quote", 'out: "runs\n', "not YAML")
config("nested without end", "a: " + "[" * 5000, "x.yaml:1:")
config("an unknown section", "trian: {steps: 1}\n", "x.yaml:1:1: trian", "did you mean")
config("an unknown key", "train:\n  step: 3\n",
       "x.yaml:2:3: train.step: there is no such key (did you mean train.steps?)")
config("a key of another section", "model: {lr: 3}\n", "x.yaml:1:9: model.lr", "did you mean train.lr?")
config("a long key", "k" * 300 + ": 1\n", "x.yaml:1:1", "short text")
config("an empty key", "train: {steps: 1}\n: 0.02\n", "x.yaml:2:3", "a key must be a short text")
config("a key in the long form", "train:\n  - ? steps:\t?", "x.yaml:2:5:", "write keys as in")
config("a second document", "train: {steps: 1}\n---\ntrain: {steps: 2}\n", "x.yaml:3:1: a second document",
       "join the two")
config("a second document that is broken", "train: {steps: 1}\n---\ntrain: {steps\n", "x.yaml:", "not YAML")
config("a list as key", "[a]: 1\n", "x.yaml:1:", "a key must be a short text")
config("a key twice", "train: {steps: 1, steps: 2}\n", "x.yaml:1:19: steps: duplicate key (keep one")
config("a section twice", "train: {steps: 1}\ntrain: {lr: 1}\n", "x.yaml:2:1: train: duplicate key")
config("a section that is a number", "train: 5\n",
       "x.yaml:1:8: train: must hold keys of its own, as in \"train: {steps: ...}\"")
config("a section that is empty", "train:\n", "x.yaml:1:1: train: must hold keys of its own")
config("a list where a value belongs", "train: {steps: [1]}\n", "x.yaml:1:17: train.steps: must be a single value")
config("a mapping where a value belongs", "train: {lr: {a: 1}}\n", "x.yaml:1:14: train.lr: must be a single value")
config("nothing where a value belongs", "train: {steps: }\n", "x.yaml:1:9: train.steps: '' is not a whole number")
config("a number that is cut", "train: {lr: 1e}\n", "x.yaml:1:13: train.lr: '1e' is not a number")
config("not a number", "train: {lr: .nan}\n", "x.yaml:1:13: train.lr: '.nan' is not a number")
config("nan", "train: {lr: nan}\n", "train.lr: 'nan' is not a number")
config("infinity", "train: {lr: inf}\n", "train.lr: 'inf' is not a number")
config("a fraction that overflows", "train: {lr: 1e400}\n", "train.lr: '1e400' is outside 0 to 1000000")
config("a whole number that overflows", "train: {steps: 99999999999999999999}\n",
       "train.steps: '99999999999999999999' is outside 0")
config("1e300 layers", "model: {layers: 1e300}\n", "model.layers: '1e300'")
config("a fraction of a layer", "model: {layers: 1.5}\n", "model.layers: '1.5' is not a whole number")
config("no layer", "model: {layers: 0}\n", "model.layers: 0 is outside 1 to")
config("a negative size", "model: {width: -8}\n", "model.width: -8 is outside 1 to")
config("dropout of 1", "model: {dropout: 1}\n", "model.dropout: 1 is outside 0 to 0.999")
config("betas of one", "train: {betas: [0.9]}\n", "x.yaml:1:17: train.betas: must be a list of two numbers")
config("betas of texts", "train: {betas: [a, b]}\n", "x.yaml:1:17: train.betas: 'a' is not a number")
config("a beta of 1", "train: {betas: [0.9, 1]}\n", "x.yaml:1:22: train.betas: 1 is outside")
config("yes for true", "model: {bias: yes}\n", "x.yaml:1:15: model.bias: 'yes' is not one of: false, true")
config("a kind that we have not", "model: {kind: bert}\n", "model.kind: 'bert' is not one of: gpt2, llama, fast")
config("an optimizer that we have not", "train: {optimizer: adamax}\n", "train.optimizer: 'adamax' is not one of")
config("groups that are no list", "train: {groups: {match: a}}\n", "train.groups: must be a list")
config("a group without match", "train: {groups: [{lr: 1}]}\n", "train.groups: a group needs a match")
config("a key that groups have not", "train: {groups: [{match: a, rate: 1}]}\n", "train.groups: 'rate' is not one of")
config("too many groups", "train: {groups: [" + "{match: a}, " * 40 + "]}\n", "train.groups: more than")
config("too many files", "data: {tokens: [" + "a, " * 2000 + "]}\n", "data.tokens: must be a list of at most")
config("an anchor and its alias", "model: {layers: &n 2, heads: *n}\n", "x.yaml:1:31", "alias (write the value out)")
config("a merge key", "model: &m {layers: 2}\ntrain: {<<: *m}\n", "x.yaml:2:14", "alias (write the value out)")
config("aliases that grow", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "x.yaml:2:9", "alias")
config("a file of 2 MB", "# " + "x" * (2 << 20), "larger than 1048576 bytes")
config("an unknown section that is nearly one", "mdoel: {layers: 1}\n", "x.yaml:1:1: mdoel", "did you mean model?")
config("a number beyond the largest", "train: {betas: [0.9, 0.99999999]}\n", "is outside 0 to 0.9999999")
config("an empty text", 'out: ""\n', "x.yaml:1:7: out: is empty")
config("an empty file name", "data: {tokens: ['']}\n", "data.tokens: is empty")
case("yaml: path and tokens", "train x.yaml", "data.path: data.tokens is set", files={
    "x.yaml": "data: {path: good.txt, tokens: [a]}\ntrain: {steps: 1}\n"})
case("yaml: empty", "train x.yaml", "train.steps", files={"x.yaml": ""})
case("yaml: only a comment", "train x.yaml", "train.steps", files={"x.yaml": "# nothing\n"})
case("yaml: a folder", "train x.yaml", "x.yaml: is a directory", files={"x.yaml": None})


# ---- the command line ----

case("--set: no key", "train --data good.txt --set =1", "--set =1: must be KEY=VALUE")
case("--set: nothing", "train --data good.txt --set ''", "must be KEY=VALUE")
case("--set: an open list", "train good.yaml --set train.betas=[1", "--set train.betas=[1: not YAML: ")
case("--set: a section", "train good.yaml --set train={steps:3}", "no key 'train'", "it is a section", "train.steps=")
case("--set: a section to a number", "train good.yaml --set train=3",
     "it is a section (set a key of it, as in train.steps")
case("--set: a group that is none", "train good.yaml --set 'train.groups=[{match: \"embd/**\", lr: 1}]'",
     "train.groups: no parameter matches 'embd/**' (the nearest is 'embed/weight'")
case("--set: a matrix that is too large", "plan good.yaml --set model.width=16777216",
     "model.width: 16777216, with model.heads, makes a matrix", "2^48")
case("eval: links in a circle", "inspect a.txt", "a.txt: cannot open: Too many levels",
     change=lambda folder: ((folder / "a.txt").symlink_to("b.txt"), (folder / "b.txt").symlink_to("a.txt")))
case("convert: a text", "convert good.txt z.bin", "good.txt: is neither a token shard", "gradus tokenize encode")
case("--set: a key inside a value", "train good.yaml --set 'train.lr=1, steps: 5'", "train.lr: must be a single value")
case("--set: another key inside a value", "train good.yaml --set 'train.lr=1, steps'", "'1, steps' is not a number")
case("--set: an alias", "train good.yaml --set train.lr=*a", "--set train.lr=*a")
case("--set: nothing as value", "train good.yaml --set train.lr=", "--set train.lr=: train.lr: must be a single value")
case("--set: a second mapping", "train good.yaml --set 'train.lr=1}, model: {layers: 2'", "--set train.lr")
case("--set: a name that is not UTF-8", b"train good.yaml --set data.path=caf\xe9", "not UTF-8")
case("--set: a long key", "train good.yaml --set " + "k" * 200 + "=1", "must be KEY=VALUE")
case("--threads: nothing", "train --data good.txt --threads ''", "--threads: '' is not a whole number")
case("--threads: overflow", "train --data good.txt --threads 99999999999999999999", "--threads")
case("--threads: no value", "train --data good.txt --threads", "--threads")
case("--data: no value", "train --data", "--data")
case("--data: nothing", "train --data ''", "no such file")
case("--data: a name that is not UTF-8", b"train --data caf\xe9.txt", "UTF-8", files={b"caf\xe9.txt": TEXT})
case("an option with a typing mistake", "train --data good.txt --therads 1", "--therads")
case("--device: nothing", "train --data good.txt --device ''", "device ''")
case("--device: an instruction set that is none", "train --data good.txt --device cpu:mmx --set train.steps=1", "mmx")
case("--device: no profile", "plan good.yaml --device null:", "null:")
case("sample: a negative count", "sample run --tokens -1", "--tokens: -1 is outside")
case("sample: a seed that is none", "sample run --seed x", "--seed: 'x' is not a whole number")
case("sample: a negative temperature", "sample run --temperature -1", "--temperature: -1 is outside")
case("sample: temperature nan", "sample run --temperature nan", "--temperature: nan is outside")
case("sample: two runs", "sample run run", "run")
case("predict: nothing given", "predict", "no model to predict with")
case("predict: no input", "predict run", "nothing to predict for")
case("predict: two inputs", "predict run good.txt good.txt", "good.txt")
case("predict: no run", "predict nowhere good.txt", "nowhere: is no run directory")
case("predict: an input that is missing", "predict run nowhere", "nowhere: no such file")
case("predict: a language model", "predict run good.txt", "run: is a language model", "gradus sample")
case("bench: no such precision", "bench model mlp --precision half",
     "--precision: 'half' is not one of: f32, bf16, tf32, bf16-pure, f16")
case("bench: a negative batch", "bench model mlp --batch -1", "--batch: -1 is outside")
case("eval: a context beyond the model's", "eval run --context 99999", "context")


case("yaml: an average of weights in bf16 alone", "train x.yaml",
     "train.ema: there is no moving average of weights kept in bf16 alone",
     files={"x.yaml": "data: {path: good.txt}\ntrain: {steps: 1, precision: bf16-pure, ema: 0.9}\n"})
case("yaml: L-BFGS in f16", "train x.yaml", "train.precision: f16 is not for optimizer lbfgs",
     files={"x.yaml": "data: {path: good.txt}\ntrain: {steps: 1, precision: f16, optimizer: lbfgs}\n"})

# ---- texts ----

case("text: a folder without any", "train --data empty", "empty: is empty", files={"empty": None})
case("text: a folder of empty files", "train --data texts", "texts: is empty", files={"texts/a.txt": "", "texts/b": ""})
case("text: a folder of binary files", "train --data texts", "texts: holds no text",
     "texts/b.bin: is no text: byte 1 is zero", files={"texts/b.bin": b"a\0", "texts/c.bin": b"a\0"})
case("text: one byte", "train --data one.txt", "token", files={"one.txt": "x"})
case("text: a byte order mark and nothing", "train --data bom.txt", "bom.txt", files={"bom.txt": b"\xef\xbb\xbf"})
case("text: UTF-16 without a mark", "train --data x.txt", "x.txt: is no text: byte 1 is zero",
     files={"x.txt": "hello".encode("utf-16-le")})
case("text: a link to nothing", "train --data link.txt", "link.txt: no such file",
     change=lambda folder: (folder / "link.txt").symlink_to("nowhere"))
case("text: links in a circle", "train --data a.txt", "a.txt: cannot open: Too many levels", "lead in a circle",
     change=lambda folder: ((folder / "a.txt").symlink_to("b.txt"), (folder / "b.txt").symlink_to("a.txt")))
case("text: two of them", "train --data good.txt --data one.txt", "--data one.txt: after --data good.txt",
     files={"one.txt": "x"})
case("text: a pipe to train on", "train --data pipe",
     "pipe: is a pipe", "save it as a file", change=lambda folder: os.mkfifo(folder / "pipe"))
case("text: a pipe that nobody writes to", "tokenize encode run/tokenizer.json pipe",
     "pipe: is a pipe that no program writes to", change=lambda folder: os.mkfifo(folder / "pipe"))
case("text: a pipe with nothing in it", "tokenize encode run/tokenizer.json -", "/dev/stdin: is empty")
case("text: a device", "eval run --data /dev/zero", "/dev/zero: is a device")
case("text: an empty one to score", "eval run --data x.txt", "x.txt: is empty (give a file that holds text)",
     files={"x.txt": ""})
case("text: Latin-1 for a char tokenizer", "tokenize train x.txt --kind char", "x.txt: byte 3 (0xe9) is not UTF-8",
     "iconv", files={"x.txt": b"caf\xe9\n"})
case("text: Latin-1 for a model of characters", "train --data x.txt --set data.tokenizer=char",
     "x.txt: byte 3 (0xe9) is not UTF-8", "iconv", files={"x.txt": b"caf\xe9\n" * 99})
case("text: a folder that holds itself", "train --data loop", "loop",
     change=lambda folder: ((folder / "loop").mkdir(), (folder / "loop/again").symlink_to(".")))


# ---- where a run goes ----

case("out: a folder with files", "train good.yaml --set out=run", "out: run is not empty", "--resume run")
case("out: a file", "train good.yaml --set out=good.txt", "good.txt")
case("out: below a file", "train good.yaml --set out=good.txt/run", "good.txt")
case("out: a name that is too long, in new folders", f"train good.yaml --set out=new/er/{'x' * 300}", "new/er/xxx")
case("out: where nobody may write", "train good.yaml --set out=/proc/gradus", "/proc/gradus")
case("out: nothing", "train good.yaml --set out=", "--set out=: is empty")
case("tokenize: a folder that is not there", "tokenize train good.txt --out nosuch/t.json",
     "nosuch/t.json: cannot create")
case("convert: onto what is there", "convert run hf", "hf: exists already", files={"hf/config.json": "{}"})
case("convert: weights as a text", "convert run/checkpoints/step-000002/model.safetensors good.txt", "good.txt")


# ---- checkpoints ----

def flip(at):
    def change(b):
        place = at % len(b)
        return b[:place] + bytes([b[place] ^ 1]) + b[place + 1:]
    return change


STEP = "run/checkpoints/step-000002/"


def checkpoint(name, path, function, *pieces, arguments="train --resume run --set train.steps=4"):
    case(f"checkpoint: {name}", arguments, *pieces, change=edit(path, function))


checkpoint("a flipped bit of the weights", STEP + "model.safetensors", flip(-1),
           "step-000002/model.safetensors: tensor '", "does not match its checksum", "earlier checkpoint")
checkpoint("a flipped bit of the header", STEP + "model.safetensors", flip(20), "model.safetensors: the header")
checkpoint("a flipped bit of the optimizer", STEP + "optimizer.safetensors", flip(-1),
           "optimizer.safetensors: tensor '")
checkpoint("weights that are cut", STEP + "model.safetensors", lambda b: b[:-1], "model.safetensors", "bytes where")
checkpoint("weights with more behind", STEP + "model.safetensors", lambda b: b + b"x", "model.safetensors",
           "bytes where")
checkpoint("weights that are empty", STEP + "model.safetensors", lambda b: b"", "model.safetensors: 0 bytes where")
checkpoint("no weights", STEP + "model.safetensors", gone, "model.safetensors", "No such file")
checkpoint("no optimizer", STEP + "optimizer.safetensors", gone, "optimizer.safetensors", "No such file")
checkpoint("no state", STEP + "state.json", gone, "state.json", "No such file")
checkpoint("another state", STEP + "state.json", lambda b: b.replace(b'"step": 2', b'"step": 3'), "state.json",
           "checksum")
checkpoint("no checksums", STEP + "checksums.json", gone, "checksums.json", "No such file")
checkpoint("checksums that are no JSON", STEP + "checksums.json", lambda b: b"hello", "checksums.json:1:")
checkpoint("checksums that are cut", STEP + "checksums.json", lambda b: b[:-10], "checksums.json")
checkpoint("checksums of a newer kind", STEP + "checksums.json", lambda b: b.replace(b"xxh3-64", b"xxh9-64"),
           "checksums.json", "xxh3-64")
checkpoint("a changed checksum", STEP + "checksums.json", lambda b: b.replace(b'"size_bytes": ', b'"size_bytes": 1'),
           "checksums.json", "its own checksum")
case("checkpoint: none before the only one", "train --resume run --previous", "step-000002: is the only checkpoint")
checkpoint("no config", "run/config.yaml", gone, "run is no run directory")
checkpoint("a damaged config", "run/config.yaml", lambda b: b[:40] + b"\n{", "run/config.yaml:")
checkpoint("a config of another model", "run/config.yaml", lambda b: b.replace(b"layers: 1", b"layers: 2"),
           "model.safetensors", "tensor", "config has changed")
checkpoint("a config of another width", "run/config.yaml", lambda b: b.replace(b"width: 16", b"width: 32"), "tensor",
           "config has changed")
checkpoint("a config of another optimizer", "run/config.yaml",
           lambda b: b.replace(b"optimizer: adamw", b"optimizer: lion"),
           "optimizer.safetensors", "config has changed")
checkpoint("no tokenizer", "run/tokenizer.json", gone, "tokenizer.json", arguments="sample run")
checkpoint("sampling from flipped bits", STEP + "model.safetensors", flip(-1), "model.safetensors: tensor '",
           arguments="sample run")
checkpoint("scoring flipped bits", STEP + "model.safetensors", flip(-1), "model.safetensors: tensor '",
           arguments="eval run")
checkpoint("looking at flipped bits", STEP + "model.safetensors", flip(-1), "model.safetensors: tensor '",
           arguments="inspect run")
checkpoint("taking flipped bits elsewhere", STEP + "model.safetensors", flip(-1), "model.safetensors: tensor '",
           arguments="convert run hf")
case("checkpoint: a file is no run", "train --resume good.txt", "good.txt is no run directory")
case("checkpoint: nothing to resume", "train --resume ''", "no run directory")
case("checkpoint: --resume and --data", "train --resume run --data good.txt", "--resume")
case("checkpoint: resumed into another folder", "train --resume run --set out=other",
     "--set out=other", "init.from=run/")
case("checkpoint: resumed where it would not fit", "train --resume run --set model.layers=2", "tensor",
     "config has changed")
case("checkpoint: resumed on a device that only plans", "train --resume run --device null:cpu", "only plans")
case("check: a batch that memory does not hold", "check good.yaml --set train.batch=100000000",
     "bytes for activations are not to be had", "a smaller batch", code=1)
case("device: a run on one that only plans", "train good.yaml --set out=new --device null:cpu", "only plans")


# ---- running them ----

class Bench:
    def __init__(self, gradus, folder):
        self.gradus, self.folder = gradus, folder
        (folder / "good.txt").write_text(TEXT)
        (folder / "good.yaml").write_text(CONFIG)
        self.must("train good.yaml --set out=run")
        for number in range(8):
            path = folder / "pets" / ("cat" if number % 2 else "dog") / f"{number // 2}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(golden(("grey.png", "colour.png")[number // 2 % 2]))
        self.must("train --data pets --model mlp --set train.steps=1 --set out=seen")
        (folder / "base.csv").write_text("x,c,y\n" + "".join(f"{i},{'ab'[i % 2]},{i * i}\n" for i in range(40)))
        self.must("train --data base.csv --target y --set out=tab")
        self.must("train --data base.csv --target c --set out=cls")
        (folder / "power.csv").write_text(series_text())
        self.must("train --data power.csv --time t --target y --set train.steps=2 --set out=ser")

    def run(self, arguments, more=""):
        line = os.fsencode(f"'{self.gradus}' ") + (arguments if isinstance(arguments, bytes) else arguments.encode())
        return subprocess.run(["sh", "-c", b"exec " + line + b" --threads 1" * (b"--threads" not in line) +
                               more.encode()], cwd=self.folder, input=b"", capture_output=True, timeout=LIMIT_S,
                              check=False)

    def must(self, arguments):
        done = self.run(arguments)
        if done.returncode != 0:
            sys.exit(f"gradus {arguments}: {done.returncode}: {done.stderr.decode()}")

def put(folder, files):
    for name, content in files.items():
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        if content is None:
            path.mkdir()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def snapshot(folder):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size, path.lstat().st_ino)
            for path in folder.rglob("*")}


def problems(done, pieces, code, as_json):
    """What is not as it should be about one run."""
    text, out = done.stderr.decode(errors="replace"), done.stdout.decode(errors="replace")
    if done.returncode != code:
        yield f"exit code {done.returncode}, not {code}"
    if not text.startswith("error: ") or text.count("\n") != 1 or not text.endswith("\n"):
        yield "stderr is not one line of error"
    yield from (f"it does not say '{piece}'" for piece in pieces if piece not in text)
    if not as_json:
        return
    try:
        events = [json.loads(line) for line in out.splitlines()]
    except ValueError:
        yield f"stdout is not JSON: {out}"
        return
    errors = [event for event in events if event.get("event") == "error"]
    named = "(not UTF-8: see stderr)" if "\ufffd" in text else errors[0]["message"] if errors else ""
    if len(errors) != 1 or errors[0]["message"] != named or (named not in text and named[0] != "("):
        yield f"stdout does not tell of the error: {out}"


def check(bench, number, show):
    name, arguments, pieces, files, change, code = CASES[number]
    put(bench.folder, files)
    if change:
        change(bench.folder)
    before, found = snapshot(bench.folder), []
    for as_json in (False, True):
        done = bench.run(arguments, " --json" if as_json else "")
        found += problems(done, pieces, code, as_json)
    changed = dict(snapshot(bench.folder).items() ^ before.items())
    if changed:
        found.append(f"files changed: {sorted(map(str, changed))}")
    message = done.stderr.decode(errors="replace")
    if show:
        print(f"{name}\n    {message}", end="")
    for what in found:
        print(f"{name}: gradus {arguments}: {what}\n    {message}")
    return not found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("gradus")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="gradus-bad-") as root:
        first = Path(root) / "first"
        first.mkdir()
        bench = Bench(os.path.abspath(arguments.gradus), first)
        for number in range(len(CASES)):
            bench.folder = Path(root) / str(number)
            subprocess.run(["cp", "-r", first, bench.folder], check=True)
            failed += not check(bench, number, arguments.show)
            subprocess.run(["rm", "-r", bench.folder], check=True)
    print(f"{len(CASES)} cases of bad input, {failed} not as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
