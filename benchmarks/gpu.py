#!/usr/bin/env python3
"""Builds what is not built, tests and measures the CUDA backend on this machine, and writes what came out.

Needs a GPU and its driver; nvcc to build; cuBLASLt and cuDNN, the system's or those of PyTorch's pip packages (which
our processes then share, so that both sides run on the same libraries); no network. Standard library only.

Sections, each with time limits of its own, all of them together within --minutes; after build and tests in the order
that --only has them:
  build      the command, the plugin and the tests in --build
  tests      every op of the table in a process of its own, then whole models, recurrent layers, attention, the command
  sanitizer  compute-sanitizer's four tools over two trainings, beside the tests
  models     a training step of each model of the goals, and time by op of two of them
  peers      the same steps by PyTorch on the same GPU: SDPA, fused AdamW, the fastest of several modes
  first      the first step of `gradus train`, with nothing kept from earlier runs and after one
  loss       200 steps of GPT-2 124M from the same weights and data as PyTorch; two runs of ours to the bit; what that
             costs
  ops        each op by itself
  llmc       llm.c beside us, with --llmc DIR

PEERS_PYTHON is a Python that has PyTorch with CUDA (default: python3). What torch.compile makes is kept in BUILD/torch
(or where TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR say) and made while the tests run. BUILD/lib, if it is there,
holds libraries for our processes alone. --device cudasim (tests) and --device cpu (the rest) try this without a GPU on
tiny models.
"""
import argparse
import array
import concurrent.futures
import datetime
import filecmp
import glob
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PEER = os.path.join(HERE, "peers", "torch_models.py")
LOSS = os.path.join(HERE, "peers", "torch_loss.py")
SECTIONS = ["build", "tests", "sanitizer", "models", "peers", "first", "loss", "ops", "llmc"]
QUICK = "tests,models,peers"

# name: (the options that say the step, steps of ours to time, goal: our time over PyTorch's, PyTorch's modes)
MODELS = {
    "gpt2-124m": (["--batch", "32", "--context", "1024"], 30, 0.80, ["compiled", "graphs"]),
    "resnet50": (["--batch", "64"], 50, 0.90, ["compiled", "graphs"]),
    "lstm": ([], 300, 0.70, ["eager", "graphs"]),
    "qwen2.5-0.5b": (["--batch", "16", "--context", "1024"], 15, 0.80, ["compiled"]),
    "gpt2-1.5b": (["--batch", "8", "--context", "1024"], 10, 0.85, ["compiled"]),
}
# Those with attention, whose gradient is what the order of sums costs most for.
ANY_ORDER = {"gpt2-124m", "qwen2.5-0.5b", "gpt2-1.5b"}
SLOW_TO_COMPILE = "gpt2-1.5b"  # whole it may take minutes; then one block is compiled for all
TINY = {"gpt-small": (["--batch", "1", "--context", "16"], 3, 1.0, ["eager"]),
        "lstm": (["--batch", "2"], 3, 1.0, ["eager"])}
PROFILED = ["gpt2-124m", "resnet50", "gpt-small"]

# Test programs beside the ops: (name of the executable, without cuDNN, seconds)
PROGRAMS = [("train", False, 90), ("nets", False, 90), ("attention", False, 90), ("attention", True, 90),
            ("recurrent", False, 60), ("command", False, 90)]
TARGETS = ["gradus_cli"] + [f"test_cudasim_{p}" for p in ["kernels", *sorted({p[0] for p in PROGRAMS})]]


# --- processes -----------------------------------------------------------------------------------------------------

