"""What intervals over seeds say about a statement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.interval import Interval


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
    "About one in twenty intervals misses by chance, and nothing is corrected for that: the more statements a claim is "
    "split into, the likelier that one fails, so their verdicts are counted beside it."
)


def verdict(statements: Sequence[Statement]) -> str:
    """The verdict on a claim from those on its statements."""
    found = [statement.verdict for statement in statements]
    if NOT_REPRODUCED in found:
        return NOT_REPRODUCED
    return REPRODUCED if found and set(found) == {REPRODUCED} else UNDECIDED


def tally(statements: Sequence[Statement]) -> str:
    """How many statements have which verdict."""
    counts = Counter(statement.verdict for statement in statements)
    told = [f"{counts[which]} {which}" for which in (REPRODUCED, NOT_REPRODUCED, UNDECIDED) if counts[which]]
    return f"of {len(statements)} statements " + ", ".join(told)


def less(text: str, ours: Sequence[float], theirs: Sequence[float]) -> Statement:
    """That ours, paired by seed with theirs, are lower; both are shares."""
    return Statement(text, Interval.of(np.subtract(ours, theirs).tolist()), below=0.0, unit=100)
