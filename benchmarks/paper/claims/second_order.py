"""The second-order term that SAM leaves out."""

from typing import Any

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, lines, named
from benchmarks.paper.intervals import Statement
from benchmarks.paper.lab import Asking, Lab, Results, figures, measured, tuned_base
from benchmarks.paper.measure import UpdateCosine
from benchmarks.paper.section import Figure, Section, Series, contest_table, figures_table

FULL = "SAM with the second-order term"
ALIKE = 0.9


def ask(lab: Lab) -> Asking[Any]:
    """SAM with and without the term, and the cosine of the two updates at SAM's weights."""
    base = yield from tuned_base(lab)
    arms = [common.sgd(base), common.rho(lab, base, "SAM"), common.rho(lab, base, FULL, second_order=True)]
    entries = yield from compete(lab, arms)
    row = entries[1].equal_epochs[0].row
    radius = dict(row.options)["rho"] if row else 0.0
    watched = [common.watched(lab, training) for training in entries[1].equal_epochs]
    looks = {epoch: measured(watched, UpdateCosine(radius, lab.examples), epoch) for epoch in common.epochs(lab)}
    yield [measurement for measurements in looks.values() for measurement in measurements]
    return entries, looks


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """The updates agree at first, less so at the end, and SAM has the lower error."""
    entries, looks = found
    here = lines(results, "", entries)
    cosines = {epoch: figures(results, measurements, "cosine") for epoch, measurements in looks.items()}
    first, *_, last = cosines
    fall = [after - before for before, after in zip(cosines[first], cosines[last], strict=True)]
    statements = [
        Statement(f"cosine of the updates after epoch {first}", Interval.of(cosines[first]), above=ALIKE),
        Statement(f"change of the cosine from epoch {first} to {last}", Interval.of(fall), below=0.0),
        *common.lower(named(here, "SAM"), named(here, FULL)),
    ]
    rows = [(f"epoch {epoch}", [Interval.of(values)]) for epoch, values in cosines.items()]
    series = [Series("cosine", list(cosines), [interval for _, (interval,) in rows])]
    return Section(
        statements,
        ", ".join(f"cosine {i.number()} after {label}" for label, (i,) in rows)
        + "; "
        + common.AT_BUDGET
        + common.told(here),
        [
            contest_table("error", "Test error with and without the second-order term", here),
            figures_table("cosine", "Cosine of the two updates at SAM's weights", ["cosine"], rows),
        ],
        [Figure("cosine", "Cosine of SAM's update with and without the second-order term", "epoch", "cosine", series)],
    )


CLAIM = Claim(
    "f",
    "The second-order term can be left out",
    "Appendix C.4, WRN-40x2, CIFAR-10, figures only: the cosine of the two updates is about 1 in the first half of the "
    "training and lower near its end; without the term the test error is lower",
    ask,
    judge,
)
