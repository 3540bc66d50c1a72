#!/usr/bin/env python3
"""Checks what a compiler does not: sizes of files and functions, arrows between layers, banned calls.

Usage: tidy.py ROOT. Prints one line for each finding and a count at the end; exit status 1 if there are any.
"""
import re
import subprocess
import sys
from pathlib import Path

LIMITS = {"source": 800, "header": 400, "function": 70, "line": 120}

# Each layer may include itself and what stands before it; backend/backend.h and graph/op.h are leaf interfaces.
LAYERS = ["base", "graph", "ops", "passes", "plan", "run", "formats", "data", "generate", "train", "cli"]
PUBLIC_ONLY = {"nn", "cli"}
BACKENDS_SEE = {"base", "backend"}
BACKENDS_SEE_FILES = {"graph/op.h"}
LEAF_FILES = {"backend/backend.h": "plan", "graph/op.h": "graph"}  # the first layer that may include it

BANNED = re.compile(r"\b(exit|abort|strcat|sprintf|gets|strtok|system|assert)\s*\(")
ALLOCATION = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup)\s*\(")
FILE_CALLS = re.compile(r"(?<![\w.>])(fopen|open|rename|unlink|mkdir|fsync)\s*\(")


def tracked(root):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if names.returncode == 0 and names.stdout:
        return [root / n for n in names.stdout.splitlines() if (root / n).is_file()]
    return [p for p in root.rglob("*") if p.is_file() and "build" not in p.parts]


def without_comments(text):
    """The text with comments and string contents blanked, line breaks kept."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()) if m.group()[0] == "/" else '""', text)


def functions(code):
    """(first line, length) of each top-level body whose brace opens a line, as our functions do."""
    depth, start, lines = 0, None, code.split("\n")
    for number, line in enumerate(lines, 1):
        if depth == 0 and line.startswith("{") and number > 1 and lines[number - 2].rstrip().endswith(")"):
            start = number
        depth += line.count("{") - line.count("}")
        if depth == 0 and start:
            yield start, number - start + 1
            start = None


def layer_of(path):
    """The layer of a file below engine/, e.g. 'plan'."""
    return path.parts[0]


def include_allowed(source, target):
    """Whether engine file `source` may include "target" (both relative to engine/)."""
    here, there = layer_of(source), layer_of(Path(target))
    if here == there:
        return True
    if here in PUBLIC_ONLY:
        return False
    if here == "backend":
        return there in BACKENDS_SEE or target in BACKENDS_SEE_FILES
    if target in LEAF_FILES:
        return LAYERS.index(here) >= LAYERS.index(LEAF_FILES[target])
    if there not in LAYERS or here not in LAYERS:
        return False
    return LAYERS.index(there) < LAYERS.index(here)


def check_sizes(path, text, code, report):
    limit = LIMITS["header"] if path.suffix in (".h", ".cuh") else LIMITS["source"]
    count = text.count("\n")
    if count > limit:
        report(path, 1, f"{count} lines (at most {limit})")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LIMITS["line"]:
            report(path, number, f"{len(line)} columns (at most {LIMITS['line']})")
    for start, length in functions(code):
        if length > LIMITS["function"]:
            report(path, start, f"function of {length} lines (at most {LIMITS['function']})")


def check_includes(relative, text, report, path):
    for number, line in enumerate(text.split("\n"), 1):
        include = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if include and not include_allowed(relative, include.group(1)):
            report(path, number, f"layer {layer_of(relative)} must not include {include.group(1)}")


def check_calls(relative, code, report, path):
    here = layer_of(relative)
    for number, line in enumerate(code.split("\n"), 1):
        banned, allocation, files = (p.search(line) for p in (BANNED, ALLOCATION, FILE_CALLS))
        if banned and not (here == "cli" and banned.group(1) == "exit"):
            report(path, number, f"banned call: {banned.group(1)}")
        if allocation and here != "base" and here not in PUBLIC_ONLY:
            report(path, number, f"allocation past base/memory.h: {allocation.group(1)}")
        if files and here not in ("base", "cli"):
            report(path, number, f"file call past base/file.h: {files.group(1)}")


def check_ops(root, files, report):
    """Every op name stands in few files, so that an op stays one place; layers that use it do not count."""
    definition = root / "engine/ops/ops.def"
    names = re.findall(r"^GRDI_OP\((\w+)\)", definition.read_text(), re.M)
    code = [p for p in files if p.suffix in (".c", ".h", ".def", ".cu", ".cuh")]
    sources = [p for p in code if not {"tests", "nn"} & set(p.relative_to(root).parts)]
    texts = {p: p.read_text(errors="replace") for p in sources}
    for name in ("pixel_shuffle", "huber", "kl_div", "cumsum", "flip", "topk", "logsumexp"):
        if name in names:
            found = [p.name for p, t in texts.items() if re.search(rf"\b(grdi_op_|grd_)?{name}\b", t)]
            if len(found) > 5:
                report(definition, 1, f"op {name} is named in {len(found)} files (at most 5): {', '.join(found)}")
    if len(names) < 70:
        report(definition, 1, f"{len(names)} ops (at least 70)")
    return len(names)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    findings = []

    def report(path, line, what):
        findings.append(f"{path.relative_to(root)}:{line}: {what}")

    files = tracked(root)
    checked = 0
    for path in files:
        if path.suffix not in (".c", ".h", ".cu", ".cuh", ".py", ".sh"):
            continue
        checked += 1
        text = path.read_text(errors="replace")
        code = without_comments(text) if path.suffix not in (".py", ".sh") else ""
        check_sizes(path, text, code, report)
        relative = path.relative_to(root)
        if relative.parts[0] == "engine" and path.suffix in (".c", ".h"):
            inside = Path(*relative.parts[1:])
            if layer_of(inside) != "include":
                check_includes(inside, text, report, path)
                check_calls(inside, code, report, path)
    ops = check_ops(root, files, report)
    print("\n".join(findings))
    print(f"{checked} files, {ops} ops, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
