"""Means, standard errors and what may be concluded from them."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cells import Cell, Result
from benchmarks.methods import METHODS, NOISE_LEVELS


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error, unknown from one seed alone."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The estimate from these values."""
        spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), spread)

    def percent(self) -> str:
        """As a percentage with one decimal, e.g. `5.4 ± 0.2`."""
        if math.isnan(self.standard_error):
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} ± {100 * self.standard_error:.1f}"


@dataclass(frozen=True)
class Row:
    """One line of the table: a method on one kind of labels, with one entry for each backend."""

    noise: float
    method: str
    epochs: int
    gradient_evaluations: int
    errors: dict[str, Estimate]
    relative_time: dict[str, float]


def errors(results: Iterable[Result], noise: float, method: str) -> dict[tuple[str, int], float]:
    """The final test error of these trainings, by backend and seed."""
    return {
        (result.cell.backend, result.cell.seed): result.errors[-1]
        for result in results
        if result.cell.noise == noise and result.cell.method == method
    }


def rows(results: Sequence[Result], step_seconds: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """The table. A training's time is its steps times the time of a step, relative to that of SGD."""
    table = []
    for noise in NOISE_LEVELS:
        for method in METHODS:
            found = errors(results, noise, method)
            cell = next(r.cell for r in results if r.cell.noise == noise and r.cell.method == method)
            table.append(
                Row(
                    noise,
                    method,
                    cell.epochs,
                    cell.gradient_evaluations,
                    {b: Estimate.of([e for (name, _), e in found.items() if name == b]) for b in step_seconds},
                    {b: relative_time(cell, seconds) for b, seconds in step_seconds.items()},
                )
            )
    return table


def relative_time(cell: Cell, step_seconds: Mapping[str, float]) -> float:
    """The training's time relative to SGD's in the same backend."""
    factor = cell.how.epoch_factor
    timed = cell.method if cell.method in step_seconds else "sgd"
    return factor * step_seconds[timed] / step_seconds["sgd"]


def difference(results: Sequence[Result], noise: float, method: str, other: str) -> Estimate:
    """By how much the error of `method` exceeds that of `other`, paired by seed, the backends of a seed averaged."""
    ours, theirs = errors(results, noise, method), errors(results, noise, other)
    seeds = sorted({seed for _, seed in ours})
    return Estimate.of([statistics.fmean(ours[key] - theirs[key] for key in ours if key[1] == seed) for seed in seeds])


def mean_error(results: Sequence[Result], noise: float, method: str) -> float:
    """The mean test error over backends and seeds."""
    return statistics.fmean(errors(results, noise, method).values())


def labels(noise: float) -> str:
    """The kind of labels in words."""
    return f"{100 * noise:.0f} % of the training labels replaced at random" if noise else "clean labels"


def capital(text: str) -> str:
    """The text with its first letter raised."""
    return text[:1].upper() + text[1:]


def finding(results: Sequence[Result], baseline: str = "sgd-double") -> str:
    """One sentence for SAM against SGD, whichever way it turns out; the baseline "sgd" compares at equal epochs."""
    parts = []
    for noise in NOISE_LEVELS:
        gap = difference(results, noise, "sam", baseline)
        before, after = (f"{100 * mean_error(results, noise, method):.1f} %" for method in (baseline, "sam"))
        parts.append(verdict(gap, before, after, f"{'with' if noise else 'on'} {labels(noise)}"))
    equal = "epochs" if baseline == "sgd" else "numbers of gradient evaluations"
    return f"At equal {equal}, SAM instead of SGD {', and '.join(parts)}."


def verdict(gap: Estimate, before: str, after: str, where: str) -> str:
    """What a difference in error says: it counts where it exceeds two standard errors of the paired difference."""
    if abs(gap.mean) <= 2 * gap.standard_error:
        return f"makes no difference beyond two standard errors {where} ({before} and {after})"
    caution = ", in the one seed tried" if math.isnan(gap.standard_error) else ""
    return f"{'lowers' if gap.mean < 0 else 'raises'} the test error from {before} to {after} {where}{caution}"
