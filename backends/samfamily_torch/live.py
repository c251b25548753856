"""The live parameters: where they stand, how they are moved to a point, and how they come home bitwise.

A step never adds and subtracts.  While the parameters are away, each `param.data` *is* a perturbed tensor and the
weights lie untouched in their own storage; coming home swaps that storage back, at its old address.  Where somebody may
know a parameter by its address (`why_in_place`), the weights are saved, overwritten and copied back instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from samfamily.space import Leaves, Vec
from samfamily_torch.foreach import copy_into
from samfamily_torch.space import Displaced, TorchSpace

STRIDED = torch.strided


def why_in_place(leaves: Leaves) -> str:
    """Return why these parameters must be perturbed in their own memory; empty where their tensors may be swapped.

    A swap takes no pass over memory, but who knows a parameter by its memory does not see it.
    """
    if being_captured(leaves):
        return "the step is being captured, and what was captured knows memory by its address"
    for x in leaves:
        if type(x) is not Tensor:
            return f"a {type(x).__name__} is more than the memory of one tensor"
        if x.untyped_storage().nbytes() != x.nbytes:
            return "a parameter is a part of memory that others know as a whole, like the flat weights of an RNN"
    return ""


def being_captured(leaves: Leaves) -> bool:
    """Tell whether the step is being recorded as a CUDA graph or by torch.compile."""
    return torch.compiler.is_compiling() or being_captured_by_cuda(leaves)


def being_captured_by_cuda(leaves: Sequence[Tensor]) -> bool:
    """Tell whether the step is being recorded as a CUDA graph."""
    return bool(leaves) and leaves[0].device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class LiveParameters:
    """The trainable parameters of an optimizer, from step to step.

    Fresh memory costs a CPU more than a pass over it, and what an accelerator has captured knows addresses: so there is
    one copy of the parameters that is kept, in which they stand while they are away, or the weights while they are.

    Args:
        parameters: the parameters, in the optimizer's order.
        space: their space.

    Attributes:
        w: the weights at home, as a Vec.
        in_place: why the parameters are perturbed in their own memory; empty where they are not.
        away: whether the parameters are not at home.
        received: which parameters have received a gradient in this step.
    """

    w: Vec
    in_place: str
    away: bool
    received: list[bool]

    def __init__(self, parameters: Sequence[Tensor], space: TorchSpace) -> None:
        self.parameters = parameters
        self.space = space
        self.away = False
        self._put: set[int] = set()
        self._home: Leaves = ()
        self._settle()
        self.stand()

    def stand(self) -> None:
        """Begin a step: take the parameters as they stand for home."""
        if not self._plain or [p.data_ptr() for p in self.parameters] != self._stands_at:
            self._settle()
        if not self.in_place and being_captured(self._home):
            self.in_place = why_in_place(self._home)
        self.w = Vec(self.space, self._home)
        self.space.home = self._home
        self.received = [False] * len(self._home)

    def _settle(self) -> None:
        """Look where the parameters' memory is: the first time, and after somebody moved it."""
        home = tuple(p.data for p in self.parameters)
        if not self._home or any(map(_differ, home, self._home)):
            self._copy = tuple(torch.empty_like(x) for x in home)
        self._home = home
        self._plain = all(type(x) is Tensor for x in home)
        self._stands_at = [x.data_ptr() if self._plain else 0 for x in home]
        self.in_place = why_in_place(home)

    @torch.no_grad()
    def go(self, point: Vec, again: bool = False) -> None:
        """Put the parameters at `point`.

        Args:
            point: where.
            again: whether somebody will look at the point again; if not, it lets go of what it was made from.
        """
        if point is self.w:
            return
        leaves = point.collapse()
        if self.in_place:
            copy_into(self._copy, self._home)
        self.away = True
        if not isinstance(leaves, Displaced):
            self._place(leaves)
            return
        leaves.write(self._home if self.in_place else self._copy)
        self._place(self._home if self.in_place else self._copy)
        if not again:
            leaves.release()

    def _place(self, leaves: Leaves) -> None:
        """Put the parameters at these leaves."""
        if not self.in_place:
            for p, x in zip(self.parameters, leaves, strict=True):
                p.data = x
            self._stands_at = [x.data_ptr() for x in leaves]  # who swaps has plain tensors
        elif leaves is not self._home:
            copy_into(self._home, tuple(leaves))
        increment_version(self.parameters)  # a graph of the point before must not be run backwards from here
        torch.clear_autocast_cache()  # holds casts of what the parameters were

    def come_home(self) -> None:
        """Put the parameters back where they were, if they are away; what lies in `.grad` stays there."""
        if self.away:
            gradients = self._gradients()
            self._return()
            for p, g in zip(self.parameters, gradients, strict=True):
                p.grad = g

    @torch.no_grad()
    def _return(self) -> None:
        if self.away:
            self._place(self._copy if self.in_place else self._home)
            self.away = False

    def clear_gradients(self) -> None:
        """Empty every `.grad`, so that what lies there after a backward is the gradient of one point alone."""
        for p in self.parameters:
            p.grad = None

    def bring_gradients_home(self, unscale: float | Tensor = 1.0) -> Vec:
        """Take the gradients out of `.grad`, times `unscale`, and put the parameters back where they were.

        Args:
            unscale: the reciprocal of a loss scale.

        Returns:
            The gradients.  A parameter without one counts as zero, and is remembered as such.
        """
        gradients = self._gradients()
        self.clear_gradients()
        self._return()
        self.received = [before or g is not None for before, g in zip(self.received, gradients, strict=True)]
        taken = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, self._home, strict=True)]
        if not (isinstance(unscale, float) and unscale == 1):
            taken = [g * unscale for g in taken]
        return Vec(self.space, tuple(taken))

    def _gradients(self) -> list[Tensor | None]:
        """Return what lies in `.grad`: dense, and in memory of its own; not the parameter's, nor a part of a bucket."""
        gradients = [p.grad for p in self.parameters]
        foreign = [
            (i, g)
            for i, (g, address) in enumerate(zip(gradients, self._stands_at, strict=True))
            if g is not None
            and (g.layout is not STRIDED or g._base is not None or (address and g.data_ptr() == address))
        ]
        for i, g in foreign:
            gradients[i] = g.to_dense() if g.layout is not STRIDED else g.clone()
        return gradients

    def put_gradients(self, gradient: Vec) -> None:
        """Put a gradient into `.grad`; a parameter that never received one keeps None, and so is not stepped."""
        for p, x, received in zip(self.parameters, gradient.collapse(), self.received, strict=True):
            p.grad = x if received else None
        self._put = {id(p.grad) for p in self.parameters}  # holding on to them would cost the memory

    def put(self, g: Tensor) -> bool:
        """Tell whether a gradient is one that `put_gradients` left."""
        return id(g) in self._put

    def add(self, addend: Vec, factors: Sequence[float | Tensor]) -> None:
        """Add a multiple of `addend` to the weights, for each parameter its own; to those that received a gradient."""
        with torch.no_grad():
            for p, x, a, received in zip(self.parameters, addend.collapse(), factors, self.received, strict=True):
                if received:
                    p.add_(a * x)

    def abandon(self) -> None:
        """Bring the parameters home and empty `.grad`: what lies there belongs to a step that is not taken."""
        self._return()
        self.clear_gradients()


def _differ(x: Tensor, y: Tensor) -> bool:
    return (x.shape, x.stride(), x.dtype, x.device) != (y.shape, y.stride(), y.dtype, y.device)
