#!/usr/bin/env python3
"""torchvision's way from JPEG files to batches, beside `gradus bench images DIR`: decode, random resized crop to 224,
mirror, normalise; in one process on one thread.

    torch_images.py --make DIR --photos FOLDER [--count N]   writes N JPEG files of 500x375 from photographs, such as
                                                             those in scikit-learn's datasets/images
    torch_images.py DIR [--seconds S]   prints a JSON line for each way: Pillow, and tensors (torchvision.io, v2)
"""
import argparse
import io
import json
import random
import time
from pathlib import Path

import torch

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def make(folder, photographs, count):
    from PIL import Image
    photos = [Image.open(p).convert("RGB") for p in sorted(photographs.glob("*.jpg"))]
    chance = random.Random(1)
    folder.mkdir(parents=True)
    for i in range(count):
        photo = photos[i % len(photos)]
        part = chance.uniform(0.6, 1)
        w, h = int(photo.width * part), int(photo.height * part)
        x, y = chance.randint(0, photo.width - w), chance.randint(0, photo.height - h)
        size = (500, 375) if i % 3 else (375, 500)
        image = photo.crop((x, y, x + w, y + h)).resize(size, Image.BICUBIC)
        image.save(folder / f"{i:04}.jpg", quality=92)


def by_pillow():
    from PIL import Image
    from torchvision import transforms
    change = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(),
                                 transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])
    return lambda data: change(Image.open(io.BytesIO(data)).convert("RGB"))


def by_tensors():
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms import v2
    change = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(),
                         v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)])
    return lambda data: change(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB))


def measure(way, files, seconds, batch=64):
    done, begun, at = 0, time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        torch.stack([way(files[(at + i) % len(files)].read_bytes()) for i in range(batch)])
        at, done = at + batch, done + batch
    return done / (time.perf_counter() - begun)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5)
    a = parser.parse_args()
    if a.make:
        make(a.folder, a.photos, a.count)
        return
    import torchvision
    torch.set_num_threads(1)
    files = sorted(a.folder.glob("*.jpg"))
    for name, way in (("pillow", by_pillow()), ("tensors", by_tensors())):
        measure(way, files, 0.3)
        print(json.dumps({"event": "bench", "name": f"torchvision-{name}", "version": torchvision.__version__,
                          "threads": 1, "samples_per_s": measure(way, files, a.seconds)}), flush=True)


main()
