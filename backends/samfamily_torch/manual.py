"""The manual interfaces of `SharpnessAware`: two steps, or a context manager, between the user's own backward calls.

A program that is suspended between two requests is all that a step in progress is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from samfamily.program import State
from samfamily.variant import Variant
from samfamily_torch.live import LiveParameters
from samfamily_torch.precision import loss_scale
from samfamily_torch.run import NotFiniteError, Outcome, Run
from samfamily_torch.scene import Scene, Stage


class ManualLoop(torch.optim.Optimizer):
    """An optimizer whose steps the user's own loop takes pass by pass.

    Attributes:
        variant: the variant.
    """

    variant: Variant
    _stage: Stage
    _run: Run | None
    _scaler: GradScaler | None  # of the step in progress

    @abstractmethod
    def step(
        self, closure: Callable[..., Any] | None = None, *, batch: Sequence[Any] = (), scaler: GradScaler | None = None
    ) -> Any:
        """Take a step, or finish the one in progress."""

    @abstractmethod
    def _begin(self) -> tuple[LiveParameters, Variant, State]:
        """Return the parameters as they stand, the variant with the groups' rho, and its state."""

    @abstractmethod
    def _finish(
        self, live: LiveParameters, outcome: Outcome, scaler: GradScaler | None, scale: float | Tensor
    ) -> bool | Tensor:
        """Step the base optimizer with what the program returned; tell whether the step was taken."""

    @abstractmethod
    def _skip(self, live: LiveParameters, error: NotFiniteError, scaler: GradScaler | None) -> Tensor:
        """Leave everything as it was before the step."""

    @abstractmethod
    def _raises(self, scaler: GradScaler | None) -> bool:
        """Whether what is not finite is an error."""

    def _refuse_in_a_step(self, what: str) -> None:
        """Raise where a manual step is in progress."""
        if self._run is not None:
            raise RuntimeError(f"a manual step is in progress: finish it with step() before {what}")

    def first_step(self, zero_grad: bool = True, *, scaler: GradScaler | None = None) -> None:
        """Take the gradients out of `.grad` and put the parameters at the perturbed point.

        Call it again, after another backward, for every further gradient that the variant asks for.

        Args:
            zero_grad: accepted for the name's sake: the gradients are taken out of `.grad`, which is empty after.
            scaler: as for `step`, where `scaler.scale(loss).backward()` made the gradients.

        Raises:
            RuntimeError: no gradients in `.grad`, or a variant that needs the closure; the step is abandoned.
        """
        self._climb(scaler)

    def second_step(self, zero_grad: bool = True, *, scaler: GradScaler | None = None) -> None:
        """Bring the parameters home and step the base optimizer with the gradient that the variant makes.

        Args:
            zero_grad: empty `.grad` afterwards.
            scaler: the one of `first_step`.

        Raises:
            RuntimeError: no `first_step` or no gradients since, or more climbs to do; the step is abandoned.
        """
        self.step(scaler=scaler)
        if zero_grad:
            self.zero_grad()

    @contextmanager
    def perturbed(self, *, scaler: GradScaler | None = None) -> Iterator[bool]:
        """Hold the parameters at the perturbed point for one more backward; they come home bitwise, whatever happens.

        Enter with the gradients at w in `.grad` (a variant that does not ask for them drops them); inside, `.grad` is
        empty and `backward()` fills it; `step()` follows.  Enter again for every further gradient that the variant asks
        for, such as the further climbs of `SAM(steps=3)`.

        Args:
            scaler: as for `step`, where `scaler.scale(loss).backward()` makes the gradients, also those at w;
                `step(scaler=scaler)` follows.

        Yields:
            Whether the variant asks for that backward.  In a step that rests, as four of five of LookSAM's do, it does
            not: one that is done all the same is wasted, and `.grad` afterwards is what the step will follow.

        Raises:
            RuntimeError: no gradients in `.grad` on entering, or a variant that needs the closure; the step is
                abandoned.
        """
        run = self._climb(scaler)
        try:
            yield run.waiting
        except BaseException:
            self._abandon(run)
            raise
        if self._run is run:
            run.come_home()  # `.grad` stays, to be clipped or looked at, until step() or the next climb takes it
            if run.step is not None:
                run.live.put_gradients(loss_scale(scaler, run.live) * run.step.gradient)
                run.offered = True

    @property
    def unfinished(self) -> bool:
        """Whether a manual step is in progress for which the variant asks for another gradient."""
        run = self._run
        return run is not None and run.step is None and run.entries < run.most_entries

    def _climb(self, scaler: GradScaler | None) -> Run:
        """Answer the program in progress, or a new one, from `.grad`, and go where it wants the next gradient."""
        run = self._run
        if run is not None and not run.live.away and run.entries >= run.most_entries:
            run = self._run = None  # it had all that it asks for and no step() followed: its batch was skipped
        if run is None:
            variant = self.variant
            if variant.m is not None or variant.hessian_vector_products_per_step:
                raise RuntimeError(f"{variant.name} with {_needs_closure(variant)}: call step(closure, batch=(x, y))")
            live, with_rho, state = self._begin()
            run = Run(live, with_rho, state, Scene(self._stage), 1 / loss_scale(scaler, live))
            self._scaler = scaler
        try:
            self._same_scaler(scaler)
            if run.failed is None and (run.waiting or run.at_w):
                self._answer(run)
            else:
                run.live.clear_gradients()  # of the weights, where a variant like Momentum-SAM asks for none
        except BaseException:
            self._abandon(run)
            raise
        self._run = run
        run.entries += 1
        run.go()
        return run

    def _answer(self, run: Run) -> None:
        """Answer the program from `.grad`."""
        if all(p.grad is None for p in run.live.parameters):
            raise RuntimeError(
                "no parameter has a gradient: call loss.backward() before perturbed() or first_step(), and again "
                "before second_step(); or call step(closure) with a closure that does both"
            )
        run.scene.after_pass(run.at_w)
        run.scene.leave()
        try:
            run.answer(None)
        except NotFiniteError as error:
            if self._raises(self._scaler):
                raise
            run.fail(error)  # the loop goes on to step(), which skips

    def _same_scaler(self, scaler: GradScaler | None) -> None:
        if scaler is not self._scaler:
            raise RuntimeError(
                "one scaler for all passes of a step: give it to perturbed(scaler=...) or first_step(scaler=...), and "
                "to step(scaler=...) or second_step(scaler=...) as well"
            )

    def _abandon(self, run: Run) -> None:
        """Forget the step in progress: weights and state are as they were before it, and `.grad` is empty."""
        self._run = None
        run.scene.abandon()
        run.live.abandon()

    def _finish_manual(self, scaler: GradScaler | None) -> None:
        """Answer the program in progress for the last time, and step."""
        run = self._run
        if run is None:
            raise RuntimeError(
                "there is nothing to step on: pass a closure, step(closure), or go through "
                "`with optimizer.perturbed(): ...` or first_step() after loss.backward()"
            )
        try:
            self._same_scaler(scaler)
            if run.waiting:
                self._answer(run)
        except BaseException:
            self._abandon(run)
            raise
        if run.failed is not None:
            self._run = None
            self._skip(run.live, run.failed, scaler)
            return
        if run.step is None:
            self._abandon(run)
            raise RuntimeError(
                f"{self.variant.name} with {self.variant.ascent} asks for more gradients than it was given: "
                "go through perturbed() or first_step() once for every one, or call step(closure)"
            )
        self._run = None
        outcome, scale = run.outcome(), loss_scale(scaler, run.live)
        if run.offered:  # and clipped since, it may be
            step = outcome.step._replace(gradient=run.live.bring_gradients_home(1 / scale))
            outcome = outcome._replace(step=step)
        self._finish(run.live, outcome, scaler, scale)


def _needs_closure(variant: Variant) -> str:
    if variant.m is not None:
        return f"m = {variant.m} shards the batch"
    return "Hessian-vector products (second_order, an eigenvector) differentiates through the closure"
