#!/usr/bin/env python3
"""The bench models in PyTorch, timed as a peer for `gradus bench model`.

Each model is one training step: forward, cross-entropy, backward, optimizer. No clipping, no dropout, fixed synthetic
data.
Run it through run.sh, which sets the environment in which PyTorch is fastest on a CPU. On a GPU (--device cuda) gpu.py
runs it: SDPA, fused optimizers, and the fastest of eager, compiled and compiled with CUDA graphs; `blocks` compiles
each kind of block alone, where a whole large model takes minutes.
"""
import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time

CPUS = os.sched_getaffinity(0)  # before OpenMP binds this thread to one of them

import torch
import torch.nn as nn
import torch.nn.functional as F


# --- models ---------------------------------------------------------------------------------------------------

class Block(nn.Module):
    """One pre-norm GPT-2 block."""

    def __init__(self, width, heads, bias):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.norm2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, hs)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2: learned positions, tied embedding and head."""

    def __init__(self, vocab, positions, layers, heads, width, bias):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads, bias) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias)
        self.head = nn.Linear(width, vocab, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)  # (B*T, V)


class QwenBlock(nn.Module):
    """One block of Qwen 2: grouped queries with rotary positions, biases of queries, keys and values alone."""

    def __init__(self, width, heads, kv_heads, mlp):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.norm1 = nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.size)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.RMSNorm(width, eps=1e-6)
        self.gate_up = nn.Linear(width, 2 * mlp, bias=False)
        self.down = nn.Linear(mlp, width, bias=False)

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, -1, self.size).transpose(1, 2)  # (B, H + 2 Hkv, T, hs)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        y = F.scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def turn(x, cos, sin):
    """Rotary positions, the first half of a head beside the second."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Qwen(nn.Module):
    """Qwen 2: RMSNorm, rotary positions, SwiGLU, tied embedding and head."""

    def __init__(self, context, vocab, layers, heads, kv_heads, width, mlp):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(QwenBlock(width, heads, kv_heads, mlp) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocab, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        self.head.weight = self.tokens.weight
        size = width // heads
        angles = torch.outer(torch.arange(context), 1e6 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x)).flatten(0, 1)


