#!/usr/bin/env python3
"""Compares Gradus with PyTorch and transformers over random models, weights and training settings.

  parity.py losses GRADUS [--count N] [--seed S] [--precision f32|bf16]
      makes a Hugging Face folder and token shards a case, trains on them with `gradus train` and in PyTorch, compares
      every loss, learning rate and gradient norm, opens the run's checkpoint in transformers (no missing, no unexpected
      key) and compares the trained weights
  parity.py logits HF_LOGITS [--count N] [--seed S]
      compares the logits of random folders, computed by tests/golden/hf_logits.c, with those of transformers

Case i of seed S is always the same. The last line holds the largest difference by model kind; exit status 1 if a case
fails. Needs torch, transformers (4.57 and 5.24 were used) and safetensors; no test of the build needs it.
"""
import argparse
import json
import math
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors.torch import load_file

LIMITS = {"f32": 1e-4, "bf16": 1e-2}
LOGITS_LIMIT = 1e-4
VERSION = int(transformers.__version__.split(".")[0])
BARE = dict(bos_token_id=None, eos_token_id=None)


# ---- models ----

def gpt2_settings(rng):
    heads = rng.choice([1, 2, 3, 4, 6])
    return dict(BARE, n_embd=heads * rng.choice([5, 8, 12, 13, 16, 32]), n_head=heads, n_layer=rng.randint(1, 5),
                n_positions=rng.choice([7, 16, 33, 48, 64]), vocab_size=rng.choice([50, 64, 97, 131, 256, 513]),
                n_inner=rng.choice([None, None, 50, 100]), layer_norm_epsilon=rng.choice([1e-5, 1e-6, 1e-3]),
                activation_function=rng.choice(["gelu_new", "gelu_new", "gelu", "gelu_pytorch_tanh"]),
                tie_word_embeddings=rng.random() < 0.7, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def rope_settings(rng, head_dim, positions):
    """A rotary setting as transformers 5 names it."""
    rope = dict(rope_type="default", rope_theta=rng.choice([100.0, 10000.0, 500000.0, 1e6]))
    kind = rng.choice(["default", "default", "linear", "llama3"])
    if kind == "linear":
        rope.update(rope_type="linear", factor=rng.choice([2.0, 3.5, 8.0]))
    if kind == "llama3":
        rope.update(rope_type="llama3", factor=rng.choice([2.0, 8.0, 32.0]), low_freq_factor=rng.choice([1.0, 0.5]),
                    high_freq_factor=rng.choice([4.0, 8.0]), original_max_position_embeddings=max(positions // 4, 2))
    return rope


def llama_settings(rng, kind):
    kv = rng.choice([1, 2, 3])
    heads = kv * rng.choice([1, 2, 4])
    head_dim = rng.choice([4, 6, 8, 10, 16, 32])
    width = heads * head_dim if rng.random() < 0.5 else heads * rng.choice([3, 5, 7, 12, 16])
    positions = rng.choice([9, 16, 33, 48, 64])
    s = dict(BARE, hidden_size=width, num_attention_heads=heads, num_key_value_heads=kv, head_dim=head_dim,
             num_hidden_layers=rng.randint(1, 5), intermediate_size=rng.choice([33, 40, 64, 100, 128]),
             vocab_size=rng.choice([50, 64, 97, 131, 256, 513]), max_position_embeddings=positions,
             rms_norm_eps=rng.choice([1e-5, 1e-6, 1e-3]), tie_word_embeddings=rng.random() < 0.5,
             rope_parameters=rope_settings(rng, head_dim, positions))
    if kind == "qwen2" and rng.random() < 0.5:  # most of its configs have no head_dim
        s["hidden_size"] = heads * head_dim
        del s["head_dim"]
    if kind in ("qwen2", "qwen3") and rng.random() < 0.3:
        s.update(use_sliding_window=True, sliding_window=rng.choice([1, 3, 8, 100]),
                 max_window_layers=rng.choice([0, s["num_hidden_layers"]]))
    if kind in ("llama", "qwen3"):
        s["attention_bias"] = rng.random() < 0.3
    if kind == "llama":
        s["mlp_bias"] = rng.random() < 0.3
    if kind == "mistral":
        s["sliding_window"] = rng.choice([None, 1, 3, 8, 100])
    return s


def settings_of(kind, rng):
    return gpt2_settings(rng) if kind == "gpt2" else llama_settings(rng, kind)


def make_model(kind, settings, seed, scale):
    """Random weights, larger than usual, so that every one of them shows."""
    if VERSION < 5 and "rope_parameters" in settings:
        settings = dict(settings)
        rope = dict(settings.pop("rope_parameters"))
        settings["rope_theta"] = rope.pop("rope_theta")
        settings["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = p.ndim == 1 and name.endswith("weight")
            p.copy_(torch.randn_like(p) * (scale if p.ndim > 1 else 0.1) + (1.0 if gain else 0.0))
    return model


def positions_of(model):
    return getattr(model.config, "n_positions", None) or model.config.max_position_embeddings


# ---- training ----

def train_settings(rng, model, precision):
    positions = positions_of(model)
    rope = model.config.model_type != "gpt2"
    context = rng.choice([positions, max(positions // 2 + 1, 2)]) if rope else positions
    lr = rng.choice([1e-4, 5e-4, 1e-3, 2e-3] if precision == "f32" else [1e-4, 5e-4, 1e-3])
    warmup = rng.choice([0, 1, 5, 20])
    return dict(steps=50, batch=rng.choice([1, 2, 3, 5, 8]), accumulate=rng.choice([1, 2, 2, 2, 3]), lr=lr,
                betas=[rng.choice([0.8, 0.9]), rng.choice([0.95, 0.99, 0.999])], eps=rng.choice([1e-8, 1e-6]),
                weight_decay=rng.choice([0.0, 0.1, 0.3]), clip_norm=rng.choice([0.1, 1.0, 5.0]), warmup=warmup,
                min_lr=rng.choice([0.0, lr / 10, lr]), schedule="cosine", optimizer="adamw", precision=precision,
                seed=rng.randint(1, 1000)), context


def make_shards(rng, folder, vocab, window):
    """One to three shards in llm.c's formats; each token follows from the one before, but for a tenth."""
    paths, shards = [], []
    for i in range(rng.randint(1, 3)):
        count = window * rng.randint(4, 30) + 1 + rng.randrange(window)
        noise = numpy.random.default_rng(rng.randrange(1 << 30))
        tokens = noise.integers(0, vocab, count)
        for t in range(1, count):
            if noise.random() < 0.9:
                tokens[t] = (tokens[t - 1] * 5 + 7) % vocab
        header = numpy.zeros(256, dtype="<i4")
        long = rng.random() < 0.3
        header[:3] = (20240801, 7, count) if long else (20240520, 1, count)
        path = folder / f"shard{i}.bin"
        path.write_bytes(header.tobytes() + tokens.astype("<u4" if long else "<u2").tobytes())
        paths.append(str(path))
        shards.append(torch.tensor(tokens))
    return paths, shards


def batches(shards, size):
    """llm.c's order: `size` + 1 tokens at a time; where fewer are left, the next shard, then around again."""
    while True:
        for shard in shards:
            for p in range(0, len(shard) - size, size):
                yield shard[p:p + size], shard[p + 1:p + size + 1]


def rate(t, step):
    if step < t["warmup"]:
        return t["lr"] * (step + 1) / t["warmup"]
    part = (step - t["warmup"]) / (t["steps"] - t["warmup"])
    return t["min_lr"] + (t["lr"] - t["min_lr"]) * 0.5 * (1 + math.cos(math.pi * part))


def train_torch(model, t, context, shards):
    parameters = list(model.parameters())
    groups = [dict(params=[p for p in parameters if p.ndim >= 2], weight_decay=t["weight_decay"]),
              dict(params=[p for p in parameters if p.ndim < 2], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=t["lr"], betas=tuple(t["betas"]), eps=t["eps"])
    stream, lines = batches(shards, t["batch"] * context), []
    for step in range(t["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = rate(t, step)
        optimizer.zero_grad()
        total = 0.0
        for _ in range(t["accumulate"]):
            inputs, targets = next(stream)
            logits = model(input_ids=inputs.view(t["batch"], context)).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets) / t["accumulate"]
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, t["clip_norm"])
        optimizer.step()
        lines.append(dict(loss=total, lr=rate(t, step), grad_norm=norm.item()))
    return lines


def train_gradus(gradus, folder, t, context, paths):
    config = dict(model=dict(context=context), init={"from": str(folder / "hf")},
                  data=dict(tokens=paths, order="sequential"), train=t, out=str(folder / "run"))
    (folder / "run.yaml").write_text(json.dumps(config))  # JSON is YAML
    done = subprocess.run([gradus, "train", str(folder / "run.yaml"), "--json", "--threads", "1"], capture_output=True,
                          text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    saved = [e["path"] for e in events if e["event"] == "saved"]
    return [e for e in events if e["event"] == "step"], saved[-1]


def relative(ours, theirs, key, floor=0.0):
    return max(abs(a[key] - b[key]) / max(abs(b[key]), floor, 1e-30) for a, b in zip(ours, theirs))


def open_checkpoint(path):
    """What transformers makes of the folder; it must miss nothing and find nothing that it does not know."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        path, attn_implementation="eager", output_loading_info=True, dtype=torch.float32)
    trouble = {k: v for k, v in info.items() if v}
    if trouble:
        raise RuntimeError(f"{path}: transformers reports {trouble}")
    stored = load_file(pathlib.Path(path) / "model.safetensors")
    state = model.state_dict()
    for name, tensor in stored.items():
        if not torch.equal(state[name].contiguous().view(torch.int32), tensor.view(torch.int32)):
            raise RuntimeError(f"{path}: {name} has other bits in transformers")
    return model


def losses_case(arguments, kind, rng, folder):
    settings = settings_of(kind, rng)
    model = make_model(kind, settings, rng.randrange(1 << 30), rng.choice([0.02, 0.1]))
    t, context = train_settings(rng, model, arguments.precision)
    model.save_pretrained(folder / "hf")
    paths, shards = make_shards(rng, folder, settings["vocab_size"], t["batch"] * context)
    ours, saved = train_gradus(arguments.program, folder, t, context, paths)
    theirs = train_torch(model.train(), t, context, shards)
    if len(ours) != t["steps"]:
        raise RuntimeError(f"{len(ours)} steps")
    loss, lr = relative(ours, theirs, "loss"), relative(ours, theirs, "lr", 1e-9)
    norm = relative(ours, theirs, "grad_norm")
    again = open_checkpoint(saved)
    weights = max((a - b).abs().max().item() for a, b in zip(again.parameters(), model.parameters()))
    falls = f"{theirs[0]['loss']:.3f} -> {theirs[-1]['loss']:.3f}"
    print(f"   loss {falls}: off by {loss:.1e}, lr {lr:.1e}, grad_norm {norm:.1e}, weights {weights:.1e}", flush=True)
    limit = LIMITS[arguments.precision]
    if not (loss <= limit and lr <= 1e-6):
        raise RuntimeError(f"off by more than {limit}")
    return loss


# ---- logits ----

def logits_case(arguments, kind, rng, folder):
    settings = settings_of(kind, rng)
    if rng.random() < 0.1:
        settings["n_positions" if kind == "gpt2" else "max_position_embeddings"] = 3000
    model = make_model(kind, settings, rng.randrange(1 << 30), rng.choice([0.1, 0.25])).eval()
    dtype = rng.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16])
    model = model.to(dtype)
    shard = rng.choice(["5GB", "10KB"])
    model.save_pretrained(folder / "hf", max_shard_size=shard)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "hf", attn_implementation="eager", dtype=torch.float32).eval()
    batch, length = rng.randint(1, 3), rng.randint(1, positions_of(model))
    ids = torch.randint(0, settings["vocab_size"], (batch, length))
    with torch.no_grad():
        theirs = model(input_ids=ids).logits
    (folder / "ids").write_bytes(ids.numpy().astype("<i4").tobytes())
    command = [arguments.program, folder / "hf", folder / "ids", folder / "logits", str(batch), str(length)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    ours = torch.from_numpy(numpy.fromfile(folder / "logits", dtype="<f4").reshape(theirs.shape))
    off = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    files = len(list((folder / "hf").glob("*.safetensors")))
    print(f"   {str(dtype)[6:]} in {files} files, [{batch},{length}]: off by {off:.1e} of the largest", flush=True)
    if not off <= LOGITS_LIMIT:
        raise RuntimeError(f"logits are off by {off:g}")
    return off


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["losses", "logits"])
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="gpt2,llama,qwen2,qwen3,mistral")
    parser.add_argument("--precision", choices=list(LIMITS), default="f32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds, worst, failures = arguments.kinds.split(","), {}, 0
    for i in range(arguments.first, arguments.first + arguments.count):
        kind, rng = kinds[i % len(kinds)], random.Random(f"{arguments.seed} {i}")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="gradus-parity-"))
        try:
            print(f"case {i}: {kind}", flush=True)
            case = losses_case if arguments.what == "losses" else logits_case
            worst[kind] = max(worst.get(kind, 0.0), case(arguments, kind, rng, folder))
        except RuntimeError as problem:
            failures += 1
            print(f"   FAILED: {problem}", flush=True)
        finally:
            shutil.rmtree(folder)
    print(f"{arguments.count} cases, {failures} failed; largest differences:",
          ", ".join(f"{kind} {off:.1e}" for kind, off in worst.items()))
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
