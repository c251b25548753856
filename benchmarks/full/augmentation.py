"""What is done to an image before it is trained on, and to a test image; each draws from the generator it is given."""

import math
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.data import Floats
from benchmarks.full.autoaugment import autoaugment
from benchmarks.full.config import Config
from benchmarks.full.folders import Pixels

AREA, ASPECT, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""Of the part that is cut out of an image of ImageNet."""
LARGER = 256 / 224
"""To how many times what is cut out a test image is scaled first."""


def trained_on(image: Pixels, config: Config, random: np.random.Generator) -> Pixels:
    """The image as it is trained on."""
    if config.augmentation == "inception":
        return flipped(part(image, config.data["size"], random), random)
    image = flipped(shifted(image, config.changes["padding"], random), random)
    return autoaugment(image, random) if config.augmentation == "autoaugment" else image


def tested_on(image: Pixels, config: Config) -> Pixels:
    """The image as it is tested on: the middle of it where it is not as large as the network wants."""
    size = config.data["size"]
    if image.shape[:2] == (size, size):
        return image
    height, width = image.shape[:2]
    scale = round(size * LARGER) / min(height, width)
    larger = _scaled(Image.fromarray(image), round(width * scale), round(height * scale))
    top, left = (larger.shape[0] - size) // 2, (larger.shape[1] - size) // 2
    return larger[top : top + size, left : left + size]


def flipped(image: Pixels, random: np.random.Generator) -> Pixels:
    """The image, or with probability 1/2 its reflection."""
    return image[:, ::-1] if random.random() < 0.5 else image


def shifted(image: Pixels, padding: int, random: np.random.Generator) -> Pixels:
    """A part as large as the image, of the image reflected at its edges."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), "reflect")
    top, left = random.integers(0, 2 * padding + 1, 2)
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


def part(image: Pixels, size: int, random: np.random.Generator) -> Pixels:
    """A random part of the image, scaled to a square."""
    height, width = image.shape[:2]
    for _ in range(TRIES):
        area = height * width * random.uniform(*AREA)
        aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
            return _scaled(Image.fromarray(image[top : top + h, left : left + w]), size, size)
    return _scaled(Image.fromarray(image), size, size)


def normalised(images: Pixels, config: Config) -> Floats:
    """The images in units of their channels' deviations from their means."""
    mean, deviation = (np.array(config.data[key], np.float32) for key in ("mean", "deviation"))
    return ((images.astype(np.float32) / 255 - mean) / deviation).astype(np.float32)


def cut_out(images: Floats, config: Config, random: np.random.Generator) -> Floats:
    """The normalised images with a square of zeros, the same for all; its middle may lie anywhere."""
    if config.augmentation not in {"cutout", "autoaugment"}:
        return images
    half = config.changes["cutout"] // 2
    rows, columns = (
        slice(max(0, middle - half), middle + half) for middle in random.integers(0, images.shape[1], 2).tolist()
    )
    images[:, rows, columns] = 0
    return images


def _scaled(image: Any, width: int, height: int) -> Pixels:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
