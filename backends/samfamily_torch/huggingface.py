"""The Trainer of Hugging Face transformers, which calls `optimizer.step()` and never hands it a closure.

The mixin takes the passes besides the first in `training_step`, where the inputs are, and leaves the rest of the loop
as it is.  It imports nothing of transformers, so that it serves every subclass of its Trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from samfamily.variant import Variant
from samfamily_torch.optimizer import SharpnessAware
from samfamily_torch.scene import Stage, View

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class MicroBatch(NamedTuple):
    """A micro-batch of the step in progress: what `training_step` got, and the random state before it."""

    inputs: dict[str, Any]
    num_items_in_batch: Any
    view: View


class SharpnessAwareMixin(_Trainer):
    """A Trainer whose optimizer, whichever its arguments choose, follows `variant`.

    All micro-batches of `gradient_accumulation_steps` share one perturbation, that of their common loss: one sweep over
    them at w, then one for every further gradient that the variant asks for, with the same dropout masks.  Inputs are
    kept until the step is taken.  `max_grad_norm` clips the gradient that the base optimizer receives, and `grad_norm`
    in the logs is its norm before; the logged loss is that of the sweep at w.

    Args:
        *args: as for the Trainer.
        variant: a row of the family, such as `SAM(rho=0.05)`.  None where `optimizers` holds a `SharpnessAware`.
        **kwargs: as for the Trainer.

    Raises:
        TypeError: no variant, and no `SharpnessAware` either.
        ValueError: a variant that cuts the batch into shards or asks for Hessian-vector products, or `fp16=True`.

    Example:
        >>> class Trainer:  # that of transformers
        ...     def __init__(self, model=None, args=None): ...
        >>> class SharpnessAwareTrainer(SharpnessAwareMixin, Trainer):
        ...     pass
        >>> from samfamily_torch import SAM
        >>> trainer = SharpnessAwareTrainer(variant=SAM(rho=0.05))
    """

    def __init__(self, *args: Any, variant: Variant | None = None, **kwargs: Any) -> None:
        self.variant = variant
        self._window: list[MicroBatch] = []
        self._clip: Callable[[], Any] | None = None
        self._grad_norm = torch.tensor(nan)
        self._hook: Any = None
        super().__init__(*args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Create the Trainer's own optimizer, and wrap it."""
        self._window = []  # of a run that was cut off
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.variant is not None and not isinstance(_inner(optimizer), SharpnessAware):
            self.optimizer = SharpnessAware(optimizer, self.variant, model=self.model)
        sharpness_aware = _sharpness_aware(self.optimizer)
        _check(sharpness_aware.variant)
        if self._hook is not None:
            self._hook.remove()
        self._hook = sharpness_aware.base.register_step_pre_hook(self._clip_now)
        if self.accelerator.scaler is not None:
            raise ValueError(
                "fp16=True makes the Trainer step through a GradScaler, which knows of one pass: use bf16=True or "
                "float32, or a loop of your own with optimizer.step(closure, scaler=scaler)"
            )
        return self.optimizer

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Add a micro-batch's gradient at w; with the last of a step, take the other passes over all of them."""
        optimizer, stage = _sharpness_aware(self.optimizer), Stage(None)
        places = {torch.device("cpu"), self.args.device}
        self._window.append(MicroBatch(inputs, num_items_in_batch, stage.look(places)))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not self.accelerator.sync_gradients:
            return loss
        window, self._window = self._window, []
        climbing = True
        while climbing:
            with optimizer.perturbed() as wanted:
                if wanted:
                    self._sweep(model, window, stage)
            climbing = optimizer.unfinished
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Put clipping off until the base optimizer steps, with the gradient that the variant made."""
        self._clip = partial(super()._clip_grad_norm, model)
        self._grad_norm = torch.full((), nan, device=self.args.device)
        return self._grad_norm  # the Trainer reads it after the step

    def _clip_now(self, *_: Any) -> None:
        if self._clip is not None:
            self._grad_norm.copy_(self._clip())
            self._clip = None

    def _sweep(self, model: Any, window: list[MicroBatch], stage: Stage) -> None:
        """Add up the gradients of all micro-batches where the parameters stand; reduce them once, with the last."""
        for i, micro in enumerate(window, start=1):
            stage.restore(micro.view)
            with nullcontext() if i == len(window) else self.accelerator.no_sync(model=model):
                super().training_step(model, micro.inputs, micro.num_items_in_batch)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it once more


def _sharpness_aware(optimizer: Any) -> SharpnessAware:
    inner = _inner(optimizer)
    if not isinstance(inner, SharpnessAware):
        raise TypeError(
            f"the Trainer's optimizer is {type(inner).__name__}, and no variant was given: pass variant=SAM(rho=0.05), "
            "or optimizers=(SharpnessAware(...), None)"
        )
    return inner


def _check(variant: Variant) -> None:
    if variant.m is not None or variant.hessian_vector_products_per_step:
        reason = f"m = {variant.m} shards the batch" if variant.m is not None else "it asks for Hessian-vector products"
        raise ValueError(
            f"{variant.name} needs step(closure), and the Trainer has no closure ({reason}): leave that out, or write "
            "a loop with accelerate or of your own"
        )
