"""How much the radius matters."""

from typing import Any

from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, fixed, lines, named
from benchmarks.paper.intervals import less
from benchmarks.paper.lab import Asking, Lab, Results, together, tuned_base
from benchmarks.paper.section import Figure, Section, Series, contest_table
from benchmarks.paper.training import row

NOISES = (0.0, 0.4, 0.8)
RADII = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
MIDDLE = (0.05, 0.1)


def ask(lab: Lab) -> Asking[Any]:
    """Every radius at every level of noise, and SGD: rho = 0."""
    base = yield from tuned_base(lab)
    contests = []
    for noise in NOISES:
        noisy = base.but(noise=noise)
        arms = [fixed(name(radius), noisy.but(row=row("SAM", rho=radius))) for radius in RADII]
        contests.append(compete(lab, [common.sgd(noisy, name(0.0)), *arms]))
    return (yield from together(contests))


def name(radius: float) -> str:
    """An arm's name."""
    return f"rho = {radius:g}"


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """Usual radii help, and too large a one hurts."""
    groups = [lines(results, f"{noise:.0%} replaced", entries) for noise, entries in zip(NOISES, found, strict=True)]
    statements = []
    for here in groups:
        for radius in MIDDLE:
            statements += common.lower(named(here, name(radius)), named(here, name(0.0)))
        usual, large = named(here, name(MIDDLE[-1])), named(here, name(RADII[-1]))
        text = f"{name(MIDDLE[-1])} below {name(RADII[-1])}, {here[0].group}, equal epochs"
        statements.append(less(text, usual.epochs, large.epochs))
    figures = []
    for at, title in (("at_budget", "equal gradient evaluations"), ("at_epochs", "equal epochs")):
        series = [Series(here[0].group, RADII, [getattr(line, at) for line in here[1:]]) for here in groups]
        figures.append(Figure(at.replace("_", "-"), f"Test error, {title}", "rho", "test error", series, logx=True))
    table = contest_table("radii", "Test error by radius", [line for here in groups for line in here])
    best = [min(here, key=lambda line: line.at_epochs.mean) for here in groups]
    ours = "the lowest test error at equal epochs: " + "; ".join(f"{b.group}: {b.entry.name}" for b in best)
    return Section(statements, ours, [table], figures)


CLAIM = Claim(
    "i",
    "SAM helps over a range of radii",
    "Table 6 and Appendix C.3: the chosen rho is 0.02 to 0.05 on CIFAR-10, 0.05 to 0.2 on CIFAR-100; Table 8, test "
    "error of bootstrap + SAM at 40 % noise for rho 0, 0.05, 0.1, 0.2, 0.5: 31.2, 25.6, 6.0, 7.4, 40.9 %",
    ask,
    judge,
)
