"""A small model with a closure that counts, for the tests of SharpnessAware."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from samfamily_torch import SharpnessAware

ON_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]
"""What marks tests that need one."""


@dataclass
class Task:
    """A regression task whose closure remembers where it was called."""

    model: torch.nn.Sequential
    x: Tensor
    y: Tensor
    visited: list[list[Tensor]] = field(default_factory=list)
    fail_at: int | None = None

    def optimizer(self, variant: Any, base: type[torch.optim.Optimizer] = torch.optim.SGD, **options: Any) -> Any:
        options = {"lr": 0.1, "momentum": 0.9} | options if base is torch.optim.SGD else {"lr": 0.01} | options
        return SharpnessAware(base(self.model.parameters(), **options), variant, model=self.model)

    def loss(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        x, y = (self.x, self.y) if x is None or y is None else (x, y)
        return torch.nn.functional.mse_loss(self.model(x), y)

    def closure(self, optimizer: torch.optim.Optimizer) -> Callable[..., Tensor]:
        def closure(x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
            self.visited.append(self.weights())
            if self.fail_at == len(self.visited):
                raise ConnectionError("the data went away")
            optimizer.zero_grad()
            loss = self.loss(x, y)
            loss.backward()
            return loss

        return closure

    def to(self, device: str) -> "Task":
        """Return the same task on another device."""
        self.model, self.x, self.y = self.model.to(device), self.x.to(device), self.y.to(device)
        return self

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def make_task(dtype: torch.dtype = torch.float64, seed: int = 0) -> Task:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).to(dtype)
    return Task(model, torch.randn(12, 4, dtype=dtype), torch.randn(12, 2, dtype=dtype))


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm over all tensors."""
    return torch.linalg.vector_norm(torch.cat([x.flatten() for x in tensors]))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Tell whether two lists of tensors are bitwise equal."""
    return len(a) == len(b) and all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


@pytest.fixture
def task() -> Task:
    return make_task()
