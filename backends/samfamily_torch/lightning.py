"""Lightning, automatic optimisation: what a plain `SharpnessAware` cannot see from inside Lightning's closure.

For one batch a step Lightning hands `step` a closure in torch's own convention, and a `SharpnessAware` returned by
`configure_optimizers` just works.  With `accumulate_grad_batches` that closure knows the last micro-batch alone.  The
mixin runs the others again wherever a gradient is asked for, clips what the base optimizer receives rather than every
pass, and lets only the first pass log.  It imports nothing of Lightning, so that it serves `pytorch_lightning` and
`lightning.pytorch` alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from samfamily_torch.optimizer import SharpnessAware
from samfamily_torch.scene import Stage, View

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule as _Module
else:
    _Module = object


class MicroBatch(NamedTuple):
    """A micro-batch that only accumulated: what `training_step` got, the random state before it, and its loss."""

    batch: Any
    batch_idx: int
    view: View
    loss: Tensor | None


class SharpnessAwareMixin(_Module):
    """A LightningModule whose `configure_optimizers` returns a `SharpnessAware`, in automatic optimisation.

    With `accumulate_grad_batches`, all micro-batches of a step share one perturbation, that of their mean loss.  They
    are kept until the step is taken, and see the same dropout masks in every pass.  Gradient clipping, the Trainer's or
    the module's own, acts once a step, on the gradient that the base optimizer receives.  `self.log` in `training_step`
    records the first pass.  The hooks `on_before_optimizer_step` and `on_after_backward` run in every pass.

    Raises:
        TypeError: the optimizer is not a `SharpnessAware`; or, where a class is made of it, that class has a
            `training_step` of its own, which would stand before this one.
        RuntimeError: the precision is `16-mixed`, where Lightning gives the optimizer no closure.

    Example:
        >>> class Net:  # a LightningModule
        ...     def training_step(self, batch, batch_idx): ...
        ...     def configure_optimizers(self): ...
        >>> class SharpnessAwareNet(SharpnessAwareMixin, Net):
        ...     pass
    """

    _window: tuple[MicroBatch, ...] = ()
    _stepping = False
    _muted = False
    _clip: Callable[[], None] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """See to it that micro-batches come by here."""
        super().__init_subclass__(**kwargs)
        if "training_step" in vars(cls):
            raise TypeError(
                f"{cls.__name__} has a training_step of its own, which hides the mixin's, and the mixin must see every "
                f"micro-batch: leave it in the module, and write class {cls.__name__}(SharpnessAwareMixin, Module)"
            )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Run the module's own step, and keep what a micro-batch that only accumulates will be needed for."""
        if self._stepping or not self.automatic_optimization:
            return super().training_step(batch, batch_idx)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._window = ()  # where Lightning empties `.grad`
        view = self._stage().look(self._devices())
        output = super().training_step(batch, batch_idx)
        loss = _loss(output)
        self._window += (MicroBatch(batch, batch_idx, view, None if loss is None else loss.detach()),)
        return output

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Take one step, with a closure that runs every micro-batch of it."""
        sharpness_aware = _sharpness_aware(optimizer)
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise RuntimeError(
                "precision='16-mixed' calls the closure before optimizer.step and hands it none: use 'bf16-mixed' or "
                "32, or manual optimisation with optimizer.step(closure, scaler=scaler)"
            )
        assert optimizer_closure is not None
        closure = self._over(self._window, optimizer_closure, sharpness_aware)
        handle = sharpness_aware.base.register_step_pre_hook(lambda *_: self._clip and self._clip())
        self._stepping = True
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, closure)
        finally:
            handle.remove()
            self._window, self._stepping, self._clip = (), False, None

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Put clipping off until the base optimizer steps, with the gradient that the variant made."""
        clip = partial(super().configure_gradient_clipping, *args, **kwargs)
        if self._stepping:
            self._clip = clip
        else:
            clip()

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log as ever, in the first pass of a step."""
        if not self._muted:
            super().log(*args, **kwargs)

    def _over(
        self, earlier: tuple[MicroBatch, ...], last: Callable[[], Any], optimizer: SharpnessAware
    ) -> Callable[[], Any]:
        """Return a closure over all micro-batches: those that only accumulated, then Lightning's own for the last."""
        if not earlier:
            return self._muting(last)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # What they left in `.grad` is their gradient at w: of use if that is what a step asks for first.
        kept = [p.grad for p in parameters] if optimizer.variant.ascent.hands_over_gradient else None
        begin = self._stage().look(self._devices())
        last = self._muting(last)

        def closure() -> Any:
            nonlocal kept
            if kept is not None:
                for p, g in zip(parameters, kept, strict=True):
                    p.grad = g
                kept = None
                losses = [micro.loss for micro in earlier]
            else:
                losses = [self._again(micro, optimizer) for micro in earlier]
                self._stage().restore(begin)
            at_last = last()
            told = [loss / self.trainer.accumulate_grad_batches for loss in losses if loss is not None]
            return at_last if at_last is None else sum(told, at_last)

        return closure

    def _muting(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return the closure, which logs when it is called first."""
        first = True

        def muting() -> Any:
            nonlocal first
            self._muted, first = not first, False
            try:
                return closure()
            finally:
                self._muted = False

        return muting

    def _again(self, micro: MicroBatch, optimizer: SharpnessAware) -> Tensor | None:
        """Add a micro-batch's gradient where the parameters stand now to `.grad`, as Lightning would; return its loss.

        Gradients are reduced over processes once, with the last micro-batch.
        """
        strategy = self.trainer.strategy
        self._stage().restore(micro.view)
        self._muted = True
        try:
            with getattr(strategy, "block_backward_sync", nullcontext)():
                loss = _loss(strategy.training_step(micro.batch, micro.batch_idx))
                if loss is None:
                    return None
                strategy.backward(loss / self.trainer.accumulate_grad_batches, optimizer)
        finally:
            self._muted = False
        return loss.detach()

    def _stage(self) -> Stage:
        return Stage(None)  # random states alone: the optimizer looks after buffers

    def _devices(self) -> set[torch.device]:
        return {torch.device("cpu"), self.device}


def _sharpness_aware(optimizer: Any) -> SharpnessAware:
    inner = getattr(optimizer, "optimizer", optimizer)  # LightningOptimizer imitates the class of what it wraps
    if not isinstance(inner, SharpnessAware):
        raise TypeError(
            f"configure_optimizers returned {type(inner).__name__}, and SharpnessAwareMixin steps a SharpnessAware: "
            "return SharpnessAware(torch.optim.SGD(self.parameters(), lr=0.1), SAM(rho=0.05), model=self)"
        )
    return inner


def _loss(output: Any) -> Any:
    return output["loss"] if isinstance(output, dict) else output
