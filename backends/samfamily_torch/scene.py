"""What a pass changes besides gradients: the module's buffers, and the random state.

A step of sharpness-aware minimisation runs the closure more than once.  To the model that should look like one pass,
the one at w: batch normalisation's statistics move once, and dropout draws its masks once, for all passes the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Kept(NamedTuple):
    """One buffer as it was: where it hangs, the tensor, its version, and a copy of what it held."""

    module: torch.nn.Module
    name: str
    buffer: Tensor
    version: int
    copy: Tensor

    @property
    def moved(self) -> bool:
        """Whether it holds other numbers now, or another tensor hangs there."""
        return self.module._buffers.get(self.name) is not self.buffer or not torch.equal(self.buffer, self.copy)  # noqa: SLF001


LARGE = 1 << 16


def _unchanged(kept: Kept) -> bool:
    """Tell whether a buffer surely is as it was: a large one whose version is, which whoever writes counts.

    Batch normalisation does not, nor what is written through `.data`; small buffers are copied in any case.
    """
    large = kept.buffer.numel() >= LARGE and not isinstance(kept.module, torch.nn.modules.batchnorm._NormBase)  # noqa: SLF001
    return large and kept.buffer._version == kept.version


class View(NamedTuple):
    """Buffers and random states as they were at one moment."""

    buffers: list[Kept]
    random: list[tuple[Any, Tensor]]


class Stage:
    """The surroundings of all steps of an optimizer.

    Args:
        model: the module whose buffers are looked after; None looks after none.
    """

    def __init__(self, model: torch.nn.Module | None) -> None:
        self.model = model
        self._copies: dict[int, Kept] = {}

    def look(self, devices: Iterable[torch.device]) -> View:
        """Return the surroundings as they are; a buffer that has not changed since the last look costs nothing."""
        random = [(owner, state) for owner, state in map(_random_state, devices) if owner is not None]
        return View([] if self.model is None else self._buffers(self.model), random)

    def restore(self, view: View) -> None:
        """Bring back what a view saw: in place, in each buffer's own memory, and under its own name."""
        with torch.no_grad():
            for kept in view.buffers:
                module, name, buffer = kept.module, kept.name, kept.buffer
                if module._buffers.get(name) is not buffer:  # noqa: SLF001  a pass put another tensor there
                    module._buffers[name] = buffer  # noqa: SLF001
                if not _unchanged(kept):
                    kept.buffer.copy_(kept.copy)
                self._copies[id(buffer)] = kept._replace(version=buffer._version)
        for (device_module, device), state in view.random:
            _set_random_state(device_module, device, state)

    def restore_unless(self, taken: Tensor, view: View) -> None:
        """Bring buffers back where `taken` is false; the device decides."""
        with torch.no_grad():
            for kept in view.buffers:
                now = kept.module._buffers.get(kept.name)  # noqa: SLF001  perhaps another tensor
                if now is not None and not (now is kept.buffer and _unchanged(kept)):
                    torch.where(taken.to(now.device), now, kept.copy, out=kept.buffer)
                    kept.module._buffers[kept.name] = kept.buffer  # noqa: SLF001

    def _buffers(self, model: torch.nn.Module) -> list[Kept]:
        found = {}
        for module in model.modules():
            for name, buffer in module._buffers.items():  # noqa: SLF001  the names under which they hang
                if buffer is not None and id(buffer) not in found:
                    found[id(buffer)] = self._kept(module, name, buffer)
        self._copies = found
        return list(found.values())

    def _kept(self, module: torch.nn.Module, name: str, buffer: Tensor) -> Kept:
        before = self._copies.get(id(buffer))
        if before is not None and before.buffer is buffer and _unchanged(before):
            return before
        return Kept(module, name, buffer, buffer._version, buffer.detach().clone())


class Scene:
    """The surroundings of one step: every pass begins alike, and what stays is what the pass at w left.

    Where a variant never asks at w, what stays is what the first pass left.

    Args:
        stage: the surroundings of all steps.
        devices: whose random numbers every pass shall see alike.
    """

    def __init__(self, stage: Stage, devices: Iterable[torch.device] = ()) -> None:
        self.stage, self.devices = stage, tuple(devices)
        self.begin = stage.look(self.devices)
        self.kept: View | None = None

    def before_pass(self) -> None:
        """Set the surroundings to what they were when the step began."""
        if self.kept is not None:
            self.stage.restore(self.begin)

    def after_pass(self, at_w: bool) -> None:
        """Look at what a pass left, if it is what is to stay."""
        if at_w or self.kept is None:
            self.kept = self.stage.look(self.devices)

    def leave(self) -> None:
        """Set the surroundings to what is to stay."""
        if self.kept is not None:
            self.stage.restore(self.kept)

    def abandon(self) -> None:
        """Set the surroundings to what they were when the step began."""
        self.stage.restore(self.begin)

    def abandon_unless(self, taken: bool | Tensor) -> None:
        """Abandon a step that was not taken; where a tensor tells, it is not read, and random state stays as it is."""
        if isinstance(taken, Tensor):
            self.stage.restore_unless(taken, self.begin)
        elif not taken:
            self.abandon()


def _random_state(device: torch.device) -> tuple[Any, Any]:
    """Return whose random state it is, and the state; None where the device has none that can be set."""
    if device.type == "cpu":
        return (torch, None), torch.get_rng_state()
    module: Any = getattr(torch, device.type, None)
    if not hasattr(module, "get_rng_state"):
        return None, None
    return (module, device), module.get_rng_state(device)


def _set_random_state(module: Any, device: torch.device | None, state: Tensor) -> None:
    if device is None:
        module.set_rng_state(state)
    else:
        module.set_rng_state(state, device)
