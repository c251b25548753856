"""The training loss around a solution: along the direction in which SAM climbs, and over a random plane."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import samfamily
from benchmarks.cells import Cell, Result
from benchmarks.network import Weights
from benchmarks.train import Arrays, Objective, objective

Grid = npt.NDArray[np.float64]

DISTANCES: Grid = np.linspace(-0.2, 0.4, 31)
PLANE: Grid = np.linspace(-0.5, 0.5, 17)


@dataclass(frozen=True)
class Landscape:
    """The training loss around one solution: at `DISTANCES` uphill, and on `PLANE` x `PLANE` for the first seed."""

    cell: Cell
    along_ascent: Grid
    plane: Grid | None


def survey(result: Result) -> Landscape:
    """The landscape around this solution."""
    return Landscape(result.cell, along_ascent(result), None if result.cell.seed else over_plane(result))


def limits(planes: Iterable[Grid]) -> tuple[float, float]:
    """The lowest and the highest loss in these planes, for one colour scale."""
    all_losses = np.stack(list(planes))
    return float(all_losses.min()), float(all_losses.max())


def ascent_direction(function: Objective, weights: Weights) -> Arrays:
    """The unit vector along which SAM climbs from these weights.

    It is read off the library: the second point at which SAM of radius one asks for a gradient, minus the first.
    """
    points: list[Arrays] = []

    def watched(point: Sequence[npt.NDArray[np.float64]]) -> tuple[np.float64, Arrays]:
        points.append([np.array(array) for array in point])
        return function.value_and_grad(point)

    samfamily.reference.value_and_grad(watched, samfamily.SAM(rho=1.0))([w.astype(np.float64) for w in weights])
    here, climbed = points
    return [high - low for low, high in zip(here, climbed, strict=True)]


def filter_normalised(weights: Weights, random: np.random.Generator) -> Arrays:
    """A random direction with the weights' norm in every filter, zero in the biases (Li et al., arXiv 1712.09913).

    A filter is what feeds one output: one slice of a weight along its first axis.
    """
    direction: Arrays = []
    for weight in weights:
        drawn = random.standard_normal(weight.shape)
        axes = tuple(range(1, weight.ndim))
        if axes:
            norms = [np.sqrt(np.sum(np.square(array), axis=axes, keepdims=True)) for array in (weight, drawn)]
            direction.append(drawn * norms[0] / norms[1])
        else:
            direction.append(np.zeros(weight.shape))
    return direction


def along_ascent(result: Result) -> Grid:
    """The loss over the training data at `DISTANCES` along the ascent direction."""
    function = _training_loss(result)
    direction = ascent_direction(function, result.weights)
    return np.array([function.loss(_moved(result.weights, (t, direction))) for t in DISTANCES])


def over_plane(result: Result) -> Grid:
    """The loss over the training data on `PLANE` x `PLANE`; every result is cut by the same two drawn directions."""
    function = _training_loss(result)
    random = np.random.default_rng(0)
    first, second = (filter_normalised(result.weights, random) for _ in range(2))
    return np.array([[function.loss(_moved(result.weights, (s, first), (t, second))) for s in PLANE] for t in PLANE])


def _training_loss(result: Result) -> Objective:
    data = result.cell.dataset()
    return objective(result.cell.backend, data.inputs, data.labels)


def _moved(weights: Weights, *moves: tuple[float, Arrays]) -> Arrays:
    moved = [weight.astype(np.float64) for weight in weights]
    for distance, direction in moves:
        moved = [array + distance * step for array, step in zip(moved, direction, strict=True)]
    return moved
