"""More steps of the inner maximisation."""

from typing import Any

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, lines, named
from benchmarks.paper.intervals import Statement
from benchmarks.paper.lab import Asking, Lab, Results, best, figures, measured, tuned_base
from benchmarks.paper.measure import Climb
from benchmarks.paper.section import Section, contest_table, figures_table
from benchmarks.paper.training import row

STEPS = (1, 2, 3, 5)
MARGIN = 0.01


def ask(lab: Lab) -> Asking[Any]:
    """SAM with several climbs, at the radius that is best with one, and the sharpness that each sees."""
    base = yield from tuned_base(lab)
    one = yield from best(lab, common.rho(lab, base, "SAM").candidates)
    radius = dict(one.row.options)["rho"] if one.row else 0.0
    arms = [common.rho(lab, base, name(steps), radii=(radius,), steps=steps) for steps in STEPS]
    entries = yield from compete(lab, [common.sgd(base), *arms])
    looks = {
        steps: measured(entry.equal_epochs, Climb(row("SAM", rho=radius, steps=steps), lab.examples))
        for steps, entry in zip(STEPS, entries[1:], strict=True)
    }
    yield [measurement for measurements in looks.values() for measurement in measurements]
    return entries, looks


def name(steps: int) -> str:
    """An arm's name."""
    return f"SAM, {steps} step{'s' * (steps > 1)}"


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """More steps see more sharpness, and leave the error as it is."""
    entries, looks = found
    here = lines(results, "", entries)
    rises = {steps: figures(results, measurements, "rise") for steps, measurements in looks.items()}
    many, one = named(here, name(STEPS[-1])), named(here, name(1))
    change = Interval.of([a - b for a, b in zip(many.epochs, one.epochs, strict=True)])
    ratio = Interval.of([a / b for a, b in zip(rises[STEPS[-1]], rises[1], strict=True)])
    text = f"{STEPS[-1]} steps less 1, test error at equal epochs"
    statements = [
        Statement(f"measured sharpness, {STEPS[-1]} steps over 1", ratio, above=1.0),
        Statement(text, change, below=MARGIN, unit=100),
        Statement(text, change, above=-MARGIN, unit=100),
    ]
    rows = [(name(steps), [Interval.of(values)]) for steps, values in rises.items()]
    return Section(
        statements,
        "test error at equal epochs: "
        + "; ".join(f"{line.entry.name} {line.at_epochs.percent()} %" for line in here)
        + "; sharpness "
        + ", ".join(interval.number() for _, (interval,) in rows),
        [
            contest_table("error", "Test error by inner steps", here),
            figures_table("sharpness", "Rise of the training loss where each climbs to, with the radius and the steps "
                          "that it was trained with", ["rise"], rows),
        ],
        (),
        [NOTE],
    )  # fmt: skip


NOTE = (
    "Every climb starts from the weights again and stays within rho here, so that more steps find a better point of "
    "the same ball."
)

CLAIM = Claim(
    "h",
    "More inner steps see more sharpness, and do not lower the error",
    "Table 11, 1, 2, 3, 5 steps, CIFAR-10: error 2.77, 2.76, 2.73, 2.77 % (± 0.03 to 0.04), sharpness 0.17, 0.82, "
    "1.49, 2.26",
    ask,
    judge,
)
