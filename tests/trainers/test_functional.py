"""torch.func: functional_call, gradients from transforms, and parameters without a module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from samfamily import ASAM, SAM
from samfamily_torch import SharpnessAware
from tests.trainers.by_hand import distance, sam_step, weights

RHO = 0.1


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, x.sum(1, keepdim=True).sin()


def loss_of(net: nn.Module, parameters: Any, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(functional_call(net, parameters, (x,)), y)


def backward(net: nn.Module) -> Tensor:
    """functional_call on the live parameters."""
    loss = loss_of(net, dict(net.named_parameters()), *batch())
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
    return loss


def transform(net: nn.Module) -> Tensor:
    """Gradients from a transform, put where the optimizer looks."""
    live = dict(net.named_parameters())
    detached = {name: p.detach() for name, p in live.items()}
    gradients, loss = grad_and_value(lambda parameters: loss_of(net, parameters, *batch()))(detached)
    for name, p in live.items():
        p.grad = gradients[name]
    return loss


def per_example(net: nn.Module) -> Tensor:
    """Gradients of single examples, averaged."""
    live = dict(net.named_parameters())
    detached = {name: p.detach() for name, p in live.items()}

    def one(parameters: Any, x: Tensor, y: Tensor) -> Tensor:
        return loss_of(net, parameters, x[None], y[None])

    gradients, losses = vmap(grad_and_value(one), in_dims=(None, 0, 0))(detached, *batch())
    for name, p in live.items():
        p.grad = gradients[name].mean(0)
    return losses.mean()


def walk(net: nn.Module, compute: Callable[[nn.Module], Tensor], variant: Any) -> Any:
    optimizer = SharpnessAware(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), variant)

    def closure() -> Tensor:
        optimizer.zero_grad()
        return compute(net)

    for _ in range(4):
        optimizer.step(closure)
    return optimizer


def by_hand() -> list[Tensor]:
    net, (x, y) = model(), batch()
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(4):
        sam_step(base, [lambda: nn.functional.mse_loss(net(x), y)], RHO)
    return weights(net)


@pytest.mark.parametrize("compute", [backward, transform, per_example])
def test_functional_gradients_are_taken_at_the_perturbed_point(compute: Any) -> None:
    net = model()
    optimizer = walk(net, compute, SAM(rho=RHO))
    assert distance(weights(net), by_hand()) < 1e-13
    assert float(optimizer.info.perturbed_loss) > float(optimizer.info.loss) + 1e-4


def test_parameters_detached_once_do_not_move() -> None:
    """The trap that docs/trainers.md warns of, and the negative control of the test above."""
    net = model()
    detached = {name: p.detach() for name, p in net.named_parameters()}

    def stale(net: nn.Module) -> Tensor:
        gradients, loss = grad_and_value(lambda parameters: loss_of(net, parameters, *batch()))(detached)
        for name, p in net.named_parameters():
            p.grad = gradients[name]
        return loss

    optimizer = walk(net, stale, SAM(rho=RHO))
    assert float(optimizer.info.perturbed_loss) == float(optimizer.info.loss)
    assert distance(weights(net), by_hand()) > 1e-3


def test_parameters_without_a_module() -> None:
    w = {
        "a": torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        "b": torch.zeros(8, dtype=torch.float64),
    }
    leaves = {name: x.clone().requires_grad_() for name, x in w.items()}
    copies = {name: x.clone().requires_grad_() for name, x in w.items()}
    x, y = batch()

    def loss_fn(parameters: dict[str, Tensor]) -> Tensor:
        return ((x @ parameters["a"] + parameters["b"]).tanh().mean(1, keepdim=True) - y).square().mean()

    optimizer = SharpnessAware(torch.optim.SGD(leaves.values(), lr=0.1), SAM(rho=RHO))
    base = torch.optim.SGD(copies.values(), lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn(leaves)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    for _ in range(4):
        optimizer.step(closure)
        sam_step(base, [lambda: loss_fn(copies)], RHO)
    assert distance(list(leaves.values()), list(copies.values())) < 1e-13
    assert distance(list(leaves.values()), list(w.values())) > 1e-3


def test_an_ensemble_in_one_vmap_shares_one_ball() -> None:
    """Stacked members are one point: the perturbation's norm is taken over all of them, not over each."""
    members = [model(seed) for seed in range(3)]
    parameters, _ = stack_module_state(members)  # type: ignore[arg-type, unused-ignore]
    leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    x, y = batch()

    def loss_fn() -> Tensor:
        return vmap(lambda p: loss_of(members[0], p, x, y))(leaves).sum()

    optimizer = SharpnessAware(torch.optim.SGD(leaves.values(), lr=0.0), SAM(rho=RHO))
    seen: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        seen.append(torch.cat([p.detach().flatten(1) for p in leaves.values()], 1))
        return loss

    optimizer.step(closure)
    assert float((seen[1] - seen[0]).norm()) == pytest.approx(RHO)
    assert float((seen[1] - seen[0]).norm(dim=1).max()) < 0.99 * RHO


def test_a_metric_works_on_functional_gradients_too() -> None:
    one, other = model(), model()
    walk(one, transform, ASAM(rho=RHO))
    walk(other, backward, ASAM(rho=RHO))
    assert distance(weights(one), weights(other)) < 1e-13
