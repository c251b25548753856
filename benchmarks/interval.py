"""A mean over seeds with its confidence interval, and what that says of a difference."""

import statistics
from collections.abc import Sequence
from math import nan, sqrt
from typing import NamedTuple

import scipy.special


class Interval(NamedTuple):
    """A mean, and how far the true one may be from it with a confidence of 95 %: unknown from one value."""

    mean: float
    reach: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Student's interval from these values."""
        n = len(values)
        error = statistics.stdev(values) / sqrt(n) if n > 1 else nan
        return cls(statistics.fmean(values), error * float(scipy.special.stdtrit(n - 1, 0.975)) if n > 1 else nan)

    def __str__(self) -> str:
        return f"{self.mean:.3g}" if self.reach != self.reach else f"{self.mean:.3g} ± {self.reach:.2g}"

    @property
    def verdict(self) -> str:
        """What it says of a difference."""
        if self.reach != self.reach:
            return "one seed cannot tell"
        if abs(self.mean) <= self.reach:
            return "cannot be told"
        return "falls" if self.mean < 0 else "rises"
