#!/usr/bin/env python3
"""Times gradus and PyTorch by turns of a few steps, for machines whose pace changes while one of them runs.

    by_turns.py MODEL GRADUS [--precision P] [--batch N --context T] [--mode eager|compiled|best] [--seconds S]

Both processes are there all the time; one of them is stopped (SIGSTOP) while the other works for a turn. Each turn
spoils one step, so a turn is eight steps of the slower at least, and medians are what counts, not means; the first step
is that of a short run of each alone, before. Run it through run.sh --turns, which sets PyTorch's environment. Prints
both JSON lines, and the ratios on stderr.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS_IN_A_TURN = 8


def options():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("model")
    a.add_argument("gradus")
    a.add_argument("--precision", default="f32")
    a.add_argument("--batch")
    a.add_argument("--context")
    a.add_argument("--mode", choices=["eager", "compiled", "best"], default="best")
    a.add_argument("--seconds", type=float, default=40, help="of work of each side, about")
    return a.parse_args()


def commands(o):
    """Ours, and PyTorch's but for its mode."""
    shared = ["--precision", o.precision]
    for key in ("batch", "context"):
        if getattr(o, key):
            shared += ["--" + key, getattr(o, key)]
    ours = [o.gradus, "bench", "model", o.model, "--json", *shared]
    peer = [sys.executable, os.path.join(HERE, "torch_models.py"), "--model", o.model, "--json", *shared]
    return ours, peer


def own_environment():
    """gradus runs without what was preloaded for PyTorch."""
    drop = ("LD_PRELOAD", "MALLOC_CONF", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES")
    return {k: v for k, v in os.environ.items() if k not in drop}


def event(text):
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [e for e in events if e["event"] == "bench"][-1]


def alone(command, steps, env):
    done = subprocess.run(command + steps, stdout=subprocess.PIPE, text=True, env=env, check=True)
    return event(done.stdout)


def take_turns(processes, turn):
    """Lets one process run at a time until both have ended."""
    for p in processes:
        p.send_signal(signal.SIGSTOP)
    while any(p.poll() is None for p in processes):
        for p in processes:
            if p.poll() is not None:
                continue
            p.send_signal(signal.SIGCONT)
            deadline = time.monotonic() + turn
            while p.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            if p.poll() is None:
                p.send_signal(signal.SIGSTOP)


def main():
    o = options()
    ours, peer = commands(o)
    modes = ["eager", "compiled"] if o.mode == "best" else [o.mode]
    tries = [alone(peer, ["--mode", mode, "--steps", "20", "--seconds", "8"], None) for mode in modes]
    short = [min(tries, key=lambda e: e["ms_min"]), alone(ours, ["--steps", "5"], own_environment())]
    theirs, mine = (e["ms_median"] / 1e3 for e in short)
    peer += ["--mode", short[0]["mode"]]
    turn = max(1.0, STEPS_IN_A_TURN * max(mine, theirs))
    steps = lambda each: str(max(2 * STEPS_IN_A_TURN, round(o.seconds / each)))
    with tempfile.TemporaryFile("w+") as a, tempfile.TemporaryFile("w+") as b:
        second = subprocess.Popen([*peer, "--steps", steps(theirs), "--seconds", "1e9", "--wait"], stdout=b)
        os.waitpid(second.pid, os.WUNTRACED)  # it stops itself when it is warm
        seconds = str(2 * max(o.seconds, 2 * STEPS_IN_A_TURN * mine))  # half of them stopped
        first = subprocess.Popen([*ours, "--seconds", seconds], stdout=a, env=own_environment())
        take_turns([first, second], turn)
        for f in (a, b):
            f.seek(0)
        events = [event(f.read()) for f in (b, a)]
    for e, before in zip(events, short):  # the first step of a process that is stopped meanwhile says nothing
        e["first_step_s"] = before["first_step_s"]
    lines = [json.dumps(e) for e in events]
    print("\n".join(lines), flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        f.write("\n".join(lines))
        f.flush()
        subprocess.run([sys.executable, os.path.join(HERE, "compare.py"), f.name], stdout=sys.stderr, check=True)


if __name__ == "__main__":
    main()
