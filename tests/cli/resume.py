#!/usr/bin/env python3
"""Interrupts training in every way a machine can, and compares what comes out with a run that nobody touched.

Usage: resume.py GRADUS [--kills N] [--seed N]. Standard library only; works in a temporary folder.

A run of 200 steps is killed (SIGKILL) at random moments and resumed until it is done; stopped by Ctrl-C; hits a limit
on file sizes while it saves, as on a full disk; meets a flipped bit in its newest checkpoint. Shorter runs of other
kinds are killed once; another seed is refused. Weights and optimizer state must have the same sha256 as those of the
whole run each time. Prints one line a part; exit status 1 if one fails.
"""
import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 200
CONFIG = f"""
model: {{kind: fast, layers: 2, heads: 2, width: 32, context: 16}}
data: {{path: text.txt, tokenizer: bpe, vocab: 300}}
train: {{steps: {STEPS}, batch: 4, accumulate: 2, optimizer: muon, lr: 1.0e-2, eval_every: 40, checkpoint_every: 6,
        seed: 7}}
"""
SHORT = 30
LIMIT_S = int(os.environ.get("GRADUS_TEST_LIMIT_S", 0)) or None  # of one command; tests/CMakeLists.txt sets it
VARIANTS = {"bf16": ["train.precision=bf16"], "pure": ["train.precision=bf16-pure"], "f16": ["train.precision=f16"],
            "ema": ["train.ema=0.99"], "dropout": ["model.dropout=0.2"],
            "all": ["train.precision=bf16", "train.ema=0.9", "model.dropout=0.1", "train.accumulate=3",
                    "train.recompute=true", "model.kind=llama", "train.optimizer=adamw"]}
STATE = ("model.safetensors", "optimizer.safetensors")


class Failed(Exception):
    """A part did not end as it should; the text says how."""


def check(holds, text):
    if not holds:
        raise Failed(text)


class Bench:
    """The binary, the folder and the reference run."""

    def __init__(self, gradus, folder):
        self.gradus, self.folder = gradus, folder
        words = random.Random(1).choices(["to", "be", "or", "not", "that", "is", "the", "question"], k=4000)
        (folder / "text.txt").write_text(" ".join(words))
        (folder / "run.yaml").write_text(CONFIG)
        begin = time.monotonic()
        done = self.train("whole")
        check(done.returncode == 0, f"the whole run: {done.stderr}")
        self.seconds = time.monotonic() - begin
        self.sums = self.state("whole")

    def command(self, run):
        """How to begin the run, or to go on with it."""
        if (self.folder / run / "config.yaml").exists():
            return [self.gradus, "train", "--resume", run, "--threads", "1"]
        return [self.gradus, "train", "run.yaml", "--set", f"out={run}", "--threads", "1"]

    def start(self, run, *more, **options):
        return subprocess.Popen(self.command(run) + list(more), cwd=self.folder, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **options)

    def train(self, run, *more, **options):
        with self.start(run, *more, **options) as process:
            out, err = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def checkpoints(self, run):
        return sorted((self.folder / run / "checkpoints").glob("step-??????"))

    def state(self, run, step=STEPS):
        path = self.folder / run / "checkpoints" / f"step-{step:06d}"
        return [hashlib.sha256((path / name).read_bytes()).hexdigest() for name in STATE]

    def finish(self, run, *more):
        """Resumes to the end; the state must be that of the whole run, and each step stand once in metrics.jsonl."""
        done = self.train(run, *more)
        check(done.returncode == 0, f"{run}: exit code {done.returncode}: {done.stderr}")
        check(self.state(run) == self.sums, f"{run}: weights or optimizer state differ from the whole run's")
        left = [p.name for p in (self.folder / run).rglob("*") if ".tmp-" in p.name or p.name.endswith(".replaced")]
        check(not left, f"{run}: files of killed writers are left: {left}")
        lines = (self.folder / run / "metrics.jsonl").read_text().splitlines()
        steps = [e["step"] for e in map(json.loads, lines) if e["event"] == "step"]
        check(steps == list(range(1, STEPS + 1)), f"{run}: metrics.jsonl has {len(steps)} steps, some twice or none")

    def wait_for_steps(self, run, process, count):
        metrics = self.folder / run / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count('"step"') >= count):
            time.sleep(0.01)


