#!/usr/bin/env python3
"""Compiles the CUDA kernels for the architectures named and reads the compiler's report: no warnings, and the kernels
of the list keep everything in registers (no spills, no stack frame).

Usage: resources.py NVCC ROOT LIST ARCHITECTURE... LIST names a kernel a line; '#' begins a remark.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def read_report(text):
    """{kernel as mangled: (bytes of stack, bytes spilled)} of what `ptxas -v` says."""
    found, kernel = {}, None
    for line in text.splitlines():
        name = re.search(r"Function properties for (\S+)", line)
        usage = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if name:
            kernel = name.group(1)
        elif usage and kernel:
            stack, stores, loads = (int(v) for v in usage.groups())
            found[kernel] = (stack, stores + loads)
    return found


def check(report, wanted):
    """What is wrong with the report, as lines. A template's kernels share its name."""
    wrong = []
    for name in wanted:
        matches = {k: v for k, v in report.items() if re.search(rf"\d{name}(E|I|$)", k)}
        if not matches:
            wrong.append(f"{name}: there is no such kernel")
        wrong += [f"{name}: {stack} bytes of stack, {spilled} spilled" for stack, spilled in matches.values()
                  if stack or spilled]
    return wrong


def compile_all(nvcc, root, architecture, folder):
    """The compiler's words about all kernels."""
    text = ""
    for source in sorted((root / "cuda/ops").glob("*.cu")):
        command = [nvcc, "-cubin", f"-gencode=arch=compute_{architecture},code=sm_{architecture}", "-O3", "-std=c++20",
                   "-Xptxas=-v", "-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers"]
        command += [f"-I{root / part}" for part in ("cuda", "engine", "engine/include")]
        run = subprocess.run(command + [str(source), "-o", str(Path(folder) / "out.cubin")], capture_output=True,
                             text=True, check=False)
        text += run.stdout + run.stderr
        if run.returncode:
            text += f"\n{source.name}: error: nvcc ended with {run.returncode}\n"
    return text


def main():
    nvcc, root, list_file, *architectures = sys.argv[1:]
    wanted = [line.split("#")[0].strip() for line in Path(list_file).read_text(encoding="utf-8").splitlines()]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for architecture in architectures:
            text = compile_all(nvcc, Path(root), architecture, folder)
            report = read_report(text)
            found = check(report, [name for name in wanted if name])
            found += [line for line in text.splitlines() if re.search(r"\b(warning|error)\b", line)]
            wrong += [f"sm_{architecture}: {line}" for line in found]
            print(f"sm_{architecture}: {len(report)} kernels, {len(found)} findings")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
