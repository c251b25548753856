"""Images as they lie in folders, read without a network: CIFAR's own batches of pickles, or a folder for each class.

The layouts are those of torchvision's `CIFAR10`, `CIFAR100` and `ImageFolder`, so that what it has downloaded serves.
"""

import io
import pickle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.data import Integers

Pixels = npt.NDArray[np.uint8]

PICKLES = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"], b"labels"),
    "cifar100": ("cifar-100-python", ["train"], ["test"], b"fine_labels"),
}
TEST = ("test", "val")
HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Images(Protocol):
    """Images with their labels."""

    labels: Integers

    def __getitem__(self, place: int) -> Pixels:
        """The image in this place, of shape (height, width, 3)."""
        ...


class Held:
    """Images that are held in memory."""

    def __init__(self, pixels: Pixels, labels: Integers) -> None:
        self.pixels, self.labels = pixels, labels

    def __getitem__(self, place: int) -> Pixels:
        """The image in this place."""
        return self.pixels[place]


class Filed:
    """Images that are read from their files when they are wanted."""

    def __init__(self, folder: Path) -> None:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        found = [(path, i) for i, place in enumerate(classes) for path in sorted(place.iterdir())]
        self.paths, self.classes = [path for path, _ in found], len(classes)
        self.labels: Integers = np.array([label for _, label in found], np.int64)

    def __getitem__(self, place: int) -> Pixels:
        """The image in this place."""
        from PIL import Image

        with Image.open(self.paths[place]) as image:
            return np.asarray(image.convert("RGB"))


def read(folder: Path, form: str, classes: int, *, train: bool) -> Images:
    """The training images, or those of the test.

    Args:
        folder: where they lie, or where the folder lies that bears the data set's own name.
        form: "cifar10", "cifar100" or "folders".
        classes: how many there must be.
        train: which of the two.

    Returns:
        The images.

    Raises:
        FileNotFoundError: nothing is there that looks like them.
        ValueError: there are other classes than these.
    """
    if form in PICKLES:
        name, parts, test, key = PICKLES[form]
        for place in (folder / name, folder):
            if (place / test[0]).is_file():
                return _unpickled([place / part for part in (parts if train else test)], key)
    for part in ("train",) if train else TEST:
        if (folder / part).is_dir():
            found = Filed(folder / part)
            if found.classes != classes:
                raise ValueError(f"{folder / part} has {found.classes} folders, and the config {classes} classes")
            return found
    wanted = f"{PICKLES[form][0]} or " if form in PICKLES else ""
    raise FileNotFoundError(f"{folder} has neither {wanted}folders {'train' if train else ' or '.join(TEST)}/CLASS/*")


class _Arrays(pickle.Unpickler):
    """Reads arrays and refuses whatever else a pickle may ask for, since it could ask for anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into a batch of images: where is it from?")
        return super().find_class(module, name)


def _unpickled(paths: list[Path], key: bytes) -> Held:
    parts = [_Arrays(io.BytesIO(path.read_bytes()), encoding="bytes").load() for path in paths]
    pixels = np.concatenate([np.asarray(part[b"data"], np.uint8) for part in parts])
    labels = np.concatenate([np.asarray(part[key], np.int64) for part in parts])
    return Held(np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels)
