"""Timing that means something on a machine that does other things too: in turn, in pairs, and by the median."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

WARM_UP = 3


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, and an interval that covers the true median with 95 % or more, whatever the noise is like."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        """The ratio that these were measured of; the interval runs between order statistics, as in a sign test."""
        ordered, n = sorted(ratios), len(ratios)
        skipped, outside = 0, 0.0
        while (outside := outside + 2 * comb(n, skipped) / 2**n) <= 0.05:
            skipped += 1
        edge = max(skipped - 1, 0)
        return cls(statistics.median(ordered), ordered[edge], ordered[n - 1 - edge])

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""What passes for everyone, and what this process takes of all processors: the latter is not prolonged by others."""


def in_turn(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """The seconds that each contender takes in each round, after a warm-up; every round begins with another of them."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-WARM_UP, rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begin = clock()
            contenders[name]()
            elapsed = clock() - begin
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds


def relative(seconds: Mapping[str, Sequence[float]], name: str, to: str) -> Ratio:
    """How long `name` takes, in units of what `to` takes in the same round."""
    return Ratio.of([a / b for a, b in zip(seconds[name], seconds[to], strict=True)])
