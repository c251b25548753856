"""Trainings side by side, each tuned alike: at equal epochs and at equal numbers of gradient evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.interval import Interval
from benchmarks.paper.lab import Asking, Lab, Results, best, errors, together
from benchmarks.paper.training import Training


@dataclass(frozen=True)
class Arm:
    """A way to train, and the settings of it among which held-out data choose.

    Attributes:
        name: as it is shown.
        candidates: the settings, each a training.
        setting: what is shown of a chosen candidate.
    """

    name: str
    candidates: tuple[Training, ...]
    setting: Callable[[Training], str] = lambda training: ""


def arm(name: str, grid: Sequence[float], build: Callable[[float], Training]) -> Arm:
    """The arm whose candidates are built from the values of a grid; an asterisk marks the grid's ends."""
    ends = grid[0], grid[-1]
    values = {build(value): f"{value:g}" + "*" * (value in ends) for value in grid}
    return Arm(name, tuple(values), lambda training: values[training])


def fixed(name: str, training: Training) -> Arm:
    """An arm with nothing to choose."""
    return Arm(name, (training,))


@dataclass(frozen=True)
class Entry:
    """An arm at its chosen setting: with every seed at equal epochs, and at an equal number of evaluations."""

    name: str
    setting: str
    equal_epochs: tuple[Training, ...]
    equal_budget: tuple[Training, ...]

    @property
    def trainings(self) -> list[Training]:
        """All that it needs."""
        return [*self.equal_epochs, *self.equal_budget]


@dataclass(frozen=True)
class Line:
    """An entry's results: a line of every table.

    Attributes:
        group: what it is compared within, such as a level of label noise.
        entry: whose they are.
        epochs: the test errors at equal epochs, by seed.
        budget: those at equal gradient evaluations.
        seconds: of one core, for the steps of a training at equal epochs.
    """

    group: str
    entry: Entry
    epochs: list[float]
    budget: list[float]
    seconds: float

    @property
    def at_epochs(self) -> Interval:
        """The interval at equal epochs."""
        return Interval.of(self.epochs)

    @property
    def at_budget(self) -> Interval:
        """The interval at equal gradient evaluations."""
        return Interval.of(self.budget)


def at_budget(training: Training, budget: float) -> Training:
    """The training with as many epochs as take this many evaluations, in epochs of plain gradient descent."""
    per_epoch = training.evaluations / training.recipe.epochs / training.steps_per_epoch
    return lasting(training, max(1, round(budget / per_epoch)))


def lasting(training: Training, epochs: int) -> Training:
    """The training with this many epochs, and so that which makes its labels."""
    teacher = training.labels_from
    return training.but(epochs=epochs, labels_from=None if teacher is None else lasting(teacher, epochs))


def compete(lab: Lab, arms: Sequence[Arm]) -> Asking[list[Entry]]:
    """Tune every arm, then train each with every seed, twice: for the lab's epochs, and for its budget."""
    chosen = yield from together([best(lab, one.candidates) for one in arms])
    entries = []
    for one, training in zip(arms, chosen, strict=True):
        equal = at_budget(training, lab.budget)
        entries.append(
            Entry(one.name, one.setting(training), *(tuple(lab.over_seeds(each)) for each in (training, equal)))
        )
    yield [training for entry in entries for training in entry.trainings]
    return entries


def lines(results: Results, group: str, entries: Sequence[Entry]) -> list[Line]:
    """The results of these entries."""
    return [
        Line(
            group,
            entry,
            errors(results, entry.equal_epochs),
            errors(results, entry.equal_budget),
            seconds(results, entry.equal_epochs),
        )
        for entry in entries
    ]


def seconds(results: Results, trainings: Sequence[Training]) -> float:
    """What a core works on a training's steps, epochs times the median over epochs and seeds, without compiling."""
    found = np.concatenate([results.load(training)["seconds"] for training in trainings])
    return float(np.median(found)) * trainings[0].recipe.epochs


def named(found: Sequence[Line], name: str, group: str | None = None) -> Line:
    """The line of this name, in this group."""
    return next(line for line in found if line.entry.name == name and group in (None, line.group))
