"""Made-up images in the layout that a config reads, to see that everything works without the data."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.full.config import Config
from benchmarks.full.folders import PICKLES

EXTENT = 40, 36
"""Height and width of an image that has a file of its own: not a square, since photographs are none."""


def write(folder: Path, config: Config, examples: int) -> Path:
    """Write so many images to train on, and as many to test on, and return the folder."""
    random = np.random.default_rng(0)
    labels = np.arange(examples) % int(config.data["classes"])
    form = config.data["format"]
    if form in PICKLES:
        name, parts, test, key = PICKLES[form]
        (folder / name).mkdir(parents=True)
        shares = [*zip(parts, np.array_split(labels, len(parts)), strict=True), (test[0], labels)]
        for part, share in shares:
            pixels = random.integers(0, 256, (len(share), 3 * 32 * 32), np.uint8)
            (folder / name / part).write_bytes(pickle.dumps({b"data": pixels, key: share.tolist()}))
        return folder
    for part in ("train", "val"):
        for i, label in enumerate(labels):
            place = folder / part / f"class-{label:04d}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (*EXTENT, 3), np.uint8)).save(place / f"{i}.png")
    return folder
