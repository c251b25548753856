"""What a backend hands to `overhead`: figures that it has counted, and contests that are to be timed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.contest import Ratio

Step = Callable[[], object]


@dataclass(frozen=True)
class Goal:
    """Where a figure should lie.

    Example:
        >>> str(Goal(1.05)), str(Goal(2.02, 1.98)), Goal(1.05).verdict(1.01, 1.04)
        ('at most 1.05', '1.98 to 2.02', 'reached')
    """

    high: float
    low: float | None = None

    def __str__(self) -> str:
        if self.low is None:
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}" if self.low < self.high else f"{self.high:g}"

    def verdict(self, low: float, high: float) -> str:
        """Whether a figure that lies between these two lies where it should."""
        least = low if self.low is None else self.low
        if least <= low and high <= self.high:
            return "reached"
        return "missed" if low > self.high or high < least else "cannot be told"


class Counted(NamedTuple):
    """A figure that does not depend on the machine's speed.

    Attributes:
        who: whose figure it is.
        what: what was counted, and in which unit.
        value: how many.
        goal: where it should lie, if anywhere.
    """

    who: str
    what: str
    value: float
    goal: Goal | None = None


class Compared(NamedTuple):
    """A contender whose time is stated in units of another's.

    Attributes:
        step: the contender.
        unit: the other one.
        goal: where the ratio should lie, if anywhere.
    """

    step: str
    unit: str
    goal: Goal | None = None


@dataclass(frozen=True)
class Contest:
    """Steps that are timed in turn.

    Attributes:
        title: of its table, and its name among the figures.
        contenders: makes the steps, each with its name.
        compared: which of them are compared with which.
        rounds: how often each is timed.
        absent: who would take part too, and why not.
    """

    title: str
    contenders: Callable[[], Iterable[tuple[str, Step]]]
    compared: Sequence[Compared]
    rounds: int
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """Where steps are timed.

    Attributes:
        name: what it is.
        take: makes of a task the same one there.
        clock: what times them, if it is not the user's choice.
    """

    name: str = "the CPU"
    take: Callable[[Any], Any] = lambda task: task
    clock: Callable[[], float] | None = None


class Row(NamedTuple):
    """One row of every table of `overhead`: a figure of somebody, and whether it lies where it should."""

    who: str
    what: str
    figure: str
    target: str


HEADINGS = Row("", "figure", "value", "target")


def counted_row(counted: Counted) -> Row:
    """The row of a figure that was counted."""
    return Row(counted.who, counted.what, f"{counted.value:.4g}", _told(counted.goal, counted.value, counted.value))


def compared_row(compared: Compared, ratio: Ratio) -> Row:
    """The row of a ratio that was timed."""
    what = f"time, in units of {compared.unit}"
    return Row(compared.step, what, str(ratio), _told(compared.goal, ratio.low, ratio.high))


def unit_rows(compared: Iterable[Compared], seconds: Mapping[str, Sequence[float]]) -> list[Row]:
    """The rows of what others are measured by: at their best, so that a reader sees how long a step is."""
    units = dict.fromkeys(pair.unit for pair in compared)
    return [Row(unit, "time", f"{min(seconds[unit]) * 1e3:.1f} ms at best", "") for unit in units]


def absent_rows(contest: Contest) -> list[Row]:
    """The rows of those who do not take part."""
    return [Row(who, "time", reason, "") for who, reason in contest.absent.items()]


def _told(goal: Goal | None, low: float, high: float) -> str:
    return "" if goal is None else f"{goal}: {goal.verdict(low, high)}"
