r"""Masks that follow the maximiser: which coordinates of the perturbation are kept.

A member is called with `(site, memory)` and returns `(M, memory)`: a Vec of zeros and ones, or the number 1.  It may be
a generator and yield requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, NamedTuple

from samfamily import check, noise
from samfamily.program import Asking, Site, choose
from samfamily.space import Vec


@dataclass(frozen=True)
class Mask(ABC):
    """Which coordinates of the perturbation are kept.

    Attributes:
        stateful: whether the member has a memory.
        why_not_sharded: the reason why shards cannot each have their own, empty where they can.
    """

    stateful: ClassVar[bool] = False
    why_not_sharded: ClassVar[str] = ""

    def init(self, w: Vec) -> Any:
        """Return the memory before the first step."""
        return ()

    @abstractmethod
    def __call__(self, site: Site, memory: Any) -> Any:
        """Return `(M, memory)`, or a generator that returns it."""


@dataclass(frozen=True)
class Everything(Mask):
    """No mask, as the number 1: multiplying by it costs nothing."""

    def __call__(self, site: Site, memory: Any) -> tuple[float, Any]:
        """Return 1."""
        return 1.0, memory


class Information(NamedTuple):
    """The memory of a Fisher mask: the diagonal of the empirical Fisher information."""

    fisher: Vec


@dataclass(frozen=True)
class LargestFisher(Mask):
    r"""Keep the coordinates of the largest Fisher information, measured anew every so many steps (SSAM-F).

    The information is the gradient's square, \(f = g \odot g\); its mean over shards where the variant is sharded, so
    that `.sharded(1)` measures it example by example, as the paper does (Mi et al., arXiv 2210.05177).

    Attributes:
        sparsity: the fraction of coordinates that is not moved, in [0, 1).
        every: steps between two measurements.

    Raises:
        ValueError: sparsity outside [0, 1), every below 1.
    """

    sparsity: float = 0.5
    every: int = 100
    stateful = True

    def __post_init__(self) -> None:
        check.fraction("1 - sparsity", 1 - self.sparsity)
        check.positive_integer("every", self.every)

    def init(self, w: Vec) -> Information:
        """Return an information of zero, which the first step replaces."""
        return Information(0.0 * w)

    def __call__(self, site: Site, memory: Information) -> Asking[tuple[Vec, Information]]:
        """Return the mask, and the information that it came from."""
        fisher = yield from choose(site.step % self.every == 0, lambda: site.d * site.d, lambda: memory.fisher)
        return fisher.largest(kept_of(fisher, 1 - self.sparsity)), Information(fisher)


class Kept(NamedTuple):
    """The memory of a dynamic mask: zeros and ones."""

    mask: Vec


@dataclass(frozen=True)
class DropAndRegrow(Mask):
    r"""Begin at random; from time to time, let flat coordinates go and steep ones in (SSAM-D, arXiv 2210.05177).

    A change drops the kept coordinates of the smallest \(|g_i|\) and regrows as many of the largest outside.

    Attributes:
        sparsity: the fraction of coordinates that is not moved, in [0, 1).
        every: steps between two changes.
        drop: the fraction of the kept coordinates that a change replaces, in [0, 1].
        seed: of the first mask.

    Raises:
        ValueError: sparsity outside [0, 1), every below 1, drop outside [0, 1].
    """

    sparsity: float = 0.5
    every: int = 100
    drop: float = 0.5
    seed: int = 0
    stateful = True
    why_not_sharded = "every shard would change the mask by itself, and masks have no mean"

    def __post_init__(self) -> None:
        check.fraction("1 - sparsity", 1 - self.sparsity)
        check.positive_integer("every", self.every)
        check.nonnegative("drop", self.drop)
        if not self.drop <= 1:
            raise ValueError(f"drop must be in [0, 1], got {self.drop!r}: choose a value such as drop=0.5")

    def init(self, w: Vec) -> Kept:
        """Return a random mask."""
        z = noise.normal(w, self.seed, 0)
        return Kept(z.largest(kept_of(w, 1 - self.sparsity)))

    def __call__(self, site: Site, memory: Kept) -> Asking[tuple[Vec, Kept]]:
        """Return the mask, changed if it is time."""
        due = (site.step % self.every == 0) & (site.step > 0)
        mask = yield from choose(due, lambda: self._change(site.d, memory.mask), lambda: memory.mask)
        return mask, Kept(mask)

    def _change(self, d: Vec, mask: Vec) -> Vec:
        kept = kept_of(d, 1 - self.sparsity)
        replaced = min(round(self.drop * kept), d.size - kept)
        if replaced == 0:
            return mask
        ranked = (d / d.norm(inf)).map(lambda _, x: 1 + abs(x))  # at least 1, so that what is masked ranks last
        outside = ranked - mask * ranked
        stays = (mask * ranked).largest(kept - replaced) if replaced < kept else 0.0 * mask
        return stays + outside.largest(replaced)


def kept_of(v: Vec, fraction: float) -> int:
    """Return how many coordinates are a fraction of all, at least one."""
    return max(1, round(fraction * v.size))
