#!/usr/bin/env python3
"""Makes letter_table.c: python3 make_letter_table.py > letter_table.c

Needs Hugging Face `tokenizers`, whose regular expressions are the measure, and a Python with Unicode 14 (3.11).
"""
import unicodedata

from tokenizers import Regex, pre_tokenizers

assert unicodedata.unidata_version == "14.0.0"
NAMES = ["L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N"]
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def newer(name):
    """Code points that their \\p{name} matches and that of Unicode 14 does not, as ranges."""
    split = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "isolated")
    out = []
    for c in CODE_POINTS:
        if unicodedata.category(chr(c)).startswith(name) or len(split.pre_tokenize_str("\n" + chr(c) + "\n")) != 3:
            continue
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def main():
    print("/* letter_table.c - made by make_letter_table.py; not to be edited. */")
    print('#include "data/pattern.h"\n')
    print("const grdi_newer grdi_newer_classes[] = {")
    for name in NAMES:
        lines, line = [], ""
        for first, last in newer(name):
            item = r"\\x{%X}" % first + (r"-\\x{%X}" % last if last > first else "")
            if len(line) + len(item) > 100:
                lines.append(line)
                line = ""
            line += item
        lines.append(line)
        print('    {"%s", ' % name + "\n     ".join('"%s"' % text for text in lines) + "},")
    print("};\nconst int grdi_newer_count = sizeof(grdi_newer_classes) / sizeof(grdi_newer_classes[0]);")


main()