class Run:
    """What is asked for, where things lie, and until when."""

    def __init__(self, o):
        self.o = o
        self.start = time.monotonic()
        self.ours = dict(os.environ, GRADUS_TEST_DEVICE=o.device, GRADUS_CACHE_DIR="",  # nothing kept of earlier runs
                         GRADUS_PLUGIN_DIR=os.path.join(o.build, "tests" if o.device == "cudasim" else "engine"))
        self.peer = {"TORCHINDUCTOR_CACHE_DIR": os.path.join(o.build, "torch", "inductor"),
                     "TRITON_CACHE_DIR": os.path.join(o.build, "torch", "triton"), **os.environ}
        packages = sorted(glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "nvidia", "*", "lib")))
        folders = [f for f in [os.path.join(o.build, "lib")] + packages if os.path.isdir(f)]
        folders.append(os.environ.get("LD_LIBRARY_PATH", ""))
        self.ours["LD_LIBRARY_PATH"] = ":".join(f for f in folders if f)
        self.gradus = os.path.join(o.build, "gradus")
        self.log = open(o.build + ".gpu.log", "a")
        self.gpu = o.device.startswith("cuda") and o.device != "cudasim"
        known = MODELS if self.gpu else TINY
        self.models = {name: known[name] for name in o.models or known}
        self.torch_device = "cuda" if self.gpu else "cpu"
        self.measured = {}  # our step of each model
        self.compiled = None  # what torch.compile has made, by name and mode, once it has been asked

    def left(self):
        return self.o.minutes * 60 - (time.monotonic() - self.start)

    def wants(self, section):
        return section in self.o.only

    def say(self, text):
        print(f"[{time.monotonic() - self.start:4.0f} s] {text}", flush=True)

    def call(self, command, limit, env=None, cwd=ROOT):
        """(exit status, 124 where it was cut off; stdout; stderr)."""
        limit = min(limit, self.left())
        if limit < 3:
            return 125, "", "no time was left for it"
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       errors="replace", env=env or self.ours, cwd=cwd, start_new_session=True)
        except OSError as e:
            return 127, "", f"error: {e}"
        try:
            out, err = process.communicate(timeout=limit)
            status = process.returncode
        except subprocess.TimeoutExpired:
            kill_all(process.pid)
            out, err = process.communicate()
            status, err = 124, f"cut off after {limit:.0f} s\n" + err
        self.log.write(f"== {' '.join(command)}: {status}\n{out}{err}\n")
        self.log.flush()
        return status, out, err


def kill_all(pid):
    """The process and all below it: Criterion's and compute-sanitizer's children have groups of their own, and what is
    left of them would run on beside what is measured next."""
    parents = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(stat) as f:
                own, rest = f.read().rsplit(")", 1)
        except OSError:  # it has ended
            continue
        parents.setdefault(int(rest.split()[1]), []).append(int(own.split()[0]))
    below = [pid]
    for one in below:  # which grows
        below += parents.get(one, [])
    for one in below:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass


