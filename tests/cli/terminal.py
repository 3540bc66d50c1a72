#!/usr/bin/env python3
"""Trains on terminals of several widths and looks at the progress line that a user sees there.

Usage: terminal.py GRADUS. A line is drawn over the one before, is never as wide as the terminal (it would wrap), leaves
out details where there is no room, and ends at 100%. Standard library only.
"""
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios

SETTINGS = ["model.layers=1", "model.heads=2", "model.width=16", "model.context=16", "data.tokenizer=byte",
            "train.steps=40", "train.eval_every=20", "train.batch=2"]


def watch(gradus, folder, columns):
    """What a run prints to a terminal of that many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    command = [gradus, "train", "--data", "a.txt", "--threads", "1", "--set", f"out=run{columns}"]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    run = subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    printed = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError: # the other end is closed
            break
        if not piece:
            break
        printed += piece
    os.close(ours)
    if run.wait():
        sys.exit(f"{columns} columns: exit status {run.returncode}: {printed.decode()}")
    return printed.decode()


def frames(printed):
    """The states of the progress line."""
    return re.findall(r"\r([^\r\n]*)\x1b\[K", printed)


def judge(shown, columns):
    """What is wrong with the frames."""
    wrong = []
    if len(shown) < 2 or "100%" not in shown[-1]:
        return [f"{len(shown)} frames, none at 100%"]
    wrong += [f"{len(frame)} columns of {columns}: {frame}" for frame in shown if len(frame) >= columns]
    wrong += [f"no step: {frame}" for frame in shown if columns >= 30 and not re.search(r"step \d+/40  loss \d", frame)]
    if any(("[" in frame) != (columns >= 100) for frame in shown):
        wrong.append(f"a bar on {columns} columns")
    if columns >= 100 and not re.search(r"\[=+>? *\] .*validation .* bits/byte.*tokens/s.* left", shown[-1]):
        wrong.append(f"a detail is missing: {shown[-1]}")
    return wrong


def finds():
    """What judge() is to find, it finds."""
    good = ["[>   ]   2%  step 1/40  loss 5.1  9 s left",
            "[====] 100%  step 40/40  loss 5.1  validation 5.2 (7.4 bits/byte)  12 tokens/s  0 s left"]
    planted = [[], good[:1], [good[0], good[1] + " " * 120], [good[0], good[1].replace("step", "")],
               [good[0], good[1].replace("tokens/s", "")], [g.replace("[", "") for g in good]]
    if judge(good, 120) or not all(judge(shown, 120) for shown in planted):
        sys.exit("terminal.py does not see what it is to see")


def main():
    finds()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "a.txt"), "w") as text:
            text.write("to be or not to be\n" * 200)
        for columns in (20, 40, 60, 120):
            shown = frames(watch(os.path.abspath(sys.argv[1]), folder, columns))
            wrong = judge(shown, columns)
            failed += bool(wrong)
            print(f"{columns} columns: {len(shown)} frames, {shown[-1:]}{''.join(f'{chr(10)}    {w}' for w in wrong)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
