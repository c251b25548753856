"""FSDP2 on one CUDA device: the same walk as with whole parameters, with and without an m."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from samfamily_torch import GSAM, SAM, LookSAM, SharpnessAware
from tests.torch.conftest import ON_CUDA

pytestmark = ON_CUDA


@pytest.fixture
def mesh() -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh

    dist: Any = torch.distributed
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=torch.device("cuda", 0))
    try:
        yield init_device_mesh("cuda", (1,))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("variant", [SAM(rho=0.1), GSAM(rho=0.1), LookSAM(rho=0.1, k=2), SAM(rho=0.1).sharded(4)])
def test_one_process_walks_as_with_whole_parameters(variant: Any, mesh: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    walks = []
    for sharded in (False, True):
        torch.manual_seed(0)
        layers = [nn.Linear(6, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 3)]
        model: Any = nn.Sequential(*layers).to("cuda", torch.float64)
        x, y = (torch.randn(12, n).to("cuda", torch.float64) for n in (6, 3))
        if sharded:
            fully_shard(model[0], mesh=mesh)
            fully_shard(model, mesh=mesh)
        base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        optimizer: Any = SharpnessAware(base, variant, model)

        def closure(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        losses = [float(optimizer.step(closure, batch=(x, y))) for _ in range(4)]
        weights = [p.detach().full_tensor() if sharded else p.detach() for p in model.parameters()]
        walks.append((losses, weights, float(optimizer.info.dual_norm)))
    torch.testing.assert_close(walks[1], walks[0], rtol=1e-10, atol=1e-10)
