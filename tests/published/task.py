"""A LayerNorm network and ten batches, and walks of SharpnessAware over them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from samfamily import Variant
from samfamily_torch import SharpnessAware

LR, MOMENTUM, STEPS = 0.1, 0.9, 10


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = (
        nn.Linear(6, 16),
        nn.LayerNorm(16),
        nn.GELU(),
        nn.Linear(16, 16),
        nn.LayerNorm(16),
        nn.GELU(),
        nn.Linear(16, 3),
    )
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases and gains away from 0 and 1
    return model


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(32, 6, generator=generator, dtype=torch.float64), torch.randint(3, (32,), generator=generator))
        for _ in range(STEPS)
    ]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)


def ours(variant: Variant, base: Callable[[nn.Module], torch.optim.Optimizer] = sgd) -> Tensor:
    model = network()
    optimizer = SharpnessAware(base(model), variant, model=model)
    for batch in batches():

        def closure(batch: Any = batch) -> Tensor:
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            return value

        optimizer.step(closure)
    return flat(model)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())
