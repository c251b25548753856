"""The live parameters: where they stand, how they are moved to a point, and how they come home bitwise.

A step never adds and subtracts.  While the parameters are away, each `param.data` *is* the perturbed tensor and the
weights lie untouched in their own storage; coming home swaps that storage back, at its old address.  Where others hold
on to the storage the weights lie in a copy instead, and everything is written in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from samfamily.space import Leaves, Vec
from samfamily_torch.space import TorchSpace


class LiveParameters:
    """The trainable parameters of an optimizer during one step.

    Args:
        parameters: the parameters, in the optimizer's order.
        space: their space.

    Attributes:
        w: the weights at home, as a Vec.
    """

    w: Vec

    def __init__(self, parameters: Sequence[Tensor], space: TorchSpace) -> None:
        self.parameters = parameters
        self.space = space
        self.w = Vec(space, tuple(p.data if _can_be_swapped(p) else p.detach().clone() for p in parameters))
        self._away: Leaves | None = None
        self._received = [False] * len(parameters)

    @property
    def away(self) -> bool:
        """Whether the parameters are not at home."""
        return self._away is not None

    def go(self, point: Vec) -> None:
        """Put the parameters at `point`, whose leaves are spare memory once the parameters have come home."""
        if point is not self.w:
            self._away = point.collapse()
            self._place(self._away)

    def come_home(self) -> None:
        """Put the parameters back where they were, if they are away."""
        if self._away is not None:
            for p in self.parameters:
                if p.grad is not None:
                    p.grad = _owned(p.grad, p)
            self._place(self.w.leaves)
            self.space.recycle(self._away)
            self._away = None

    def _place(self, leaves: Leaves) -> None:
        for p, x in zip(self.parameters, leaves, strict=True):
            if _can_be_swapped(p):
                p.data = x
            else:
                with torch.no_grad():
                    p.copy_(x)
        increment_version(self.parameters)  # a graph of the point before must not be run backwards from here
        torch.clear_autocast_cache()  # holds casts of what the parameters were

    def clear_gradients(self) -> None:
        """Empty every `.grad`, so that what lies there after a backward is the gradient of one point alone."""
        for p in self.parameters:
            p.grad = None

    def take_gradients(self, unscale: float | Tensor = 1.0) -> Vec:
        """Take the gradients out of `.grad`, times `unscale`; a parameter without one counts as zero."""
        gradients = []
        for i, p in enumerate(self.parameters):
            g = p.grad
            self._received[i] |= g is not None
            gradients.append(torch.zeros_like(p) if g is None else _owned(g, p))
        self.clear_gradients()
        if not (isinstance(unscale, float) and unscale == 1):
            gradients = [g * unscale for g in gradients]
        return Vec(self.space, tuple(gradients))

    def bring_gradients_home(self, unscale: float | Tensor = 1.0) -> Vec:
        """Take the gradients, and put the parameters back where they were."""
        gradient = self.take_gradients(unscale)
        self.come_home()
        return gradient

    def put_gradients(self, gradient: Vec) -> None:
        """Put a gradient into `.grad`; a parameter that never received one keeps None, and so is not stepped."""
        for p, x, received in zip(self.parameters, gradient.collapse(), self._received, strict=True):
            p.grad = x if received else None

    def add(self, addend: Vec, factors: Sequence[float | Tensor]) -> None:
        """Add a multiple of `addend` to the weights, for each parameter its own; to those that received a gradient."""
        with torch.no_grad():
            for p, x, a, received in zip(self.parameters, addend.collapse(), factors, self._received, strict=True):
                if received:
                    p.add_(a * x)

    def abandon(self) -> None:
        """Bring the parameters home and empty `.grad`: what lies there belongs to a step that is not taken."""
        self.come_home()
        self.clear_gradients()


def _can_be_swapped(p: Tensor) -> bool:
    """Tell whether `p.data` may become another tensor: not where others hold on to the storage.

    FSDP2 does, whose parameters are DTensors, and a CUDA graph that is being captured.  Such a parameter is written to,
    and comes home from a copy.
    """
    return type(p.data) is Tensor and not (p.is_cuda and torch.cuda.is_current_stream_capturing())


def _owned(g: Tensor, p: Tensor) -> Tensor:
    """Return a dense gradient in memory of its own: not the parameter's, nor a bucket's that is used again."""
    if g.layout is not torch.strided:
        return g.to_dense()
    viewed = g._base is not None  # noqa: SLF001  the one way to tell a view
    return g.clone() if viewed or (g.data_ptr() == p.data_ptr() and g.numel()) else g
