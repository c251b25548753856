"""A run at full scale as its TOML file in `benchmarks/configs` and the command line say it."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.full.architecture import Plan, bottleneck, wide
from samfamily import SAM, SSSAM, Variant

FOLDER = Path(__file__).parents[1] / "configs"
METHODS = ("sam", "sgd")
HARDLY_EVER = 1e-9
"""How often SGD takes a second gradient, which changes nothing, since it is taken where the first was."""


@dataclass(frozen=True)
class Config:
    """What is trained, on what, and how.

    Attributes:
        name: the file's.
        method: "sam" or "sgd".
        epochs: passes over the training data.
        augmentation: the kind.
        data: format, classes, size of an image, and what its channels are divided by.
        model: kind and sizes.
        training: batch, m, learning rate, and so on.
        changes: sizes of what the augmentation does.
        published: the paper's test error of this run in %, if it has one.
        smoke: whether this only shows that everything works.
    """

    name: str
    method: str
    epochs: int
    augmentation: str
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    changes: Mapping[str, Any]
    published: float | None
    smoke: bool = False

    @property
    def variant(self) -> Variant:
        """The row that is followed; SGD is one that does not climb, so that its batch is in shards like the other's."""
        row = SAM(self.training["rho"]) if self.method == "sam" else SSSAM(0.0, probability=HARDLY_EVER)
        return row.sharded(self.training["m"])

    @property
    def plan(self) -> Plan:
        """The network."""
        classes, width = self.data["classes"], self.model["width"]
        if self.model["kind"] == "wide":
            return wide(self.model["depth"], width, classes)
        return bottleneck(self.model["stages"], width, classes)

    def learning_rate(self, step: int, steps: int) -> float:
        """Of this one of so many steps: a cosine that falls to zero."""
        return float(self.training["learning_rate"]) * (1 + math.cos(math.pi * step / steps)) / 2

    def plain(self) -> dict[str, Any]:
        """Plain values, to be kept with a checkpoint."""
        return asdict(self)


def available() -> dict[str, Path]:
    """The files by their names."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def load(
    name: str, method: str = "sam", augmentation: str | None = None, epochs: int | None = None, *, smoke: bool = False
) -> Config:
    """Read a file of `benchmarks/configs` by its name, or any other by its path.

    Args:
        name: of the file.
        method: "sam" or "sgd".
        augmentation: one of the file's kinds; the first if None.
        epochs: how many; the first that the file has for the method if None.
        smoke: whether to take the sizes of the table `smoke`, for a run that only shows that everything works.

    Returns:
        The run.

    Raises:
        ValueError: there is no such file, method or augmentation; or m does not divide the batch.
    """
    path = available().get(name, Path(name))
    if not path.is_file():
        raise ValueError(f"no config is called {name!r}: choose one of {', '.join(available())}, or give a file's path")
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    replaced = read["smoke"] if smoke else {}
    data, model, training = (_replaced(read[table], replaced) for table in ("data", "model", "training"))
    kinds = read["augmentation"].pop("kinds")
    kind = str(augmentation or kinds[0])
    if kind not in kinds:
        raise ValueError(f"{name} has no augmentation {kind!r}: choose one of {', '.join(kinds)}")
    if method not in METHODS:
        raise ValueError(f"{method!r} is no method: choose one of {', '.join(METHODS)}")
    if training["batch"] % training["m"]:
        raise ValueError(f"m = {training['m']} does not divide the batch of {training['batch']}: choose a divisor")
    number = int(epochs or read["epochs"][method][0])
    published = None if smoke else read["published"][kind][method].get(str(number))
    return Config(path.stem, method, number, kind, data, model, training, read["augmentation"], published, smoke)


def _replaced(table: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values.get(key, value) for key, value in table.items()}
