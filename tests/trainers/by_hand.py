"""SAM as one would write it by hand, in plain PyTorch: what every trainer is held to."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def sam_step(
    base: torch.optim.Optimizer,
    losses: Sequence[Callable[[], Tensor]],
    rho: float,
    clip: Callable[[list[Tensor]], object] | None = None,
) -> Tensor:
    """Take one step of SAM on the sum of the losses, clip the gradient that is stepped with, and return the loss."""
    parameters = [p for group in base.param_groups for p in group["params"]]

    def gradient() -> Tensor:
        total = torch.tensor(0.0)
        base.zero_grad()
        for loss in losses:
            value = loss()
            value.backward()  # type: ignore[no-untyped-call, unused-ignore]
            total = total + value.detach()
        return total

    at_w = gradient()
    home = [p.detach().clone() for p in parameters]
    size = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
    with torch.no_grad():
        for p in parameters:
            if p.grad is not None:
                p.add_(rho * p.grad / size)
    gradient()
    with torch.no_grad():
        for p, w in zip(parameters, home, strict=True):
            p.copy_(w)
    if clip is not None:
        clip(parameters)
    base.step()
    return at_w


def weights(model: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Tell whether two lists of tensors are bitwise equal."""
    return all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference between two lists of tensors."""
    return max(float((u - v).detach().abs().max()) for u, v in zip(a, b, strict=True))