def last_json(text, event=None):
    """The last line of JSON, of that kind of event."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            found = json.loads(line)
            if event is None or found.get("event") == event:
                return found
    return None


def why(out, err):
    """One line of what went wrong."""
    lines = [line.strip() for line in (err + "\n" + out).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(("error", "cut off", "no time"))]
    theirs = [line for line in lines if "Error" in line]  # the last of a traceback
    return (ours[:1] or theirs[-1:] or lines[-1:] or ["it said nothing"])[0][:200]


# --- the page ------------------------------------------------------------------------------------------------------

class Page:
    """DATE.md and DATE.jsonl, written anew after every section: what was measured is there if the rest is cut off."""

    def __init__(self, run):
        self.run = run
        day = datetime.date.today().isoformat()
        os.makedirs(run.o.out, exist_ok=True)
        self.path = os.path.join(run.o.out, day)
        self.text, self.lines, self.failed = [header(run, day)], [], False

    def title(self, text):
        self.text.append(f"\n## {text}\n")

    def say(self, text):
        self.text.append(text + "\n")
        self.run.say(text)

    def table(self, columns, rows):
        rows = [[str(c).replace("|", "\\|") for c in row] for row in rows]
        lines = ["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows]]
        self.text.append("\n".join(lines) + "\n")
        for row in rows:
            print("  " + "  ".join(row), flush=True)

    def block(self, text):
        self.text.append(f"```\n{text.rstrip()}\n```\n")

    def keep(self, event):
        self.lines.append(json.dumps(event))

    def fail(self, text):
        self.failed = True
        self.say(text)

    def write(self):
        for suffix, lines in ((".md", self.text), (".jsonl", self.lines)):
            with open(self.path + suffix, "w") as f:
                f.write("\n".join(lines) + ("\n" if lines else ""))


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
        return done.stdout.strip().split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        return ""


def header(run, day):
    name, driver, limit = (first_line(["nvidia-smi", f"--query-gpu={q}", "--format=csv,noheader"])
                           for q in ("name", "driver_version", "power.limit"))
    _, out, _ = run.call([run.gradus, "doctor", "--device", run.o.device, "--json"], 30)
    kind = (last_json(out) or {}).get("device") or run.o.device
    commit = first_line(["git", "rev-parse", "--short", "HEAD"])
    return (f"# {name or run.o.device}, {day}\n\n`{kind}`, driver {driver or 'none'}, power limit "
            f"{limit or 'unknown'}; commit {commit or 'unknown'}.\n")


# --- sections ------------------------------------------------------------------------------------------------------

def build(run):
    o = run.o
    plugin = "gradus_cudasim" if o.device == "cudasim" else "gradus_cuda"
    configure = ["cmake", "-S", ROOT, "-B", o.build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                 "-DCMAKE_CUDA_ARCHITECTURES=native"]
    for command in (configure, ["ninja", "-C", o.build, plugin, *TARGETS]):
        status, out, err = run.call(command, 600, dict(os.environ))
        if status:
            sys.exit(f"error: {' '.join(command)}: exit status {status}\n{(out + err)[-3000:]}")


def ops():
    with open(os.path.join(ROOT, "engine", "ops", "ops.def")) as f:
        return re.findall(r"^GRDI_OP\((\w+)\)", f.read(), re.M)


def checks_of(run):
    """What tests and sanitizer consist of: (section, name, command, seconds, environment)."""
    tests, checks = os.path.join(run.o.build, "tests", "test_cudasim_"), []
    end = ["--short-filename", "-j1"]
    if run.wants("tests"):
        for name, without, limit in PROGRAMS:
            env = dict(run.ours, **({"GRADUS_WITHOUT_CUDNN": "1"} if without else {}))
            checks.append(("tests", name + (" without cuDNN" if without else ""), [tests + name, *end], limit, env))
    if run.wants("sanitizer"):
        # Ours alone: racecheck and synccheck take wgmma's barriers in cuDNN's kernels for faults.
        own = dict(run.ours, GRADUS_WITHOUT_CUDNN="1")
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            for name, only in (("train", "bf16_follows_cpu"), ("nets", "f32_follows_cpu")):
                checks.append(("sanitizer", f"{tool} {name}/{only}", [
                    "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "3",
                    tests + name, "--filter", f"cudasim_{name}/{only}", *end], 200, own))
    if run.wants("tests"):
        for op in ops() + ["large"]:
            ways = [{}, {"GRADUS_WITHOUT_CUDNN": "1"}] if op.startswith("convolution") else [{}]
            for way in ways:
                env = dict(run.ours, GRADUS_TEST_OP=op, **way)
                checks.append(("tests", op + (" without cuDNN" if way else ""), [tests + "kernels", *end], 60, env))
    if not run.gpu:  # the simulator has compute-sanitizer's place, and ops take their time
        checks = [c for c in checks if c[0] == "tests" and (c[1] in ("add", "softmax", "large", "recurrent"))]
    return checks


def first_failure(out, err, status):
    """The first thing that a Criterion program or a sanitizer complains of."""
    said = [re.sub(r"^\[-+\]\s*", "", line).strip() for line in (err + "\n" + out).splitlines()]
    for i, line in enumerate(said):
        if line.startswith("========= ") and not re.search(r"COMPUTE-SANITIZER|ERROR SUMMARY: 0", line):
            return line[10:200]
        if line.endswith("Assertion Failed"):
            rest = [s for s in said[i + 1:] if s]
            return re.sub(r", cuda [^:]*:", ":", rest[0] if rest else line)[:240]  # the device's name is the page's
        if "crashes" in line or "CRASH" in line:
            return line[:200]
    return why(out, err) if status else ""


def check(run, one):
    _, _, command, limit, env = one
    status, out, err = run.call(command, limit, env)
    return one, status, out, err


def tests_and_sanitizer(run, page):
    checks = checks_of(run)
    with concurrent.futures.ThreadPoolExecutor(run.o.jobs) as pool:
        done = list(pool.map(lambda one: check(run, one), checks))
    for section in ("tests", "sanitizer"):
        mine = [d for d in done if d[0][0] == section]
        if not mine:
            continue
        bad = [d for d in mine if d[1]]
        page.title(section)
        (page.fail if bad else page.say)(f"{section}: {len(mine) - len(bad)} of {len(mine)} pass")
        if bad:
            page.table(["failed", "exit status", "first message"],
                       [[one[1], status, first_failure(out, err, status)] for one, status, out, err in bad])
        followed = [line for d in mine for line in (d[2] + d[3]).splitlines() if re.search(r"within .* of cpu", line)]
        if followed and section == "tests":
            page.block("\n".join(followed))
        for one, status, out, err in mine:
            page.keep({"event": "check", "section": section, "name": one[1], "status": status,
                       "message": first_failure(out, err, status)})


def bench(run, name, *more, limit=60):
    options, steps, _, _ = run.models[name]
    return run.call([run.gradus, "bench", "model", name, "--device", run.o.device, "--precision", "bf16", *options,
                     "--steps", str(steps), *more], limit)


def any_order(run, page, name):
    """Milliseconds of the same step where cuDNN may add in an order that differs from run to run, as PyTorch does."""
    e = name in ANY_ORDER and last_json(bench(run, name, "--nondeterministic", "--json")[1], "bench")
    if not e:
        return None
    page.keep(dict(e, nondeterministic=True))
    return e["ms_median"]


def models(run, page):
    found, rows = run.measured, []
    page.title("models")
    for name in run.models:
        status, out, err = bench(run, name, "--json")
        e = last_json(out, "bench")
        if status or not e:
            page.fail(f"{name}: {why(out, err)}")
            continue
        found[name] = e
        page.keep(e)
        e["any_order_ms"] = loose = any_order(run, page, name)
        rows.append([name, " ".join(run.models[name][0]), f"{e['ms_median']:.2f}", f"{e['ms_min']:.2f}",
                     f"{loose:.2f}" if loose else "", f"{e['predicted_step_ms']:.2f}",
                     f"{e.get('tokens_per_s', e.get('samples_per_s')):,.0f}",
                     f"{e['flops_per_s'] / 1e12:.0f}", f"{e['flops_per_s'] / e['matmul_flops_per_s']:.0%}",
                     f"{e['planned_peak_bytes'] / 1e9:.1f}", f"{e['first_step_s']:.1f}"])
    page.table(["bf16", "step of", "ms median", "ms least", "ms, any order", "ms predicted", "tokens or samples/s",
                "TFLOP/s", "of products' rate", "GB planned", "first step, s"], rows)
    for name in [n for n in PROFILED if n in found]:
        status, out, err = bench(run, name, "--steps", "5", f"--profile={run.o.build}/{name}.profile.json")
        page.text.append(f"{name}, time by op (with waits between launches, so that a step takes longer):\n")
        page.block("\n".join(line for line in err.splitlines()[:24]) if not status else why(out, err))


def torch_step(run, name, mode, *more, limit=90):
    return run.call([sys.executable, PEER, "--model", name, *run.models[name][0], "--device", run.torch_device,
                     "--precision", "bf16", "--mode", mode, "--json", *more], limit, run.peer)


def compile_all(run):
    """Fills torch.compile's caches; what has compiled, by name and mode."""
    chains = [[n for n in run.models if n not in ("gpt2-1.5b", "qwen2.5-0.5b")],
              [n for n in run.models if n in ("gpt2-1.5b", "qwen2.5-0.5b")]]

    def chain(names):
        done = set()
        for name in names:
            for mode in [m for m in run.models[name][3] if m == "compiled"]:
                limit = run.o.compile_limit if name == SLOW_TO_COMPILE else 150
                if torch_step(run, name, mode, "--steps", "2", "--warmup", "1", "--seconds", "1", limit=limit)[0] == 0:
                    done.add((name, mode))
        return done

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return set().union(*pool.map(chain, chains))


