"""Checkpoints, copies and pickles of `SharpnessAware`: what a run must keep so as to go on as if it had not stopped.

In what form a variant's state is kept is `checkpoint`'s matter; where it stands in a `state_dict` is decided here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samfamily.program import State, StepInfo
from samfamily.recipe import Recipe
from samfamily.space import Leaf
from samfamily.variant import Variant
from samfamily_torch.checkpoint import OWN, pack, split, unpack
from samfamily_torch.live import LiveParameters
from samfamily_torch.space import TorchSpace


class Resumable(torch.optim.Optimizer):
    """An optimizer that can be saved and copied between steps.

    Attributes:
        base: the base optimizer.
        variant: the variant.
    """

    base: torch.optim.Optimizer
    variant: Variant
    _live: LiveParameters
    _state: State | None
    _remembered: Sequence[Tensor]  # the parameters of `_state`
    _batch: int | None
    _skipped: Any
    _info: StepInfo | None

    @abstractmethod
    def _refuse_in_a_step(self, what: str) -> None:
        """Raise where a manual step is in progress."""

    @abstractmethod
    def _every_parameter(self) -> list[Tensor]:
        """Return the parameters of all groups, also the frozen ones, in order."""

    @abstractmethod
    def _describe(self, parameters: Sequence[Tensor]) -> list[Leaf]:
        """Return what the model and the groups tell of each parameter."""

    @abstractmethod
    def _offer_rho(self) -> None:
        """Put a constant rho into every group that has none of its own."""

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, so that copies and pickles are whole: `Optimizer` keeps three entries."""
        self._refuse_in_a_step("copying")
        # A scheduler wraps the `step` of the one instance that it schedules; a scaler is the last manual step's; and
        # where memory lies is another matter for a copy.
        state = {key: value for key, value in self.__dict__.items() if key != "step"}
        return state | {"_scaler": None, "_live": LiveParameters([], TorchSpace(0))}

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's `state_dict` with the variant's state in it.

        What the variant remembers of a parameter stands in the parameter's own entry of `"state"`, under names such as
        `samfamily.descent.v`; all else, the `samfamily.Recipe` among it, in the first group's `"samfamily"`.

        Returns:
            A dict that `torch.save` writes and `torch.load(weights_only=True)` reads; `torch.distributed.checkpoint`
            saves and loads it by parameters' names, also onto another number of processes.

        Raises:
            RuntimeError: a manual step is in progress.
        """
        self._refuse_in_a_step("saving")
        every = self._every_parameter()
        state, whose = self._state, self._remembered
        if state is None:
            whose = [p for p in every if p.requires_grad]
            state = self.variant.init(LiveParameters(whose, TorchSpace(self._describe(whose))).w)
        vectors, scalars = pack(state)
        packed = self.base.state_dict()
        places = {id(p): i for i, p in enumerate(every)}
        for p, own in zip(whose, vectors, strict=False):  # which has none where nothing is remembered of a parameter
            i = places[id(p)]
            packed["state"][i] = packed["state"].get(i, {}) | own
        recipe = Recipe.of(self.variant, self._batch)._asdict()
        packed["param_groups"][0][OWN] = {"recipe": recipe, "state": scalars, "skipped": int(self._skipped)}
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Args:
            state_dict: as it was returned.

        Raises:
            RuntimeError: a manual step is in progress.
            ValueError: it was written by a plain optimizer, for another variant, another m or other parameters.
        """
        self._refuse_in_a_step("loading")
        groups = [dict(group) for group in state_dict["param_groups"]]
        saved: Any = groups[0].pop(OWN, None)
        if saved is None:
            raise ValueError(
                "this state_dict was written by a plain optimizer: load it with optimizer.base.load_state_dict"
            )
        Recipe.of(self.variant).check(saved["recipe"])
        every, keys = self._every_parameter(), [key for group in groups for key in group["params"]]
        if len(keys) != len(every):
            raise ValueError(
                f"the checkpoint's list of parameters has {len(keys)} entries where this optimizer's has {len(every)}: "
                "it was written for other parameters"
            )
        entries = {key: split(entry) for key, entry in state_dict["state"].items()}
        own = [entries[key][1] if key in entries else {} for key in keys]
        known = [bool(x) for x in own] if any(own) else [p.requires_grad for p in every]
        parameters = [p for p, k in zip(every, known, strict=True) if k]
        vectors = [entry for entry, k in zip(own, known, strict=True) if k]
        live = LiveParameters(parameters, TorchSpace(self._describe(parameters)))
        state = unpack(vectors, saved["state"], self.variant.init(live.w))
        base = {key: entry for key, (entry, _) in entries.items() if entry}
        offered = ["rho" in group for group in self.param_groups]  # not where a schedule rules
        self.base.load_state_dict({**state_dict, "state": base, "param_groups": groups})
        for group, had in zip(self.param_groups, offered, strict=True):
            if not had:
                group.pop("rho", None)
        self._state, self._live, self._remembered = state, live, parameters
        self._skipped, self._batch, self._info = saved["skipped"], saved["recipe"]["batch"], None
        self._offer_rho()
