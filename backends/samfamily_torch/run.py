"""One program in progress on the live parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samfamily.program import Choice, HessianVector, Request, State, Step
from samfamily.space import Vec
from samfamily.variant import Variant
from samfamily_torch.hessian import hessian_vector_product
from samfamily_torch.live import LiveParameters


class Outcome(NamedTuple):
    """What a finished program leaves: its step, the loss at w and at the last point asked about, and what it cost."""

    step: Step
    loss: Any
    perturbed_loss: Any
    gradients: int


class Run:
    """A variant's program, suspended between two requests or finished.

    Args:
        live: the parameters.
        variant: the variant, with this step's rho.
        state: its state.

    Attributes:
        request: what the program asks for; None once it is finished.
        step: what it returned; None until then.
        waiting: whether the parameters were put where it asks, and the answer is still to come.
        entries: how many times a manual loop has gone on with it.
        most_entries: how many times one does, unless the variant rests.
    """

    request: Request | None
    step: Step | None
    waiting: bool
    entries: int
    most_entries: int

    def __init__(self, live: LiveParameters, variant: Variant, state: State) -> None:
        self.live = live
        self.program = variant.program(live.w, state)
        self.request, self.step = None, None
        self.waiting = False
        self.entries = 0
        self.most_entries = variant.gradients_besides_w
        self._losses: list[Any] = []
        self._loss_at_w: Any = None
        self._send(None)

    def answer(self, loss: Any) -> None:
        """Answer a request for a gradient with what lies in `.grad`, and bring the parameters home."""
        if self.request is self.live.w or not self._losses:
            self._loss_at_w = loss
        self._losses.append(loss)
        self.waiting = False
        self._send(self.live.bring_gradients_home())

    def through(self, closure: Callable[[], Any]) -> Outcome:
        """Run the program to its end, calling `closure` wherever it asks for a gradient."""
        self.live.clear_gradients()
        while self.step is None:
            if isinstance(self.request, HessianVector):
                products = hessian_vector_product(closure, self.live.parameters, self.request.v.collapse())
                self._send(Vec(self.live.space, tuple(products)))
            else:
                self.go()
                self.answer(call(closure, self.live))
        return self.outcome()

    def go(self) -> None:
        """Put the parameters where the program wants a gradient."""
        if isinstance(self.request, Vec):
            self.live.go(self.request)
            self.waiting = True

    def outcome(self) -> Outcome:
        """Return what the finished program leaves."""
        assert self.step is not None
        return Outcome(self.step, _figure(self._loss_at_w), _figure(self._losses[-1]), len(self._losses))

    def _send(self, answer: Vec | None) -> None:
        try:
            with torch.no_grad():
                self.request = self.program.send(answer)
                while isinstance(self.request, Choice):
                    self.request = self.program.send(bool(self.request.predicate))
        except StopIteration as stop:
            self.request, self.step = None, stop.value


def call(closure: Callable[[], Any], live: LiveParameters) -> Any:
    """Call the closure where the parameters stand, and return its loss; its gradients lie in `.grad`."""
    with torch.enable_grad():
        loss = closure()
    if loss is None:
        raise TypeError("the closure returned None: it must return the loss, after loss.backward()")
    if all(p.grad is None for p in live.parameters):
        raise RuntimeError("the closure left no gradient in any parameter: call loss.backward() in it")
    return loss


def _figure(loss: Any) -> Any:
    return loss.detach() if isinstance(loss, Tensor) else loss
