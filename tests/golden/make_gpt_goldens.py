#!/usr/bin/env python3
"""Writes tests/golden/gpt/NAME/: tiny transformers with random weights, made by Hugging Face transformers.

config.json and model.safetensors are what transformers saves; expected.safetensors holds ids [2,24], their logits and,
for two of them, a stream of tokens and the losses of a training run by PyTorch that reads it in order: micro-batch m
takes inputs [2,24] from token m*48 on, targets from m*48+1 on. Needs torch and transformers.

  make_gpt_goldens.py [NAME..]   writes all folders, or those
  make_gpt_goldens.py --check D  opens the exports D/NAME in transformers: weights must be the same bits as the
                                 golden's, logits equal
"""
import math
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent / "gpt"
STEPS, ACCUMULATE, BATCH, LENGTH = 50, 2, 2, 24
WARMUP, LR, MIN_LR = 5, 3e-3, 3e-4
SMALL = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40,
             vocab_size=48, max_position_embeddings=64, bos_token_id=None, eos_token_id=None)
GPT2 = dict(n_embd=24, n_layer=2, n_head=4, vocab_size=48, n_positions=LENGTH, bos_token_id=None, eos_token_id=None,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
# frequencies of head_dim 6 at theta 10000 have wavelengths 6, 135, 2916: kept, blended, divided
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=256)
LINEAR = dict(rope_type="linear", rope_theta=1000.0, factor=4.0)
MODELS = {
    "gpt2": ("gpt2", GPT2),
    "gpt2_gelu": ("gpt2", dict(GPT2, activation_function="gelu", n_inner=56, tie_word_embeddings=False)),
    "llama": ("llama", SMALL),
    "llama3": ("llama", dict(SMALL, max_position_embeddings=512, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "llama_linear": ("llama", dict(SMALL, head_dim=16, rope_parameters=LINEAR, attention_bias=True, mlp_bias=True)),
    "qwen2": ("qwen2", dict(SMALL, tie_word_embeddings=True, rms_norm_eps=1e-5)),
    "qwen3": ("qwen3", dict(SMALL, head_dim=16)),
    "llama_mlp_bias": ("llama", dict(SMALL, num_hidden_layers=1, mlp_bias=True)),
    "qwen2_window": ("qwen2", dict(SMALL, num_hidden_layers=1, head_dim=10, use_sliding_window=True, sliding_window=5,
                                   max_window_layers=0)),
    "qwen3_bias": ("qwen3", dict(SMALL, num_hidden_layers=1, head_dim=8, attention_bias=True)),
    "mistral": ("mistral", dict(SMALL, hidden_size=22, num_hidden_layers=1, head_dim=6, sliding_window=7)),
}
TRAINED = ("gpt2", "llama")


def make(kind, settings):
    config = transformers.AutoConfig.for_model(kind, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():  # larger than usual, so that every weight shows in the logits
        for name, p in model.named_parameters():
            gain = p.ndim == 1 and name.endswith("weight")
            p.copy_(torch.randn_like(p) * (0.25 if p.ndim > 1 else 0.2) + (1.0 if gain else 0.0))
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids.long()).logits.contiguous()


def factor(step):
    """The learning rate: linear warm-up, then half a cosine down to MIN_LR."""
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    return MIN_LR + (LR - MIN_LR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def train(model, stream):
    parameters = list(model.parameters())
    groups = [dict(params=[p for p in parameters if p.ndim >= 2], weight_decay=0.1),
              dict(params=[p for p in parameters if p.ndim < 2], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = factor(step)
        optimizer.zero_grad()
        total = 0.0
        for micro in range(step * ACCUMULATE, (step + 1) * ACCUMULATE):
            tokens = stream[micro * BATCH * LENGTH:(micro + 1) * BATCH * LENGTH + 1].long()
            logits = model(input_ids=tokens[:-1].view(BATCH, LENGTH)).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:]) / ACCUMULATE
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(total)
    return losses


def write(names):
    for name in names or MODELS:
        kind, settings = MODELS[name]
        torch.manual_seed(1)
        model = make(kind, settings)
        model.save_pretrained(HERE / name)
        (HERE / name / "generation_config.json").unlink(missing_ok=True)
        ids = torch.randint(0, 48, (BATCH, LENGTH), dtype=torch.int32)
        expected = dict(ids=ids, logits=logits_of(model, ids))
        if name in TRAINED:
            # each token follows from the one before, but for a tenth: there is something to learn
            stream = torch.randint(0, 48, (STEPS * ACCUMULATE * BATCH * LENGTH + 1,), dtype=torch.int32)
            for t in range(1, len(stream)):
                if torch.rand(()) < 0.9:
                    stream[t] = (stream[t - 1] * 5 + 7) % 48
            losses = train(model, stream)
            expected.update(stream=stream, losses=torch.tensor(losses, dtype=torch.float32))
            print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}")
        save_file({k: v.contiguous() for k, v in expected.items()}, HERE / name / "expected.safetensors")
        print(name, sum(f.stat().st_size for f in (HERE / name).iterdir()), "bytes")


def check(folder):
    for name in MODELS:
        want, have = load_file(HERE / name / "model.safetensors"), load_file(folder / name / "model.safetensors")
        same = want.keys() == have.keys() and all(torch.equal(want[k].view(torch.int32), have[k].view(torch.int32))
                                                  for k in want)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder / name, attn_implementation="eager", output_loading_info=True, dtype=torch.float32)
        expected = load_file(HERE / name / "expected.safetensors")
        off = (logits_of(model.eval(), expected["ids"]) - expected["logits"]).abs().max().item()
        trouble = {k: v for k, v in info.items() if v}
        weights = "weights equal" if same else "weights DIFFER"
        print(f"{name}: {type(model).__name__}, {weights}, logits off by {off:g}", trouble)
        if not same or off > 0 or trouble:
            sys.exit(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--check"]:
        check(pathlib.Path(sys.argv[2]))
    else:
        write(sys.argv[1:])
