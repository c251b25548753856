"""SharpnessAware: any torch.optim.Optimizer, made to follow a variant of sharpness-aware minimisation.

The driver of a variant's program for PyTorch: it puts the parameters at the point that the program asks about, lets the
user compute gradients there, sends them, and brings the parameters home.  It decides nothing else.  Since a program
is suspended between two requests, the closure, the two-step and the context-manager interfaces are one mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import nan
from operator import is_not
from typing import Any

import torch
from torch import Tensor

from samfamily import check
from samfamily.program import State, Step, StepInfo, mean
from samfamily.space import Leaf, Vec
from samfamily.variant import Variant
from samfamily_torch.batch import shards
from samfamily_torch.checkpoint import carry, pack, settled, unpack
from samfamily_torch.leaves import describe
from samfamily_torch.live import LiveParameters
from samfamily_torch.run import Outcome, Run
from samfamily_torch.space import TorchSpace


class SharpnessAware(torch.optim.Optimizer):
    r"""A base optimizer that follows `variant`.

    `param_groups`, `state` and `defaults` are the base optimizer's own, so that schedulers, loggers and
    `add_param_group` work on either.  A constant rho is copied to every `param_group["rho"]` and read from there at
    every step; groups may differ.  (Not so where the base optimizer has a rho of its own, as Adadelta has.)

    Args:
        base: an instance of `torch.optim.Optimizer` whose `step` needs no closure.
        variant: a row of the family, such as `SAM(rho=0.05)`.
        model: the module that owns the parameters.  Only variants that ask for the parameters' names need it, and not
            even they if `base` was built from `model.named_parameters()`.

    Attributes:
        base: the base optimizer.
        variant: the variant.

    Raises:
        TypeError: `base` is not an optimizer instance, or `variant` is not a Variant.

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

    def __init__(self, base: torch.optim.Optimizer, variant: Variant, model: torch.nn.Module | None = None) -> None:
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
        # Optimizer.__init__ would make groups and a state of its own; __setstate__ sets up hooks and profiling alone.
        self.__setstate__({"base": base, "variant": variant})
        self._model = model
        self._live = LiveParameters([], TorchSpace(0))
        self._state: State | None = None
        self._run: Run | None = None
        self._figures: tuple[Any, ...] = (nan, nan, nan, 0, 0)
        self._info: StepInfo | None = None
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
            loss, perturbed_loss, *others = self._figures
            dual_norm, radius, gradients = map(_scalar, others)
            self._info = StepInfo(
                torch.as_tensor(loss), torch.as_tensor(perturbed_loss), dual_norm, radius, gradients, radius > 0
            )
        return self._info

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, with the variant's rho unless it brings its own."""
        self.base.add_param_group(param_group)
        self._offer_rho()

    def __repr__(self) -> str:
        return f"SharpnessAware({self.variant}, base={self.base!r})"

    # -------------------------------------------------------------------------------------------- with a closure

    def step(self, closure: Callable[..., Any] | None = None, *, batch: Sequence[Any] = ()) -> Any:
        r"""Take one step.

        Args:
            closure: zero_grad, forward, backward, return the loss; called as `closure(*batch)`, once for each gradient.
                Without one, finishes the step that `perturbed` or `first_step` began.
            batch: the closure's arguments: tensors, or containers of tensors, whose first axis counts examples.  Where
                the variant has an `m`, the closure is called on contiguous shards of `m` examples.

        Returns:
            The loss at w, detached: the mean over shards where the variant has an `m`; None without a closure.

        Raises:
            RuntimeError: neither a closure nor a step to finish, or a closure in the middle of a manual step.
            TypeError: the closure returned no loss.
            ValueError: `m` does not divide the batch, or there is no batch to shard.
        """
        if closure is None:
            return self._finish_manual()
        if self._run is not None:
            raise RuntimeError(
                "a manual step is in progress: finish it with step() or second_step(), without a closure"
            )
        if not isinstance(batch, list | tuple):
            raise TypeError(
                f"batch must be a tuple of the closure's arguments, got {type(batch).__name__}: batch=(x, y)"
            )
        parts = shards(tuple(batch), self.variant.m)
        live, variant, state = self._begin()
        try:
            outcome: Outcome = mean(Run(live, variant, state).through(partial(closure, *part)) for part in parts)
        except BaseException:
            live.abandon()
            raise
        self._finish(live, outcome)
        return torch.as_tensor(outcome.loss)

    # ------------------------------------------------------------------------------------------- in a manual loop

    def first_step(self, zero_grad: bool = True) -> None:
        """Take the gradients out of `.grad` and put the parameters at the perturbed point.

        Call it again, after another backward, for every further gradient that the variant asks for.

        Args:
            zero_grad: accepted for the name's sake: the gradients are taken out of `.grad`, which is empty after.

        Raises:
            RuntimeError: no gradients in `.grad`, or a variant that needs the closure; the step is abandoned.
        """
        self._climb()

    def second_step(self, zero_grad: bool = True) -> None:
        """Bring the parameters home and step the base optimizer with the gradient that the variant makes.

        Args:
            zero_grad: empty `.grad` afterwards.

        Raises:
            RuntimeError: no `first_step` or no gradients since, or more climbs to do; the step is abandoned.
        """
        self.step()
        if zero_grad:
            self.zero_grad()

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Hold the parameters at the perturbed point for one more backward; they come home bitwise, whatever happens.

        Enter with the gradients at w in `.grad` (a variant that does not ask for them drops them); inside, `.grad` is
        empty and `backward()` fills it; `step()` follows.  Enter again for every further gradient that the variant asks
        for, such as the further climbs of `SAM(steps=3)`.

        Raises:
            RuntimeError: no gradients in `.grad` on entering, or a variant that needs the closure; the step is
                abandoned.
        """
        run = self._climb()
        try:
            yield
        except BaseException:
            self._abandon(run)
            raise
        if self._run is run:
            run.live.come_home()  # `.grad` stays, to be clipped or looked at, until step() or the next climb takes it

    @property
    def unfinished(self) -> bool:
        """Whether a manual step is in progress for which the variant asks for another gradient."""
        run = self._run
        return run is not None and run.step is None and run.entries < run.most_entries

    def _climb(self) -> Run:
        """Answer the program in progress, or a new one, from `.grad`, and go where it wants the next gradient."""
        run = self._run
        if run is not None and not run.live.away and run.entries >= run.most_entries:
            run = self._run = None  # it had all that it asks for and no step() followed: its batch was skipped
        if run is None:
            variant = self.variant
            if variant.m is not None or variant.hessian_vector_products_per_step:
                raise RuntimeError(f"{variant.name} with {_needs_closure(variant)}: call step(closure, batch=(x, y))")
            run = Run(*self._begin())
        try:
            if run.waiting or run.request is run.live.w:
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
        run.answer(nan)

    def _abandon(self, run: Run) -> None:
        """Forget the step in progress: weights and state are as they were before it, and `.grad` is empty."""
        self._run = None
        run.live.abandon()

    def _finish_manual(self) -> None:
        run = self._run
        if run is None:
            raise RuntimeError(
                "there is nothing to step on: pass a closure, step(closure), or go through "
                "`with optimizer.perturbed(): ...` or first_step() after loss.backward()"
            )
        try:
            if run.waiting:
                self._answer(run)
        except BaseException:
            self._abandon(run)
            raise
        if run.step is None:
            self._abandon(run)
            raise RuntimeError(
                f"{self.variant.name} with {self.variant.ascent} asks for more gradients than it was given: "
                "go through perturbed() or first_step() once for every one, or call step(closure)"
            )
        self._run = None
        self._finish(run.live, run.outcome())

    # ------------------------------------------------------------------------------------------- one step's frame

    def _begin(self) -> tuple[LiveParameters, Variant, State]:
        """Return the parameters as they stand, the variant with the groups' rho, and its state."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not parameters:
            raise RuntimeError("no parameter of the optimizer requires a gradient: there is nothing to step on")
        before = self._live.parameters
        if len(parameters) != len(before) or any(map(is_not, parameters, before)):
            self._live = LiveParameters(parameters, TorchSpace(self._describe(parameters)))
            if self._state is not None:
                places = {id(p): i for i, p in enumerate(before)}
                fresh = self.variant.init(self._live.w)
                self._state = carry(self._state, fresh, [places.get(id(p)) for p in parameters])
        live = self._live
        live.stand()
        state = self.variant.init(live.w) if self._state is None else self._state
        return live, self.variant.with_rho(self._rho()), state

    def _rho(self) -> Any:
        """Return the groups' rho: one for all, or a Vec of one for each parameter."""
        own = self.variant.radius.rho
        groups = [group for group in self.param_groups if any(p.requires_grad for p in group["params"])]
        rhos = [own if "rho" in self.defaults else group.get("rho", own) for group in groups]
        if all(rho is rhos[0] or rho == rhos[0] for rho in rhos):
            return rhos[0]
        return Vec(
            self._live.space,
            tuple(
                _scalar(check.radius("param_group['rho']", rho))
                for rho, group in zip(rhos, groups, strict=True)
                for p in group["params"]
                if p.requires_grad
            ),
        )

    def _describe(self, parameters: Sequence[Tensor]) -> list[Leaf]:
        """Return what the model and the groups tell of each parameter."""
        known = describe(self._model) if self._model else {}
        for group in self.param_groups:
            for p, name in zip(group["params"], group.get("param_names", ()), strict=False):
                known.setdefault(id(p), Leaf(name))
        return [known.get(id(p), Leaf()) for p in parameters]

    def _finish(self, live: LiveParameters, outcome: Outcome) -> None:
        """Step the base optimizer with the gradient that the variant made, and only then move the state on."""
        step: Step = outcome.step
        rates: dict[int, Any] = {}
        if step.addend is not None:
            if not all("lr" in group for group in self.param_groups):
                raise RuntimeError(f"{self.variant.name} adds at the learning rate, and a group has no 'lr': add one")
            rates = {id(p): group["lr"] for group in self.param_groups for p in group["params"]}
        state = settled(step.state)
        live.put_gradients(step.gradient)
        self.base.step()
        if step.addend is not None:
            live.add(step.addend, [-rates[id(p)] for p in live.parameters])
        self._state = state
        self._figures = (outcome.loss, outcome.perturbed_loss, step.dual_norm, step.radius, outcome.gradients)
        self._info = None

    def _offer_rho(self) -> None:
        rho = self.variant.radius.rho
        if isinstance(rho, int | float) and "rho" not in self.defaults:
            for group in self.param_groups:
                group.setdefault("rho", rho)

    # ------------------------------------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's `state_dict` with one more entry, `"samfamily"`: the variant's name and state.

        Returns:
            A dict that `torch.save` writes and `torch.load(weights_only=True)` reads.

        Raises:
            RuntimeError: a manual step is in progress.
        """
        if self._run is not None:
            raise RuntimeError("a manual step is in progress: finish it with step() before saving")
        state = None if self._state is None else pack(tuple(self._state))
        return self.base.state_dict() | {"samfamily": {"variant": self.variant.name, "state": state}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Args:
            state_dict: as it was returned.

        Raises:
            ValueError: it was written by a plain optimizer, for another variant or for other parameters.
        """
        if self._run is not None:
            raise RuntimeError("a manual step is in progress: finish it with step() before loading")
        if "samfamily" not in state_dict:
            raise ValueError(
                "this state_dict was written by a plain optimizer: load it with optimizer.base.load_state_dict"
            )
        saved = state_dict["samfamily"]
        if saved["variant"] != self.variant.name:
            raise ValueError(
                f"this state_dict was written by {saved['variant']}, and the optimizer follows {self.variant.name}: "
                "build SharpnessAware with the same variant"
            )
        live, _, _ = self._begin()
        state = None if saved["state"] is None else unpack(saved["state"], self.variant.init(live.w))
        self.base.load_state_dict({key: value for key, value in state_dict.items() if key != "samfamily"})
        self._state, self._run = state, None
        self._offer_rho()


def _scalar(x: Any) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


def _needs_closure(variant: Variant) -> str:
    if variant.m is not None:
        return f"m = {variant.m} shards the batch"
    return "Hessian-vector products (second_order, an eigenvector) differentiates through the closure"
