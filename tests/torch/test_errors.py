"""Every error names the value and the remedy, and leaves weights and state exactly as they were."""

from typing import Any

import pytest
import torch

from samfamily import ASAM, SAM, biases
from samfamily_torch import SharpnessAware
from tests.torch.conftest import Task, make_task, same


@pytest.mark.parametrize("base", [torch.optim.SGD, "adam", None, [torch.nn.Parameter(torch.ones(1))]])
def test_base_must_be_an_optimizer_instance(base: Any) -> None:
    with pytest.raises(TypeError, match=r"(?s)instance of torch\.optim\.Optimizer, got .*SharpnessAware\(torch\.optim"):
        SharpnessAware(base, SAM())


@pytest.mark.parametrize("variant", [SAM, 0.05, None, "sam"])
def test_variant_must_be_a_variant(task: Task, variant: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a Variant, got .*SAM\(rho=0\.05\)"):
        SharpnessAware(torch.optim.SGD(task.model.parameters(), lr=0.1), variant)


class Unchanged:
    """Checks that a block that fails leaves everything as it was, and that the optimizer still works afterwards."""

    def __init__(self, task: Task, optimizer: Any) -> None:
        self.task, self.optimizer = task, optimizer

    def __enter__(self) -> None:
        self.weights = self.task.weights()
        self.state = repr(self.optimizer.state_dict())
        self.info = self.optimizer.info

    def __exit__(self, *error: object) -> None:
        assert same(self.task.weights(), self.weights)
        assert repr(self.optimizer.state_dict()) == self.state
        assert self.optimizer.info is self.info


def warmed(task: Task, variant: Any) -> Any:
    """Return an optimizer that has taken a step, so that there is a state to lose."""
    optimizer = task.optimizer(variant)
    optimizer.step(task.closure(optimizer), batch=(task.x, task.y))
    task.visited.clear()
    return optimizer


@pytest.mark.parametrize("variant", [SAM(rho=0.5), SAM(rho=0.5, steps=3), ASAM(), SAM(rho=0.5).sharded(4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_closure_that_raises_leaves_everything(variant: Any, dtype: torch.dtype, fail_at: int) -> None:
    task = make_task(dtype)
    optimizer = warmed(task, variant)
    task.fail_at = fail_at
    with Unchanged(task, optimizer), pytest.raises(ConnectionError):
        optimizer.step(task.closure(optimizer), batch=(task.x, task.y))
    task.fail_at = None
    optimizer.step(task.closure(optimizer), batch=(task.x, task.y))
    twin = make_task(dtype)
    optimizer = warmed(twin, variant)
    optimizer.step(twin.closure(optimizer), batch=(twin.x, twin.y))
    assert same(task.weights(), twin.weights())


def test_a_closure_without_a_loss(task: Task) -> None:
    optimizer = warmed(task, SAM())
    with Unchanged(task, optimizer), pytest.raises(TypeError, match="returned None: it must return the loss"):
        optimizer.step(lambda: task.loss().backward())


def test_nothing_to_step_on(task: Task) -> None:
    optimizer = warmed(task, SAM())
    with (
        Unchanged(task, optimizer),
        pytest.raises(RuntimeError, match=r"nothing to step on: pass a closure.*perturbed"),
    ):
        optimizer.step()
    with Unchanged(task, optimizer), pytest.raises(RuntimeError, match="nothing to step on"):
        optimizer.second_step()


@pytest.mark.parametrize("begin", ["first_step", "perturbed"])
def test_no_gradients(task: Task, begin: str) -> None:
    optimizer = warmed(task, SAM())
    optimizer.zero_grad()
    start = optimizer.first_step if begin == "first_step" else optimizer.perturbed().__enter__
    with Unchanged(task, optimizer), pytest.raises(RuntimeError, match=r"no parameter has a gradient.*backward"):
        start()


def test_a_forgotten_second_backward_abandons_the_step(task: Task) -> None:
    optimizer = warmed(task, SAM(rho=0.5))
    with Unchanged(task, optimizer):
        optimizer.first_step()
        with pytest.raises(RuntimeError, match="no parameter has a gradient"):
            optimizer.second_step()
    with Unchanged(task, optimizer), pytest.raises(RuntimeError, match="no parameter"), optimizer.perturbed():
        pass


def test_too_few_climbs_abandon_the_step(task: Task) -> None:
    optimizer = warmed(task, SAM(rho=0.5, steps=3))
    with Unchanged(task, optimizer):
        optimizer.first_step()
        task.loss().backward()
        with pytest.raises(RuntimeError, match=r"Gradient\(steps=3\) asks for more gradients"):
            optimizer.second_step()


def test_a_closure_in_the_middle_of_a_manual_step(task: Task) -> None:
    optimizer = warmed(task, SAM(rho=0.5))
    optimizer.first_step()
    away = task.weights()
    with pytest.raises(RuntimeError, match="a manual step is in progress"):
        optimizer.step(task.closure(optimizer))
    with pytest.raises(RuntimeError, match="a manual step is in progress"):
        optimizer.state_dict()
    assert same(task.weights(), away)
    task.loss().backward()
    optimizer.second_step()


@pytest.mark.parametrize(
    ("m", "message"),
    [(5, r"m = 5 does not divide the batch of 12.*\[1, 2, 3, 4, 6, 12\]"), (24, "m = 24 does not divide")],
)
def test_m_that_does_not_divide_the_batch(task: Task, m: int, message: str) -> None:
    optimizer = task.optimizer(SAM(rho=0.5).sharded(m))
    with Unchanged(task, optimizer), pytest.raises(ValueError, match=message):
        optimizer.step(task.closure(optimizer), batch=(task.x, task.y))
    assert not task.visited


def test_a_sharded_variant_needs_a_batch(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.5).sharded(4))
    with Unchanged(task, optimizer), pytest.raises(ValueError, match=r"call step\(closure, batch=\(x, y\)\)"):
        optimizer.step(task.closure(optimizer))
    with Unchanged(task, optimizer), pytest.raises(ValueError, match=r"different lengths \[6, 12\]"):
        optimizer.step(task.closure(optimizer), batch=(task.x, task.y[:6]))
    task.loss().backward()
    with Unchanged(task, optimizer), pytest.raises(RuntimeError, match="m = 4 shards the batch: call step"):
        optimizer.first_step()


def test_second_order_needs_the_closure_and_its_graph(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.5, second_order=True))
    task.loss().backward()
    with Unchanged(task, optimizer), pytest.raises(RuntimeError, match=r"second_order.*call step\(closure"):
        optimizer.first_step()
    optimizer.zero_grad()

    def detached() -> torch.Tensor:
        loss = task.loss()
        torch.autograd.backward(loss)
        return loss

    with Unchanged(task, optimizer), pytest.raises(RuntimeError, match=r"call loss\.backward\(\) in the closure"):
        optimizer.step(detached)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf"), "0.1"])
def test_a_bad_rho_in_a_group(task: Task, rho: Any) -> None:
    optimizer = warmed(task, SAM())
    optimizer.param_groups[0]["rho"] = rho
    with Unchanged(task, optimizer), pytest.raises((ValueError, TypeError), match=f"rho must be .*{rho}"):
        optimizer.step(task.closure(optimizer))


def test_a_schedule_that_goes_wrong(task: Task) -> None:
    optimizer = warmed(task, SAM(rho=lambda step: 0.1 - 0.2 * step))
    with Unchanged(task, optimizer), pytest.raises(ValueError, match=r"rho must be finite and at least 0, got -0\.1"):
        optimizer.step(task.closure(optimizer))


def test_names_that_nobody_told() -> None:
    task = make_task()
    optimizer = SharpnessAware(torch.optim.SGD(task.model.parameters(), lr=0.1), ASAM(euclidean=biases))
    with Unchanged(task, optimizer), pytest.raises(ValueError, match=r"these leaves have none.*model=model"):
        optimizer.step(task.closure(optimizer))


def test_nothing_to_train() -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = SharpnessAware(torch.optim.SGD([frozen], lr=0.1), SAM())
    with pytest.raises(RuntimeError, match="no parameter of the optimizer requires a gradient"):
        optimizer.step(lambda: torch.zeros(()))


def test_parameters_of_fsdp1_are_refused() -> None:
    """Each process would measure its own part, and nothing tells such a part from a whole parameter."""
    w = torch.nn.Parameter(torch.ones(2))
    setattr(w, "_fsdp_flattened", True)  # noqa: B010  what FSDP1 marks all its parameters with
    with pytest.raises(TypeError, match=r"FSDP1.*shard the model with torch.distributed.fsdp.fully_shard"):
        SharpnessAware(torch.optim.SGD([w], lr=0.1), SAM())
