"""How a model is spread over processes, and how a pass is kept to one of them.

A wrapper averages every gradient over all processes, which is right where the whole global batch shares a perturbation.
Where m examples do, `apart` lets each process perturb and differentiate weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from samfamily.program import State, each
from samfamily.space import Vec
from samfamily_torch.foreach import spread_like, whole
from samfamily_torch.live import LiveParameters
from samfamily_torch.space import TorchSpace

T = TypeVar("T")


class Alone:
    """One process, or one that was not told of others.

    Attributes:
        group: the processes that share a batch; None where there are no others.
        device: where what they send each other lies.
        why_together: why passes cannot be kept apart; empty where they can.
        capacity: bytes of a gradient that are sent together while the rest of it is made.
    """

    group: Any = None
    device: torch.device | None = None
    why_together: str = ""
    capacity: int = 25 * 2**20

    @contextmanager
    def apart(self, live: LiveParameters, state: State) -> Iterator[tuple[LiveParameters, State]]:
        """Hold whole weights, which this process may perturb, and gradients back from the others.

        Args:
            live: the optimizer's parameters.
            state: the variant's state.

        Yields:
            The weights and the state to run on.
        """
        yield live, state

    def home(self, item: T, live: LiveParameters) -> T:
        """Return what was made of whole weights, and is the same on all processes, as the parameters lie on them."""
        return item


class Replicated(Alone):
    """`DistributedDataParallel`: every process has whole weights.

    Args:
        model: the wrapper.
    """

    def __init__(self, model: DistributedDataParallel) -> None:
        self._model = model
        self.group = model.process_group
        self.device = next(model.parameters()).device
        self.capacity = model.bucket_bytes_cap

    @contextmanager
    def apart(self, live: LiveParameters, state: State) -> Iterator[tuple[LiveParameters, State]]:
        """See `Alone.apart`: `no_sync`, forward passes included."""
        with self._model.no_sync():
            yield live, state


class Sharded(Alone):
    """DTensors: every process has a part of every weight, as `fully_shard` leaves them.

    Where passes were apart, `fully_shard`'s own settings of when to gather and to send are its defaults again.

    Args:
        model: what was sharded, if it is known.
        parameters: the optimizer's.
    """

    def __init__(self, model: Any, parameters: Sequence[Any]) -> None:
        from torch.distributed.fsdp import FSDPModule

        self._mesh = parameters[0].device_mesh
        self.device = parameters[0].to_local().device
        everyone = self._mesh.size() == distributed.get_world_size()
        self.group = distributed.group.WORLD if everyone else group_of(self._mesh.mesh.flatten().tolist())
        modules = [] if model is None else list(model.modules())
        self._model: Any = model
        self._modules = [module for module in modules if isinstance(module, FSDPModule)]
        if not isinstance(model, FSDPModule):
            self.why_together = "nobody told of which model: pass SharpnessAware(..., model=fully_shard(model))"
        elif any(p.device_mesh != self._mesh or not _by_fully_shard(p.placements) for p in parameters):
            self.why_together = "they are spread in another way than fully_shard alone does: leave out m"
        elif not {*map(id, parameters)} <= {*map(id, self._model.parameters())}:
            self.why_together = "some are not the model's: pass SharpnessAware(..., model=) what owns them all"

    @contextmanager
    def apart(self, live: LiveParameters, state: State) -> Iterator[tuple[LiveParameters, State]]:
        """See `Alone.apart`: weights are gathered once, and stay whole until the end of the step."""
        for module in self._modules:
            module.reshard()  # a forward without a backward, as evaluation is, leaves the outermost module whole
        names = {id(p): name for name, p in self._model.named_parameters()}
        mine = None
        try:
            for module in self._modules:
                module.unshard()
            self._set_passes(whole=True)
            parameters = [self._model.get_parameter(names[id(p)]) for p in live.parameters]
            if any(p.dtype is not x.dtype for p, x in zip(live.parameters, parameters, strict=True)):
                raise RuntimeError(
                    "an m with a MixedPrecisionPolicy: a process has its own weights in the precision of a pass alone, "
                    "where a perturbation would be rounded away: use torch.autocast instead, or leave out m"
                )
            mine = LiveParameters(parameters, TorchSpace(live.space.leaves))
            yield mine, each(lambda x: _gathered(x, mine.space), state)
        finally:
            if mine is not None:
                mine.abandon()
            self._set_passes(whole=False)
            for module in self._modules:
                module.reshard()

    def home(self, item: T, live: LiveParameters) -> T:
        """See `Alone.home`: each process keeps its part."""
        parameters = tuple(live.parameters)

        def part(x: Any) -> Any:
            return Vec(live.space, tuple(map(spread_like, x.collapse(), parameters))) if isinstance(x, Vec) else x

        found: T = each(part, item)
        return found

    def _set_passes(self, *, whole: bool) -> None:
        """Let passes leave weights and gradients whole, or spread them again, as `fully_shard` does by itself."""
        self._model.set_requires_gradient_sync(not whole)
        self._model.set_reshard_after_backward(not whole)
        for module in self._modules:
            module.set_reshard_after_forward(not whole and module is not self._model, recurse=False)


def wrapper(model: torch.nn.Module | None, parameters: Sequence[Tensor]) -> Alone:
    """Return how these parameters are spread.

    Args:
        model: the model of the optimizer, if it is known.
        parameters: the optimizer's parameters.

    Returns:
        The wrapper.

    Raises:
        TypeError: they are spread by FSDP1, whose parts nobody can tell from whole parameters.
    """
    if any(getattr(p, "_fsdp_flattened", False) for p in parameters):
        raise TypeError(
            "these parameters are of FullyShardedDataParallel (FSDP1), whose parts no norm and no perturbation can be "
            "made of: shard the model with torch.distributed.fsdp.fully_shard"
        )
    if isinstance(model, DistributedDataParallel):
        return Replicated(model)
    if parameters and all(hasattr(p, "device_mesh") for p in parameters):
        return Sharded(model, parameters)
    return Alone()


def _by_fully_shard(placements: Sequence[Any]) -> bool:
    """Tell whether a parameter is spread over all processes by `fully_shard`, over a mesh of one or two dimensions."""
    from torch.distributed.tensor import Replicate, Shard

    return [type(x) for x in placements] in ([Shard], [Replicate, Shard])


def group_of(ranks: Sequence[int]) -> Any:
    """Return the process group of these ranks, which alone need to ask for it."""
    return distributed.new_group(list(ranks), use_local_synchronization=True)


def _gathered(x: Any, space: TorchSpace) -> Any:
    """Return a Vec with whole leaves, in their space."""
    return Vec(space, tuple(map(whole, x.collapse()))) if isinstance(x, Vec) else x
