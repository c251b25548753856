"""torch.compile: a compiled model takes the same steps, sees where the parameters stand, and is compiled once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samfamily import ASAM, SAM, LookSAM
from samfamily_torch import SharpnessAware
from tests.trainers.by_hand import distance, sam_step, same, weights

RHO = 0.1
BACKENDS = ["eager", "aot_eager"]


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).double()


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, x.sum(1, keepdim=True).sin()


def walk(variant: Any, compiling: Callable[[Any], Any], steps: int = 4, whole: bool = False) -> tuple[Any, Any]:
    """Train a model behind `compiling`; or, where `whole`, with the loss compiled together with it."""
    net = model()
    optimizer = SharpnessAware(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), variant, model=net)
    x, y = batch()
    forward = net if whole else compiling(net)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(forward(x), y)

    loss_fn = compiling(loss_of) if whole else loss_of

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn(x, y)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return net, optimizer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("variant", [SAM(rho=RHO), ASAM(rho=RHO), LookSAM(rho=RHO, k=2)], ids=lambda v: v.name)
@pytest.mark.parametrize("whole", [False, True])
def test_a_compiled_model_takes_the_same_steps(variant: Any, backend: str, whole: bool) -> None:
    """Kills a graph that has kept the weights of its first call: it would not see the perturbation."""
    compiled, optimizer = walk(variant, lambda f: torch.compile(f, backend=backend), whole=whole)
    eager, expected = walk(variant, lambda f: f)
    assert distance(weights(compiled), weights(eager)) < 1e-13
    assert float(optimizer.info.perturbed_loss) == pytest.approx(float(expected.info.perturbed_loss), rel=1e-12)
    assert distance(list(compiled.buffers())[:2], list(eager.buffers())[:2]) < 1e-13
    assert distance(weights(eager), weights(walk(SAM(rho=0.0), lambda f: f)[0])) > 1e-3  # control


def test_a_compiled_loop_is_the_one_written_by_hand() -> None:
    net, x_y = model(), batch()
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(4):
        sam_step(base, [lambda: nn.functional.mse_loss(net(x_y[0]), x_y[1])], RHO)
    assert (
        distance(weights(walk(SAM(rho=RHO), lambda f: torch.compile(f, backend="aot_eager"))[0]), weights(net)) < 1e-13
    )


@pytest.mark.parametrize("variant", [SAM(rho=RHO), SAM(rho=RHO, steps=2)], ids=["SAM", "two climbs"])
def test_moving_the_parameters_does_not_recompile(variant: Any) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    walk(variant, lambda f: torch.compile(f, backend=counter, fullgraph=True), steps=5)
    assert counter.frame_count == 1


def test_the_counter_can_tell() -> None:
    """Negative control of the test above: other shapes compile anew."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    net = torch.compile(model(), backend=counter, fullgraph=True, dynamic=False)
    net(torch.randn(3, 4, dtype=torch.float64))
    net(torch.randn(5, 4, dtype=torch.float64))
    assert counter.frame_count == 2


def test_a_state_dict_of_a_compiled_model_loads_into_a_plain_one() -> None:
    """The optimizer is built on the parameters themselves, and knows of no prefix."""
    net, optimizer = walk(SAM(rho=RHO), lambda f: torch.compile(f, backend="eager"))
    other = model()
    other.load_state_dict(net.state_dict())
    again = SharpnessAware(torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9), SAM(rho=RHO), model=other)
    again.load_state_dict(optimizer.state_dict())
    assert same(weights(other), weights(net))
