#!/usr/bin/env python3
"""GPT-2 124M on a GPU, ours and then llm.c's, and their ratio.

Usage: llmc.py DIR [--batch B] [--context T] [--steps N]. DIR holds llm.c's sources; its train_gpt2cu is built there
with nvcc if it is not yet (its default settings: bf16, master weights in f32, no cuDNN). GRADUS is our binary, DEVICE
our device (default: build-gpu/gradus and cuda). Tokens are random, weights too (`-e d12`); one batch of validation, no
samples. The first steps of llm.c, which choose algorithms, are left out. Its sources of May 2025 (f1e2ace) need CUDA
12: 13 has another cudaMemAdvise. Standard library only.
"""
import argparse
import array
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile

# A shard of llm.c's data: 256 int32 (magic, version, tokens, zeros), then the tokens as uint16. From its
# llmc/dataloader.h.
HEADER = [20240520, 1]
VOCABULARY = 50257
STEP = re.compile(r"^step +\d+/\d+ \| loss ([0-9.]+).*\| ([0-9.]+) ms \|", re.M)
LEFT_OUT = 5


def write_shard(path, count):
    header = array.array("i", HEADER + [count] + [0] * 253)
    tokens = array.array("H", (random.randrange(VOCABULARY) for _ in range(count)))
    with open(path, "wb") as f:
        header.tofile(f)
        tokens.tofile(f)


def built(folder):
    program = folder / "train_gpt2cu"
    if not program.exists():
        done = subprocess.run(["make", "-C", folder, "train_gpt2cu", "NO_MULTI_GPU=1"], capture_output=True, text=True)
        if done.returncode or not program.exists():
            sys.exit(f"error: {folder}: train_gpt2cu was not built (sources of llm.c?)\n{done.stdout[-2000:]}"
                     f"{done.stderr[-2000:]}")
    return program.resolve()


def times_of(output):
    """Milliseconds of each step but the first ones."""
    steps = STEP.findall(output)
    if len(steps) <= LEFT_OUT:
        sys.exit(f"error: llm.c printed {len(steps)} steps, more than {LEFT_OUT} are needed\n{output[-2000:]}")
    return [float(ms) for _, ms in steps[LEFT_OUT:]]


def theirs(options):
    program = built(options.folder)
    with tempfile.TemporaryDirectory() as folder:
        shard = os.path.join(folder, "tokens.bin")
        write_shard(shard, options.batch * options.context * 4 + 1)
        command = [program, "-i", shard, "-j", shard, "-e", "d12", "-b", options.batch, "-t", options.context, "-x",
                   options.steps + LEFT_OUT, "-v", 10**6, "-m", 1, "-s", 0, "-h", 0, "-l", 1e-4]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: llm.c ended with status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    times = times_of(done.stdout)
    return {"event": "bench", "name": "gpt2-124m", "peer": "llm.c", "precision": "bf16", "ms_min": min(times),
            "ms_median": statistics.median(times), "steps": len(times)}


def ours(options):
    command = [os.environ.get("GRADUS", "build-gpu/gradus"), "bench", "model", "gpt2-124m", "--device",
               os.environ.get("DEVICE", "cuda"), "--precision", "bf16", "--batch", str(options.batch), "--context",
               str(options.context), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as e:
        sys.exit(f"error: {command[0]}: {e.strerror} (GRADUS names our binary)")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    events = [line for line in lines if line["event"] == "bench"]
    if done.returncode or not events:
        sys.exit(f"error: {' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return events[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    a, b = ours(options), theirs(options)
    for event in (a, b):
        print(json.dumps(event))
    for name, event in (("gradus", a), ("llm.c", b)):
        print(f"  {name:8s} ms min {event['ms_min']:10.3f}  median {event['ms_median']:10.3f}")
    print(f"  ours/peer: ms_median {a['ms_median'] / b['ms_median']:.3f}  ms_min {a['ms_min'] / b['ms_min']:.3f}")


if __name__ == "__main__":
    main()
