"""What the two frameworks are to agree on: a network, its initial weights and its batches, all in NumPy.

`tanh` is smooth, so that nothing but rounding keeps the two apart: two layers with tanh, the second of them behind
layer normalisation, which some rows ask for. `cnn` is the report's network, with ReLU and without normalisation.
"""

import math
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from benchmarks import network
from benchmarks.data import CLASSES, WEIGHT_STREAM, epochs, generator, load

SEED, LR, MOMENTUM, BATCH = 0, 0.1, 0.9, 128
WIDTHS = (32, 16)
NETWORKS = {"tanh": "tanh network", "cnn": "convolutional network"}
EPSILON = 1e-5
"""What layer normalisation adds to a variance."""


@dataclass(frozen=True)
class Task:
    """One network in one precision.

    Attributes:
        network: "tanh" or "cnn".
        dtype: "float64" or "float32".
        data: the data set's name.
    """

    network: str
    dtype: str
    data: str = "mnist1d"

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"{NETWORKS[self.network]}, {self.dtype}"

    @property
    def length(self) -> int:
        """Of the signals."""
        return load(self.data).inputs.shape[1]

    def weights(self) -> dict[str, Any]:
        """The initial weights by name, in PyTorch's order and layout."""
        if self.network == "cnn":
            found: list[Any] = [*network.initial_weights(self.length, SEED)]
            return {f"{i // 2}.{'bias' if i % 2 else 'weight'}": x.astype(self.dtype) for i, x in enumerate(found)}
        return {name: x.astype(self.dtype) for name, x in _smooth(self.length).items()}

    def normalisation(self) -> dict[str, bool]:
        """Which weights belong to a normalisation layer."""
        return {name: name.startswith("norm.") for name in self.weights()}

    def batches(self, steps: int) -> list[tuple[Any, Any]]:
        """Inputs and labels of each step."""
        data = load(self.data)
        order = chain.from_iterable(epochs(len(data.labels), BATCH, SEED))
        return [(data.inputs[chosen], data.labels[chosen]) for chosen in islice(order, steps)]


def _smooth(length: int) -> dict[str, Any]:
    random = generator(SEED, WEIGHT_STREAM)
    weights: dict[str, Any] = {}
    inner, outer = WIDTHS
    for layer, rows, columns in (("first", inner, length), ("second", outer, inner), ("output", CLASSES, outer)):
        bound = 1 / math.sqrt(columns)
        weights[f"{layer}.weight"] = random.uniform(-bound, bound, (rows, columns))
        weights[f"{layer}.bias"] = random.uniform(-bound, bound, rows)
        if layer == "second":
            weights |= {"norm.weight": np.ones(rows), "norm.bias": np.zeros(rows)}
    return weights


TASKS = {
    "tanh-float64": Task("tanh", "float64"),
    "tanh-float32": Task("tanh", "float32"),
    "cnn-float32": Task("cnn", "float32"),
}
LIMIT = 1e-9
"""What is asked of the distance where nothing is rounded but in the sixteenth digit, and the network is smooth."""
LIMITED = "tanh-float64"
"""Of which task."""
