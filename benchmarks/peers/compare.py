#!/usr/bin/env python3
"""Reads `bench` events (JSON lines) of one model, ours and the peer's by turns, and prints their figures and ratio."""
import json
import statistics
import sys


def figures(events):
    """Over the rounds: the least ms_min, the median of ms_median, the median of the rest."""
    middle = lambda key: statistics.median(e[key] for e in events)
    return {"ms_min": min(e["ms_min"] for e in events), "ms_median": middle("ms_median"),
            "first_step_s": middle("first_step_s"), "resident_bytes": middle("resident_bytes"),
            "matmul_flops_per_s": middle("matmul_flops_per_s"), "rounds": [round(e["ms_median"], 3) for e in events]}


def row(name, f):
    return (f"  {name:8s} ms min {f['ms_min']:10.3f}  median {f['ms_median']:10.3f}"
            f"  first step {f['first_step_s']:7.2f} s  resident {f['resident_bytes'] / 1e6:7.0f} MB"
            f"  matmul {f['matmul_flops_per_s'] / 1e9:6.1f} GFLOP/s  rounds {f['rounds']}")


def main(path):
    with open(path) as f:
        events = [json.loads(line) for line in f if line.strip()]
    peer = [e for e in events if "peer" in e]
    ours = [e for e in events if "peer" not in e]
    if not peer or not ours:
        sys.exit("error: need lines of both sides")
    a, b = figures(ours), figures(peer)
    print(events[0]["name"])
    print(row("gradus", a))
    print(row("pytorch", b) + f"  {sorted({e['mode'] for e in peer})}")
    ratios = {key: a[key] / b[key] for key in ("ms_median", "ms_min", "first_step_s", "resident_bytes")}
    print("  ours/peer: " + "  ".join(f"{key} {ratio:.3f}" for key, ratio in ratios.items()))


if __name__ == "__main__":
    main(sys.argv[1])
