#!/usr/bin/env python3
"""Holds the bench models to what their plans say of memory.

Usage: memory.py GRADUS COUNTER [--all] [MODEL...]. COUNTER is liballocations.so of the build folder. --all takes every
bench model but resnet50, a hundred steps of each (ten minutes on two cores).

For each model, in f32 and in bf16, with and without recompute: a step allocates nothing (oneDNN's allocations are
shown apart), the planned arena is used to the last byte and not beyond, and the process stays within the planned peak
plus 5% plus 40 MB. Prints one line a run; exit status 1 if one does not hold. Standard library only.
"""
import argparse
import json
import os
import re
import subprocess
import sys

FEW = ["mlp", "gpt-small", "lenet", "lstm", "resnet18"]
ALL = FEW + ["gpt-baby", "gpt2-124m"]
COUNTS = re.compile(r"^allocations: (\d+) steps, (\d+) own, (\d+) inside (\d+) primitives$", re.M)


def judge(line, counts, steps):
    """What does not hold of a run: its `bench` line and the counter's numbers."""
    wrong = []
    if int(counts[0]) != steps:
        wrong.append(f"{counts[0]} steps were counted")
    if int(counts[1]):
        wrong.append(f"{counts[1]} allocations in {steps} steps")
    if line["arena_bytes"] != line["arena_used_bytes"]:
        wrong.append(f"{line['arena_bytes']} bytes of arena planned, {line['arena_used_bytes']} used")
    if line["resident_bytes"] > 1.05 * line["planned_peak_bytes"] + 40e6:
        wrong.append("too much resident")
    return wrong


def measure(options, model, precision, recompute, steps):
    command = [options.gradus, "bench", "model", model, "--precision", precision, "--steps", str(steps), "--json"]
    environment = dict(os.environ, LD_PRELOAD=options.counter, ALLOCATIONS_STEPS=str(steps))
    done = subprocess.run(command + ["--recompute"] * recompute, capture_output=True, text=True, env=environment)
    counts = COUNTS.search(done.stderr)
    if done.returncode or not counts:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    line = json.loads(done.stdout)
    wrong = judge(line, counts.groups(), steps)
    print(f"{model:10} {precision:4} {'recompute' if recompute else '':9} {line['planned_peak_bytes'] / 1e6:8.1f} MB "
          f"planned {line['resident_bytes'] / 1e6:8.1f} resident, arena {line['arena_bytes']} planned "
          f"{line['arena_used_bytes']} used, allocations in {steps} steps {counts[2]} own, {counts[3]} inside "
          f"{counts[4]} oneDNN primitives{''.join(': ' + w for w in wrong)}", flush=True)
    return bool(wrong)


def finds():
    """What judge() is to find, it finds."""
    good = {"arena_bytes": 64, "arena_used_bytes": 64, "planned_peak_bytes": 10**8, "resident_bytes": 144 * 10**6}
    planted = [({}, (9, 0)), ({}, (10, 1)), ({"arena_used_bytes": 63}, (10, 0)),
               ({"resident_bytes": 146 * 10**6}, (10, 0))]
    if judge(good, (10, 0), 10) or not all(judge({**good, **change}, counts, 10) for change, counts in planted):
        sys.exit("memory.py does not see what it is to see")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gradus")
    parser.add_argument("counter")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    finds()
    failed = 0
    for model in options.models or (ALL if options.all else FEW):
        for precision in ("f32", "bf16"):
            for recompute in (False, True):
                failed += measure(options, model, precision, recompute, 100 if options.all else 3)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
