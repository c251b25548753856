"""What several claims share: grids of radii, arms, and the snapshots that are looked at."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.paper.contest import Arm, Line, arm, fixed
from benchmarks.paper.intervals import Statement, less
from benchmarks.paper.lab import Lab
from benchmarks.paper.training import Row, Training, row

RADII = (0.025, 0.05, 0.1, 0.2, 0.4)
ADAPTIVE_RADII = (0.125, 0.25, 0.5, 1.0, 2.0)
MOMENTUM_RADII = (0.05, 0.1, 0.3, 0.6, 1.2)
REACH = {"mlp": 2.0}
"""By how much larger all radii of a grid are for a network whose best would else be the grid's last."""


def sgd(base: Training, name: str = "SGD") -> Arm:
    """The base optimizer alone."""
    return fixed(name, base)


def rho(
    lab: Lab,
    base: Training,
    name: str,
    row_name: str = "SAM",
    radii: Any = RADII,
    wrap: Callable[[Row], Training] | None = None,
    **options: Any,
) -> Arm:
    """A row of the family, its radius to be chosen; `wrap` makes the training with it, by default the base's."""
    with_row = wrap or (lambda how: base.but(row=how))
    return arm(name, reach(base, lab.some(radii)), lambda value: with_row(row(row_name, rho=value, **options)))


def reach(base: Training, radii: Sequence[float]) -> list[float]:
    """The radii that are tried on this network for those of the usual grid."""
    return [REACH.get(base.network, 1.0) * radius for radius in radii]


def watched(lab: Lab, training: Training) -> Training:
    """The training with snapshots: after its first epoch, a fifth, a half and all of it."""
    return training.but(snapshots=epochs(lab))


def epochs(lab: Lab) -> tuple[int, ...]:
    """The epochs of those snapshots."""
    return tuple(sorted({1, max(1, lab.epochs // 5), max(1, lab.epochs // 2), lab.epochs}))


def lower(ours: Line, theirs: Line) -> list[Statement]:
    """That ours has the lower test error, at equal epochs and at equal gradient evaluations."""
    where = f", {ours.group}" if ours.group else ""
    text = f"{ours.entry.name} below {theirs.entry.name}{where}, "
    return [
        less(text + "equal epochs", ours.epochs, theirs.epochs),
        less(text + "equal gradient evaluations", ours.budget, theirs.budget),
    ]


AT_BUDGET = "test error at equal gradient evaluations: "


def told(lines: list[Line]) -> str:
    """The errors at equal gradient evaluations in a phrase."""
    return "; ".join(f"{line.entry.name} {line.at_budget.percent()} %" for line in lines)
