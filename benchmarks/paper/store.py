"""Finished work, one file for each piece under its key: whole or not there, so that a killed run can go on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.paper.keys import described, key

Found = Mapping[str, npt.NDArray[Any]]


class Store:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, work: Any) -> Path:
        """Where this work's result is, or will be."""
        name = key(work)
        return self.folder / name[:2] / f"{name}.npz"

    def __contains__(self, work: Any) -> bool:
        return self.path(work).exists()

    def load(self, work: Any) -> Found:
        """What this work gave."""
        with np.load(self.path(work)) as file:
            return {name: file[name] for name in file.files if name != "work"}

    def save(self, work: Any, found: Found) -> None:
        """Keep what this work gave: written beside its place, and moved there when it is whole."""
        path = self.path(work)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        with unfinished.open("wb") as file:
            everything: dict[str, Any] = {"work": np.array(json.dumps(described(work))), **found}
            np.savez(file, **everything)
        unfinished.replace(path)

    def sweep(self) -> None:
        """Remove what killed processes had not finished writing."""
        for path in self.folder.glob("*/*.unfinished"):
            path.unlink(missing_ok=True)
