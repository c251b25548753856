"""Longer training: SGD overfits, SAM keeps improving."""

from typing import Any

import numpy as np

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import lasting
from benchmarks.paper.intervals import Statement
from benchmarks.paper.lab import Asking, Lab, Results, best, errors, together, tuned_base
from benchmarks.paper.section import Figure, Section, Series, figures_table
from benchmarks.paper.training import Training

DOUBLINGS = (0.5, 1, 2, 4, 8)
NOISES = (0.0, 0.4)


def lengths(lab: Lab) -> list[int]:
    """Epochs, each twice those before."""
    return [max(1, round(lab.epochs * times)) for times in DOUBLINGS]


def ask(lab: Lab) -> Asking[Any]:
    """SGD and SAM, its radius chosen at the usual length, for every number of epochs."""
    base = yield from tuned_base(lab)
    noisy = [base.but(noise=noise) for noise in NOISES]
    sams = yield from together([best(lab, common.rho(lab, one, "SAM").candidates) for one in noisy])
    found: dict[tuple[str, float, int], list[Training]] = {}
    for noise, *pair in zip(NOISES, noisy, sams, strict=True):
        for name, training in zip(("SGD", "SAM"), pair, strict=True):
            found |= {(name, noise, n): lab.over_seeds(lasting(training, n)) for n in lengths(lab)}
    yield [training for trainings in found.values() for training in trainings]
    return found


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """The longest training against the usual one, for both."""
    tests = {place: errors(results, trainings) for place, trainings in found.items()}
    n, statements, figures, tables, ours = lengths(lab), [], [], [], []
    for noise in NOISES:
        where = f"{noise:.0%} of labels replaced" if noise else "clean labels"
        after = {name: np.subtract(tests[name, noise, n[-1]], tests[name, noise, n[1]]) for name in ("SGD", "SAM")}
        grown, fallen = (Interval.of(after[name].tolist()) for name in ("SGD", "SAM"))
        text = f"from {n[1]} to {n[-1]} epochs, {where}"
        statements.append(Statement(f"SGD's error grows {text}", grown, above=0.0, unit=100))
        statements.append(Statement(f"SAM's error falls {text}", fallen, below=0.0, unit=100))
        ours.append(f"{text}: SGD by {grown.percent()} points, SAM by {fallen.percent()}")
        rows = []
        for place, epochs in enumerate(n):
            half = tests.get(("SAM", noise, n[place - 1])) if place else None
            rows.append((f"{epochs} epochs", [
                Interval.of(tests["SGD", noise, epochs]), Interval.of(tests["SAM", noise, epochs]),
                Interval.of(half) if half else Interval(np.nan, np.nan, np.nan),
            ]))  # fmt: skip
        columns = ["SGD", "SAM, equal epochs", "SAM, equal gradient evaluations"]
        tables.append(figures_table(f"epochs-{noise:g}", f"Test error in %, {where}", columns, rows, 100))
        series = [
            Series(name, [times * e for e in n], [Interval.of(tests[name, noise, e]) for e in n])
            for name, times in (("SGD", 1), ("SAM", 2))
        ]
        figures.append(Figure(f"epochs-{noise:g}", f"Test error, {where}",
                              "gradient evaluations, in epochs of SGD", "test error", series, logx=True))  # fmt: skip
    return Section(statements, "; ".join(ours), tables, figures)


CLAIM = Claim(
    "b",
    "Longer training: SGD overfits, SAM keeps improving",
    "Table 2, ImageNet top-1 error at 100, 200, 400 epochs: ResNet-101 with SGD 21.2, 20.9, 22.3 %, with SAM 20.2, "
    "19.4, 19.0 %; ResNet-152 with SGD 20.4, 20.3, 20.9 %, with SAM 19.2, 18.5, 18.4 %",
    ask,
    judge,
)