class Residual(nn.Module):
    """A ResNet block: basic (two 3x3) or bottleneck (1x1, 3x3 with the stride, 1x1)."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = width * 4 if bottleneck else width
        shapes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        if bottleneck:
            shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        layers = []
        for i, o, k, s in shapes:
            layers += [nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        self.skip = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x), inplace=True)


def resnet(depths, bottleneck, cifar_stem, classes):
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False) if cifar_stem else nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    if not cifar_stem:
        stem.append(nn.MaxPool2d(3, 2, 1))
    body, inputs = [], 64
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for i in range(depth):
            body.append(Residual(inputs, width, 2 if stage and i == 0 else 1, bottleneck))
            inputs = width * 4 if bottleneck else width
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def lenet():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10))


class LastStateLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 256, batch_first=True)
        self.head = nn.Linear(256, 64)

    def forward(self, x):
        return self.head(self.lstm(x)[1][0][0])  # (B, 256) -> (B, 64)


def gpt2(context):
    return GPT(50304, 1024, 12, 12, 768, True)


def gpt2_xl(context):
    return GPT(50304, 1024, 48, 25, 1600, True)


def qwen(context):
    return Qwen(context, 151936, 24, 14, 2, 896, 4864)


def gpt_baby(context):
    return GPT(65, context, 6, 6, 384, False)


def gpt_small(context):
    return GPT(1024, context, 4, 4, 128, True)


# name: (build, batch, context or None, shape of one sample or None, classes, optimizer)
MODELS = {
    "gpt2-124m": (gpt2, 4, 64, None, 50304, "adamw"),
    "gpt2-1.5b": (gpt2_xl, 8, 1024, None, 50304, "adamw"),
    "qwen2.5-0.5b": (qwen, 16, 1024, None, 151936, "adamw"),
    "gpt-baby": (gpt_baby, 16, 256, None, 65, "adamw"),
    "gpt-small": (gpt_small, 16, 128, None, 1024, "adamw"),
    "mlp": (lambda _: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), 64, None, (784,), 10, "sgd"),
    "lenet": (lambda _: lenet(), 64, None, (1, 28, 28), 10, "sgd0.9"),
    "resnet18": (lambda _: resnet([2, 2, 2, 2], False, True, 10), 32, None, (3, 32, 32), 10, "sgd0.9"),
    "resnet50": (lambda _: resnet([3, 4, 6, 3], True, False, 1000), 8, None, (3, 224, 224), 1000, "sgd0.9"),
    "lstm": (lambda _: LastStateLSTM(), 32, None, (64, 64), 64, "adamw"),
}


def optimizer_for(model, kind):
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    if kind == "sgd0.9":
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)


# --- the step -------------------------------------------------------------------------------------------------

def synthetic(batch, context, shape, classes):
    """One fixed batch: (inputs, targets)."""
    g = torch.Generator().manual_seed(1)
    if context:
        ids = torch.randint(0, classes, (batch, context + 1), generator=g)
        return ids[:, :-1].contiguous(), ids[:, 1:].reshape(-1).contiguous()
    x = torch.randn((batch, *shape), generator=g)
    if len(shape) == 3:
        x = x.to(memory_format=torch.channels_last)
    return x, torch.randint(0, classes, (batch,), generator=g)


def build(o):
    """Returns (step, forward, samples or tokens in a step). step() trains once."""
    make, batch, context, shape, classes, kind = MODELS[o.model]
    torch.manual_seed(1)
    batch, context = o.batch or batch, (o.context or context) if context else None
    model = make(context).to(o.device)
    if shape and len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
    optimizer = optimizer_for(model, kind)
    x, y = (t.to(o.device) for t in synthetic(batch, context, shape, classes))

    def loss_of(x, y):
        with torch.autocast(o.device, torch.bfloat16, enabled=o.precision == "bf16"):
            return F.cross_entropy(model(x), y)

    forward = loss_of
    if o.mode == "blocks":  # one is compiled, and serves for all of a kind
        for block in model.blocks:
            block.compile(dynamic=False)
    elif o.mode != "eager":
        forward = torch.compile(loss_of, dynamic=False, mode="reduce-overhead" if o.mode == "graphs" else None)

    def step():
        if o.mode == "graphs":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()

    return step, lambda: loss_of(x, y), batch * (context or 1)


# --- measuring ------------------------------------------------------------------------------------------------

def seconds_since_process_start():
    with open("/proc/self/stat") as f:
        started = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def wait_for(device):
    if device == "cuda":
        torch.cuda.synchronize()


def resident_peak(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def best_of(repeats, call, device):
    call()
    best = float("inf")
    for _ in range(repeats):
        wait_for(device)
        t = time.perf_counter()
        call()
        wait_for(device)
        best = min(best, time.perf_counter() - t)
    return best


def machine_limits(o):
    """(FLOP/s of a multiply, copy bytes/s): 2048^3 in f32, on a GPU 8192^3 in the run's precision; 256 MiB copy, bytes
    read plus bytes written."""
    gpu = o.device == "cuda"
    n, dtype = (8192, torch.bfloat16 if o.precision == "bf16" else torch.float32) if gpu else (2048, torch.float32)
    a, b, c = (torch.ones(n, n, dtype=dtype, device=o.device) for _ in range(3))
    matmul = 2 * n ** 3 / best_of(6, lambda: torch.mm(a, b, out=c), o.device)
    source = torch.ones(64 << 20, device=o.device)
    target = torch.empty_like(source)
    return matmul, 2 * source.nbytes / best_of(6, lambda: target.copy_(source), o.device)


def count_flops(model, forward):
    """FLOPs of matmuls, convolutions and attention, forward and backward; None where they cannot be counted."""
    if model == "lstm":  # oneDNN's fused LSTM has no formula in the counter
        return None
    from torch.utils.flop_counter import FlopCounterMode
    try:
        with FlopCounterMode(display=False) as counter:
            forward().backward()
        return counter.get_total_flops()
    except Exception as e:  # an op without a formula or a fake-tensor rule
        print(f"note: no FLOP count: {e}", file=sys.stderr)
        return None


def time_steps(step, o):
    """Times up to o.steps steps after warm-up; stops early after o.seconds, with at least two timed."""
    for _ in range(o.warmup - 1):
        step()
    if o.wait:
        os.kill(os.getpid(), signal.SIGSTOP)
    times, deadline = [], time.perf_counter() + o.seconds
    while len(times) < o.steps and (len(times) < 2 or time.perf_counter() < deadline):
        t = time.perf_counter()
        step()
        wait_for(o.device)
        times.append(time.perf_counter() - t)
    return times


def measure(o):
    torch.set_num_threads(o.threads)
    step, forward, count = build(o)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision == "tf32"
    step()
    wait_for(o.device)
    first = seconds_since_process_start()
    times = time_steps(step, o)
    median, resident = statistics.median(times), resident_peak(o.device)
    matmul, copy = machine_limits(o)
    flops = count_flops(o.model, forward)
    unit = "tokens_per_s" if MODELS[o.model][2] else "samples_per_s"
    return {
        "event": "bench", "name": o.model, "ms_min": min(times) * 1e3, "ms_median": median * 1e3, unit: count / median,
        "flops_per_s": flops / median if flops else None, "planned_peak_bytes": None, "resident_bytes": resident,
        "first_step_s": first, "matmul_flops_per_s": matmul, "copy_bytes_per_s": copy,
        "peer": "pytorch", "version": torch.__version__, "device": o.device, "mode": o.mode, "precision": o.precision,
        "threads": o.threads, "steps": len(times)}


def measure_in_child(mode):
    """The same command in a fresh process with another mode; None if it fails."""
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--mode", mode, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"note: mode {mode} failed (exit {done.returncode})", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


MODES = {"cpu": ("eager", "compiled"), "cuda": ("eager", "compiled", "graphs")}


def measure_best(device):
    os.sched_setaffinity(0, CPUS)  # the children inherit it
    results = [r for r in map(measure_in_child, MODES[device]) if r]
    if not results:
        sys.exit("error: all modes failed")
    results.sort(key=lambda r: r["ms_median"])
    for r in results[1:]:
        results[0]["other"] = {k: r[k] for k in ("mode", "ms_min", "ms_median", "resident_bytes", "first_step_s")}
    return results[0]


def show(r):
    rate = "tokens_per_s" if "tokens_per_s" in r else "samples_per_s"
    print(f"{r['name']} {r['precision']}, PyTorch {r['version']}, {r['mode']}, {r['threads']} threads,"
          f" {r['steps']} steps")
    print(f"  ms per step       min {r['ms_min']:.3f}  median {r['ms_median']:.3f}")
    print(f"  {rate:17s} {r[rate]:.0f}")
    print(f"  resident peak     {r['resident_bytes'] / 1e6:.0f} MB")
    print(f"  first step after  {r['first_step_s']:.2f} s")
    achieved = f"{r['flops_per_s'] / 1e9:.1f} GFLOP/s" if r["flops_per_s"] else "unknown"
    print(f"  achieved          {achieved}  (matmul limit {r['matmul_flops_per_s'] / 1e9:.1f} GFLOP/s,"
          f" copy limit {r['copy_bytes_per_s'] / 1e9:.1f} GB/s)")


def options():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--model", choices=MODELS, required=True)
    a.add_argument("--batch", type=int)
    a.add_argument("--context", type=int)
    a.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
    a.add_argument("--device", choices=MODES, default="cpu")
    a.add_argument("--threads", type=int, default=len(CPUS))
    a.add_argument("--steps", type=int, default=50, help="timed steps")
    a.add_argument("--seconds", type=float, default=60, help="stop timing after this long")
    a.add_argument("--warmup", type=int, default=5)
    a.add_argument("--mode", choices=["eager", "compiled", "graphs", "blocks", "best"], default="best")
    a.add_argument("--wait", action="store_true", help="stop (SIGSTOP) after warm-up, for by_turns.py")
    a.add_argument("--json", action="store_true")
    return a.parse_args()


def main():
    o = options()
    result = measure_best(o.device) if o.mode == "best" else measure(o)
    print(json.dumps(result)) if o.json else show(result)


if __name__ == "__main__":
    main()