def modes_of(run, name):
    """PyTorch's modes to be tried; a model that did not compile in time is compiled by its blocks."""
    modes = run.models[name][3][:1 if run.o.quick else None]
    if name == SLOW_TO_COMPILE and run.compiled is not None and (name, "compiled") not in run.compiled:
        return ["blocks"]
    return modes


def peers(run, page):
    page.title("peers")
    ours, rows = run.measured, []
    for name in run.models:
        if name not in ours:
            ours[name] = last_json(bench(run, name, "--json")[1], "bench")
            if ours[name]:
                page.keep(dict(ours[name]))
                ours[name]["any_order_ms"] = any_order(run, page, name)
        steps = []
        for mode in modes_of(run, name):
            status, out, err = torch_step(run, name, mode, "--seconds", "3", limit=90)
            e = last_json(out, "bench")
            if status or not e:
                page.say(f"PyTorch, {name}, {mode}: {why(out, err)}")
                continue
            page.keep(e)
            page.write()
            steps.append(e)
        if not steps or not ours[name]:
            page.fail(f"{name}: nothing to compare")
            continue
        best, mine, goal = min(steps, key=lambda e: e["ms_median"]), ours[name], run.models[name][2]
        ratios = [ms / best["ms_median"] for ms in (mine["ms_median"], mine.get("any_order_ms")) if ms]
        met = "yes" if ratios[0] <= goal else "in any order" if ratios[-1] <= goal else "no"
        others = ", ".join(f"{e['mode']} {e['ms_median']:.2f}" for e in steps if e is not best)
        rows.append([name, " ".join(run.models[name][0]), f"{mine['ms_median']:.2f}", f"{best['ms_median']:.2f}",
                     best["mode"] + (f" ({others})" if others else ""), f"{ratios[0]:.3f}",
                     f"{ratios[1]:.3f}" if len(ratios) > 1 else "", f"{goal:.2f}", met,
                     f"{mine['first_step_s']:.1f} / {best['first_step_s']:.1f}",
                     f"{mine['planned_peak_bytes'] / 1e9:.1f} / {best['resident_bytes'] / 1e9:.1f}"])
    page.table(["bf16", "step of", "ours, ms", "PyTorch, ms", "its mode", "ratio", "ratio, any order", "goal", "met",
                "first step, s", "GB"], rows)


