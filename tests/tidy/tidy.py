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

CUDA_HEADER = re.compile(r"(cuda|cublas|cudnn|nccl)\w*\.h")

BANNED = re.compile(r"\b(exit|abort|strcat|sprintf|gets|strtok|system|assert)\s*\(")
ALLOCATION = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup)\s*\(")
NEW = re.compile(r"(?<![\w.>])(new|std::(?:string|vector|map|make_\w+))(?=[\s<(])")  # plugins are partly C++
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


def beside_allowed(top, target):
    """Whether a file of cuda/ or bindings/ (folder `top`) may include "target": its own headers, and of the engine's
    what a backend sees, or only what is public."""
    own = any(top.rglob(target))
    seen = top.name == "cuda" and (layer_of(Path(target)) in BACKENDS_SEE or target in BACKENDS_SEE_FILES)
    return own or seen or layer_of(Path(target)) == "gradus"


def check_includes(root, relative, text, report, path):
    """`relative` begins with engine, cuda or bindings."""
    top, inside = relative.parts[0], Path(*relative.parts[1:])
    for number, line in enumerate(text.split("\n"), 1):
        include = re.match(r'\s*#\s*include\s+(["<])([^">]+)', line)
        if not include:
            continue
        kind, target = include.groups()
        if kind == "<" and (root / "engine" / target).exists():
            kind = '"'  # engine/ is where both look
        if top != "engine":
            allowed = kind == "<" or beside_allowed(root / top, target)
        elif kind == "<":
            allowed = not CUDA_HEADER.match(target)
        else:
            allowed = layer_of(inside) == "include" or include_allowed(inside, target)
        if not allowed:
            report(path, number, f"layer {top if top != 'engine' else layer_of(inside)} must not include {target}")


def check_plugin_allocations(code, report, path):
    for number, line in enumerate(code.split("\n"), 1):
        found = ALLOCATION.search(line) or NEW.search(line)
        if found:
            report(path, number, f"allocation past host.h: {found.group(1)}")


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


OP_PLACES = {"include", "ops", "passes", "plan", "backend", "cuda"}
# The names that an op has in code: its call, its definition, a text, a row of a table.
NAMED = re.compile(r'\b(?:grdi_op_|grd_)(\w+)|"(\w+)"|\bGRDI_OP\((\w+)\)|\b[A-Z][A-Z0-9]*\((\w+),')
CALLED = re.compile(r"(?<!grd_tensor )\bgrd_(\w+)\(")


def check_ops(root, files, report):
    """An op that no other op's rules, no pass and no plan use is one place: few files of headers, ops and backends
    name it. Models, commands and tests are its users and do not count; a kernel and its *_pieces.h count as one."""
    definition = root / "engine/ops/ops.def"
    names = re.findall(r"^GRDI_OP\((\w+)\)", definition.read_text(), re.M)
    named, used, rules = {}, set(), set()
    for path in files:
        inside = path.relative_to(root).parts
        place = inside[1] if inside[0] == "engine" else inside[0]
        if path.suffix not in (".c", ".h", ".def", ".cu", ".cuh") or place not in OP_PLACES:
            continue
        text = re.sub(r"/\*.*?\*/", " ", path.read_text(errors="replace"), flags=re.S)
        here = {next(filter(None, groups), "") for groups in NAMED.findall(text)}
        if place in ("ops", "passes", "plan") and path.suffix == ".c":
            used |= set(CALLED.findall(text)) | here & rules
            rules |= here
        named.setdefault((path.parent, path.stem.removesuffix("_pieces")), set()).update(here)
    alone = [name for name in names if name not in used]
    for name in alone:
        found = [stem for (_, stem), here in named.items() if name in here]
        if len(found) > 5:
            report(definition, 1, f"op {name} is named in {len(found)} files (at most 5): {', '.join(found)}")
    if len(names) < 70:
        report(definition, 1, f"{len(names)} ops (at least 70)")
    return len(names), len(alone)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    findings = []

    def report(path, line, what):
        findings.append(f"{path.relative_to(root)}:{line}: {what}")

    files = tracked(root)
    checked = 0
    for path in files:
        if path.suffix not in (".c", ".h", ".cu", ".cuh", ".cpp", ".py", ".sh"):
            continue
        checked += 1
        text = path.read_text(errors="replace")
        code = without_comments(text) if path.suffix not in (".py", ".sh") else ""
        check_sizes(path, text, code, report)
        relative = path.relative_to(root)
        if relative.parts[0] in ("engine", "cuda", "bindings") and path.suffix not in (".py", ".sh"):
            check_includes(root, relative, text, report, path)
        if relative.parts[0] == "engine" and relative.parts[1] != "include":
            check_calls(Path(*relative.parts[1:]), code, report, path)
        if relative.parts[0] == "cuda" and relative.parts[1] != "sim":
            check_plugin_allocations(code, report, path)
    ops, alone = check_ops(root, files, report)
    print("\n".join(findings))
    print(f"{checked} files, {ops} ops ({alone} of them used by no other), {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
