"""How good the first-order step is on a real network, over a range of radii, before and after training."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Recipe
from benchmarks.data import epochs, load
from benchmarks.network import Weights, initial_weights
from benchmarks.train import trainer
from samfamily import SAM, InnerGap

RADII = tuple(float(rho) for rho in np.geomspace(0.01, 3.0, 9))
EXAMPLES, STAGES = 128, ("at the start", "trained with SGD", "trained with SAM")


@dataclass(frozen=True)
class Measured:
    """One comparison: at which stage of training, by which backend."""

    stage: str
    backend: str
    found: InnerGap


def stages(training: int, seed: int = 0) -> Iterator[tuple[str, Weights]]:
    """Yield the weights at the start, and after so many epochs of SGD and of SAM."""
    length = load("mnist1d").inputs.shape[1]
    yield STAGES[0], initial_weights(length, seed)
    for stage, method, rho in ((STAGES[1], "sgd", 0.0), (STAGES[2], "sam", 0.05)):
        cell = Cell(Recipe(epochs=training), "torch", 0.0, method, rho, seed)
        model, order = trainer(cell), epochs(len(cell.dataset().inputs), cell.recipe.batch_size, seed)
        for _ in range(training):
            model.run_epoch(next(order))
        yield stage, model.weights()


def measure(work: tuple[str, Weights, str]) -> list[Measured]:
    """Compare the first-order step with the best found, for every radius, in float64."""
    stage, weights, backend = work
    data = load("mnist1d")
    batch = data.inputs[:EXAMPLES].astype(np.float64), data.labels[:EXAMPLES]
    compare: Any = importlib.import_module(f"benchmarks.inner_gaps_{backend}").compare
    return [Measured(stage, backend, compare(weights, batch, SAM(rho=rho))) for rho in RADII]
