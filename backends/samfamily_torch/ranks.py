"""The processes that train one model together, each with its part of the global batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from samfamily.division import Division, division
from samfamily.program import each
from samfamily.space import Vec
from samfamily_torch.live import LiveParameters
from samfamily_torch.run import Outcome

T = TypeVar("T")


class Ranks:
    """The processes among which `DistributedDataParallel` shares a model; one alone where there is none.

    Its wrapper averages every gradient over all of them, which is right where the whole global batch shares a
    perturbation.  Where m examples do, a rank's passes are its own (`no_sync`, forward included), a gradient is
    averaged over those that work on one shard, and what the step makes of it over all.

    Args:
        model: the model of the optimizer.

    Attributes:
        size: how many there are.
    """

    size: int

    def __init__(self, model: torch.nn.Module | None) -> None:
        self._wrapper = model if isinstance(model, DistributedDataParallel) else None
        self.size = 1 if self._wrapper is None else distributed.get_world_size(self._wrapper.process_group)
        self._device = None if self._wrapper is None else next(self._wrapper.parameters()).device
        self._groups: dict[int, Any] = {}

    def division(self, m: int | None, examples: int, live: LiveParameters) -> Division:
        """Return who shares a perturbation; see `samfamily.division`.

        Args:
            m: examples to a perturbation.
            examples: how many this rank has.
            live: the parameters.

        Returns:
            The division.

        Raises:
            ValueError: `m` does not divide the global batch, or the ranks have batches of different lengths.
            RuntimeError: nobody knows which processes share the batch, or the parameters are sharded over them.
        """
        others = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        if m is not None and self._wrapper is None and others > 1:
            if any(hasattr(p, "device_mesh") for p in live.parameters):
                raise RuntimeError(
                    f"m = {m} with sharded parameters: their gradients are averaged over all processes, and no process "
                    "has the weights that a perturbation of its own would need: leave out m, or use "
                    "DistributedDataParallel"
                )
            raise RuntimeError(
                f"m = {m} with {others} processes, and the optimizer was not told how they share the model: pass "
                "SharpnessAware(..., model=DistributedDataParallel(model))"
            )
        if m is not None and m > examples:  # before anybody waits for a group that others know otherwise
            _check_equal(examples, self.mean(_powers(examples)))
        return division(m, examples, self.size)

    def apart(self, divided: Division) -> AbstractContextManager[Any]:
        """Return a context in which backward passes leave gradients as they are on this rank, where it is divided."""
        return nullcontext() if self._wrapper is None or divided.group == self.size else self._wrapper.no_sync()

    def agreed(self, outcome: Outcome, divided: Division, examples: int) -> Outcome:
        """Return what the ranks' outcomes come to; where the wrapper has averaged every gradient, only numbers differ.

        Raises ValueError on every rank where their batches differ in length.
        """
        if self.size == 1:
            return outcome
        if divided.group < self.size:
            outcome, powers = self.mean((outcome, _powers(examples)))
            _check_equal(examples, powers)
            return outcome
        loss, perturbed_loss, finite = self.mean((outcome.loss, outcome.perturbed_loss, outcome.finite))
        return outcome._replace(loss=loss, perturbed_loss=perturbed_loss, finite=finite)

    def mean(self, item: T, among: int | None = None) -> T:
        """Return the mean over ranks of Vecs and scalars in tuples, in one all-reduce for each dtype.

        Args:
            item: of the same structure on every rank.
            among: over how many ranks that follow one another; all, where None.

        Returns:
            The mean.
        """
        among = self.size if among is None else among
        if among == 1:
            return item
        found: dict[torch.dtype, list[Tensor]] = {}

        def find(x: Any) -> None:
            for u in self._tensors(x):
                found.setdefault(u.dtype, []).append(u)

        each(find, item)
        means = {}
        for dtype, parts in sorted(found.items(), key=lambda entry: str(entry[0])):
            total = torch.cat([u.reshape(-1) for u in parts])
            distributed.all_reduce(total, group=self._group(among))
            split = (total / among).split([u.numel() for u in parts])
            means[dtype] = iter([x.reshape(u.shape) for x, u in zip(split, parts, strict=True)])

        def filled(x: Any) -> Any:
            entries = [next(means[u.dtype]) for u in self._tensors(x)]
            return Vec(x.space, tuple(entries)) if isinstance(x, Vec) else entries[0]

        return cast("T", each(filled, item))

    def _tensors(self, x: Any) -> list[Tensor]:
        if isinstance(x, Vec):
            return [u.contiguous() for u in x.collapse()]
        return [torch.as_tensor(x, dtype=torch.float64, device=self._device)]

    def _group(self, among: int) -> Any:
        """Return the process group of this rank and its neighbours; made once, by all ranks together."""
        assert self._wrapper is not None
        whole = self._wrapper.process_group
        if among == self.size:
            return whole
        if among not in self._groups:
            ranks = distributed.get_process_group_ranks(whole)
            neighbours = [ranks[i : i + among] for i in range(0, self.size, among)]
            self._groups[among] = distributed.new_subgroups_by_enumeration(neighbours)[0]
        return self._groups[among]


def _powers(examples: int) -> tuple[float, float]:
    return float(examples), float(examples**2)


def _check_equal(examples: int, means: tuple[Any, Any]) -> None:
    """Raise where the ranks' batches differ in length, which mean and mean square tell."""
    mean, square = map(float, means)
    if square != mean**2:
        raise ValueError(
            f"this process has {examples} examples where the mean is {mean:g}: with an m every process must have as "
            "many (drop or pad the last, smaller batch)"
        )
