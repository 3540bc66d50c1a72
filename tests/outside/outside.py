#!/usr/bin/env python3
"""Uses Gradus as a program outside does: installs it, compiles against what was installed, runs the result.

Usage: outside.py PART SOURCE BUILD [FLAGS], where SOURCE is the source tree, BUILD its build folder and FLAGS what the
library was compiled with besides (sanitizers). PART is
  install  copies headers, library, command and package files to BUILD/outside/prefix
  cmake    the programs of tests/outside and of the pages in docs/guide, by find_package; their output as the page shows
  make     those in C, by pkg-config
  headers  every public header alone, as C11 and as C++17
  finds    the comparison of output finds planted differences
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LIMIT_S = int(os.environ.get("GRADUS_TEST_LIMIT_S", 0)) or None  # of one command; tests/CMakeLists.txt sets it
BLOCK = re.compile(r"^```(\w+) (\S+\.c)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"-?\d+\.\d+")


def run(*command, **options):
    """Runs a command; on failure ends the test with all that it printed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(str(c) for c in command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def pages(source):
    """The programs in the guide's pages: by name, their text and the output that the page shows."""
    programs, outputs = {}, {}
    for page in sorted((source / "docs/guide").glob("*.md")):
        for kind, name, text in BLOCK.findall(page.read_text()):
            if kind == "c":
                programs.setdefault(name, []).append(text)
            elif kind == "text":
                outputs[name] = text
    if len(programs) < 3 or programs.keys() != outputs.keys():
        sys.exit(f"docs/guide: programs {sorted(programs)}, output shown of {sorted(outputs)}")
    return {name: ("\n".join(texts), outputs[name]) for name, texts in programs.items()}


def as_shown(shown, printed):
    """None, or what differs. Words must be equal; numbers with a fraction within 5% or 0.01: the last bits of a sum
    depend on the processor's vectors, and training makes more of them."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return f"the page shows\n{shown}the program prints\n{printed}"
    for a, b in zip(map(float, NUMBER.findall(shown)), map(float, NUMBER.findall(printed))):
        if abs(a - b) > max(0.01, 0.05 * abs(a)):
            return f"the page shows {a}, the program prints {b}"
    return None


class Outside:
    def __init__(self, source, build, flags):
        self.source, self.build, self.flags = source, build, flags
        self.work = build / "outside"
        self.prefix = self.work / "prefix"
        self.programs = pages(source)

    def library(self):
        found = sorted(self.prefix.glob("lib*/**/libgradus.so"))
        if not found:
            sys.exit(f"{self.prefix}: no libgradus.so was installed")
        return found[0].parent

    def install(self):
        shutil.rmtree(self.work, ignore_errors=True)
        run("cmake", "--install", self.build, "--prefix", self.prefix)
        installed = {p.name for p in (self.prefix / "include/gradus").glob("*.h")}
        ours = {p.name for p in (self.source / "engine/include/gradus").glob("*.h")}
        if installed != ours:
            sys.exit(f"headers that were not installed: {sorted(ours - installed)}")
        print("\n".join(sorted(str(p.relative_to(self.prefix)) for p in self.prefix.rglob("*") if p.is_file())))

    def extract(self):
        """The pages' programs as files; all sources, C first."""
        folder = self.work / "guide"
        folder.mkdir(parents=True, exist_ok=True)
        for name, (text, _) in self.programs.items():
            (folder / name).write_text(text)
        own = self.source / "tests/outside"
        return sorted(folder.glob("*.c")) + sorted(own.glob("*.c")) + sorted(own.glob("*.cpp"))

    def run_all(self, sources, folder):
        environment = dict(os.environ, LD_LIBRARY_PATH=str(self.library()))
        for source in sources:
            printed = run(folder / source.stem, env=environment, timeout=LIMIT_S)
            print(f"--- {source.name}\n{printed}", end="", flush=True)
            if source.name in self.programs:
                wrong = as_shown(self.programs[source.name][1], printed)
                if wrong:
                    sys.exit(f"{source.name}: {wrong}")

    def cmake(self):
        sources, folder = self.extract(), self.work / "cmake"
        run("cmake", "-S", self.source / "tests/outside", "-B", folder, f"-DCMAKE_PREFIX_PATH={self.prefix}",
            f"-DPROGRAMS={';'.join(map(str, sources))}", f"-DCMAKE_C_FLAGS={self.flags}",
            f"-DCMAKE_CXX_FLAGS={self.flags}")
        run("cmake", "--build", folder)
        self.run_all(sources, folder)

    def make(self):
        sources = [s for s in self.extract() if s.suffix == ".c"]
        folder = self.work / "make"
        folder.mkdir(exist_ok=True)
        environment = dict(os.environ, PKG_CONFIG_PATH=str(self.library() / "pkgconfig"), CFLAGS=self.flags)
        run("make", "-f", self.source / "tests/outside/Makefile", f"OUT={folder}",
            "VPATH=" + ":".join(sorted({str(s.parent) for s in sources})),
            "SOURCES=" + " ".join(s.name for s in sources), env=environment)
        self.run_all(sources, folder)

    def headers(self):
        strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{self.prefix}/include", "-fsyntax-only"]
        names = sorted(p.name for p in (self.prefix / "include/gradus").glob("*.h"))
        for name in names:
            for compiler, language in (("cc", "c11"), ("c++", "c++17")):
                kind = "c" if compiler == "cc" else "c++"
                run(compiler, f"-std={language}", *strict, "-x", kind, "-", input=f"#include <gradus/{name}>\n")
        print(f"{len(names)} headers as C11 and C++17")

    def finds(self):
        shown = "step 1: loss 0.702\nright: 99.0% of new points\n"
        planted = [shown.replace("0.702", "0.802"), shown.replace("99.0", "89.0"), shown.replace("right", "wrong"), ""]
        if as_shown(shown, shown.replace("0.702", "0.703")):
            sys.exit("a last digit was held to be a difference")
        missed = [text for text in planted if not as_shown(shown, text)]
        if missed:
            sys.exit(f"not found: {missed}")
        print(f"{len(planted)} planted differences found")


def main():
    part, source, build = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    outside = Outside(source, build, sys.argv[4] if len(sys.argv) > 4 else "")
    getattr(outside, part)()


if __name__ == "__main__":
    main()
