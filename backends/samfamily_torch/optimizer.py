"""SharpnessAware: any torch.optim.Optimizer, made to follow a variant of sharpness-aware minimisation.

The driver of a variant's program for PyTorch: it puts the parameters at the point that the program asks about, lets the
user compute gradients there, sends them, and brings the parameters home.  It decides nothing else.  Since a program
is suspended between two requests, the closure, the two-step and the context-manager interfaces are one mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, reduce
from math import nan
from operator import is_not
from typing import Any, Literal, NamedTuple
from warnings import warn
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.amp import GradScaler

from samfamily import check
from samfamily.program import State, Step, StepInfo, add, divide
from samfamily.space import Leaf, Vec
from samfamily.variant import Variant
from samfamily_torch.batch import cut, examples_in
from samfamily_torch.buckets import Buckets
from samfamily_torch.checkpoint import carry, settled
from samfamily_torch.foreach import whole
from samfamily_torch.leaves import describe
from samfamily_torch.leftovers import watching
from samfamily_torch.live import LiveParameters, being_captured_by_cuda
from samfamily_torch.manual import ManualLoop
from samfamily_torch.precision import (
    decides_by_itself,
    loss_scale,
    refuse_scaler_step,
    refuse_unscaled,
    step_if,
    step_through,
    tell_overflow,
)
from samfamily_torch.ranks import Ranks
from samfamily_torch.resuming import Resumable
from samfamily_torch.run import NotFiniteError, Outcome, Run, all_finite
from samfamily_torch.scene import Scene, Stage
from samfamily_torch.space import TorchSpace

OFFERED: WeakKeyDictionary[torch.optim.Optimizer, float] = WeakKeyDictionary()
"""The rho that stands in a base optimizer's groups because a wrapper put it there, and not the user."""


class Figures(NamedTuple):
    """What becomes a `StepInfo` when somebody looks at it: numbers, or 0-d tensors that nobody has read."""

    loss: Any
    perturbed_loss: Any
    dual_norm: Any
    radius: Any
    gradients: Any
    effective_radius: Any


