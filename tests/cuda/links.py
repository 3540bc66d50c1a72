#!/usr/bin/env python3
"""No library of CUDA is needed to load any part of Gradus, and without a GPU the command says what is missing.

Usage: links.py COMMAND LIBRARY [PLUGIN]
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CUDA = re.compile(r"lib(cuda|cudart|cublas|cublasLt|cudnn\w*|nccl|nvrtc|nvidia[\w-]*)\.so")


def needed(path):
    """The libraries that the loader must find for `path`."""
    run = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    names = re.findall(r"\(NEEDED\).*\[(.+)\]", run.stdout)
    if not names:
        raise SystemExit(f"{path}: readelf names no library at all")
    return names


def check_links(paths):
    return [f"{path}: needs {name}" for path in paths for name in needed(path) if CUDA.match(name)]


def check_refusal(command, folder, plugin):
    """`--device cuda` must fail with one line that names what is not there."""
    text = Path(folder) / "text.txt"
    text.write_text("a text to train on\n" * 200, encoding="utf-8")
    plugins = str(Path(plugin[0]).resolve().parent) if plugin else folder
    environment = {"PATH": "/usr/bin:/bin", "GRADUS_PLUGIN_DIR": plugins, "HOME": folder}
    run = subprocess.run([str(Path(command).resolve()), "train", "--data", str(text), "--device", "cuda"],
                         capture_output=True, text=True, env=environment, cwd=folder, check=False)
    words = ["libcuda.so.1", "no GPU"] if plugin else ["libgradus_cuda.so"]
    if run.returncode == 0:
        return [] if plugin else ["--device cuda trains without a plugin"]
    if not any(word in run.stderr for word in words):
        return [f"--device cuda: '{run.stderr.strip()}' names none of {words}"]
    return []


def main():
    command, library, *plugin = sys.argv[1:]
    wrong = check_links([command, library] + plugin)
    with tempfile.TemporaryDirectory() as folder:
        wrong += check_refusal(command, folder, plugin)
    print("\n".join(wrong) or "no CUDA library is needed; --device cuda is refused by name")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
