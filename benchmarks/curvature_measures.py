"""What `curvature` measures at a solution: numbers, a spectrum and slices, with the training data as the loss's."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.cells import Cell, Result
from benchmarks.methods import METHODS
from samfamily import SAM, Landscape, Vec, curvature, sharpness, slices
from samfamily.curvature import Density, Eigenpairs

Grid = npt.NDArray[np.float64]

TOP = 5
DISTANCES: Grid = np.linspace(-0.3, 0.3, 25)
FILTERS: Grid = np.linspace(-0.5, 0.5, 21)
RANDOM = 3
"""How many random directions."""
SHARD = 16
"""Examples that share a perturbation in m-sharpness."""


class Quantity(NamedTuple):
    """A number that is measured, in words, and what the paper found: with SGD and with SAM."""

    words: str
    paper: tuple[str, ...] = ()


QUANTITIES = {
    "loss": Quantity("training loss"),
    "error": Quantity("test error, %"),
    "lambda_max": Quantity("largest eigenvalue, λ₁", ("24", "1.0")),
    "lambda_5": Quantity("fifth eigenvalue, λ₅"),
    "ratio": Quantity("λ₁ / λ₅", ("11.4", "2.6")),
    "lambda_min": Quantity("smallest eigenvalue"),
    "trace": Quantity("trace"),
    "frobenius": Quantity("Frobenius norm"),
    "rise": Quantity("rise of the loss, whole batch"),
    "m_sharpness": Quantity(f"m-sharpness, m = {SHARD}"),
}
"""The paper's: Foret et al., arXiv 2010.01412, figure 3, the last epoch."""


@dataclass(frozen=True)
class Effort:
    """How closely to look: examples of the training data (all where None), products and directions of the density."""

    examples: int | None = None
    order: int = 50
    draws: int = 2


@dataclass(frozen=True)
class Measured:
    """What was found at one solution; slices at `DISTANCES`, those in units of the filters at `FILTERS`."""

    cell: Cell
    numbers: Mapping[str, float]
    density: Density
    along: Mapping[str, Grid]
    filters: Grid


def landscape(result: Result, examples: int | None) -> Landscape:
    """The training loss around a solution, on the first so many examples, as far as they fill shards."""
    data, module = result.cell.dataset(), importlib.import_module(f"benchmarks.curvature_{result.cell.backend}")
    end = len(data.inputs[:examples]) // SHARD * SHARD
    built: Landscape = module.landscape(result.weights, data.inputs[:end], data.labels[:end])
    return built


def density(work: tuple[Result, Effort]) -> tuple[Cell, Density]:
    """The spectral density at a solution."""
    result, effort = work
    around = landscape(result, effort.examples)
    return result.cell, _density(around, result.cell, effort, ends(around, bottom=0))


def ends(around: Landscape, bottom: int) -> Eigenpairs:
    """The largest eigenvalues, and this many of the smallest, which take several times as many products."""
    return curvature.eigenvalues(around, top=TOP, bottom=bottom, memory=120, tolerance=1e-2)


def _density(around: Landscape, cell: Cell, effort: Effort, known: Eigenpairs) -> Density:
    """The density, its ends known; seeds have other directions, so that they may be pooled."""
    return curvature.density(around, effort.order, effort.draws, known=known, seed=cell.seed)


def measure(work: tuple[Result, Effort]) -> Measured:
    """Everything at one solution."""
    result, effort = work
    around = landscape(result, effort.examples)
    pairs = ends(around, bottom=1)
    moments = curvature.moments(around, products=45)
    loss, gradient = around.gradient()
    values = [float(value) for value in pairs.values]
    sam = SAM(rho=METHODS["sam"].radii[result.cell.noise])
    numbers = {
        "loss": loss,
        "error": 100 * result.errors[-1],
        "lambda_max": values[0],
        "lambda_5": values[TOP - 1],
        "ratio": values[0] / values[TOP - 1],
        "lambda_min": values[-1],
        "trace": moments.trace,
        "frobenius": moments.frobenius,
        "rise": sharpness.worst_case(around, sam).value,
        "m_sharpness": sharpness.worst_case(around, sam.sharded(SHARD)).value,
    }
    random = [slices.filter_normalised(around.w, seed) for seed in range(RANDOM)]
    along = {
        "the gradient": _along(around, gradient),
        "the top eigenvector": _along(around, pairs.vectors[0]),
        "random, filter-normalised": np.array([_along(around, d) for d in random]),
    }
    filters = np.array([slices.along(around, d, FILTERS) for d in random])
    return Measured(result.cell, numbers, _density(around, result.cell, effort, pairs), along, filters)


def _along(around: Landscape, direction: Vec) -> Grid:
    found: Grid = slices.along(around, direction / direction.norm(2), DISTANCES)
    return found


def pooled(densities: Sequence[Density]) -> Density:
    """One density from the draws of several, whose error then counts what differs between seeds too."""
    nodes = tuple(x for found in densities for x in found.nodes)
    weights = tuple(x for found in densities for x in found.weights)
    return Density(nodes, weights, sum(found.products for found in densities))