class SharpnessAware(ManualLoop, Resumable):
    r"""A base optimizer that follows `variant`: it steps as if the variant's gradient were the loss's.

    $$ w \leftarrow \mathrm{base}(w, \text{gradient}), \qquad
       \text{gradient} = \nabla L(w + \hat\epsilon) \text{ for SAM} $$

    `param_groups`, `state` and `defaults` are the base optimizer's own, so that schedulers, loggers and
    `add_param_group` work on either.  A constant rho is copied to every `param_group["rho"]` and read from there at
    every step; groups may differ.  (Not so where the base optimizer has a rho of its own, as Adadelta has.)

    Args:
        base: an instance of `torch.optim.Optimizer` whose `step` needs no closure.
        variant: a row of the family, such as `SAM(rho=0.05)`.
        model: the module that owns the parameters, or what spreads it over processes: `DistributedDataParallel(model)`,
            or a module after `fully_shard`.  With it, its buffers after a step (batch normalisation's
            statistics) are those of the pass at w.  Variants that ask for names need it, or a `base` built from
            `model.named_parameters()`.
        on_nonfinite: what to do where a loss or gradient is inf or NaN, in any pass: `"skip"` the step, so that
            weights, buffers and all states stay as they were and `info.skipped` counts it, or `"raise"`.  (In a manual
            loop the pass at w is over before the optimizer hears of it, and its buffers stay.)
        replay_random: whether all passes of a step see the same random numbers, dropout's masks among them; those that
            the pass at w left are what follows.  Only where a closure is given.

    Attributes:
        base: the base optimizer.
        variant: the variant.

    Raises:
        TypeError: `base` is not an optimizer instance, or `variant` is not a Variant.
        ValueError: `base` maximises, or `on_nonfinite` is neither of the two.

    Example:
        >>> import torch
        >>> from samfamily_torch import SAM, SharpnessAware
        >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.1), SAM(rho=0.5))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = 0.5 * (w**2).sum()
        ...     loss.backward()
        ...     return loss
        >>> float(optimizer.step(closure))
        12.5
        >>> w.data, float(optimizer.info.perturbed_loss), int(optimizer.info.gradient_evaluations)
        (tensor([2.6700, 3.5600]), 15.125, 2)
    """

    base: torch.optim.Optimizer
    variant: Variant
    _figures: Figures
    _info: StepInfo | None  # made of the figures when somebody looks
    _step_supports_amp_scaling = True  # so that a GradScaler tells when it is the one who calls step, see precision.py

    def __init__(
        self,
        base: torch.optim.Optimizer,
        variant: Variant,
        model: torch.nn.Module | None = None,
        *,
        on_nonfinite: Literal["skip", "raise"] = "skip",
        replay_random: bool = True,
    ) -> None:
        if not isinstance(base, torch.optim.Optimizer):
            raise TypeError(
                f"base must be an instance of torch.optim.Optimizer, got {base!r}: "
                "pass SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), ...)"
            )
        if not isinstance(variant, Variant):
            raise TypeError(
                f"variant must be a Variant, got {variant!r}: pass a row of the family such as SAM(rho=0.05)"
            )
        if any(group.get("maximize") for group in base.param_groups):
            raise ValueError(
                "the base optimizer has maximize=True, and the adversary climbs a loss: minimise its negative"
            )
        if on_nonfinite not in {"skip", "raise"}:
            raise ValueError(f'on_nonfinite must be "skip" or "raise", got {on_nonfinite!r}: choose one of them')
        # Optimizer.__init__ would make groups and a state of its own; __setstate__ sets up hooks and profiling alone.
        self.__setstate__({"base": base, "variant": variant})
        self._model, self._stage, self._ranks = model, Stage(model), Ranks(model, self._every_parameter())
        self._on_nonfinite, self._replay_random = on_nonfinite, replay_random
        self._skipped: Any = 0
        self._batch: int | None = None  # the global batch of the last step that knew it
        self._warned = False
        self._live = LiveParameters([], TorchSpace(0))  # those of the last step that was begun
        self._remembered: Sequence[Tensor] = []  # those of the last step that was taken, and of `_state`
        self._state: State | None = None
        self._run = self._scaler = None
        self._tell(Figures(nan, nan, nan, 0, 0, 0))
        self._offer_rho()

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The base optimizer's own list."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The base optimizer's own state."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The base optimizer's own defaults."""
        return self.base.defaults

    @property
    def info(self) -> StepInfo:
        """What the last step did.  A manual loop does not tell the losses: they are NaN, as all is before a step."""
        if self._info is None:
            loss, perturbed_loss = map(torch.as_tensor, self._figures[:2])
            dual_norm, radius, gradients, left, skipped = map(_scalar, (*self._figures[2:], self._skipped))
            self._info = StepInfo(loss, perturbed_loss, dual_norm, radius, gradients, radius > 0, left, skipped)
        return self._info

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, with the variant's rho unless it brings its own."""
        self.base.add_param_group(param_group)
        self._offer_rho()

    def __repr__(self) -> str:
        return f"SharpnessAware({self.variant}, base={self.base!r})"

    # -------------------------------------------------------------------------------------------- with a closure

    def step(
        self, closure: Callable[..., Any] | None = None, *, batch: Sequence[Any] = (), scaler: GradScaler | None = None
    ) -> Any:
        r"""Take one step.

        Args:
            closure: zero_grad, forward, backward, return the loss; called as `closure(*batch)`, once for each gradient.
                Without one, finishes the step that `perturbed` or `first_step` began.
            batch: the closure's arguments: tensors, or containers of tensors, whose first axis counts examples.  Where
                the variant has an `m`, the closure is called on contiguous shards of `m` examples.
            scaler: a stock `torch.amp.GradScaler`, where the closure calls `scaler.scale(loss).backward()` (and returns
                the loss itself).  It unscales once, an inf in any pass makes it skip the step, and `scaler.update()`
                follows as always.  Instead of `scaler.step(optimizer)`, which cannot know of the passes before.

        Returns:
            The loss at w, detached: the mean over shards where the variant has an `m`; None without a closure.

        Raises:
            RuntimeError: neither a closure nor a step to finish, or a closure in the middle of a manual step; called
                by `scaler.step`, or after `scaler.unscale_(optimizer)`.
            TypeError: the closure returned no loss.
            FloatingPointError: a loss or gradient is not finite, and `on_nonfinite="raise"`.
            ValueError: `m` does not divide the batch, or there is no batch to shard.

        Warns:
            UserWarning: gradients lay in `.grad` that the closure did not empty, and that are not used.
        """
        refuse_scaler_step(self)
        if closure is None:
            if self._run is None and self._moves_nothing():
                self.base.step()  # torch.distributed.checkpoint does so to have the base optimizer's state
                return None
            return self._finish_manual(scaler)
        if self._run is not None:
            raise RuntimeError(
                "a manual step is in progress: finish it with step() or second_step(), without a closure"
            )
        if not isinstance(batch, list | tuple):
            raise TypeError(
                f"batch must be a tuple of the closure's arguments, got {type(batch).__name__}: batch=(x, y)"
            )
        live, variant, state = self._begin()
        ranks, m = self._ranks, variant.m
        none = f"a variant with m = {m} shards the batch, and there is none: call step(closure, batch=(x, y))"
        examples = 0 if m is None else examples_in(tuple(batch), none)
        self._refuse_capture(live)
        divided = ranks.division(m, examples)
        own = ranks.own(divided, variant)
        scale, closure = loss_scale(scaler, live), watching(closure, live)
        scenes: list[Scene] = []

        def share(gradient: Vec) -> Vec:
            return ranks.mean(gradient, divided.group) if own else gradient

        def shard(here: LiveParameters, before: State, part: tuple[Any, ...], sending: Any = None) -> Outcome:
            scene = Scene(self._stage, devices(live) if self._replay_random else ())
            scenes.append(scene)
            run = Run(here, variant, before, scene, 1 / scale, share, alone=ranks.size == 1)
            return run.through(partial(closure, *part), sending)

        try:
            with ranks.apart(live, state) if own else nullcontext((live, state)) as (here, before):
                buckets = ranks.buckets(variant, divided, here)
                parts = cut(tuple(batch), divided.shards)
                outcome = over_shards(parts, partial(shard, here, before), buckets, 1 / scale)
                outcome = ranks.agreed(outcome, here, live, buckets) if own else ranks.told(outcome)
            taken = self._finish(live, outcome, scaler, scale)
        except BaseException as error:
            if scenes:
                scenes[0].abandon()  # the first shard's, who saw the surroundings before all of them
            if isinstance(error, NotFiniteError):
                return self._skip(live, error, scaler)
            live.abandon()
            raise
        self._batch = None if m is None else examples * ranks.size
        scenes[0].abandon_unless(taken)
        return torch.as_tensor(outcome.loss)

    # ------------------------------------------------------------------------------------------- one step's frame

    def _refuse_capture(self, live: LiveParameters) -> None:
        """Raise where a CUDA graph is recorded that would have to set random numbers back."""
        if self._replay_random and being_captured_by_cuda(live.parameters):
            raise RuntimeError(
                "a step is being captured as a CUDA graph, which cannot set the random state back for the second pass: "
                "pass SharpnessAware(..., replay_random=False); dropout then draws other masks in each pass"
            )

    def _moves_nothing(self) -> bool:
        """Tell whether learning rates and gradients are all there, and zero."""
        trained = [p for p in self._every_parameter() if p.requires_grad]
        if not all(group.get("lr", 1) == 0 for group in self.param_groups) or any(p.grad is None for p in trained):
            return False
        return not any(bool(whole(p.grad.abs().sum())) for p in trained if p.grad is not None and p.grad.numel())

    def _begin(self) -> tuple[LiveParameters, Variant, State]:
        """Return the parameters as they stand, the variant with the groups' rho, and its state."""
        members = [(p, group) for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not members:
            raise RuntimeError("no parameter of the optimizer requires a gradient: there is nothing to step on")
        parameters = [p for p, _ in members]
        if others(parameters, self._live.parameters):
            self._live = LiveParameters(parameters, TorchSpace(self._describe(parameters)))
        live, state = self._live, self._state
        live.stand()
        if state is None:
            state = self.variant.init(live.w)
        elif others(parameters, self._remembered):
            places = {id(p): i for i, p in enumerate(self._remembered)}
            state = carry(state, self.variant.init(live.w), [places.get(id(p)) for p in parameters])
        return live, self.variant.with_rho(self._rho([group for _, group in members])), state

    def _rho(self, groups: Sequence[dict[str, Any]]) -> Any:
        """Return the groups' rho: one for all, or a Vec of one for each parameter."""
        own = self.variant.radius.rho
        rhos = [own if "rho" in self.defaults else group.get("rho", own) for group in groups]
        if all(rho is rhos[0] or rho == rhos[0] for rho in rhos):
            return rhos[0]
        return Vec(self._live.space, tuple(_scalar(check.radius("param_group['rho']", rho)) for rho in rhos))

    def _every_parameter(self) -> list[Tensor]:
        """Return the parameters of all groups, also the frozen ones, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    def _describe(self, parameters: Sequence[Tensor]) -> list[Leaf]:
        """Return what the model and the groups tell of each parameter."""
        known = describe(self._model) if self._model else {}
        for group in self.param_groups:
            for p, name in zip(group["params"], group.get("param_names", ()), strict=False):
                known.setdefault(id(p), Leaf(name))
        return [known.get(id(p), Leaf()) for p in parameters]

    def _finish(
        self, live: LiveParameters, outcome: Outcome, scaler: GradScaler | None, scale: float | Tensor
    ) -> bool | Tensor:
        """Step the base optimizer with the gradient that the variant made, and only then move the state on.

        Returns whether the step was taken; it is skipped where something turns out not to be finite.
        """
        refuse_unscaled(scaler, self)
        taken: bool | Tensor = True
        step: Step = outcome.step
        here = isinstance(outcome.finite, float)  # then what is not finite has raised already
        unread = scaler is None and self._on_nonfinite == "skip"
        blind = unread and not self.variant.stateful and step.addend is None and decides_by_itself(self.base)
        if not here and not blind and not bool(all_finite(outcome.finite)):
            self._skip(live, NotFiniteError(outcome.loss, "w or the perturbed point", outcome.gradients), scaler)
            return False
        rates: dict[int, Any] = {}
        if step.addend is not None:
            if not all("lr" in group for group in self.param_groups):
                raise RuntimeError(f"{self.variant.name} adds at the learning rate, and a group has no 'lr': add one")
            rates = {id(p): group["lr"] for group in self.param_groups for p in group["params"]}
        state = settled(step.state)  # before the weights move, on which a part of it may lean
        live.put_gradients(scale * step.gradient)
        if blind and isinstance(outcome.finite, Tensor):
            taken = torch.as_tensor(all_finite(outcome.finite))
            finite = taken.to(torch.float64)
            self._skipped = self._skipped + (1 - finite)
            step_if(finite, self.base)
        else:
            step_through(scaler, self.base)
        if step.addend is not None:
            live.add(step.addend, [-rates[id(p)] for p in live.parameters])
        self._state, self._remembered = state, live.parameters
        told = outcome.loss, outcome.perturbed_loss, step.dual_norm, step.radius
        self._tell(Figures(*told, outcome.gradients, step.effective_radius))
        self._warn_of_rounding()
        return taken

    def _skip(self, live: LiveParameters, error: NotFiniteError, scaler: GradScaler | None) -> Tensor:
        """Leave everything as it was before the step, or raise; a scaler always learns of it, to lower its scale."""
        live.abandon()
        if self._raises(scaler):
            raise error
        tell_overflow(scaler, self.base, live)
        self._skipped = self._skipped + 1
        self._tell(Figures(error.loss, error.loss, nan, 0, error.gradients, 0))
        return error.loss

    def _raises(self, scaler: GradScaler | None) -> bool:
        """Whether what is not finite is an error; where a scaler is on it is none, but why the scale is lowered."""
        return self._on_nonfinite == "raise" and (scaler is None or not scaler.is_enabled())

    def _tell(self, figures: Figures) -> None:
        """Keep what the step has to tell; nothing is computed until somebody looks at `info`."""
        self._figures, self._info = figures, None

    def _warn_of_rounding(self) -> None:
        """Warn once where less than half of the perturbation is left by rounding; where that can be read at no cost."""
        radius, left = self._figures.radius, self._figures.effective_radius
        if self._warned or any(isinstance(x, Tensor) and x.device.type != "cpu" for x in (radius, left)):
            return
        if left < 0.5 * radius:
            self._warned = True
            warn(
                f"of a perturbation of radius {radius:.3g} only {left:.3g} is left in the "
                "weights' precision: keep the weights in float32, as torch.autocast does, or raise rho",
                stacklevel=4,
            )

    def _offer_rho(self) -> None:
        """Put a constant rho into every group that has none of its own, or that of a wrapper before this one."""
        if "rho" in self.defaults:
            return
        rho, before = self.variant.radius.rho, OFFERED.get(self.base)
        for group in self.param_groups:
            if before is not None and group.get("rho") == before:
                del group["rho"]
        OFFERED.pop(self.base, None)
        if isinstance(rho, int | float):
            OFFERED[self.base] = rho
            for group in self.param_groups:
                group.setdefault("rho", rho)


def over_shards(
    parts: Sequence[Any], shard: Callable[..., Outcome], buckets: Buckets | None, unscale: float | Tensor
) -> Outcome:
    """Return the mean of what `shard` leaves of each part, which may be sent while the last part makes it."""
    *first, last = parts
    total = reduce(add, map(shard, first)) if first else None
    sending = buckets and buckets.sending(unscale, total and total.step.gradient, len(parts))
    final = shard(last, sending)
    return divide(final if total is None else add(total, final), len(parts))


def others(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Tell whether two lists are not of the very same parameters."""
    return len(a) != len(b) or any(map(is_not, a, b))


def devices(live: LiveParameters) -> set[torch.device]:
    """Return where a model with these parameters draws random numbers."""
    return {torch.device("cpu"), *(p.device for p in live.parameters)}


def _scalar(x: Any) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)
