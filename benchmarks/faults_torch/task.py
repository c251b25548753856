"""What the probes share: a small task, plain SAM on a copy of it as the truth, and comparisons that say by how much."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fault_table import Outcome
from benchmarks.faults_torch.libraries import Library

RHO = 0.2
LR = 0.1
TOLERANCE = 1e-6  # wider than a norm taken in float32, far narrower than any of the faults
Loss = Callable[[Any], Tensor]


@dataclass
class Task:
    """A module, its loss, and where the module stood at each call of the closure."""

    model: Any
    loss: Loss
    visited: list[list[Tensor]] = field(default_factory=list)

    def closure(
        self, optimizer: Any, at: Mapping[int, Loss] | None = None, scaler: torch.amp.GradScaler | None = None
    ) -> Callable[[], Tensor]:
        """A standard closure; `at[k]` is the loss of its k-th call, counted from 1, instead of the usual one."""
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            self.visited.append(self.weights())
            optimizer.zero_grad()
            loss = ((at or {}).get(calls) or self.loss)(self.model)
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        return closure

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]

    def build(self, library: Library, rho: float = RHO, base: Any = torch.optim.SGD, **options: Any) -> Any:
        """The library's SAM on this task; SGD without momentum unless told otherwise."""
        return library.build(self.model.parameters(), rho, base, self.model, **({"lr": LR} | options))

    def copy(self) -> "Task":
        return Task(copy.deepcopy(self.model), self.loss)

    @property
    def radius(self) -> float:
        """How far the last two calls of the closure stood apart."""
        here, there = self.visited[-2:]
        return float(sum((a.double() - b.double()).square().sum() for a, b in zip(here, there, strict=True)) ** 0.5)


def network(*layers: nn.Module, dtype: torch.dtype = torch.float64) -> Task:
    """Regression through these layers, or through a small network."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layers or (nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)))).to(dtype)
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    x, y = torch.randn(12, 4, dtype=dtype), torch.randn(12, 2, dtype=dtype)
    return Task(model, lambda net: nn.functional.mse_loss(net(x), y))


def quadratic(*parameters: Tensor, scale: float = 1.0) -> Task:
    """Half the squared distance of these parameters from 1, so that the gradient is known."""
    model = nn.ParameterList([nn.Parameter(p) for p in parameters])
    return Task(model, lambda given: sum((scale / 2 * (p - 1).abs().square().sum() for p in given), torch.tensor(0.0)))


def vector(size: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    """A vector of numbers between 2 and 3."""
    return torch.linspace(2, 3, size, dtype=dtype)


def sam(task: Task, steps: int = 1, rho: float = RHO, lr: float = LR, decay: float = 0.0) -> list[Tensor]:
    """Take plain steps of SAM over SGD in place, and return the weights: four lines of algebra, dense and guarded."""
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    for _ in range(steps):
        home = [p.detach().clone() for p in parameters]
        first = _gradients(task, parameters)
        norm = sum((g.abs().double().square().sum() for g in first), torch.tensor(0.0)).sqrt()
        if norm > 0:
            _place(parameters, [w + rho * g / norm.to(g.real.dtype) for w, g in zip(home, first, strict=True)])
        second = _gradients(task, parameters)
        _place(parameters, [w - lr * (g + decay * w) for w, g in zip(home, second, strict=True)])
    return task.weights()


def _gradients(task: Task, parameters: Sequence[Tensor]) -> list[Tensor]:
    task.model.zero_grad()
    task.loss(task.model).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters]


@torch.no_grad()
def _place(parameters: Sequence[Tensor], points: Sequence[Tensor]) -> None:
    for p, point in zip(parameters, points, strict=True):
        p.copy_(point)


def agree(
    found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = TOLERANCE, what: str = "w"
) -> Outcome:
    """Whether two lists of tensors agree to this absolute tolerance, and by how much they do not."""
    gaps = [float((a - b).abs().max()) for a, b in zip(found, expected, strict=True) if a.numel()]
    gap = next((x for x in gaps if x != x), max(gaps, default=0.0))
    return Outcome(gap <= tolerance, f"{what} off by {gap:.1e}, tolerance {tolerance:.0e}")


def same(found: Sequence[Tensor], expected: Sequence[Tensor], what: str = "w") -> Outcome:
    """Whether two lists of tensors are bitwise equal."""
    unequal = sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))
    wild = sum(int((~a.isfinite()).sum()) for a in found)
    how = f"{wild} are not finite" if wild else f"{unequal} differ"
    return Outcome(not unequal, f"{what}: {how} of {sum(a.numel() for a in found)}" if unequal else f"{what} unchanged")


def tensors_of(state: Any) -> list[Tensor]:
    """Every tensor inside nested dicts, lists and tuples."""
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]
