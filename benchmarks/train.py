"""Training, whatever the backend: run a cell to its result, and time the methods against each other.

A backend is a module `train_NAME` with two classes: `Trainer(cell)`, which trains one cell epoch by epoch, and
`Objective(inputs, labels)`, the loss on these examples as a function of NumPy weights.
"""

import importlib
import statistics
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.cells import Cell, Result
from benchmarks.data import Floats, Integers, epochs
from benchmarks.network import Weights

Arrays = list[npt.NDArray[np.float64]]

TIMING_ROUNDS = 9


class Trainer(Protocol):
    """The training of one cell, as each backend implements it."""

    def run_epoch(self, batches: Integers) -> float:
        """Take a step on each batch, wait until all are done, and return the mean loss."""
        ...

    def error(self) -> float:
        """The fraction of the evaluation examples that the network gets wrong."""
        ...

    def weights(self) -> Weights:
        """The weights as they stand, in NumPy."""
        ...


class Objective(Protocol):
    """The mean loss on fixed examples as a function of the weights, as each backend implements it."""

    def loss(self, weights: Sequence[npt.NDArray[np.floating]]) -> float:
        """The loss at these weights."""
        ...

    def value_and_grad(self, weights: Sequence[npt.NDArray[np.floating]]) -> tuple[np.float64, Arrays]:
        """The loss and its gradient at these weights."""
        ...


def trainer(cell: Cell) -> Trainer:
    """The trainer of this cell in its own backend."""
    module: Any = importlib.import_module(f"benchmarks.train_{cell.backend}")
    built: Trainer = module.Trainer(cell)
    return built


def objective(backend: str, inputs: Floats, labels: Integers) -> Objective:
    """The loss on these examples, computed by this backend."""
    module: Any = importlib.import_module(f"benchmarks.train_{backend}")
    built: Objective = module.Objective(inputs, labels)
    return built


def run(cell: Cell) -> Result:
    """Train this cell to its end."""
    start = time.perf_counter()
    model = trainer(cell)
    order = epochs(len(cell.dataset().inputs), cell.recipe.batch_size, cell.seed)
    losses, errors = [], []
    for _ in range(cell.epochs):
        losses.append(model.run_epoch(next(order)))
        errors.append(model.error())
    return Result(cell, tuple(losses), tuple(errors), model.weights(), time.perf_counter() - start)


def seconds_per_step(cells: Sequence[Cell]) -> tuple[str, dict[str, float]]:
    """The backend, and for the method of each cell the time of one step: the median over epochs run in turn.

    Each method first takes an epoch that is not counted, which compiles what there is to compile. Then the methods
    alternate in one process, epoch by epoch, so that whatever else the machine does falls on all of them alike.
    """
    models = [trainer(cell) for cell in cells]
    order = epochs(len(cells[0].dataset().inputs), cells[0].recipe.batch_size, cells[0].seed)
    times: dict[str, list[float]] = {cell.method: [] for cell in cells}
    for turn in range(1 + TIMING_ROUNDS):
        batches = next(order)
        for cell, model in zip(cells, models, strict=True):
            start = time.perf_counter()
            model.run_epoch(batches)
            if turn:
                times[cell.method].append((time.perf_counter() - start) / len(batches))
    return cells[0].backend, {method: statistics.median(measured) for method, measured in times.items()}
