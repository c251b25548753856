"""A walk in PyTorch: SGD with momentum that follows a variant, its weights kept after every step."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from samfamily import Variant
from samfamily_torch import SharpnessAware

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of the model's outputs and the labels."""


def walk(
    model: torch.nn.Module,
    variant: Variant,
    batches: Iterable[tuple[Any, Any]],
    lr: float,
    momentum: float,
    loss: Loss = torch.nn.functional.cross_entropy,
) -> list[Any]:
    """The model's weights after each step, every time in one vector; inputs take the model's own precision."""
    dtype = next(model.parameters()).dtype
    base = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    optimizer = SharpnessAware(base, variant, model=model)

    def closure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        found = loss(model(x), y)
        found.backward()
        return found

    path = []
    for x, y in batches:
        optimizer.step(closure, batch=(torch.tensor(x, dtype=dtype), torch.tensor(y)))
        path.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))
    return path
