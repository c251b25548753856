"""Which variant is worth its cost: error against gradient evaluations, for every row of the family and SGD."""

from __future__ import annotations

import inspect
from typing import Any

import samfamily
from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import Arm, Line, arm, at_budget, compete, lines, named
from benchmarks.paper.intervals import REPRODUCED
from benchmarks.paper.lab import RATES, Asking, Lab, Results, errors, together, tuned_base
from benchmarks.paper.section import Figure, Section, Series, contest_table
from benchmarks.paper.training import Training

NOISES = (0.0, 0.4)
BUDGETS = (0.5, 1, 2)
FACTORS = (0.5, 1.0, 2.0, 4.0)
LEFT_OUT = {"SAMON": "perturbs normalisation layers, of which the network has none"}
STARTING = {"RandomSmoothing": 0.5}
"""Radii in the place of a row's default, where that was made for networks of another size."""
OPTIONS: dict[str, dict[str, Any]] = {"WSAM": {"decoupled": False}}


def arms(lab: Lab, base: Training) -> list[Arm]:
    """SGD, its rate to be chosen among as many as the radii of each row."""
    found = [arm("SGD", lab.some(RATES), lambda rate: base.but(learning_rate=rate))]
    for name, build in samfamily.FAMILY.items():
        if name not in LEFT_OUT:
            options = OPTIONS.get(name, {})
            if "lr" in inspect.signature(build).parameters:
                options = {**options, "lr": base.recipe.learning_rate}
            start = float(STARTING.get(name) or inspect.signature(build).parameters["rho"].default)
            radii = [factor * start for factor in FACTORS]
            found.append(common.rho(lab, base, name, name, radii, **options))
    return found


def one(lab: Lab, base: Training) -> Asking[Any]:
    """Every arm, tuned at equal epochs, then at three budgets."""
    entries = yield from compete(lab, arms(lab, base))
    frontier = {
        (entry.name, times): lab.over_seeds(at_budget(entry.equal_epochs[0], times * lab.budget))
        for entry in entries
        for times in BUDGETS
    }
    yield [training for trainings in frontier.values() for training in trainings]
    return entries, frontier


def ask(lab: Lab) -> Asking[Any]:
    """Clean and noisy labels."""
    base = yield from tuned_base(lab)
    return (yield from together([one(lab, base.but(noise=noise)) for noise in NOISES]))


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """SAM below SGD at the same budget; and one plot for all."""
    statements, tables, drawn, ours = [], [], [], []
    for noise, (entries, frontier) in zip(NOISES, found, strict=True):
        where = f"{noise:.0%} of labels replaced" if noise else "clean labels"
        here = lines(results, where, entries)
        sgd = named(here, "SGD")
        statements += common.lower(named(here, "SAM"), sgd)[1:]
        ordered = sorted(here, key=lambda line: line.at_budget.mean)
        tables.append(contest_table(f"frontier-{noise:g}", f"Every row, best first, {where}", ordered))
        below = [line.entry.name for line in ordered if cheaper(line, sgd)]
        ours.append(f"{where}: below SGD at the same gradient evaluations: {', '.join(below) or 'none'}")
        spent = [
            Series(
                line.entry.name,
                [frontier[line.entry.name, times][0].evaluations for times in BUDGETS],
                [Interval.of(errors(results, frontier[line.entry.name, times])) for times in BUDGETS],
            )
            for line in ordered
        ]
        timed = [Series(line.entry.name, [line.seconds], [line.at_epochs]) for line in ordered]
        shown = f"gradients-{noise:g}", f"Test error, {where}", "gradient evaluations", "test error"
        drawn.append(Figure(*shown, outlined(spent), logx=True, ceiling=ceiling(spent, "SGD")))
        shown = f"seconds-{noise:g}", f"Test error at equal epochs, {where}", "seconds of one core", "test error"
        drawn.append(Figure(*shown, outlined(timed), joined=False, ceiling=ceiling(timed, "SGD")))
    notes = [NOTE, *(f"{name} is left out: it {why}." for name, why in LEFT_OUT.items())]
    return Section(statements, "; ".join(ours), tables, drawn, notes)


def cheaper(line: Line, sgd: Line) -> bool:
    """Whether this row has the lower error for the same gradient evaluations."""
    return common.lower(line, sgd)[1].verdict == REPRODUCED


def outlined(series: list[Series]) -> list[Series]:
    """The series with all quiet but SGD, SAM, and those with a point that no point beats in cost and in error."""
    points = [(x, y.mean, one.name) for one in series for x, y in zip(one.x, one.y, strict=True)]
    front = {
        name
        for x, error, name in points
        if not any(cost <= x * NEAR and other < error and who != name for cost, other, who in points)
    }
    told = [one._replace(quiet=one.name not in front.union(ALWAYS)) for one in series]
    return sorted(told, key=lambda one: ALWAYS.index(one.name) if one.name in ALWAYS else len(ALWAYS))


def ceiling(series: list[Series], name: str) -> float:
    """Above which nothing is drawn: half as much again as the highest error of this one."""
    return 1.5 * max(y.mean for one in series if one.name == name for y in one.y)


ALWAYS = ["SGD", "SAM"]
"""Named, and in these colours, whether or not they are on the frontier."""
NEAR = 1.02
"""Costs are equal that differ by less: a budget is rounded to whole epochs."""

NOTE = (
    "The figures name SGD, SAM and the frontier: the rows with a point that none beats in cost and in mean error. The "
    "other rows are grey, and rows whose error is beyond the figure are in the tables alone. Among so many rows the "
    "best mean is partly luck: compare intervals. SGD's setting is its learning rate; a row's is rho, among half, "
    "once, twice and four times its default (RandomSmoothing: of 0.5), at the learning rate that suits SGD on clean "
    "labels."
)

CLAIM = Claim(
    "l",
    "Which variant is worth its cost",
    "does not ask this: it counts two gradients a step",
    ask,
    judge,
)
