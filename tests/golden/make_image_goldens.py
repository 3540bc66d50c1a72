#!/usr/bin/env python3
"""Makes the images of tests/golden/images and what Pillow makes of them, resized (images.safetensors).

Usage: make_image_goldens.py FOLDER   (needs Pillow and NumPy; the tests need neither)
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 18, 24


def scene(height, width):
    """Smooth colours with edges in them."""
    y, x = np.mgrid[0:height, 0:width]
    red = 127 + 120 * np.sin(x / 7.0 + y / 19.0)
    green = 127 + 120 * np.cos(y / 9.0 - x / 23.0)
    blue = np.where((x // 16 + y // 12) % 2, 210, 40)
    return np.stack([red, green, blue], -1).astype(np.uint8)


def resized(image, mode):
    """The middle in the target's shape, by Pillow's bilinear filter, which antialiases."""
    image = image.convert(mode)
    scale = min(image.width / WIDTH, image.height / HEIGHT)
    w, h = WIDTH * scale, HEIGHT * scale
    left, top = (image.width - w) / 2, (image.height - h) / 2
    out = image.resize((WIDTH, HEIGHT), Image.BILINEAR, box=(left, top, left + w, top + h))
    return np.asarray(out).reshape(HEIGHT, WIDTH, -1)


def save(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": "U8", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    folder = Path(sys.argv[1])
    images = folder / "images"
    images.mkdir(exist_ok=True)
    colour = Image.fromarray(scene(60, 97))
    alpha = colour.copy()
    alpha.putalpha(Image.fromarray((np.arange(60 * 97).reshape(60, 97) % 256).astype(np.uint8)))
    colour.save(images / "colour.png")
    colour.convert("L").save(images / "grey.png")
    colour.convert("L").point(lambda v: v > 127 and 255).convert("1").save(images / "bits.png")
    colour.quantize(32).save(images / "palette.png")
    alpha.save(images / "alpha.png")
    Image.fromarray(np.arange(60 * 97, dtype=np.uint16).reshape(60, 97)).save(images / "deep.png")
    colour.save(images / "colour.jpg", quality=90)
    colour.convert("L").save(images / "grey.jpg", quality=90)
    colour.save(images / "progressive.jpg", quality=90, progressive=True)
    colour.convert("CMYK").save(images / "cmyk.jpg", quality=90)
    Image.fromarray(scene(180, 240)).save(images / "large.jpg", quality=85)
    tensors = {}
    for path in sorted(images.glob("*")):
        if path.stem in ("cmyk", "deep", "large"):
            continue
        tensors[path.name + "/RGB"] = resized(Image.open(path), "RGB")
        tensors[path.name + "/L"] = resized(Image.open(path), "L")
    save(folder / "images.safetensors", tensors)


main()