def wait_at_random(bench, run, process, rng):
    """Until some steps more are made and a moment longer, so that every part of a step and of a save has its turn; or
    within the first moments, while data, plan and checkpoint are prepared."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 0.2 * bench.seconds))
        return
    metrics = bench.folder / run / "metrics.jsonl"
    made = metrics.read_text().count('"step"') if metrics.exists() else 0
    bench.wait_for_steps(run, process, made + rng.randint(1, 40))
    time.sleep(rng.uniform(0, 5 * bench.seconds / STEPS))


def kill_at_random(bench, kills, rng):
    """SIGKILL at random moments; a run that is done is compared, and another one begins."""
    number, killed, at = 0, 0, []
    while killed < kills:
        run = f"killed{number}"
        process = bench.start(run)
        wait_at_random(bench, run, process, rng)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check(process.returncode in (0, -signal.SIGKILL), f"{run}: exit code {process.returncode}")
        killed += process.returncode != 0
        saved = bench.checkpoints(run)
        at.append(int(saved[-1].name[5:]) if saved else 0)
        if process.returncode == 0:
            bench.finish(run)
            number += 1
    bench.finish(f"killed{number}")
    return f"{killed} kills, {number + 1} runs to the end; checkpoints found after them: {' '.join(map(str, at))}"


def interrupt(bench, rng):
    for name in ("SIGINT", "SIGTERM"):
        run = f"stopped-{name}"
        process = bench.start(run)
        bench.wait_for_steps(run, process, rng.randint(1, STEPS - 60))
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=LIMIT_S)
        check(process.returncode == 3, f"{name}: exit code {process.returncode}: {err}")
        check(f"gradus train --resume {run}" in out, f"{name}: does not say how to go on: {out}")
        bench.finish(run)
    return "Ctrl-C and SIGTERM save, exit with 3 and can be resumed"


def disk_full(bench):
    """Files may not grow beyond half a checkpoint's weights: what a full disk does to the writer."""
    run = "full"
    process = bench.start(run)
    bench.wait_for_steps(run, process, 20)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    before = bench.checkpoints(run)
    limit = (before[-1] / STATE[0]).stat().st_size // 2

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = bench.train(run, preexec_fn=limited)
    check(done.returncode == 1, f"{run}: exit code {done.returncode}: {done.stderr}")
    check(done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "File too large" in done.stderr
          and STATE[0] in done.stderr, f"{run}: not one clear line: {done.stderr}")
    check(bench.checkpoints(run) == before, f"{run}: checkpoints came or went: {bench.checkpoints(run)}")
    looked = subprocess.run([bench.gradus, "inspect", run], cwd=bench.folder, capture_output=True, text=True)
    check(looked.returncode == 0, f"{run}: a checkpoint is damaged: {looked.stderr}")
    bench.finish(run)
    return f"saving failed at {limit} bytes: {before[-1].name} stayed whole and was gone on from"


def flip_bits(bench, rng):
    for name in STATE:
        run = f"flipped-{name[:5]}"
        process = bench.start(run)
        bench.wait_for_steps(run, process, 30)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
        newest = bench.checkpoints(run)[-1] / name
        data = bytearray(newest.read_bytes())
        header = 8 + int.from_bytes(data[:8], "little")
        data[rng.randrange(header, len(data))] ^= 1 << rng.randrange(8)
        newest.write_bytes(data)
        done = bench.train(run)
        check(done.returncode == 2, f"{run}: exit code {done.returncode}: {done.stderr}")
        check(f"{newest.parent.name}/{name}: tensor '" in done.stderr and done.stderr.count("\n") == 1,
              f"{run}: the tensor is not named: {done.stderr}")
        bench.finish(run, "--previous")
    return "one flipped bit is refused by file and tensor; --previous goes on to the same state"


