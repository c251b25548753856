"""What came of walking a row in both frameworks, and what is asked of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.agreement_rows import CONTROL
from benchmarks.agreement_task import LIMIT, LIMITED, TASKS


@dataclass(frozen=True)
class Walked:
    """How far the weights of the two frameworks are apart after each step.

    Attributes:
        task: its name.
        row: its name.
        distances: the Euclidean norms of the differences.
        sizes: those of PyTorch's weights.
    """

    task: str
    row: str
    distances: tuple[float, ...]
    sizes: tuple[float, ...]

    @property
    def relative(self) -> tuple[float, ...]:
        """The distances in units of the weights' size."""
        return tuple(d / s for d, s in zip(self.distances, self.sizes, strict=True))

    @property
    def largest(self) -> float:
        """The largest relative distance; NaN, which a path that diverges leaves, counts as infinite."""
        return max(x if x == x else float("inf") for x in self.relative)


def of_task(found: Iterable[Walked], task: str) -> list[Walked]:
    """The rows of this task, the farthest first, without the control."""
    return sorted((w for w in found if w.task == task and w.row != CONTROL), key=lambda w: -w.largest)


def faults(found: Sequence[Walked]) -> list[str]:
    """What is not as it should be: rows that come apart, and a control that does not."""
    title = TASKS[LIMITED].title
    wrong = [
        f"{walked.row} on the {title}: the frameworks are {walked.largest:.1e} apart, more than {LIMIT:g}"
        for walked in of_task(found, LIMITED)
        if walked.largest > LIMIT
    ]
    blind = [w for w in found if (w.task, w.row) == (LIMITED, CONTROL) and w.largest <= LIMIT]
    return wrong + [f"the control on the {title} is only {w.largest:.1e} apart: the comparison is blind" for w in blind]
