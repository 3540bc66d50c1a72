#!/usr/bin/env python3
"""Tables by the command: coefficients against statsmodels and scikit-learn (golden/tables), then what a user does.

Usage: tables.py GRADUS [--show].
"""
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

GRADUS, SHOW = Path(sys.argv[1]).resolve(), "--show" in sys.argv
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tables"
TOLERANCE = {"linear": 1e-5, "logistic": 1e-4}
LIMIT_S = int(os.environ.get("GRADUS_TEST_LIMIT_S", 0)) or None  # of one command; tests/CMakeLists.txt sets it
failures = []


def check(condition, what):
    if not condition:
        failures.append(what)
        print("FAILED:", what)


def gradus(*arguments, folder):
    ran = subprocess.run([str(GRADUS), *map(str, arguments)], cwd=folder, capture_output=True, text=True,
                         timeout=LIMIT_S)
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


def goes_on(folder, run, steps, settings):
    """The run again in two parts: the same bits."""
    train(folder, "part-" + run, *settings, "--set", f"train.steps={steps}", "--set",
          f"train.checkpoint_every={steps // 2}")
    newest = f"checkpoints/step-{steps:06}"
    for file in (folder / f"part-{run}" / newest).iterdir():  # back to the middle of the run
        file.unlink()
    (folder / f"part-{run}" / newest).rmdir()
    ran = gradus("train", "--resume", "part-" + run, "--threads", "1", folder=folder)
    check(ran.returncode == 0 and "resuming from" in ran.stdout, ran.stdout + ran.stderr)
    for name in ["model.safetensors", "optimizer.safetensors"]:
        parts = [(folder / r / newest / name).read_bytes() for r in [run, "part-" + run]]
        check(parts[0] == parts[1], f"{run}: a resumed run ended with another {name}")


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
    goes_on(folder, "net", 600, settings)
    ran = gradus("train", "--resume", "line", folder=folder)
    check(ran.returncode == 0 and "nothing is left to do" in ran.stdout, ran.stdout + ran.stderr)


def networks_by_lbfgs(folder):
    """All rows at once; the table is that of networks_and_resume."""
    settings = ["--data", "product.csv", "--target", "ab", "--threads", "1", "--model", "mlp", "--set",
                "model.width=16", "--set", "train.optimizer=lbfgs", "--set", "train.max_iter=10"]
    events = train(folder, "lbfgs", *settings, "--set", "train.steps=6")
    check(last_eval(events)["r2"] > 0.99, last_eval(events))
    first = next(e for e in events if e["event"] == "step")
    check(first["samples"] == 2080 and first["lr"] == 1 and first["evaluations"] > 8, first)
    goes_on(folder, "lbfgs", 6, settings)
    plans = []
    for history in [1, 11]:
        config = ["lbfgs/config.yaml", "--set", f"train.history_size={history}", "--json"]
        plans.append(json.loads(gradus("plan", *config, folder=folder).stdout))
    more = plans[1]["optimizer_bytes"] - plans[0]["optimizer_bytes"]
    check(0 <= more / (10 * 2 * 4 * plans[0]["parameters"]) - 1 < 0.3, f"10 pairs take {more} bytes")
    lines = gradus("check", "lbfgs/config.yaml", "--json", folder=folder).stdout.splitlines()
    failed = [line for line in lines if '"passed":false' in line]
    check(len(lines) > 5 and not failed, failed)
    train(folder, "line-lbfgs", "--data", "made.csv", "--target", "y", "--set", "data.ignore=[level]", "--set",
          "train.optimizer=lbfgs", "--set", "train.steps=50")
    settled = (folder / "line-lbfgs/metrics.jsonl").read_text()
    check('"step":50' not in settled, "a linear model never settles")
    check(last_eval([json.loads(line) for line in settled.splitlines()])["r2"] > 0.999999, "and is not there")
    for key, value in [("clip_norm", 1), ("weight_decay", 0.1), ("ema", 0.9), ("lr", 0)]:
        ran = gradus("train", *settings, "--set", f"train.{key}={value}", "--set", "out=refused", folder=folder)
        check(ran.returncode == 2 and f"train.{key}: " in ran.stderr, ran.stderr)


