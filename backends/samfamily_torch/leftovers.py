"""Gradients that lie in `.grad` when a step with a closure begins, which nobody would ever use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from warnings import warn

import torch

from samfamily_torch.live import LiveParameters


def watching(closure: Callable[..., Any], live: LiveParameters) -> Callable[..., Any]:
    """Return the closure; where gradients were left, one that warns if its first call does not empty `.grad`.

    A loop that accumulates gradients of several backward passes outside the closure, as Lightning does with
    `accumulate_grad_batches`, would lose all but the closure's own.
    """
    left = [p for p in live.parameters if p.grad is not None and not live.put(p.grad) and not p.grad.is_sparse]
    if not left:
        return closure

    def watched(*args: Any) -> Any:
        zeros = [(p, torch.zeros_like(p)) for p in left]
        for p, zero in zeros:
            p.grad = zero
        left.clear()  # the other calls are of no interest
        loss = closure(*args)
        # Emptied in place, a tensor has a version for that and one for the backward; added to, it has one.
        if any(p.grad is zero and zero._version == 1 for p, zero in zeros):
            warn(
                "gradients lay in .grad when step(closure) began, and the closure did not empty them: they are not "
                "used. Accumulate inside the closure (in Lightning: SharpnessAwareMixin), or do no backward before it",
                stacklevel=9,  # whoever called step
            )
        return loss

    return watched
