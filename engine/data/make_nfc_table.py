#!/usr/bin/env python3
"""Makes nfc_table.c: python3 make_nfc_table.py > nfc_table.c        (needs unicodedata2)

Normalisation of assigned characters never changes from one version of Unicode to the next; later ones only add some.
"""
import unicodedata2 as u


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


def main():
    parts, marks = {}, {}
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
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
    print("/* nfc_table.c - made by make_nfc_table.py from Unicode %s; not to be edited. */" % u.unidata_version)
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
