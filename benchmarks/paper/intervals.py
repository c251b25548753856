"""Intervals of means over seeds, and what they say about a statement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.summary import Estimate

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % confidence interval by Student's t; infinitely wide from one value."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The interval from these values, one for each seed."""
        found = Estimate.of([float(value) for value in values])
        if math.isnan(found.standard_error):
            return cls(found.mean, -math.inf, math.inf)
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * found.standard_error
        return cls(found.mean, found.mean - reach, found.mean + reach)

    def overlaps(self, other: Interval) -> bool:
        """Whether the two have a point in common."""
        return self.low <= other.high and other.low <= self.high

    def percent(self) -> str:
        """As a percentage: `5.4 ± 0.3`."""
        return Interval(100 * self.mean, 100 * self.low, 100 * self.high).number("0.1f")

    def number(self, how: str = ".3g") -> str:
        """The mean and half the width; nothing where there is no mean."""
        if math.isnan(self.mean):
            return ""
        reach = self.high - self.mean
        return f"{self.mean:{how}}" if math.isinf(reach) else f"{self.mean:{how}} ± {reach:{how}}"


@dataclass(frozen=True)
class Statement:
    """That a quantity lies below a number, or above one.

    Attributes:
        text: what is stated.
        found: the quantity's interval.
        below: what it is stated to lie below, if so.
        above: what it is stated to lie above, if so.
        unit: what numbers are multiplied by to be shown: 100 for percentage points.
    """

    text: str
    found: Interval
    below: float | None = None
    above: float | None = None
    unit: float = 1.0

    @property
    def verdict(self) -> str:
        """By where the whole interval lies: on the stated side, on the other side, or across."""
        low, high, mark = self.found.low, self.found.high, self.below
        if mark is None:
            low, high, mark = -self.found.high, -self.found.low, -(self.above or 0.0)
        return REPRODUCED if high < mark else NOT_REPRODUCED if low > mark else UNDECIDED


REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "cannot be judged at this scale"

RULE = (
    "Every claim is split into statements that a quantity, computed for each seed, lies below or above a number: most "
    "often that a difference of test errors, of trainings that share weights, labels and batches, lies below 0. A "
    f"statement is {REPRODUCED} where the whole 95 % interval of the mean over seeds (Student's t) lies on the stated "
    f"side, {NOT_REPRODUCED} where all of it lies on the other side, and {UNDECIDED} where it has the number inside. A "
    f"claim is {NOT_REPRODUCED} if one of its statements is, {REPRODUCED} if all of them are, and else {UNDECIDED}. "
    "Several statements are judged, so about one in twenty intervals misses by chance."
)


def verdict(statements: Sequence[Statement]) -> str:
    """The verdict on a claim from those on its statements."""
    found = [statement.verdict for statement in statements]
    if NOT_REPRODUCED in found:
        return NOT_REPRODUCED
    return REPRODUCED if found and set(found) == {REPRODUCED} else UNDECIDED


def less(text: str, ours: Sequence[float], theirs: Sequence[float]) -> Statement:
    """That ours, paired by seed with theirs, are lower; both are shares."""
    return Statement(text, Interval.of(np.subtract(ours, theirs).tolist()), below=0.0, unit=100)
