"""The bound of Theorem 2 along training."""

from typing import Any

import numpy as np

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, lines
from benchmarks.paper.intervals import Statement
from benchmarks.paper.lab import Asking, Lab, Results, figures, measured, tuned_base
from benchmarks.paper.measure import TheoremTwo
from benchmarks.paper.section import Figure, Section, Series, contest_table, figures_table

COLUMNS = {"value": "bound", "worst": "worst loss found", "complexity": "complexity", "margin": "proviso's margin"}


def ask(lab: Lab) -> Asking[Any]:
    """SAM, and the bound at four epochs."""
    base = yield from tuned_base(lab)
    entries = yield from compete(lab, [common.sgd(base), common.rho(lab, base, "SAM")])
    row = entries[1].equal_epochs[0].row
    radius = dict(row.options)["rho"] if row else 0.0
    watched = [common.watched(lab, training) for training in entries[1].equal_epochs]
    looks = {epoch: measured(watched, TheoremTwo(radius), epoch) for epoch in common.epochs(lab)}
    yield [measurement for measurements in looks.values() for measurement in measurements]
    return entries, looks


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """The bound says nothing at any time."""
    entries, looks = found
    rows = [
        (f"epoch {epoch}", [Interval.of(figures(results, looks[epoch], what)) for what in COLUMNS]) for epoch in looks
    ]
    least = np.min([figures(results, looks[epoch], "value") for epoch in looks], axis=0)
    lowest = Interval.of(least.tolist())
    return Section(
        [Statement("the lowest bound of a training", lowest, above=1.0)],
        f"the lowest bound of a training is {lowest.number()} for a loss that is at most 1: vacuous",
        [
            figures_table("bound", "The bound along SAM's training", list(COLUMNS.values()), rows),
            contest_table("error", "Test error of these trainings", lines(results, "", entries)),
        ],
        [Figure("bound", "The right-hand side of Theorem 2", "epoch", "",
                [Series(what, list(looks), [found[i] for _, found in rows])
                 for i, what in enumerate(list(COLUMNS.values())[:3])])],
        [NOTE],
    )  # fmt: skip


NOTE = (
    "The loss is one less the probability of the right class, which is in [0, 1] as the theorem needs. The bound is "
    "above 1 whenever a network of more weights than examples is trained: it says nothing, and the paper does not "
    "claim that it does. The worst loss is the best that a search found. The proviso, that weights are no worse "
    "than their surroundings, is measured on test data; its margin should not be negative."
)

CLAIM = Claim(
    "j",
    "Theorem 2's bound can be computed, and is vacuous",
    "Theorem 2 is stated without numbers",
    ask,
    judge,
)