def what_a_report_shows(folder):
    """The rows that were planted as wrong are those that are shown first."""
    random.seed(5)
    rows = [[round(random.uniform(0, 9), 3), random.choice(["a", "b", "c"])] for _ in range(400)]
    rows = [[x, c, round(2 * x, 3), "low" if x < 4 else "middle" if x < 6 else "high"] for x, c in rows]
    for row in rows[::40]:
        row[2:] = [999, "high" if row[0] < 4 else "low"]
    write(folder / "wrong.csv", ["x", "letter", "y", "level"], rows)
    train(folder, "number", "--data", "wrong.csv", "--target", "y", "--set", "data.ignore=[level]")
    report = (folder / "number/report.html").read_text()
    shown = [i for i, row in enumerate(rows) if f"<tr><td>{i + 1}</td><td>{row[2]:g}</td>" in report]
    wrong = [i for i in shown if i % 40 == 0]
    check("<h2>Most wrong</h2>" in report and "<h3>Residuals</h3>" in report and len(shown) == 24, shown)
    table = report[report.index("<h2>Most wrong</h2>"):]
    check(wrong and f"<tr><td>{wrong[0] + 1}</td>" in table[:2000] and "<td>999</td>" in table, wrong)
    i = wrong[0]
    check(f"<td>{rows[i][0]:g}</td><td>{rows[i][1]}</td></tr>" in table, "the values of a row are not shown")
    train(folder, "class", "--data", "wrong.csv", "--target", "level", "--set", "data.ignore=[y]")
    report = (folder / "class/report.html").read_text()
    for words in ["<h3>Confusion</h3>", "<h3>By class</h3>", "<h2>Most wrong</h2>", "<th>taken for</th>"]:
        check(words in report, f"report.html of classes lacks '{words}'")
    evaluated = json.loads(gradus("eval", "class", "--json", folder=folder).stdout)
    check([c["name"] for c in evaluated["classes"]] == ["high", "low", "middle"] and
          sum(map(sum, evaluated["confusion"])) == evaluated["samples"], evaluated)


def figures(folder):
    """Those of `eval`, computed anew from what `predict` says."""
    for target, ignored, run in [("y", "level", "number"), ("level", "y", "class")]:
        said = list(csv.DictReader(gradus("predict", run, "wrong.csv", folder=folder).stdout.splitlines()))
        rows = list(csv.DictReader((folder / "wrong.csv").open()))
        own = json.loads(gradus("eval", run, "--data", "wrong.csv", "--json", folder=folder).stdout)
        pairs = [(r[target], p["prediction"]) for r, p in zip(rows, said)]
        if run == "number":
            pairs = [(float(a), float(b)) for a, b in pairs]
            errors, mean = [a - b for a, b in pairs], sum(a for a, _ in pairs) / len(pairs)
            squares = sum(e * e for e in errors)
            want = {"rmse": (squares / len(pairs)) ** 0.5, "mae": sum(map(abs, errors)) / len(pairs),
                    "r2": 1 - squares / sum((a - mean) ** 2 for a, _ in pairs)}
        else:
            each = [2 * sum(a == b == c for a, b in pairs) / sum((a == c) + (b == c) for a, b in pairs)
                    for c in ["high", "low", "middle"]]
            want = {"accuracy": sum(a == b for a, b in pairs) / len(pairs), "f1": sum(each) / 3}
        for name, value in want.items():
            check(abs(own[name] - value) < 1e-4 * abs(value), f"{run}: {name} is {own[name]}, should be {value}")


def held_out(folder, run, *arguments):
    """The rows that a run holds out: by the report's list of those that are most wrong, all of a small table."""
    events = train(folder, run, "--data", "visits.csv", "--target", "y", *arguments)
    report = (folder / run / "report.html").read_text()
    table = report[report.index("<h2>Most wrong</h2>"):]
    rows = [int(cell.split("<")[0]) for cell in table[:table.index("</table>")].split("<tr><td>")[1:]]
    again = json.loads(gradus("eval", run, "--json", folder=folder).stdout)
    check(again["rmse"] == last_eval(events)["rmse"] and again["samples"] == len(rows), f"{run}: {again}")
    return [row - 1 for row in rows], notes(events)


def splits(folder):
    random.seed(11)
    rows = [[f"2026-{1 + i // 28:02}-{1 + i % 28:02}", f"p{i * 7 % 25}", random.random(), random.random()]
            for i in range(100)]
    random.shuffle(rows)
    write(folder / "visits.csv", ["day", "patient", "x", "y"], rows)
    part = ["--set", "data.validation_part=0.2"]
    rows_out, said = held_out(folder, "grouped", *part, "--set", "data.group=patient")
    patients = {rows[i][1] for i in rows_out}
    check(len(patients) == 5 and sorted(rows_out) == [i for i, r in enumerate(rows) if r[1] in patients], rows_out)
    check("each 'patient' wholly here or there" in said and "patient" not in str(coefficients(folder, "grouped")), said)
    rows_out, said = held_out(folder, "timed", *part, "--set", "data.time=day", "--set", "data.ignore=[patient]")
    check(sorted(rows[i][0] for i in rows_out) == sorted(r[0] for r in rows)[80:], rows_out)
    check("the last by 'day'" in said, said)
    chance = held_out(folder, "random", *part, "--set", "data.ignore=[patient]")[0]
    check(len(chance) == 20 and set(chance) != set(rows_out), chance)
    ran = gradus("train", "--resume", "timed", "--set", "data.split=random", folder=folder)
    check(ran.returncode == 2 and "what it has held out would be learnt from" in ran.stderr, ran.stderr)


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
        networks_by_lbfgs(folder)
        what_a_report_shows(folder)
        figures(folder)
        collinear_and_separated(folder)
        splits(folder)
        categories_that_look_like_numbers(folder)
    print(f"{len(cases)} tables, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
