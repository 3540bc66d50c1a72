#!/usr/bin/env python3
"""Plants one mistake of each kind that tidy.py looks for and checks that it is named."""
import subprocess
import sys
import tempfile
from pathlib import Path

TIDY = Path(__file__).with_name("tidy.py")
OPS = "".join(f"GRDI_OP(op{i})\n" for i in range(70))

MISTAKES = {
    "long line": ("engine/base/a.c", "/* " + "x" * 130 + " */\n", "columns"),
    "long file": ("engine/base/a.c", "\n" * 801, "lines (at most 800)"),
    "long function": ("engine/base/a.c", "int f(void)\n{\n" + "    ;\n" * 80 + "}\n", "function of"),
    "backward arrow": ("engine/graph/a.c", '#include "plan/plan.h"\n', "must not include plan/plan.h"),
    "internal header in cli": ("engine/cli/a.c", '#include "base/file.h"\n', "must not include base/file.h"),
    "abort": ("engine/plan/a.c", "int f(void)\n{\n    abort();\n}\n", "banned call: abort"),
    "malloc": ("engine/plan/a.c", "void *f(void)\n{\n    return malloc(1);\n}\n", "allocation past"),
    "fopen": ("engine/train/a.c", "void f(void)\n{\n    fopen(p, m);\n}\n", "file call past"),
}


def run(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"engine/ops/ops.def": OPS, **files}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.run([sys.executable, str(TIDY), folder], capture_output=True, text=True)


def main():
    failed = 0
    clean = run({"engine/base/a.c": "/* malloc( in a comment is fine */\nint f(void)\n{\n    return 0;\n}\n"})
    if clean.returncode != 0:
        failed += 1
        print(f"a clean tree has findings: {clean.stdout}")
    for name, (path, text, expected) in MISTAKES.items():
        result = run({path: text})
        if result.returncode == 0 or expected not in result.stdout:
            failed += 1
            print(f"{name}: not found: {result.stdout}")
    print(f"{len(MISTAKES) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
