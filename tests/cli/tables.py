#!/usr/bin/env python3
"""Tables by the command: coefficients against statsmodels and scikit-learn (golden/tables), then what a user does.

Usage: tables.py GRADUS [--show].
"""
import csv
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

GRADUS, SHOW = Path(sys.argv[1]).resolve(), "--show" in sys.argv
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tables"
TOLERANCE = {"linear": 1e-5, "logistic": 1e-4}
failures = []


def check(condition, what):
    if not condition:
        failures.append(what)
        print("FAILED:", what)


def gradus(*arguments, folder):
    ran = subprocess.run([str(GRADUS), *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=120)
    if SHOW:
        print("$ gradus", *arguments, ran.stdout, ran.stderr, sep="\n")
    return ran


def train(folder, out, *arguments):
    """The events of a run."""
    ran = gradus("train", "--json", "--set", f"out={out}", *arguments, folder=folder)
    check(ran.returncode == 0, f"{out}: {ran.stdout}{ran.stderr}")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def last_eval(events):
    return [e for e in events if e["event"] == "eval"][-1]


def notes(events):
    return "\n".join(e["text"] for e in events if e["event"] == "note")


def coefficients(folder, run):
    """Values by (class, column, category or "missing"); a line of text shows each one, too."""
    ran = gradus("inspect", run, "--json", folder=folder)
    check(ran.returncode == 0, f"inspect {run}: {ran.stderr}")
    rows = json.loads(ran.stdout)["coefficients"]
    shown = gradus("inspect", run, folder=folder).stdout
    lines = [line.split("  for ") for line in shown.splitlines() if line.startswith("  ")][-len(rows):]
    for r, line in zip(rows, lines, strict=True):
        name = r["column"] + (f"={r['category']}" if "category" in r else "") + " (missing)" * ("missing" in r)
        check(line[0] == f"  {name:32} {r['value']:14.8g}" and line[1:] == ([r["class"]] if "class" in r else []), line)
    return {(r.get("class"), r["column"], r.get("category", "missing" if r.get("missing") else None)): r["value"]
            for r in rows}


def compare(case, number, folder):
    run = f"golden{number}"
    train(folder, run, "--data", GOLDEN / case["table"], "--target", case["target"], "--model", case["model"],
          "--set", "data.validation_part=0", "--set", f"train.l2={case['l2']}")
    own = coefficients(folder, run)
    if case["by"].endswith("MNLogit"):  # against the first class, as there
        first = sorted({c for c, _, _ in own})[0]
        own = {(c, *rest): v - own[(first, *rest)] for (c, *rest), v in own.items() if c != first}
    worst = 0
    for r in case["coefficients"]:
        value = own[(r.get("class"), r["column"], None)]
        worst = max(worst, abs(value - r["value"]) / abs(r["value"]))
    print(f"{case['table']:24} {case['by']:52} {len(own):3} coefficients, largest relative difference {worst:.1e}")
    check(len(own) == len(case["coefficients"]), f"{case['table']}: {len(own)} coefficients")
    check(worst < TOLERANCE[case["model"]], f"{case['table']}: {worst}")


def write(path, header, rows):
    with open(path, "w", newline="") as f:
        csv.writer(f).writerows([header, *rows])


def made_table(folder):
    """y = 3 + 2 x - 5 (red) + 1 (green); x is missing in some rows, where y does without it."""
    random.seed(7)
    rows = []
    for i in range(300):
        x, colour = random.choice([round(random.uniform(-4, 9), 2), ""]), random.choice(["blue", "green", "red"])
        y = 3 + 2 * (x or 0) - 5 * (colour == "red") + (colour == "green")
        day = f"2026-01-{1 + i % 28:02}"
        rows.append([i + 1, x, colour, "same", f"name {i}", day, y, "high" if y > 4 else "low"])
    write(folder / "made.csv", ["id", "x", "colour", "constant", "name", "day", "y", "level"], rows)
    return rows


def linear_with_everything(folder):
    events = train(folder, "made", "--data", "made.csv", "--target", "y", "--set", "data.ignore=[level]")
    said = notes(events)
    for words in ["target 'y': a number", "model: linear, as 240 rows are few",
                  "column 'id': a different whole number",
                  "column 'x': ", "values are missing", "column 'constant': is the same", "column 'name': 240 diff",
                  "days since 1970", "differences from 'blue'", "240 rows to learn from, 60 held out"]:
        check(words in said, f"notes lack '{words}': {said}")
    c = coefficients(folder, "made")
    check(abs(c[(None, "x", None)] - 2) < 1e-6 and abs(c[(None, "colour", "red")] + 5) < 1e-6, c)
    check(abs(c[(None, "colour", "green")] - 1) < 1e-6 and abs(c[(None, "day", None)]) < 1e-6, c)
    evaluation = last_eval(events)
    check(evaluation["rmse"] < 1e-3 and evaluation["r2"] > 0.999999 and evaluation["baseline_rmse"] > 3, evaluation)
    again = json.loads(gradus("eval", "made", "--json", folder=folder).stdout)
    check(again["rmse"] == evaluation["rmse"] and again["samples"] == 60, again)
    whole = json.loads(gradus("eval", "made", "--data", "made.csv", "--json", folder=folder).stdout)
    check(whole["samples"] == 300 and whole["rmse"] < 1e-3, whole)
    report = (folder / "made/report.html").read_text()
    for words in ["<h2>Coefficients</h2>", "<td>colour=red</td><td>-5</td>", "<th>rows/s</th>"]:
        check(words in report, f"report.html lacks '{words}'")


def predictions(folder, rows):
    write(folder / "new.csv", ["colour", "x", "day", "extra"],
          [["red", 1, "2026-01-05", "?"], ["blue", "", "2026-01-06", 1], ["violet", 2.5, "2026-01-07", ""]])
    ran = gradus("predict", "made", "new.csv", folder=folder)
    lines = list(csv.DictReader(ran.stdout.splitlines()))
    check([abs(float(l["prediction"]) - want) < 1e-3 for l, want in zip(lines, [0, 3, 8])] == [True] * 3, ran.stdout)
    check("column 'colour': 1 rows have a category" in ran.stderr, ran.stderr)
    train(folder, "level", "--data", "made.csv", "--target", "level", "--set", "data.ignore=[y]",
          "--set", "train.l2=1e-4")
    ran = gradus("predict", "level", "made.csv", "--json", folder=folder)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    right = sum(p["prediction"] == r[-1] for p, r in zip(said, rows))
    check(len(said) == 300 and right > 280 and all(0.5 <= p["probability"] <= 1 for p in said), f"{right} right")
    whole = json.loads(gradus("eval", "level", "--data", "made.csv", "--json", folder=folder).stdout)
    check(abs(whole["accuracy"] * 300 - right) < 0.5 and whole["auc"] > 0.95, whole)


def networks_and_resume(folder):
    random.seed(3)
    rows = [[a, b, round(a * b + random.gauss(0, 0.01), 4)] for a, b in
            ((round(random.uniform(-2, 2), 3), round(random.uniform(-2, 2), 3)) for _ in range(2600))]
    write(folder / "product.csv", ["a", "b", "ab"], rows)
    settings = ["--data", "product.csv", "--target", "ab", "--threads", "1", "--set", "train.minutes=0"]
    events = train(folder, "net", *settings, "--set", "train.steps=600")
    check("model: mlp, as 2080 rows" in notes(events), notes(events))
    check(last_eval(events)["r2"] > 0.9, last_eval(events))
    linear = train(folder, "line", *settings, "--model", "linear")
    check(last_eval(linear)["r2"] < 0.2, "a straight line learnt a product")
    train(folder, "part", *settings, "--set", "train.steps=600", "--set", "train.checkpoint_every=300")
    whole = folder / "part/checkpoints/step-000600"
    for file in whole.iterdir():  # back to the middle of the run
        file.unlink()
    whole.rmdir()
    ran = gradus("train", "--resume", "part", "--threads", "1", folder=folder)
    check(ran.returncode == 0 and "resuming from" in ran.stdout, ran.stdout + ran.stderr)
    weights = [(folder / r / "checkpoints/step-000600/model.safetensors").read_bytes() for r in ["net", "part"]]
    check(weights[0] == weights[1], "a resumed run ended with other weights")
    ran = gradus("train", "--resume", "line", folder=folder)
    check(ran.returncode == 0 and "nothing is left to do" in ran.stdout, ran.stdout + ran.stderr)


def collinear_and_separated(folder):
    write(folder / "twice.csv", ["a", "b", "twice", "y"],
          [[i, (i * 7) % 5, 2 * i + 1, 3 * i - (i * 7) % 5] for i in range(40)])
    events = train(folder, "twice", "--data", "twice.csv", "--target", "y", "--model", "linear")
    check("twice: is a combination of the features before it: its coefficient is 0" in notes(events), notes(events))
    c = coefficients(folder, "twice")
    check(abs(c[(None, "a", None)] - 3) < 1e-9 and c[(None, "twice", None)] == 0, c)
    write(folder / "apart.csv", ["a", "y"], [[i, "yes" if i > 20 else "no"] for i in range(40)])
    events = train(folder, "apart", "--data", "apart.csv", "--target", "y", "--set", "data.validation_part=0")
    check("classes are separated without an error" in notes(events), notes(events))


def predicted(folder, run, header, rows):
    write(folder / "asked.csv", header, rows)
    ran = gradus("predict", run, "asked.csv", folder=folder)
    check(ran.returncode == 0, ran.stderr)
    return [line["prediction"] for line in csv.DictReader(ran.stdout.splitlines())], ran.stderr


def categories_that_look_like_numbers(folder):
    """Sizes 1.0, 1, 2 and XL are four texts; of numbers only, 1.0 and 1 are one, whatever stands beside them."""
    worth = {"1.0": 5, "1": 7, "2": 11, "XL": 23}
    rows = [[size, i % 3, cost + i % 3] for i, (size, cost) in enumerate(list(worth.items()) * 20)]
    write(folder / "texts.csv", ["size", "x", "cost"], rows)
    train(folder, "texts", "--data", "texts.csv", "--target", "cost", "--set", "data.validation_part=0")
    alone, noted = predicted(folder, "texts", ["size", "x"], [["1.0", 0], ["1", 0], ["2", 0]])
    beside = predicted(folder, "texts", ["size", "x"], [["1.0", 0], ["1", 0], ["2", 0], ["XL", 0]])[0]
    check(alone == beside[:3] and "note" not in noted, f"{alone} {beside} {noted}")
    check([round(float(p), 2) for p in beside] == [5, 7, 11, 23], beside)
    check(predicted(folder, "texts", ["size", "x"], [["2.0", 0]])[0] == beside[2:3], "2.0 is the only 2")
    write(folder / "numbers.csv", ["size", "x", "cost"],
          [[i % 3 + 1, i % 2, [5, 7, 11][i % 3] + i % 2] for i in range(60)])
    train(folder, "numbers", "--data", "numbers.csv", "--target", "cost", "--set", "data.categories=[size]",
          "--set", "data.validation_part=0")
    alone = predicted(folder, "numbers", ["size", "x"], [["1", 0], ["2", 0], ["3", 0]])[0]
    beside, noted = predicted(folder, "numbers", ["size", "x"], [["1.0", 0], ["2.00", 0], ["3", 0], ["XL", 0]])
    check(alone == beside[:3] and "size': 1 rows have a category" in noted, f"{alone} {beside} {noted}")
    write(folder / "grades.csv", ["x", "grade"], [[i, ["1.0", "2.0", "none"][i // 20]] for i in range(60)])
    train(folder, "grades", "--data", "grades.csv", "--target", "grade", "--set", "train.l2=0.001")
    write(folder / "some.csv", ["x", "grade"], [[i, ["1.0", "2.0"][i // 20]] for i in range(40)])
    scored = json.loads(gradus("eval", "grades", "--data", "some.csv", "--json", folder=folder).stdout)
    check(scored["samples"] == 40 and scored["accuracy"] > 0.8, scored)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = json.loads((GOLDEN / "coefficients.json").read_text())["cases"]
        for number, case in enumerate(cases):
            compare(case, number, folder)
        rows = made_table(folder)
        linear_with_everything(folder)
        predictions(folder, rows)
        networks_and_resume(folder)
        collinear_and_separated(folder)
        categories_that_look_like_numbers(folder)
    print(f"{len(cases)} tables, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
