"""Loss scales, and what becomes of a step whose numbers are not finite."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from samfamily_torch.foreach import read
from samfamily_torch.live import LiveParameters


def is_finite(x: float | Tensor) -> bool | Tensor:
    """Tell whether a number is finite; an accelerator keeps the answer, and a number on `meta` counts as finite."""
    x = read(x)
    if isinstance(x, Tensor):
        return x.is_meta or torch.isfinite(x)
    return isfinite(x)


def loss_scale(scaler: GradScaler | None, live: LiveParameters) -> float | Tensor:
    """Return what `scaler.scale` multiplies losses with: a number on a CPU, elsewhere a tensor that is not read.

    In float64: a scaler's own float32 would round what it is multiplied with, such as one over the number of shards.
    """
    if scaler is None:
        return 1.0
    scale = scaler.scale(torch.ones((), device=live.parameters[0].device))
    return scale.item() if scale.device.type == "cpu" else scale.double()


def step_through(scaler: GradScaler | None, base: torch.optim.Optimizer) -> None:
    """Step the base optimizer, through the scaler if there is one, which unscales and may skip.

    A fused optimizer unscales within its step; where hooks are called before that, which may clip, they see it done.
    """
    if scaler is None:
        base.step()
        return
    hooked = bool(base._optimizer_step_pre_hooks)  # noqa: SLF001  there is no public way to ask
    if hooked and scaler.is_enabled() and not has_unscaled(scaler, base):
        scaler.unscale_(base)
    scaler.step(base)


def has_unscaled(scaler: GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether `scaler.unscale_(optimizer)` was called since the last `scaler.update()`."""
    if not scaler.is_enabled():
        return False
    state = scaler._per_optimizer_states.get(id(optimizer))  # noqa: SLF001  there is no public way to ask
    return state is not None and state["stage"].name != "READY"


def refuse_unscaled(scaler: GradScaler | None, optimizer: torch.optim.Optimizer) -> None:
    """Raise where gradients were unscaled that the step unscales, since a scaler divides for each optimizer once."""
    if scaler is not None and has_unscaled(scaler, optimizer):
        raise RuntimeError(
            "scaler.unscale_(optimizer) has divided .grad by the loss scale, and the step does so itself: leave it "
            "out, and clip in a hook, optimizer.base.register_step_pre_hook(...), which sees unscaled gradients"
        )


def tell_overflow(scaler: GradScaler | None, base: torch.optim.Optimizer, live: LiveParameters) -> None:
    """Let a scaler see an inf, so that it skips the step and its next `update()` lowers the scale."""
    if scaler is not None and scaler.is_enabled():
        p = live.parameters[0]
        p.grad = torch.full_like(p, inf)
        if hasattr(base, "_step_supports_amp_scaling"):  # it would be stepped, and make a state out of nothing
            scaler.unscale_(base)
        else:
            scaler.step(base)
        p.grad = None


def step_if(finite: Tensor, base: torch.optim.Optimizer) -> None:
    """Step a fused optimizer where `finite` is 1; the device decides, and nothing is read."""
    switch: Any = base  # these two attributes are how torch tells its fused optimizers of an overflow
    switch.grad_scale, switch.found_inf = None, (1.0 - finite).float()
    try:
        base.step()
    finally:
        del switch.grad_scale, switch.found_inf


def decides_by_itself(base: torch.optim.Optimizer) -> bool:
    """Tell whether the base optimizer can skip a step on its own device, as torch's fused ones do.

    Not so the first one with SGD's momentum: if torch skips that, it leaves a buffer that nobody has written.
    """
    return bool(getattr(base, "_step_supports_amp_scaling", False)) and all(
        group.get("fused") and not _is_first(base, group) for group in base.param_groups
    )


def _is_first(base: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    """Tell whether SGD is still to make the momentum of this group."""
    buffers = (base.state.get(p, {}).get("momentum_buffer") for p in group["params"])
    return isinstance(base, torch.optim.SGD) and group["momentum"] != 0 and all(x is None for x in buffers)


def refuse_scaler_step(optimizer: Any) -> None:
    """Raise where `scaler.step(optimizer)` calls: scaled gradients of several passes cannot be told apart by then."""
    if hasattr(optimizer, "found_inf"):
        del optimizer.found_inf, optimizer.grad_scale  # what GradScaler left for a fused optimizer
        raise RuntimeError(
            "scaler.step(optimizer) does not know of the passes before the last: call optimizer.step(closure, "
            "scaler=scaler), or first_step(scaler=scaler) and second_step(scaler=scaler), then scaler.update()"
        )
