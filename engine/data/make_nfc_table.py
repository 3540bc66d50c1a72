#!/usr/bin/env python3
"""Makes nfc_table.c: python3 make_nfc_table.py > nfc_table.c        (needs unicodedata2)

Normalisation of assigned characters never changes from one version of Unicode to the next; later ones only add some.
Hugging Face `tokenizers` (0.23.3) normalises by Unicode 9 and leaves what was added since as it is. So does the table,
for the same ids: see NEWER.
"""
import unicodedata2 as u

# Characters with a combining class or a canonical decomposition that are newer than Unicode 9, as ranges.
NEWER = """5C8-5C9 7FD 897-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1AF0 1DF6-1DFA A82C 105C9 105E4 10D24-10D27
10D69-10D6D 10EAB-10EAC 10ECB-10ECF 10EF0-10EFB 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 1133B 11383 11385 1138E 11391
113C5 113C7-113C8 113CE-113D0 1145E 11839-1183A 11938 1193D-1193E 11943 119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97
11F41-11F42 16121-16128 1612F 16D68-16D6A 16FF0-16FF1 1D127-1D128 1D250-1D252 1D25B-1D25C 1D25F 1D280-1D281 1E08F
1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5"""


def rows(items, per_line):
    items = list(items)
    return "".join("    " + " ".join(items[i:i + per_line]) + "\n" for i in range(0, len(items), per_line))


def ranges(values):
    """Runs of neighbouring code points with equal value: (first, last, value)."""
    out = []
    for c, value in sorted(values.items()):
        if out and out[-1][1] == c - 1 and out[-1][2] == value:
            out[-1][1] = c
        else:
            out.append([c, c, value])
    return out


def newer():
    pairs = (item.split("-") for item in NEWER.split())
    return {c for pair in pairs for c in range(int(pair[0], 16), int(pair[-1], 16) + 1)}


def main():
    parts, marks, left_out = {}, {}, newer()
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000 or c in left_out:
            continue
        if u.combining(chr(c)):
            marks[c] = u.combining(chr(c))
        mapping = u.decomposition(chr(c))
        if mapping and not mapping.startswith("<") and not 0xAC00 <= c < 0xD7A4:  # Hangul is arithmetic
            parts[c] = [int(x, 16) for x in mapping.split()] + [0]
    order = sorted(parts)
    joins = sorted((i for i, c in enumerate(order) if parts[c][1] and u.normalize("NFC", chr(c)) == chr(c)),
                   key=lambda i: parts[order[i]][:2])
    # Characters at which a text may stop being normalised: marks, second halves of pairs, and what never stays.
    touchy = {c: 0 for c in marks}
    touchy.update({c: 0 for c in parts if u.normalize("NFC", chr(c)) != chr(c)})
    touchy.update({parts[order[i]][1]: 0 for i in joins})
    touchy.update({c: 0 for c in list(range(0x1161, 0x1176)) + list(range(0x11A8, 0x11C3))})
    print("/* nfc_table.c - made by make_nfc_table.py from Unicode %s without what came after 9; not to be edited. */"
          % u.unidata_version)
    print('#include "data/nfc.h"\n')
    print("const grdi_nfc_part grdi_nfc_parts[] = {\n" + rows(
        ("{0x%X, 0x%X, 0x%X}," % (c, parts[c][0], parts[c][1]) for c in order), 4) + "};")
    print("const int grdi_nfc_part_count = sizeof(grdi_nfc_parts) / sizeof(grdi_nfc_parts[0]);\n")
    print("const uint16_t grdi_nfc_joins[] = {\n" + rows(("%d," % i for i in joins), 19) + "};")
    print("const int grdi_nfc_join_count = sizeof(grdi_nfc_joins) / sizeof(grdi_nfc_joins[0]);\n")
    print("const grdi_nfc_range grdi_nfc_marks[] = {\n" + rows(
        ("{0x%X, 0x%X, %d}," % tuple(r) for r in ranges(marks)), 4) + "};")
    print("const int grdi_nfc_mark_count = sizeof(grdi_nfc_marks) / sizeof(grdi_nfc_marks[0]);\n")
    print("const grdi_nfc_range grdi_nfc_touchy[] = {\n" + rows(
        ("{0x%X, 0x%X, 0}," % tuple(r[:2]) for r in ranges(touchy)), 5) + "};")
    print("const int grdi_nfc_touchy_count = sizeof(grdi_nfc_touchy) / sizeof(grdi_nfc_touchy[0]);")


main()
