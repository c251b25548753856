"""What a backend is given to train or to measure, and what it gives back: NumPy on both sides."""

import importlib
from typing import Any, NamedTuple, Protocol

from benchmarks.data import Floats
from benchmarks.network import Weights
from samfamily import Landscape, Variant

OPTIMIZERS = ("SGD", "AdamW", "Lion")
"""The second and the third decay weights apart from the gradient, and have the usual averages."""


class Task(NamedTuple):
    """One training as a backend sees it.

    Attributes:
        network: its name in `NETWORKS`.
        weights: where it starts.
        variant: the row that is followed; None is the base optimizer alone.
        momentum: of SGD.
        weight_decay: of the base optimizer.
        optimizer: the base optimizer's name in `OPTIMIZERS`.
    """

    network: str
    weights: Weights
    variant: Variant | None
    momentum: float
    weight_decay: float
    optimizer: str = OPTIMIZERS[0]


class Trainer(Protocol):
    """A training in progress, as each backend implements it. Targets are shares of classes, and may have any sum."""

    def run(self, inputs: Floats, targets: Floats, rates: Floats) -> float:
        """Take a step on each batch of (steps, batch, ...), at its learning rate, and return the mean loss."""
        ...

    def losses(self, inputs: Floats, targets: Floats) -> Floats:
        """The loss of each example at the weights as they stand."""
        ...

    def outputs(self, inputs: Floats) -> Floats:
        """The network's outputs, of shape (examples, classes)."""
        ...

    def weights(self) -> Weights:
        """The weights as they stand."""
        ...


def trainer(backend: str, task: Task) -> Trainer:
    """The training of this task in this backend."""
    built: Trainer = _module(backend).Trainer(task)
    return built


def landscape(
    backend: str, network: str, weights: Weights, inputs: Floats, targets: Floats, loss: str = "cross-entropy"
) -> Landscape:
    """The landscape of the mean loss over all examples, as one batch, in this backend."""
    built: Landscape = _module(backend).landscape(network, loss, weights, inputs, targets)
    return built


def _module(backend: str) -> Any:
    return importlib.import_module(f"benchmarks.paper.train_{backend}")
