"""What every rank does in the tests of trouble: steps in which one rank has what the others have not."""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from samfamily_torch import SAM, SharpnessAware
from tests.distributed.walks import Wrap, batches, network, sharded, whole

NAN = float("nan")


class Steps:
    """Steps of SAM on a model with batch normalisation, by each rank on its own 32 examples or fewer."""

    def __init__(self, m: int | None, wrap: Wrap) -> None:
        self.model = nn.Sequential(*network(), nn.BatchNorm1d(3).double())
        self.wrapped = wrap(self.model)
        self.optimizer = SharpnessAware(
            torch.optim.SGD(self.model.parameters(), lr=0.1), sharded(SAM(rho=0.2), m), self.wrapped
        )
        self.begin = self.state()

    def state(self) -> list[Tensor]:
        return [whole(x).clone() for x in self.model.state_dict().values()]

    def part(self, p: Any) -> Tensor:
        """What this rank has of a parameter."""
        x: Tensor = (p.to_local() if hasattr(p, "to_local") else p).detach()
        return x

    @property
    def untouched(self) -> bool:
        return all(map(torch.equal, self.begin, self.state()))

    def step(self, examples: int = 32, factor: float = 1.0, meddle: Callable[[], None] = lambda: None) -> str:
        """Take a step in which the loss is multiplied; `meddle` is called in every pass. Return the error, if any."""
        rank = distributed.get_rank()
        batch = tuple(part[rank * 32 :][:examples] for part in batches(1)[0])

        def closure(x: Tensor, y: Tensor) -> Tensor:
            self.optimizer.zero_grad()
            meddle()
            loss = nn.functional.mse_loss(self.wrapped(x), y) * factor
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            return loss

        try:
            self.optimizer.step(closure, batch=batch)
        except (ValueError, RuntimeError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return ""


def nan_on_one(rank: int, wrap: Wrap) -> dict[int | None, Any]:
    """For each m: was all left alone, what was skipped then and after a step that is fine, and the weights then."""
    found = {}
    for m in (16, 32, None):
        steps = Steps(m, wrap)
        steps.step(factor=NAN if rank == 1 else 1.0)
        untouched, skipped = steps.untouched, int(steps.optimizer.info.skipped)
        steps.step()
        weights = [whole(p) for p in steps.model.parameters()]
        found[m] = (untouched, skipped, int(steps.optimizer.info.skipped), weights)
    return found


def refusal(rank: int, m: int, examples: tuple[int, int], wrap: Wrap) -> tuple[str, bool]:
    """What a step says to batches of these lengths, and whether it left the weights alone."""
    steps = Steps(m, wrap)
    parts = [steps.part(p) for p in steps.model.parameters()]
    home = [x.clone() for x in parts]
    return steps.step(examples[rank]), all(map(torch.equal, home, parts))


def not_told(rank: int, wrap: Wrap) -> list[str]:
    """What is said where the optimizer was not given the model, and where it cannot have weights of its own."""
    quiet, narrow = Steps(8, wrap), Steps(8, narrowed)
    quiet.optimizer = SharpnessAware(torch.optim.SGD(quiet.model.parameters(), lr=0.1), SAM().sharded(8))
    return [quiet.step(), narrow.step(), *(Steps(8, wrap).step() for wrap in (in_two_ways, of_a_part))]


def in_two_ways(model: nn.Sequential) -> Any:
    """Over a mesh of two dimensions, both of which cut."""
    mesh = init_device_mesh("cpu", (1, distributed.get_world_size()))
    for module in model:
        for name, p in list(module.named_parameters(recurse=False)):
            module.register_parameter(name, nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0), Shard(0)])))
    return fully_shard(nn.Linear(2, 2), mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))


def of_a_part(model: nn.Sequential) -> Any:
    """All is sharded, and the optimizer told of the first layer alone."""
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    fully_shard(model, mesh=mesh)
    return fully_shard(nn.Linear(2, 2), mesh=mesh)


def narrowed(model: nn.Sequential) -> nn.Module:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.float32))
    return model


def interrupted(rank: int, m: int | None, wrap: Wrap) -> tuple[str, bool]:
    """One rank's data goes away in the perturbed pass."""
    steps, passes = Steps(m, wrap), []

    def go_away() -> None:
        passes.append(rank)
        if rank == 1 and len(passes) == 2:
            raise ConnectionError("the data went away")

    parts = [steps.part(p) for p in steps.model.parameters()]
    home = [x.clone() for x in parts]
    error = steps.step(meddle=go_away)
    at_home = all(map(torch.equal, home, parts))
    if rank == 1:
        del steps, parts
        gc.collect()  # who holds the group holds its connections open, and the other rank then waits in vain
        distributed.destroy_process_group()  # as the end of its process does
    return error, at_home


def caught(rank: int, wrap: Wrap) -> list[Tensor]:
    """What a layer makes of a batch, the same on all ranks, in the passes of a step that raises and of another.

    It is in even parts, which FSDP2 does not pad: whole weights are swapped.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4).double())
    wrapped, passes = wrap(model), []
    x = torch.eye(6, dtype=torch.float64)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.2).sharded(6), wrapped)

    def closure(x: Tensor) -> Tensor:
        y: Tensor = wrapped(x)
        passes.append(y.detach())
        if len(passes) == 2:
            raise ConnectionError("the data went away")
        loss = y.square().mean()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    with contextlib.suppress(ConnectionError):
        optimizer.step(closure, batch=(x,))
    optimizer.step(closure, batch=(x,))
    return [*passes, wrapped(x).detach()]


class Forked(nn.Module):
    """Of three layers a rank uses the one of its number, from the last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(6, 3).double() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers[2 - distributed.get_rank()](x)
        return y


def copied(rank: int, m: int, wrap: Wrap) -> tuple[list[Tensor], list[Tensor]]:
    """Where an optimizer and its copy go from the same place, of which the copy steps first."""
    steps = Steps(m, wrap)
    steps.step()
    twin = copy.deepcopy(steps)
    twin.step()
    begin = [whole(p) for p in steps.model.parameters()]
    ends = [whole(p) for p in twin.model.parameters()]
    assert not all(map(torch.equal, begin, ends))
    steps.step()
    return [whole(p) for p in steps.model.parameters()], ends


def forked(rank: int) -> tuple[list[Tensor], list[bool]]:
    """The weights after a step with an m, and which of them moved."""
    model = Forked()
    each = sum(p.nbytes for p in model.layers[0].parameters())
    wrapped = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=each / 2**20)  # one rank is ahead of the other
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.2).sharded(16), wrapped)
    before = [p.detach().clone() for p in model.parameters()]

    def closure(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(wrapped(x), y)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    optimizer.step(closure, batch=tuple(part[rank * 32 :][:32] for part in batches(1)[0]))
    after = [p.detach() for p in model.parameters()]
    return after, [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