def write_shard(path, count):
    """Random tokens below 50,000 in llm.c's format."""
    with open(path, "wb") as f:
        array.array("i", [20240520, 1, count] + [0] * 253).tofile(f)
        array.array("H", (random.randrange(50000) for _ in range(count))).tofile(f)


# A step of GPT-2 124M, and its stand-in without a GPU: (settings of the model, batch)
FIRST = ({"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocab": 50304}, 32)
FIRST_TINY = ({"layers": 2, "heads": 2, "width": 32, "context": 16, "vocab": 50304}, 2)


def first(run, page):
    """The first step of `gradus train`, from the start of the process until it says the loss."""
    page.title("first")
    model, batch = FIRST if run.gpu else FIRST_TINY
    rows = []
    with tempfile.TemporaryDirectory(dir=run.o.build) as folder:
        write_shard(f"{folder}/train.bin", batch * model["context"] + 1)
        with open(f"{folder}/config.yaml", "w") as f:
            f.write(f"model: {json.dumps({'kind': 'gpt2', **model})}\ndata: {{tokens: [{folder}/train.bin]}}\n"
                    f"train: {{steps: 1, batch: {batch}, precision: bf16}}\n")
        for what, goal in (("cold", 10), ("warm", 3)):
            took, problem = first_step(run, folder, what)
            rows.append([what, f"{took:.2f}" if took else problem, goal, "yes" if took and took < goal else "no"])
            page.keep({"event": "first", "what": what, "seconds": took})
            page.failed |= not took
    page.table([f"GPT-2 124M, bf16, batch {batch} of {model['context']}", "first step, s", "goal", "met"], rows)


def first_step(run, folder, what):
    command = [run.gradus, "train", f"{folder}/config.yaml", "--device", run.o.device, "--set", f"out={folder}/{what}",
               "--json"]
    begin, took = time.monotonic(), None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                          env=dict(run.ours, GRADUS_CACHE_DIR=f"{folder}/cache")) as process:
        stop = threading.Timer(max(1, min(60, run.left())), process.kill)
        stop.start()
        for line in process.stdout:
            if took is None and '"event":"step"' in line:
                took = time.monotonic() - begin
        err = process.stderr.read()
        stop.cancel()
    run.log.write(f"== {' '.join(command)}\n{err}\n")
    return took, why("", err)


