"""Treatments of a batch besides sharpness: what is done to examples and targets before a step, for every backend alike.

A treatment is arithmetic on NumPy arrays and returns inputs with soft targets, of which the step takes the
cross-entropy; a weight on an example is a factor of its target. It draws from a generator that is a function of seed
and step. Formulas: Mixup is Zhang et al., arXiv 1710.09412; label smoothing Szegedy et al., arXiv 1512.00567; MentorMix
Jiang et al., arXiv 1911.09781, with a threshold as MentorNet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from benchmarks.data import Floats

Losses = Callable[[Floats, Floats], Floats]
"""The loss of each example at the weights as they stand: one forward pass."""


class Treated(NamedTuple):
    """A batch after its treatment, and what the treatment remembers."""

    inputs: Floats
    targets: Floats
    memory: Any = None


class Treatment(Protocol):
    """What is done to each batch; `forwards` counts the passes that it asks for before a step."""

    forwards: ClassVar[int]

    def __call__(
        self, inputs: Floats, targets: Floats, random: np.random.Generator, losses: Losses, memory: Any
    ) -> Treated:
        """The treated batch."""
        ...


@dataclass(frozen=True)
class Plain:
    """Nothing is done."""

    forwards: ClassVar[int] = 0

    def __call__(
        self, inputs: Floats, targets: Floats, random: np.random.Generator, losses: Losses, memory: Any
    ) -> Treated:
        """The batch as it is."""
        return Treated(inputs, targets)


PLAIN = Plain()


@dataclass(frozen=True)
class Mixup:
    """Every example is blended with another of the batch, all in one proportion, drawn from Beta(alpha, alpha)."""

    alpha: float
    forwards: ClassVar[int] = 0

    def __call__(
        self, inputs: Floats, targets: Floats, random: np.random.Generator, losses: Losses, memory: Any
    ) -> Treated:
        """The blended batch."""
        share = np.float32(random.beta(self.alpha, self.alpha))
        other = random.permutation(len(inputs))
        return Treated(blend(share, inputs, inputs[other]), blend(share, targets, targets[other]))


@dataclass(frozen=True)
class Smoothing:
    """Each target gives this share of itself to all classes alike."""

    share: float
    forwards: ClassVar[int] = 0

    def __call__(
        self, inputs: Floats, targets: Floats, random: np.random.Generator, losses: Losses, memory: Any
    ) -> Treated:
        """The batch with smoothed targets."""
        return Treated(inputs, blend(np.float32(1 - self.share), targets, np.full_like(targets, 1 / targets.shape[1])))


@dataclass(frozen=True)
class Mentor:
    """Examples whose loss exceeds a running percentile of the batches' losses are left out of the step.

    This is MentorMix's curriculum without its Mixup: with SAM's step it is MentorSAM.
    """

    percentile: float
    keep: float = 0.5
    forwards: ClassVar[int] = 1

    def __call__(
        self, inputs: Floats, targets: Floats, random: np.random.Generator, losses: Losses, memory: Any
    ) -> Treated:
        """The batch with weighted targets, and the threshold."""
        trusted, threshold = self.trust(losses(inputs, targets), memory)
        return Treated(inputs, targets * trusted[:, None], threshold)

    def trust(self, found: Floats, threshold: float | None) -> tuple[Floats, float]:
        """Which losses are at most the threshold, as numbers 0 and 1, and the threshold after this batch."""
        here = float(np.percentile(found, 100 * self.percentile))
        threshold = here if threshold is None else self.keep * threshold + (1 - self.keep) * here
        return (found <= threshold).astype(np.float32), threshold


@dataclass(frozen=True)
class MentorMix(Mentor):
    """Each example is blended with one that is drawn by trust, the more trusted of the two weighing more.

    A partner is drawn with probability softmax(v); the proportion from Beta(alpha, alpha) for each example; and what
    has a loss above the threshold after the blend is left out.
    """

    alpha: float = 1.0
    forwards: ClassVar[int] = 2

    def __call__(
        self, inputs: Floats, targets: Floats, random: np.random.Generator, losses: Losses, memory: Any
    ) -> Treated:
        """The blended batch with weighted targets, and the threshold."""
        trusted, threshold = self.trust(losses(inputs, targets), memory)
        odds = np.exp(trusted.astype(np.float64))
        other = random.choice(len(inputs), size=len(inputs), p=odds / odds.sum())
        drawn = random.beta(self.alpha, self.alpha, size=(len(inputs), 1)).astype(np.float32)
        share = np.where(trusted[:, None] > 0, np.maximum(drawn, 1 - drawn), np.minimum(drawn, 1 - drawn))
        inputs, targets = blend(share, inputs, inputs[other]), blend(share, targets, targets[other])
        kept = (losses(inputs, targets) <= threshold).astype(np.float32)
        return Treated(inputs, targets * kept[:, None], threshold)


def blend(share: Any, ours: Floats, theirs: Floats) -> Floats:
    """This share of ours, and the rest of theirs."""
    blended: Floats = share * ours + (1 - share) * theirs
    return blended
