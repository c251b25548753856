"""The Hessian's spectrum through training, without batch normalisation."""

from typing import Any

import numpy as np

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, lines
from benchmarks.paper.intervals import Statement
from benchmarks.paper.lab import Asking, Lab, Results, measured, tuned_base
from benchmarks.paper.measure import Spectrum
from benchmarks.paper.section import Figure, Section, Series, contest_table, figures_table

TOP = 5


def ask(lab: Lab) -> Asking[Any]:
    """SGD and SAM, and their spectra at four epochs."""
    base = yield from tuned_base(lab)
    entries = yield from compete(lab, [common.sgd(base), common.rho(lab, base, "SAM")])
    looks = {
        (entry.name, epoch): measured(
            [common.watched(lab, training) for training in entry.equal_epochs], Spectrum(TOP, lab.examples), epoch
        )
        for entry in entries
        for epoch in common.epochs(lab)
    }
    yield [measurement for measurements in looks.values() for measurement in measurements]
    return entries, looks


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """SAM ends where the largest eigenvalue is smaller, and its ratio to the fifth too."""
    entries, looks = found
    values = {place: np.array([results.load(m)["values"] for m in ms]) for place, ms in looks.items()}
    largest = {place: v[:, 0] for place, v in values.items()}
    ratio = {place: v[:, 0] / v[:, -1] for place, v in values.items()}
    last, statements, ours = common.epochs(lab)[-1], [], []
    for what, of in (("largest eigenvalue", largest), (f"largest over {TOP}th eigenvalue", ratio)):
        sgd, sam = of["SGD", last], of["SAM", last]
        statements.append(Statement(f"{what} at the end, SAM's over SGD's", Interval.of((sam / sgd).tolist()), below=1))
        ours.append(f"{what}: SGD {Interval.of(sgd.tolist()).number()}, SAM {Interval.of(sam.tolist()).number()}")
    columns = ["largest eigenvalue", f"largest over {TOP}th"]
    rows = [
        (f"{who}, epoch {epoch}", [Interval.of(of[who, epoch].tolist()) for of in (largest, ratio)])
        for who, epoch in values
    ]
    series = [
        Series(who, common.epochs(lab), [Interval.of(largest[who, e].tolist()) for e in common.epochs(lab)])
        for who in ("SGD", "SAM")
    ]
    return Section(
        statements,
        "; ".join(ours),
        [
            figures_table("spectrum", f"Spectrum of the Hessian on {lab.examples} training examples", columns, rows),
            contest_table("error", "Test error of these trainings", lines(results, "", entries)),
        ],
        [Figure("largest", "Largest eigenvalue of the Hessian", "epoch", "largest eigenvalue", series, logy=True)],
    )


CLAIM = Claim(
    "e",
    "SAM ends at flatter minima",
    "Figure 3, left, WRN-40-10 without batch normalisation, CIFAR-10: the largest eigenvalue falls from about 24 with "
    "SGD to 1.0 with SAM, its ratio to the fifth from 11.4 to 2.6",
    ask,
    judge,
)