def train_beside(run, folder, what, *more):
    """Losses of a run of ours from what torch_loss.py has left there, and its mean milliseconds a step."""
    status, out, err = run.call([run.gradus, "train", f"{folder}/config.yaml", "--device", run.o.device, "--set",
                                 f"out={folder}/{what}", *more, "--json"], 90,
                                dict(run.ours, GRADUS_CACHE_DIR=f"{folder}/cache"))
    steps = [json.loads(line) for line in out.splitlines() if line.startswith('{"event":"step"')]
    if status or not steps:
        return None, None, why(out, err)
    late = steps[len(steps) // 2:]  # results come as the host meets them, now and then two at once: the mean counts
    return [e["loss"] for e in steps], statistics.mean(e["time_ms"] for e in late), ""


def furthest(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def same_weights(folder, a, b):
    paths = [sorted(glob.glob(f"{folder}/{run}/checkpoints/*/model.safetensors"))[-1:] for run in (a, b)]
    return bool(paths[0] and paths[1]) and filecmp.cmp(paths[0][0], paths[1][0], shallow=False)


def loss(run, page):
    page.title("loss")
    options = [] if run.gpu else ["--model", "gpt-small", "--steps", "30", "--batch", "2", "--context", "32"]
    with tempfile.TemporaryDirectory(dir=run.o.build) as folder:
        status, out, err = run.call([sys.executable, LOSS, folder, "--device", run.torch_device, *options], 90,
                                    run.peer)
        theirs = last_json(out, "losses")
        if status or not theirs:
            return page.fail(f"PyTorch: {why(out, err)}")
        page.keep(theirs)
        runs = {}
        for what, more in (("ours", []), ("again", []), ("any order", ["--set", "train.deterministic=false"])):
            losses, ms, problem = runs[what] = train_beside(run, folder, what.replace(" ", "-"), *more)
            if not losses:
                return page.fail(f"{what}: {problem}")
            page.keep({"event": "losses", "name": what, "ms_mean": ms, "losses": losses})
        bits = runs["ours"][0] == runs["again"][0] and same_weights(folder, "ours", "again")
    mine, reference = (runs["ours"][0], min(runs["ours"][1], runs["again"][1])), theirs["losses"]
    page.say(f"{theirs['name']}, {theirs['precision']}, batch {theirs['batch']} of {theirs['context']}, "
             f"{len(reference)} steps from the same weights and data.")
    show_loss(page, mine, runs["any order"], reference, bits)


def show_loss(page, mine, any_order, reference, bits):
    off, cost = furthest(mine[0], reference), mine[1] / any_order[1] - 1
    yes = {True: "yes", False: "no"}
    marks = sorted({0, len(reference) // 10, len(reference) // 4, len(reference) // 2, len(reference) - 1})
    page.table(["step", *(str(i + 1) for i in marks)],
               [["ours", *(f"{mine[0][i]:.5f}" for i in marks)],
                ["PyTorch", *(f"{reference[i]:.5f}" for i in marks)]])
    page.table(["what", "figure", "goal", "met"],
               [["largest difference of a step's loss from PyTorch's", f"{off:.3%}", "1%", yes[off < 0.01]],
                ["two runs give the same losses and weights", yes[bits], "to the bit", yes[bits]],
                ["any order of sums: difference from PyTorch's", f"{furthest(any_order[0], reference):.3%}", "", ""],
                ["a step; in any order of sums", f"{mine[1]:.2f} ms; {any_order[1]:.2f} ms", "", ""],
                ["what the same bits cost", f"{cost:.1%}", "", ""]])
    page.failed |= not bits or off >= 0.01


def single_ops(run, page):
    page.title("ops")
    status, out, err = run.call([run.gradus, "bench", "op", "--device", run.o.device, "--json"], 90)
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    for e in events:
        page.keep(e)
    if status:
        page.fail(f"bench op: {why(out, err)}")
    samples = [e for e in events if e["event"] == "bench_op"]
    large = sorted((e for e in samples if e["bytes_per_s"] * e["ms"] > 4e9), key=lambda e: e["limit_part"])
    page.say(f"{len(samples)} samples; those that move more than 4 MB, which mostly lie in the second-level cache, "
             "beside the limit of memory or of products:")
    page.table(["op", "inputs", "ms", "GB/s", "GFLOP/s", "of limit"],
               [[e["op"], e["inputs"], f"{e['ms']:.4f}", f"{e['bytes_per_s'] / 1e9:.0f}",
                 f"{e['flops_per_s'] / 1e9:.0f}", f"{e['limit_part']:.0%}"] for e in large])


def llmc(run, page):
    page.title("llmc")
    status, out, err = run.call([sys.executable, os.path.join(HERE, "peers", "llmc.py"), run.o.llmc], 150,
                                dict(run.ours, GRADUS=run.gradus, DEVICE=run.o.device))
    page.block(out[-3000:] if not status else why(out, err))


# --- all of it -----------------------------------------------------------------------------------------------------

def options():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--only", help=f"of {','.join(SECTIONS)} (default: all; llmc with --llmc)")
    a.add_argument("--quick", action="store_true", help=f"{QUICK}, with one mode of PyTorch a model, in 4 minutes")
    a.add_argument("--models", help=f"of {','.join(MODELS)} (default: all)")
    a.add_argument("--device", default="cuda", help="cuda (default), cuda:1; cudasim or cpu: without a GPU")
    a.add_argument("--out", help="where DATE.md and DATE.jsonl go (default: benchmarks/results/NAME OF THE GPU)")
    a.add_argument("--build", default="build-gpu", help="the build folder (default: build-gpu)")
    a.add_argument("--minutes", type=float, help="for all of it (default: 9, --quick: 4)")
    a.add_argument("--jobs", type=int, default=max(2, min(12, (os.cpu_count() or 2) - 3)), help="tests at a time")
    a.add_argument("--compile-limit", type=float, default=150, help=f"seconds for compiling {SLOW_TO_COMPILE} whole")
    a.add_argument("--llmc", help="llm.c's sources, to be built and run beside us")
    o = a.parse_args()
    o.only = (o.only or (QUICK if o.quick else ",".join(SECTIONS))).split(",")
    unknown = set(o.only) - set(SECTIONS)
    if unknown:
        a.error(f"--only: '{unknown.pop()}' is not one of {','.join(SECTIONS)}")
    o.models = o.models and o.models.split(",")
    if not set(o.models or []) <= {*MODELS, *TINY}:
        a.error(f"--models: not of {','.join(MODELS)}: {','.join(set(o.models) - {*MODELS, *TINY})}")
    o.minutes = o.minutes or (4 if o.quick else 9)
    o.build = os.path.abspath(os.path.join(ROOT, o.build))
    gpu = first_line(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    o.out = o.out or os.path.join(HERE, "results", re.sub("[ /]", "-", gpu or o.device))
    return o


def has_torch(run):
    test = "import sys, torch; sys.exit(not torch.cuda.is_available())" if run.gpu else "import torch"
    return run.call([sys.executable, "-c", test], 60, run.peer)[0] == 0


section_functions = {"models": models, "peers": peers, "first": first, "loss": loss, "ops": single_ops, "llmc": llmc}


def main():
    o = options()
    os.makedirs(o.build, exist_ok=True)
    run = Run(o)
    if run.wants("build"):
        run.say(f"build in {o.build}")
        build(run)
    page = Page(run)
    with_torch = (run.wants("peers") or run.wants("loss")) and has_torch(run)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        compiles = with_torch and run.wants("peers") and run.wants("tests")
        compiling = beside.submit(compile_all, run) if compiles else None
        if run.wants("tests") or run.wants("sanitizer"):
            run.say("tests")
            tests_and_sanitizer(run, page)
            page.write()
        if compiling:
            run.say("waiting for torch.compile")
            run.compiled = compiling.result()
    possible = {"peers": with_torch, "loss": with_torch, "llmc": bool(o.llmc)}
    for section in [s for s in o.only if s in section_functions and possible.get(s, True)]:
        run.say(section)
        section_functions[section](run, page)
        page.write()
    page.say(f"All of it took {time.monotonic() - run.start:.0f} s.")
    page.write()
    print(f"wrote {page.path}.md and {page.path}.jsonl")
    sys.exit(page.failed)


if __name__ == "__main__":
    main()
