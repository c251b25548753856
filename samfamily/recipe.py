"""What a run is, besides its weights and memory: a checkpoint that is resumed under another is another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from samfamily.variant import Variant


class Recipe(NamedTuple):
    r"""A variant's name, its \(m\), and the global batch: plain values, to be written beside weights and states.

    The number of devices is no part of it: a run may be resumed on any.

    Attributes:
        variant: the variant's name.
        m: how many examples share a perturbation; None for the whole global batch.
        batch: how many examples the global batch has, over all devices; None where nobody knows.

    Example:
        >>> from samfamily import SAM
        >>> now = Recipe.of(SAM().sharded(8), batch=64)
        >>> now._asdict()
        {'variant': 'SAM', 'm': 8, 'batch': 64}
        >>> now.check({"variant": "SAM", "m": 16, "batch": 64})
        Traceback (most recent call last):
        ValueError: the checkpoint was written with m = 16, and this run has m = 8: use SAM(...).sharded(16)
    """

    variant: str
    m: int | None
    batch: int | None = None

    @classmethod
    def of(cls, variant: Variant, batch: int | None = None) -> Recipe:
        """Return the recipe of a run of `variant` with this global batch."""
        return cls(variant.name, variant.m, batch)

    def check(self, saved: Mapping[str, Any]) -> None:
        r"""Raise where a run of this recipe is not the one that was saved.

        Args:
            saved: `recipe._asdict()` of the run that wrote the checkpoint.

        Raises:
            ValueError: it was of another variant; of another \(m\); or, where the whole batch shares a perturbation,
                of another batch.
        """
        before = Recipe(**saved)
        if before.variant != self.variant:
            raise ValueError(
                f"the checkpoint was written by {before.variant}, and this run follows {self.variant}: "
                f"use {before.variant}(...)"
            )
        if before.m != self.m:
            was, now = ("no m" if m is None else f"m = {m}" for m in (before.m, self.m))
            use = self.variant + "(...)" + ("" if before.m is None else f".sharded({before.m})")
            raise ValueError(f"the checkpoint was written with {was}, and this run has {now}: use {use}")
        if self.m is None and None not in {before.batch, self.batch} and before.batch != self.batch:
            raise ValueError(
                f"without an m the whole batch shares a perturbation, and the checkpoint was written with "
                f"{before.batch} examples where this run has {self.batch}: use a global batch of {before.batch}, or "
                f"{self.variant}(...).sharded(m) from the start"
            )
