"""What every rank does in the tests of this folder: walk through the same global batches, with its part of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from samfamily import ASAM, FAMILY, GSAM, SAM, SSAM, SSAMD, EigenSAM, FriendlySAM, LookSAM, filterwise
from samfamily_torch import SharpnessAware

BATCH, STEPS = 64, 20
ROWS = {
    "SAM": SAM(rho=0.2),
    "ASAM": ASAM(rho=0.5),
    "GSAM": GSAM(rho=0.2, alpha=0.3),
    "FriendlySAM": FriendlySAM(rho=0.2),
    "LookSAM": LookSAM(rho=0.2, k=3),
}
WHOLE = {name: row() for name, row in FAMILY.items()} | {
    "SSAM": SSAM(rho=0.2, every=2),
    "SSAMD": SSAMD(rho=0.2, every=2),
    "LookSAM": LookSAM(rho=0.2, k=2),
    "EigenSAM": EigenSAM(rho=0.2, every=2),
    "SAM, second order": SAM(rho=0.2, second_order=True),
    "SAM, p=1": SAM(rho=0.2, p=1),
    "ASAM, filterwise": ASAM(rho=0.2, size=filterwise),
}
"""Every row; some ask for products with the Hessian, which no wrapper averages, draw noise, or choose among all."""
MS = [8, 16, 32, None]
PIECE = 504
"""Bytes: the first layer's weights go alone."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 3)).double()


def batches(steps: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    random: Any = torch.Generator().manual_seed(1)
    sizes: dict[str, Any] = {"generator": random, "dtype": torch.float64}
    return [(torch.randn(BATCH, 6, **sizes), torch.randn(BATCH, 3, **sizes)) for _ in range(steps)]


def sharded(variant: Any, m: int | None) -> Any:
    return variant if m is None else variant.sharded(m)


Wrap: TypeAlias = Callable[[nn.Sequential], nn.Module]


def replicated(model: nn.Sequential) -> nn.Module:
    """With so small buckets that a gradient goes in several."""
    return DistributedDataParallel(model, bucket_cap_mb=PIECE / 2**20)


def fully_sharded(model: nn.Sequential) -> nn.Module:
    return sharded_over(init_device_mesh("cpu", (distributed.get_world_size(),)), model)


def hybrid(model: nn.Sequential) -> nn.Module:
    """Shards on two ranks that follow one another, and copies of them."""
    shape = distributed.get_world_size() // 2, 2
    return sharded_over(init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard")), model)


def sharded_by_default(model: nn.Sequential) -> nn.Module:
    """Without a mesh, each call of `fully_shard` makes one."""
    fully_shard(model[0])
    fully_shard(model)
    return model


def sharded_over(mesh: DeviceMesh, model: nn.Sequential) -> nn.Module:
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def whole(x: Any) -> Tensor:
    x = x.full_tensor() if isinstance(x, DTensor) else torch.as_tensor(x)
    return x.detach()


def remembered(optimizer: SharpnessAware) -> list[Tensor]:
    """All that a checkpoint has of a variant's state."""
    saved = optimizer.state_dict()
    own = [x for entry in saved["state"].values() for name, x in entry.items() if str(name).startswith("samfamily")]
    return [whole(x) for x in (*own, *saved["param_groups"][0]["samfamily"]["state"].values())]


def walk(
    variant: Any, rank: int = 0, size: int = 1, wrap: Wrap = lambda model: model, steps: int = STEPS
) -> tuple[list[Tensor], list[float], list[Tensor]]:
    """Train on this rank's part of every batch; return weights, losses and memory."""
    model = network()
    wrapped = wrap(model)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), variant, wrapped)
    losses = []

    def closure(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(wrapped(x), y)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    for x, y in batches(steps):
        mine = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
        losses.append(float(optimizer.step(closure, batch=(x[mine], y[mine]))))
    return [whole(p) for p in model.parameters()], losses, remembered(optimizer)


@contextmanager
def counting() -> Any:
    """Count the numbers in each all-reduce that is asked for in Python, as the wrapper does too where it has a hook."""
    calls: list[int] = []
    original = distributed.all_reduce

    def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(tensor.numel())
        return original(tensor, *args, **kwargs)

    distributed.all_reduce = counted
    try:
        yield calls
    finally:
        distributed.all_reduce = original


def everything(rank: int, wrap: Wrap) -> dict[str, Any]:
    size = distributed.get_world_size()
    return {f"{name} {m}": walk(sharded(row, m), rank, size, wrap) for name, row in ROWS.items() for m in MS}


def collectives(rank: int) -> dict[int | None, Any]:
    """How many parameters there are, and the sizes of what one step of SAM sends through all-reduces, for each m."""
    found = {}
    for m in MS:
        model = network().float()
        wrapped = DistributedDataParallel(model)
        everyone: Any = distributed.group.WORLD
        wrapped.register_comm_hook(everyone, allreduce_hook)
        optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sharded(SAM(), m), wrapped)

        def closure(x: Tensor, y: Tensor, wrapped: Any = wrapped) -> Tensor:
            loss = nn.functional.mse_loss(wrapped(x), y)
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            return loss

        x, y = (part[rank * 32 : (rank + 1) * 32].float() for part in batches(1)[0])
        with counting() as calls:
            optimizer.step(closure, batch=(x, y))
        found[m] = (sum(p.numel() for p in model.parameters()), calls)
    return found


def in_groups(rank: int, wrap: Wrap) -> dict[str, Any]:
    """Four ranks of 16 examples: shards of 32 are two ranks' common work."""
    found = {}
    for name in ("SAM", "GSAM", "LookSAM"):
        for m in MS:
            found[f"{name} {m}"] = walk(sharded(ROWS[name], m), rank, 4, wrap, steps=6)
    return found


def whole_batches(rank: int, wrap: Wrap) -> dict[str, Any]:
    """Without an m."""
    return {name: walk(row, rank, 2, wrap, steps=4) for name, row in WHOLE.items()}


def of_default_meshes(rank: int) -> Any:
    return walk(sharded(ROWS["SAM"], 8), rank, 2, sharded_by_default, steps=3)
