"""How a radius that was tuned for SAM carries over: to other m, balls, batch sizes and base optimizers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.contest import Entry, Line, compete, fixed, lines, named
from benchmarks.paper.intervals import Statement
from benchmarks.paper.lab import RATES, Asking, Lab, Results, best, together
from benchmarks.paper.networks import NETWORKS
from benchmarks.paper.section import Figure, Section, Series, contest_table
from benchmarks.paper.training import Training, row

NOISE = 0.4
RADII = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
"""In SAM's units: another way's are these times its factor."""
NEAR = 0.02
"""The share of test examples by which an error may lie above the lowest for a radius to have carried over."""


@dataclass(frozen=True)
class Way:
    """Something else than SAM on SGD, and the rule by which SAM's radius is carried to it.

    Attributes:
        axis: which figure it is in.
        factor: by what a radius of SAM is multiplied.
        rates: the learning rates among which held-out data choose, on clean labels and without a climb.
        changes: what of the training is other.
        row_name: the row that climbs.
        options: its keyword arguments.
    """

    axis: str
    factor: float = 1.0
    rates: tuple[float, ...] = RATES
    changes: Mapping[str, Any] = field(default_factory=dict)
    row_name: str = "SAM"
    options: Mapping[str, Any] = field(default_factory=dict)

    def at(self, base: Training, radius: float) -> Training:
        """The training at this radius of SAM, carried over; at none, the base optimizer alone."""
        return base.but(row=row(self.row_name, rho=radius * self.factor, **self.options)) if radius else base


DIMENSION = sum(math.prod(shape) for shape in NETWORKS["cnn"].shapes(40))
SHARDS, BALLS, BASES = "m and the batch", "the ball and its metric", "the base optimizer"
REFERENCE = "SAM, SGD"
WAYS = {
    REFERENCE: Way(""),
    "m = 16": Way(SHARDS, options={"m": 16}),
    "m = 4": Way(SHARDS, options={"m": 4}),
    "batches of 32": Way(SHARDS, changes={"batch_size": 32}),
    "batches of 512": Way(SHARDS, changes={"batch_size": 512}),
    "p = inf": Way(BALLS, DIMENSION**-0.5, options={"p": math.inf}),
    "p = 1": Way(BALLS, options={"p": 1.0}),
    "ASAM": Way(BALLS, 10.0, row_name="ASAM"),
    "AdamW": Way(BASES, rates=(0.001, 0.003, 0.01, 0.03), changes={"optimizer": "AdamW", "weight_decay": 0.01}),
    "Lion": Way(BASES, rates=(0.0001, 0.0003, 0.001, 0.003), changes={"optimizer": "Lion", "weight_decay": 0.1}),
}


def one(lab: Lab, way: Way) -> Asking[list[Entry]]:
    """Every radius of a way, and none."""
    rates = [lab.base(**way.changes, learning_rate=rate) for rate in lab.some(way.rates)]
    base = (yield from best(lab, rates)).but(noise=NOISE)
    return (yield from compete(lab, [fixed(label(radius), way.at(base, radius)) for radius in (0.0, *RADII)]))


def label(radius: float) -> str:
    """An arm's name."""
    return f"rho = {radius:g}"


def ask(lab: Lab) -> Asking[list[list[Entry]]]:
    """All ways."""
    return (yield from together([one(lab, way) for way in WAYS.values()]))


def judge(lab: Lab, found: list[list[Entry]], results: Results) -> Section:
    """SAM's best radius, carried over, is nearly the best of each way."""
    groups = {name: lines(results, name, entries) for name, entries in zip(WAYS, found, strict=True)}
    chosen = lowest(groups[REFERENCE])
    statements = []
    for name, here in groups.items():
        if name != REFERENCE:
            above = np.subtract(named(here, chosen.entry.name).epochs, lowest(here).epochs)
            text = f"{name}: {chosen.entry.name} of SAM, {carried(WAYS[name])}, above its lowest error, equal epochs"
            statements.append(Statement(text, Interval.of(above.tolist()), below=NEAR, unit=100))
    figures = [
        Figure(
            f"axis-{number}",
            f"Test error at equal epochs by {axis}, {NOISE:.0%} of labels replaced",
            "rho, in SAM's units",
            "test error",
            [
                Series(name, RADII, [line.at_epochs for line in here[1:]])
                for name, here in groups.items()
                if WAYS[name].axis in ("", axis)
            ],
            logx=True,
        )
        for number, axis in enumerate((SHARDS, BALLS, BASES), 1)
    ]
    all_lines = [line for here in groups.values() for line in here]
    title = f"Test error by radius, in SAM's units, {NOISE:.0%} of labels replaced"
    ours = "the lowest test error at equal epochs, rho in SAM's units: " + "; ".join(
        f"{name} {lowest(here).entry.name}, {lowest(here).at_epochs.percent()} %" for name, here in groups.items()
    )
    return Section(statements, ours, [contest_table("radii", title, all_lines)], figures, [NOTE])


def lowest(here: list[Line]) -> Line:
    """The line of the radius with the lowest error."""
    return min(here[1:], key=lambda line: line.at_epochs.mean)


def carried(way: Way) -> str:
    """The rule in words."""
    return "as it is" if way.factor == 1 else f"times {way.factor:.3g}"


NOTE = (
    f"Radii are in SAM's units: for p = inf the radius is that over the square root of the {DIMENSION} weights, and "
    "for ASAM ten times that; elsewhere it is that. With another batch size or base optimizer the learning rate is the "
    "one that is best for it without a climb, on clean held-out data; all else keeps SGD's. AdamW decays weights by "
    "0.01, Lion by 0.1, apart from the gradient. The best radius is read off test errors here, on both sides of every "
    "comparison: this shows how a curve lies, and is no contest between the ways."
)

CLAIM = Claim(
    "m",
    "One radius, carried over by a rule of thumb, is nearly the best elsewhere",
    "does not ask this: it tunes rho for each of its tasks",
    ask,
    judge,
)
