"""What all claims share: how large a run is, and asking for work.

A claim asks: it is a generator that yields pieces of work and is sent a store that holds them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from benchmarks.cells import Recipe
from benchmarks.paper.measure import Instrument, Measurement
from benchmarks.paper.store import Found
from benchmarks.paper.training import Training

Work: TypeAlias = Training | Measurement
T = TypeVar("T")


class Results(Protocol):
    """Finished work, as a claim sees it."""

    def load(self, work: Any) -> Found:
        """What this work gave."""
        ...


Asking: TypeAlias = Generator[Sequence[Work], Results, T]


@dataclass(frozen=True)
class Lab:
    """How large a run is.

    Attributes:
        backend: the framework.
        seeds: of every training that is shown.
        tuning_seeds: of every training that a radius is chosen by.
        epochs: of a training, where a claim says nothing else.
        points: of each grid, at most.
        examples: on which is measured, at most.
        first: the first of the seeds of what is shown.
    """

    backend: str = "jax"
    seeds: int = 5
    tuning_seeds: int = 2
    epochs: int = 50
    points: int = 9
    examples: int = 1024
    first: int = 0

    @property
    def budget(self) -> int:
        """The gradient evaluations of equal budgets, in epochs of plain gradient descent: what SAM takes."""
        return 2 * self.epochs

    def base(self, network: str = "cnn", data: str = "mnist1d", **changes: Any) -> Training:
        """Plain gradient descent, from which all other trainings differ."""
        return Training(self.backend, 0, Recipe(data=data, epochs=self.epochs), network).but(**changes)

    def some(self, grid: Sequence[T]) -> list[T]:
        """As many points of a grid as a run of this size has: all of them, or those around its middle."""
        out = max(0, len(grid) - self.points)
        return list(grid)[out // 2 : len(grid) - (out + 1) // 2]

    def over_seeds(self, training: Training) -> list[Training]:
        """The training with each seed."""
        return [training.across(seed=self.first + count) for count in range(self.seeds)]


def errors(results: Results, trainings: Sequence[Training]) -> list[float]:
    """The error after the last epoch of each training."""
    return [float(results.load(training)["evaluation"][1]) for training in trainings]


def figures(results: Results, measurements: Sequence[Measurement], name: str) -> list[float]:
    """One figure of each measurement."""
    return [float(results.load(measurement)[name]) for measurement in measurements]


def measured(trainings: Sequence[Training], instrument: Instrument, epoch: int | None = None) -> list[Measurement]:
    """The measurement of each training."""
    return [Measurement(training, instrument, epoch) for training in trainings]


def best(lab: Lab, candidates: Sequence[Training]) -> Asking[Training]:
    """The candidate with the lowest mean error on held-out training data; the test data have no part in it.

    A lab without seeds for tuning takes the one in the middle.
    """
    if len(candidates) == 1 or lab.tuning_seeds == 0:
        return candidates[len(candidates) // 2]
    seeds = range(lab.tuning_seeds)
    tried = [[c.across(validation=True, seed=seed) for seed in seeds] for c in candidates]
    results = yield [training for trainings in tried for training in trainings]
    means = [float(np.mean(errors(results, trainings))) for trainings in tried]
    return candidates[int(np.argmin(means))]


def together(asking: Sequence[Generator[Sequence[Work], Results, T]]) -> Asking[list[T]]:
    """Ask for everything that these ask for, at once, and return what they return."""
    done: dict[int, T] = {}
    wanted: dict[int, Sequence[Work]] = {}
    sent: Results | None = None
    while len(done) < len(asking):
        for place, one in enumerate(asking):
            if place not in done:
                try:
                    wanted[place] = next(one) if sent is None else one.send(sent)
                except StopIteration as stop:
                    done[place] = stop.value
                    wanted.pop(place, None)
        if wanted:
            sent = yield [work for works in wanted.values() for work in works]
    return [done[place] for place in range(len(asking))]


RATES = (0.05, 0.1, 0.2, 0.4)


def tuned_base(lab: Lab, network: str = "cnn", data: str = "mnist1d") -> Asking[Training]:
    """Plain gradient descent at the rate that is best for it on clean labels; the rate is everyone's."""
    found = yield from best(lab, [lab.base(network, data, learning_rate=rate) for rate in lab.some(RATES)])
    return found
