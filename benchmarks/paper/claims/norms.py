"""The ball: p = 2 against p = inf, p = 1 and random directions."""

from math import inf
from typing import Any

from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import Arm, compete, lines, named
from benchmarks.paper.lab import Asking, Lab, Results, together, tuned_base
from benchmarks.paper.section import Section, contest_table
from benchmarks.paper.training import Training

NOISES = (0.0, 0.4)
CORNERS = (0.0005, 0.001, 0.002, 0.004, 0.008)
SINGLE = (0.05, 0.1, 0.2, 0.4, 0.8)
RANDOM = (0.25, 0.5, 1.0, 2.0, 4.0)


def arms(lab: Lab, base: Training) -> list[Arm]:
    """One arm for each ball; radii are in its own norm."""
    return [
        common.sgd(base),
        common.rho(lab, base, "p = 2", p=2.0),
        common.rho(lab, base, "p = inf", radii=CORNERS, p=inf),
        common.rho(lab, base, "p = 1", radii=SINGLE, p=1.0),
        common.rho(lab, base, "random direction", "RandomSmoothing", RANDOM),
    ]


def ask(lab: Lab) -> Asking[Any]:
    """The contest on clean and on noisy labels."""
    base = yield from tuned_base(lab)
    return (yield from together([compete(lab, arms(lab, base.but(noise=noise))) for noise in NOISES]))


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """The Euclidean ball below the cube, and that below random directions."""
    groups = [lines(results, f"{noise:.0%} replaced", entries) for noise, entries in zip(NOISES, found, strict=True)]
    statements = []
    for here in groups:
        statements += common.lower(named(here, "p = 2"), named(here, "p = inf"))
        statements += common.lower(named(here, "p = inf"), named(here, "random direction"))
    tables = [contest_table("balls", "Test error by ball", [line for here in groups for line in here])]
    ours = common.AT_BUDGET + "; ".join(f"{here[0].group}: {common.told(here)}" for here in groups)
    return Section(statements, ours, tables)


CLAIM = Claim(
    "g",
    "The Euclidean ball is best, and random directions are worst",
    "Appendix C.5, a figure: p = 2 has the lowest error, then p = inf, then random directions; p = 1 is not tried",
    ask,
    judge,
)
