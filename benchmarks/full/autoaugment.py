"""AutoAugment's policy for CIFAR (arXiv 1805.09501, appendix): 25 pairs of operations, of which an image gets one.

Each operation has a probability and a level from 0 to 9. What is not stated there was chosen: pixels from outside are
grey, and a sign is drawn with probability 1/2 where an operation has one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.full.folders import Pixels

POLICY = """
Invert 1 7, Contrast 2 6; Rotate 7 2, TranslateX 3 9; Sharpness 8 1, Sharpness 9 3; ShearY 5 8, TranslateY 7 9;
AutoContrast 5 8, Equalize 9 2; ShearY 2 7, Posterize 3 7; Color 4 3, Brightness 6 7; Sharpness 3 9, Brightness 7 9;
Equalize 6 5, Equalize 5 1; Contrast 6 7, Sharpness 6 5; Color 7 7, TranslateX 5 8; Equalize 3 7, AutoContrast 4 8;
TranslateY 4 3, Sharpness 2 6; Brightness 9 6, Color 2 8; Solarize 5 2, Invert 0 3; Equalize 2 0, AutoContrast 6 0;
Equalize 2 8, Equalize 6 4; Color 9 9, Equalize 6 6; AutoContrast 8 4, Solarize 2 8; Brightness 1 3, Color 7 0;
Solarize 4 5, AutoContrast 9 3; TranslateY 9 9, TranslateY 7 9; AutoContrast 9 2, Solarize 8 3;
Equalize 8 8, Invert 1 3; TranslateY 7 9, AutoContrast 9 1
"""
"""Name, tenths of the probability, level. A level means nothing to AutoContrast, Equalize and Invert."""
LEVELS = 9
GREY = (128, 128, 128)

Operation = tuple[str, float, float]


def _parsed(text: str) -> Operation:
    name, probability, level = text.split()
    return name, int(probability) / 10, int(level) / LEVELS


PAIRS = [tuple(map(_parsed, pair.split(","))) for pair in POLICY.split(";")]


def autoaugment(image: Pixels, random: np.random.Generator) -> Pixels:
    """The image after one pair of the policy."""
    changed: Any = Image.fromarray(image)
    for name, probability, level in PAIRS[random.integers(len(PAIRS))]:
        sign = 1 if random.random() < 0.5 else -1
        if random.random() < probability:
            changed = OPERATIONS[name](changed, level, sign)
    return np.asarray(changed)


def _moved(image: Any, matrix: tuple[float, ...]) -> Any:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


def _enhanced(enhancer: Any) -> Callable[[Any, float, int], Any]:
    """Brightness and the like: a factor of 0.1 to 1.9."""
    return lambda image, level, sign: enhancer(image).enhance(1 + 0.9 * level * sign)


OPERATIONS: dict[str, Callable[[Any, float, int], Any]] = {
    "ShearY": lambda image, level, sign: _moved(image, (1, 0, 0, 0.3 * level * sign, 1, 0)),
    "TranslateX": lambda image, level, sign: _moved(image, (1, 0, _pixels(image, level) * sign, 0, 1, 0)),
    "TranslateY": lambda image, level, sign: _moved(image, (1, 0, 0, 0, 1, _pixels(image, level) * sign)),
    "Rotate": lambda image, level, sign: image.rotate(30 * level * sign, fillcolor=GREY),
    "AutoContrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "Invert": lambda image, level, sign: ImageOps.invert(image),
    "Equalize": lambda image, level, sign: ImageOps.equalize(image),
    "Solarize": lambda image, level, sign: ImageOps.solarize(image, round(256 * (1 - level))),
    "Posterize": lambda image, level, sign: ImageOps.posterize(image, 8 - round(4 * level)),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Color": _enhanced(ImageEnhance.Color),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
}


def _pixels(image: Any, level: float) -> float:
    """The paper moves images of 331 pixels by up to 150."""
    return round(150 / 331 * level * image.size[0])
