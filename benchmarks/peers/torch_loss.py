#!/usr/bin/env python3
"""Losses of GPT-2 124M (or gpt-small) in PyTorch, and what `gradus train` needs to begin alike.

Usage: torch_loss.py FOLDER [--model M] [--steps N] [--batch B] [--context T] [--device D] [--precision P]. Writes
FOLDER/init, random initial weights as transformers keeps a GPT-2, FOLDER/train.bin, a shard of tokens in llm.c's
format (the bytes of this repository's text, in order), and FOLDER/config.yaml for gradus. Then trains on them, batch
after batch, and prints one event of JSON with the losses: AdamW, a constant rate after a linear warm-up, clipping.
"""
import argparse
import array
import json
import os
import pathlib
import struct

import torch
import torch.nn as nn

import torch_models

ROOT = pathlib.Path(__file__).resolve().parents[2]
LR, WARMUP, CLIP_NORM = 3e-4, 20, 1.0
SHAPES = {"gpt2-124m": (50304, 12, 12, 768), "gpt-small": (1024, 4, 4, 128)}


def text(count):
    """That many bytes of the repository's text, which is repeated if it is shorter."""
    parts, size = [], 0
    for folder in ("docs", "engine", "cuda", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".md", ".c", ".h", ".cu", ".cuh", ".py") and size < count:
                parts.append(path.read_bytes())
                size += len(parts[-1])
    every = b"".join(parts)
    return (every * (count // len(every) + 1))[:count]


def write_shard(path, tokens):
    header = array.array("i", [20240520, 1, len(tokens)] + [0] * 253)
    with open(path, "wb") as f:
        header.tofile(f)
        array.array("H", list(tokens)).tofile(f)


def hf_tensors(model):
    """The weights under transformers' names, whose Conv1D has them turned."""
    yield "transformer.wte.weight", model.tokens.weight
    yield "transformer.wpe.weight", model.positions.weight
    names = [("ln_1", "norm1"), ("attn.c_attn", "qkv"), ("attn.c_proj", "out"), ("ln_2", "norm2"), ("mlp.c_fc", "up"),
             ("mlp.c_proj", "down")]
    for i, block in enumerate(model.blocks):
        for theirs, ours in names:
            layer = getattr(block, ours)
            turned = isinstance(layer, nn.Linear)
            yield f"transformer.h.{i}.{theirs}.weight", layer.weight.t() if turned else layer.weight
            yield f"transformer.h.{i}.{theirs}.bias", layer.bias
    yield "transformer.ln_f.weight", model.norm.weight
    yield "transformer.ln_f.bias", model.norm.bias


def write_safetensors(path, tensors):
    header, blobs, at = {}, [], 0
    for name, tensor in tensors:
        blobs.append(tensor.detach().float().contiguous().cpu().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for blob in blobs:
            f.write(blob)


def write_init(folder, model, context, vocab, layers, heads, width):
    os.makedirs(folder, exist_ok=True)
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": vocab, "n_positions": context,
              "n_embd": width, "n_layer": layers, "n_head": heads, "activation_function": "gelu_new",
              "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
              "tie_word_embeddings": True}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    write_safetensors(os.path.join(folder, "model.safetensors"), hf_tensors(model))


def write_config(folder, o):
    """The same training as gradus's settings."""
    with open(os.path.join(folder, "config.yaml"), "w") as f:
        f.write(f"""init: {{from: {folder}/init}}
data: {{tokens: [{folder}/train.bin], order: sequential}}
train: {{steps: {o.steps}, batch: {o.batch}, precision: {o.precision}, optimizer: adamw, lr: {LR}, schedule: constant,
        warmup: {WARMUP}, clip_norm: {CLIP_NORM}, betas: [0.9, 0.95], weight_decay: 0.1}}
""")


def train(model, tokens, o):
    """The loss of each step, before its update."""
    optimizer, losses = torch_models.optimizer_for(model, "adamw"), []
    ids = torch.tensor(list(tokens), device=o.device)
    size = o.batch * o.context
    for step in range(o.steps):
        x = ids[step * size:(step + 1) * size].view(o.batch, o.context)
        y = ids[step * size + 1:(step + 1) * size + 1]
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / WARMUP)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(o.device, torch.bfloat16, enabled=o.precision == "bf16"):
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        losses.append(loss.detach())
    return [float(loss) for loss in losses]


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("folder")
    a.add_argument("--model", choices=SHAPES, default="gpt2-124m")
    a.add_argument("--steps", type=int, default=200)
    a.add_argument("--batch", type=int, default=8)
    a.add_argument("--context", type=int, default=1024)
    a.add_argument("--device", default="cuda")
    a.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    o = a.parse_args()
    o.folder = os.path.abspath(o.folder)
    vocab, layers, heads, width = SHAPES[o.model]
    torch.manual_seed(1)
    model = torch_models.GPT(vocab, o.context, layers, heads, width, True)
    tokens = text(o.steps * o.batch * o.context + 1)
    write_init(os.path.join(o.folder, "init"), model, o.context, vocab, layers, heads, width)
    write_shard(os.path.join(o.folder, "train.bin"), tokens)
    write_config(o.folder, o)
    losses = train(model.to(o.device), tokens, o)
    print(json.dumps({"event": "losses", "name": o.model, "peer": "pytorch", "version": torch.__version__,
                      "precision": o.precision, "batch": o.batch, "context": o.context, "losses": losses}))


if __name__ == "__main__":
    main()
