"""Which radius: successive halving over a grid, then all seeds for the best ones and for the base optimizer.

A radius that is far off shows it early, so every radius trains for a ninth of the steps with one seed, the best four
for a third with two, the best two to the end with all (successive halving: Jamieson and Talwalkar, arXiv 1502.07943).
Each training begins anew, since schedules depend on its length. A radius that ends at the edge of the grid extends it.

The base optimizer trains for as many steps and, where the row takes more than one gradient a step, also for so many
more as take as many gradients; radii are compared with the better of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from benchmarks.interval import Interval
from samfamily import Variant

Train: TypeAlias = Callable[[Variant, int, int], "float | Mapping[str, float]"]
"""`train(variant, steps, seed)`: a score on held-out data, the lower the better, or a mapping that holds it."""
RUNGS = ((9, 1), (3, 2), (1, None))
"""By what the steps are divided, and how many seeds: all of them where None."""
SURVIVORS = (4, 2)
FACTOR = 2.0
EXTENSIONS = 3
"""How often the grid is extended at most."""
LITTLE_LEFT, FAR_OFF = 0.9, 0.3
"""Below which share of a perturbation rounding has taken some of it; above which gap the first-order step is off."""


@dataclass(frozen=True)
class Trial:
    """What came of one training; `effective` and `gap` as far as the function told them."""

    score: float
    effective: float | None = None
    gap: float | None = None

    @classmethod
    def of(cls, told: Any) -> Trial:
        """What a function returned; a score that is not finite is a training that diverged."""
        if isinstance(told, Mapping):
            if "score" not in told:
                raise TypeError(f"train returned {sorted(told)} without 'score': the held-out loss or error")
            return cls(*(None if told.get(k) is None else float(told[k]) for k in ("score", "effective", "gap")))  # type: ignore[arg-type]
        try:
            return cls(float(told))
        except (TypeError, ValueError):
            raise TypeError(f"train returned {told!r}: it must return a number, or a mapping with 'score'") from None


@dataclass
class Search:
    """A search in progress, and what it found.

    Attributes:
        train: the user's function.
        build: the variant of a radius; a row's own `rho`, which is not for all rows how far it goes.
        steps: of a whole training.
        seeds: of the last rung.
        tell: what is said of every training.
        trials: by radius and steps, one for each seed.
    """

    train: Train
    build: Callable[[float], Variant]
    steps: int
    seeds: int
    tell: Callable[[str], None] = lambda line: None
    trials: dict[tuple[float, int], list[Trial]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < RUNGS[0][0]:
            raise ValueError(f"{self.steps} steps leave nothing to stop early from: give at least {RUNGS[0][0]}")

    def __call__(self, radii: Sequence[float]) -> Search:
        """Search this grid."""
        alive = sorted(radii)
        for (share, seeds), survivors in zip(RUNGS, (*SURVIVORS, None), strict=True):
            steps = self.steps // share
            for rho in alive:
                self._train(rho, steps, min(seeds or self.seeds, self.seeds))
            if survivors is not None:
                alive = sorted(sorted(alive, key=lambda rho: self.mean(rho, steps))[:survivors])
        for steps in self.base_lengths:
            self._train(0.0, steps, self.seeds)
        grid = sorted(radii)
        for _ in range(EXTENSIONS):
            if self.best == grid[0]:
                grid.insert(0, grid[0] / FACTOR)
                self._train(grid[0], self.steps, self.seeds)
            elif self.best == grid[-1]:
                grid.append(grid[-1] * FACTOR)
                self._train(grid[-1], self.steps, self.seeds)
        return self

    def mean(self, rho: float, steps: int) -> float:
        """The mean score; infinite where a training diverged."""
        scores = [trial.score for trial in self.trials[rho, steps]]
        return float(np.mean(scores)) if all(map(math.isfinite, scores)) else math.inf

    @property
    def base_lengths(self) -> tuple[int, ...]:
        """How many steps the base optimizer trains for: as many as a radius, and as many as take as many gradients."""
        variant = self.build(1.0)
        products = 2 * variant.hessian_vector_products_per_step
        return tuple(sorted({self.steps, round(self.steps * (variant.gradients_per_step + products))}))

    def length(self, rho: float) -> int:
        """The steps of a whole training; without a radius, of the better one."""
        return self.steps if rho > 0 else min(self.base_lengths, key=lambda steps: self.mean(0.0, steps))

    def diverged(self, rho: float) -> bool:
        """Whether a whole training did."""
        return math.isinf(self.mean(rho, self.length(rho)))

    @property
    def finished(self) -> list[float]:
        """The radii that were trained for all steps, ascending; 0, the base optimizer, first."""
        return sorted(rho for rho, steps in self.trials if steps == self.steps)

    @property
    def best(self) -> float:
        """The radius above 0 with the lowest mean."""
        return min((rho for rho in self.finished if rho > 0), key=lambda rho: self.mean(rho, self.steps))

    @property
    def trained(self) -> int:
        """Steps that were taken, all trainings together."""
        return sum(steps * len(trials) for (_, steps), trials in self.trials.items())

    def gain(self, rho: float, other: float = 0.0) -> Interval:
        """The difference of scores to those of another radius, paired by seed, with its 95 % interval."""
        pairs = zip(*(self.trials[one, self.length(one)] for one in (rho, other)), strict=True)
        return Interval.of([ours.score - theirs.score for ours, theirs in pairs])

    def advice(self) -> list[str]:
        """The recommendation, and what speaks for it and against it, in sentences."""
        best = self.best
        if self.diverged(best):
            return ["Every radius diverged: give smaller ones with --radii, or lower the learning rate."]
        lines = [self._recommendation(best)]
        alike = [
            rho
            for rho in self.finished
            if 0 < rho != best and not self.diverged(rho) and self.gain(rho, best).verdict != "rises"
        ]
        if alike:
            lines.append(f"Not told apart from rho = {best:g}: {', '.join(f'{rho:g}' for rho in alike)}.")
        for trial in self.trials[best, self.steps][:1]:
            if trial.effective is not None and trial.effective < LITTLE_LEFT:
                lines.append(
                    f"Rounding leaves {trial.effective:.0%} of the perturbation: a larger rho, or weights in float32."
                )
            if trial.gap is not None and trial.gap > FAR_OFF:
                lines.append(
                    f"The first-order step misses {trial.gap:.0%} of the rise that a search finds: past this radius it "
                    "says less and less about the maximum; steps=2 would follow it further."
                )
        return lines

    def _recommendation(self, best: float) -> str:
        if self.diverged(0.0):
            return f"Take rho = {best:g}: without it training diverges."
        gain = self.gain(best)
        if gain.verdict == "rises":
            return f"Take rho = 0: the best radius, {best:g}, scores higher than it, by {gain}."
        told = "lower than without" if gain.verdict == "falls" else "which may be chance: try more --seeds"
        base = f"rho = 0, trained for {self.length(0.0)} steps,"
        return f"Take rho = {best:g}: its score less that at {base} is {gain}, {told}."

    def _train(self, rho: float, steps: int, seeds: int) -> None:
        trials = self.trials.setdefault((rho, steps), [])
        for seed in range(len(trials), seeds):
            trial = Trial.of(self.train(self.build(rho), steps, seed))
            trials.append(trial)
            self.tell(f"rho = {rho:g}, {steps} steps, seed {seed}: {trial.score:.4g}")
