"""One program in progress on the live parameters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samfamily.program import Choice, HessianVector, Request, State, Step
from samfamily.space import Vec
from samfamily.variant import Variant
from samfamily_torch.hessian import hessian_vector_product
from samfamily_torch.live import LiveParameters
from samfamily_torch.precision import is_finite
from samfamily_torch.scene import Scene


class Outcome(NamedTuple):
    """What a finished program leaves: its step, the loss at w and at the last point asked about, and what it cost.

    `finite` is 1 if every loss and gradient was finite; where nothing else could have noticed, it has to be asked.
    """

    step: Step
    loss: Any
    perturbed_loss: Any
    gradients: int
    finite: float | Tensor


def all_finite(finite: float | Tensor) -> bool | Tensor:
    """Tell whether a mean of ones and zeros is one; a sum of ones times 1 / 49 misses it by a rounding."""
    return finite > 1 - 1e-9


class NotFiniteError(FloatingPointError):
    """A loss or a gradient that is not finite.

    Args:
        loss: the loss of that pass.
        where: at which point.
        gradients: how many were computed before it was noticed.
    """

    def __init__(self, loss: Any, where: str, gradients: float) -> None:
        super().__init__(
            f"the loss at {where} is {float(loss):.6g}, or its gradient is not finite: lower the learning rate or rho, "
            'look at the data, or let such steps be skipped with on_nonfinite="skip"'
        )
        self.loss, self.gradients = torch.as_tensor(loss), gradients


class Run:
    """A variant's program, suspended between two requests or finished.

    Args:
        live: the parameters.
        variant: the variant, with this step's rho.
        state: its state.
        scene: what passes change besides gradients.
        unscale: what gradients are multiplied with when they are taken, the reciprocal of a loss scale.
        share: averages a gradient over the ranks that work on one shard.
        alone: whether a number that is not finite may end the run, since no other rank waits for it.

    Attributes:
        request: what the program asks for; None once it is finished.
        step: what it returned; None until then.
        waiting: whether the parameters were put where it asks, and the answer is still to come.
        offered: whether the gradient that it returned was put into `.grad`, for a manual loop to change it.
        failed: why it will not be finished: a loss or a gradient was not finite.
        entries: how many times a manual loop has gone on with it.
        most_entries: how many times one does, unless the variant rests.
    """

    request: Request | None
    step: Step | None
    waiting: bool
    offered: bool
    failed: NotFiniteError | None
    entries: int
    most_entries: int

    def __init__(
        self,
        live: LiveParameters,
        variant: Variant,
        state: State,
        scene: Scene,
        unscale: float | Tensor = 1.0,
        share: Callable[[Vec], Vec] = lambda gradient: gradient,
        *,
        alone: bool = True,
    ) -> None:
        self.live, self.scene, self.unscale, self.share, self.alone = live, scene, unscale, share, alone
        self.program = variant.program(live.w, state)
        self.request, self.step, self.failed = None, None, None
        self.waiting = self.offered = False
        self.entries = 0
        self.most_entries = variant.gradients_besides_w
        self._returned = variant.gradient_returned
        self._losses: list[Any] = []
        self._loss_at_w: Any = nan
        self._finite: bool | Tensor = True
        self._send(None)

    @property
    def at_w(self) -> bool:
        """Whether the program asks for the gradient at the weights themselves."""
        return self.request is self.live.w

    def answer(self, loss: Tensor | None) -> None:
        """Answer a request for a gradient with what lies in `.grad`, and bring the parameters home.

        Args:
            loss: the loss there, if it is known.

        Raises:
            NotFiniteError: the loss or the gradient is not finite, and lies where that can be read at no cost.
        """
        told: Any = nan if loss is None else loss
        if self.at_w or not self._losses:
            self._loss_at_w = told
        self._losses.append(told)
        where = "w" if self.at_w else "the perturbed point"
        self.waiting = False
        gradient = self.share(self.live.bring_gradients_home(self.unscale))
        finite = is_finite(gradient.norm(2))
        if loss is not None:
            finite = finite & is_finite(loss)
        self._notice(finite, told, where)
        self._send(gradient)

    def _notice(self, finite: bool | Tensor, loss: Any, where: str) -> None:
        """Remember whether all was finite so far, or end the run here."""
        if finite is False and self.alone:
            raise NotFiniteError(loss, where, len(self._losses))
        self._finite = self._finite & finite

    def through(self, closure: Callable[[], Any], last: AbstractContextManager[None] | None = None) -> Outcome:
        """Run the program to its end, calling `closure` wherever it asks for a gradient.

        Args:
            closure: computes gradients where the parameters stand.
            last: holds the pass whose gradient is what the program returns, if there is one.

        Returns:
            What it leaves.
        """
        try:
            while self.step is None:
                self.live.clear_gradients()
                self.scene.before_pass()
                if isinstance(self.request, HessianVector):
                    products = hessian_vector_product(closure, self.live.parameters, self.request.v.collapse())
                    self.scene.after_pass(at_w=False)
                    product = self.share(Vec(self.live.space, tuple(products), self.unscale))
                    told = self._losses[-1] if self._losses else nan
                    self._notice(is_finite(product.norm(2)), told, "the point of a Hessian-vector product")
                    self._send(product)
                else:
                    self.go()
                    with last if last and len(self._losses) + 1 == self._returned else nullcontext():
                        loss = call(closure, self.live)
                    self.scene.after_pass(self.at_w)
                    self.answer(loss)
        except BaseException:
            self.scene.abandon()
            raise
        self.scene.leave()
        return self.outcome()

    def go(self) -> None:
        """Put the parameters where the program wants a gradient."""
        if isinstance(self.request, Vec):
            self.live.go(self.request)
            self.waiting = True

    def come_home(self) -> None:
        """Bring the parameters home, and with them what is to stay of the surroundings."""
        self.live.come_home()
        self.scene.after_pass(at_w=False)
        self.scene.leave()

    def fail(self, error: NotFiniteError) -> None:
        """Ask for nothing more."""
        self.program.close()
        self.failed, self.request = error, None

    def outcome(self) -> Outcome:
        """Return what the finished program leaves."""
        assert self.step is not None
        finite = self._finite.to(torch.float64) if isinstance(self._finite, Tensor) else float(self._finite)
        return Outcome(self.step, self._loss_at_w, self._losses[-1], len(self._losses), finite)

    def _send(self, answer: Vec | None) -> None:
        try:
            with torch.no_grad():
                self.request = self.program.send(answer)
                while isinstance(self.request, Choice):
                    self.request = self.program.send(bool(self.request.predicate))
        except StopIteration as stop:
            self.request, self.step = None, stop.value


def call(closure: Callable[[], Any], live: LiveParameters) -> Tensor:
    """Call the closure where the parameters stand, and return its loss; its gradients lie in `.grad`."""
    with torch.enable_grad():
        loss = closure()
    if isinstance(loss, float | int):
        loss = torch.tensor(loss, dtype=torch.get_default_dtype())
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        told = (
            loss if loss is None else f"{type(loss).__name__} {tuple(getattr(loss, 'shape', ()))}".removesuffix(" ()")
        )
        raise TypeError(f"the closure returned {told}: it must return the loss, one number, after loss.backward()")
    if all(p.grad is None for p in live.parameters):
        raise RuntimeError("the closure left no gradient in any parameter: call loss.backward() in it")
    return loss.detach().reshape(())