def settings(bench):
    """Runs of other kinds, killed on their way: bf16, moving average, dropout, three micro-batches a step."""
    for name, keys in VARIANTS.items():
        more = [part for key in keys for part in ("--set", key)] + ["--set", f"train.steps={SHORT}"]
        done = bench.train(f"{name}-whole", *more)
        check(done.returncode == 0, f"{name}: {done.stderr}")
        run = f"{name}-killed"
        process = bench.start(run, *more)
        bench.wait_for_steps(run, process, SHORT // 2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = bench.train(run)
        check(done.returncode == 0, f"{name}: {done.stderr}")
        check(bench.state(run, SHORT) == bench.state(f"{name}-whole", SHORT), f"{name}: the state differs")
    return f"the same state for {', '.join(VARIANTS)}"


def changed(bench):
    """Another seed is refused; with more micro-batches a step, none is read twice or left out."""
    run, steps = "changed", 12
    check(bench.train(run, "--set", f"train.steps={steps}").returncode == 0, "the run to change failed")
    more = "--set", f"train.steps={steps + 3}"
    done = bench.train(run, *more, "--set", "train.seed=8")
    check(done.returncode == 2 and "state.json: the run's train.seed was 7, is 8 now" in done.stderr,
          f"another seed: exit code {done.returncode}: {done.stderr}")
    done = bench.train(run, *more, "--set", "train.accumulate=5")
    check(done.returncode == 0, f"another accumulate: {done.stderr}")
    state = json.loads((bench.checkpoints(run)[-1] / "state.json").read_text())
    check(state["next_batch"] == 2 * steps + 5 * 3, f"next_batch is {state['next_batch']}")
    return "another seed is refused, another accumulate goes on where the data was left"


def files(folder):
    """What lies in a folder, by name, with its bytes; without the lines that a run adds each step."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*")
            if p.is_file() and p.name != "metrics.jsonl" and not p.name.startswith("events.out")}


def two_at_once(bench):
    """A run that is being written refuses a second writer and lets readers in; a killed one is free at once."""
    run = "taken"
    process = bench.start(run, "--set", "train.checkpoint_every=0", "--set", "train.eval_every=0")
    bench.wait_for_steps(run, process, 3)
    process.send_signal(signal.SIGSTOP)
    before = files(bench.folder / run)
    second = bench.train(run)
    again = subprocess.run([bench.gradus, "train", "run.yaml", "--set", f"out={run}"], cwd=bench.folder,
                           capture_output=True, text=True)
    looked = subprocess.run([bench.gradus, "inspect", run], cwd=bench.folder, capture_output=True, text=True)
    process.send_signal(signal.SIGCONT)
    check(second.returncode == 2 and second.stderr.count("\n") == 1 and f"error: {run}: another process writes to it"
          in second.stderr, f"a second --resume: exit code {second.returncode}: {second.stderr}")
    check(again.returncode == 2 and "is not empty" in again.stderr, f"a second start: {again.stderr}")
    check(looked.returncode == 0, f"inspect beside training: {looked.stderr}")
    check(files(bench.folder / run) == before, "the second writer changed files")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    bench.finish(run, "--set", "train.checkpoint_every=6", "--set", "train.eval_every=40")
    racers = [bench.start("raced") for _ in range(3)]
    codes = sorted((process.communicate()[1], process.returncode)[1] for process in racers)
    check(codes == [0, 2, 2], f"three starts of one run: exit codes {codes}")
    bench.finish("raced")
    return "a second writer is refused and touches nothing; readers are not; a kill frees the run"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gradus", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    folder = Path(tempfile.mkdtemp(prefix="gradus-resume-"))
    failed = 0
    try:
        bench = Bench(str(arguments.gradus.resolve()), folder)
        parts = (lambda: kill_at_random(bench, arguments.kills, rng), lambda: interrupt(bench, rng),
                 lambda: disk_full(bench), lambda: flip_bits(bench, rng), lambda: settings(bench),
                 lambda: changed(bench), lambda: two_at_once(bench))
        for part in parts:
            try:
                print(f"ok: {part()}", flush=True)
            except Failed as failure:
                failed = 1
                print(f"FAILED: {failure}", flush=True)
    finally:
        shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    sys.exit(main())
