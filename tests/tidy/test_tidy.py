#!/usr/bin/env python3
"""Plants one mistake of each kind that tidy.py looks for and checks that it is named."""
import subprocess
import sys
import tempfile
from pathlib import Path

TIDY = Path(__file__).with_name("tidy.py")
OPS = "".join(f"GRDI_OP(op{i})\n" for i in range(70))

SIX = ["ops/a.c", "include/gradus/a.h", "backend/cpu/a.c", "backend/cpu/b.c", "backend/ref/a.c"]

# The files of a tree with one mistake, and a piece of what is to be said of it.
MISTAKES = {
    "long line": ({"engine/base/a.c": "/* " + "x" * 130 + " */\n"}, "columns"),
    "long file": ({"engine/base/a.c": "\n" * 801}, "lines (at most 800)"),
    "long header": ({"cuda/a.cuh": "\n" * 401}, "lines (at most 400)"),
    "long function": ({"engine/base/a.c": "int f(void)\n{\n" + "    ;\n" * 80 + "}\n"}, "function of"),
    "backward arrow": ({"engine/graph/a.c": '#include "plan/plan.h"\n'}, "must not include plan/plan.h"),
    "internal header in cli": ({"engine/cli/a.c": '#include "base/file.h"\n'}, "must not include base/file.h"),
    "internal header in cli, the other way": ({"engine/cli/a.c": "#include <base/file.h>\n",
                                               "engine/base/file.h": ""}, "must not include base/file.h"),
    "internal header in nn": ({"engine/nn/models/a.c": '#include "graph/op.h"\n'}, "nn must not include graph/op.h"),
    "internal header in bindings": ({"bindings/a.cpp": '#include "run/step.h"\n'}, "must not include run/step.h"),
    "engine in a plugin": ({"cuda/ops/a.cu": '#include "plan/plan.h"\n'}, "cuda must not include plan/plan.h"),
    "graph in a backend": ({"engine/backend/cpu/a.c": '#include "graph/graph.h"\n'}, "must not include graph/graph.h"),
    "CUDA in the engine": ({"engine/run/a.c": "#include <cuda_runtime.h>\n"}, "must not include cuda_runtime.h"),
    "abort": ({"engine/plan/a.c": "int f(void)\n{\n    abort();\n}\n"}, "banned call: abort"),
    "malloc": ({"engine/plan/a.c": "void *f(void)\n{\n    return malloc(1);\n}\n"}, "allocation past"),
    "malloc in a plugin": ({"cuda/a.c": "void *f(void)\n{\n    return malloc(1);\n}\n"}, "past host.h: malloc"),
    "new in a plugin": ({"cuda/ops/a.cu": "int *f(void)\n{\n    return new int;\n}\n"}, "past host.h: new"),
    "fopen": ({"engine/train/a.c": "void f(void)\n{\n    fopen(p, m);\n}\n"}, "file call past"),
    "op in many places": ({f"engine/{name}": "grd_tensor grd_op7(void);\n" for name in SIX}, "op7 is named in 6 files"),
    "few ops": ({"engine/ops/ops.def": "GRDI_OP(one)\n"}, "1 ops (at least 70)"),
}
# What may be there: words in comments, an op that others are made of, what a plugin may see.
CLEAN = {
    "engine/base/a.c": "/* malloc( in a comment is fine */\nint f(void)\n{\n    return 0;\n}\n",
    **{f"engine/{name}": "grd_tensor y = grd_op7(x);\n" for name in SIX},
    "cuda/ops/a.cu": '#include "backend/backend.h"\n#include "graph/op.h"\n#include "ops/b.h"\n#include <cuda.h>\n',
    "cuda/ops/b.h": "\n",
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
    clean = run(CLEAN)
    if clean.returncode != 0:
        failed += 1
        print(f"a clean tree has findings: {clean.stdout}")
    for name, (files, expected) in MISTAKES.items():
        result = run(files)
        if result.returncode == 0 or expected not in result.stdout:
            failed += 1
            print(f"{name}: not found: {result.stdout}")
    print(f"{len(MISTAKES) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
