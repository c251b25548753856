"""A mean over seeds with its confidence interval, and what that says of a difference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

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
        n, mean = len(values), statistics.fmean(values)
        if n < 2:
            return cls(mean, -math.inf, math.inf)
        error = statistics.stdev(map(float, values)) / math.sqrt(n)
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
        return cls(mean, mean - reach, mean + reach)

    @property
    def reach(self) -> float:
        """Half the width."""
        return self.high - self.mean

    @property
    def verdict(self) -> str:
        """What it says of a difference."""
        if math.isinf(self.reach):
            return "one seed cannot tell"
        if self.low <= 0 <= self.high:
            return "cannot be told"
        return "falls" if self.mean < 0 else "rises"

    def overlaps(self, other: Interval) -> bool:
        """Whether the two have a point in common."""
        return self.low <= other.high and other.low <= self.high

    def percent(self) -> str:
        """As a percentage: `5.4 ± 0.3`."""
        return Interval(100 * self.mean, 100 * self.low, 100 * self.high).number("0.1f", "0.1f")

    def number(self, how: str = ".3g", width: str = ".3g") -> str:
        """The mean and half the width; nothing where there is no mean."""
        if math.isnan(self.mean):
            return ""
        return f"{self.mean:{how}}" if math.isinf(self.reach) else f"{self.mean:{how}} ± {self.reach:{width}}"

    def __str__(self) -> str:
        return self.number(width=".2g")
