"""step(closure): what is asked, what comes back, and that the weights come home bitwise."""

from typing import Any, NamedTuple

import pytest
import torch

from samfamily import ASAM, SAM
from samfamily_torch import SharpnessAware, StepInfo
from tests.torch.conftest import Task, make_task, norm, same

BASES = [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop]


@pytest.mark.parametrize(
    ("variant", "gradients"),
    [
        (SAM(), 2),
        (SAM(steps=3), 4),
        (SAM(rho=0.0), 1),
        (ASAM(), 2),
        (ASAM(steps=2), 3),
        (SAM(rho=lambda step: 0.1 * (step % 2)), 1.5),
    ],
)
def test_gradients_are_counted(task: Task, variant: Any, gradients: float) -> None:
    optimizer = task.optimizer(variant)
    counted = []
    for _ in range(6):
        optimizer.step(task.closure(optimizer))
        counted.append(float(optimizer.info.gradient_evaluations))
    assert len(task.visited) == sum(counted) == 6 * gradients
    if not variant.radius.scheduled:
        assert variant.gradients_per_step == gradients


def test_sam_goes_to_radius_rho_along_the_gradient(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.05))
    gradient = torch.autograd.grad(task.loss(), list(task.model.parameters()))
    optimizer.step(task.closure(optimizer))
    at_w, perturbed = task.visited
    n = norm(gradient)
    for w, q, g in zip(at_w, perturbed, gradient, strict=True):
        torch.testing.assert_close(q, w + 0.05 * g / n, rtol=0, atol=1e-15)


def test_the_loss_is_the_loss_at_w_and_info_tells_the_rest(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.05))
    assert optimizer.info.loss.isnan()
    assert not bool(optimizer.info.active)
    before = task.loss().detach()
    gradient = torch.autograd.grad(task.loss(), list(task.model.parameters()))
    loss = optimizer.step(task.closure(optimizer))
    info = optimizer.info
    assert isinstance(info, StepInfo)
    assert all(isinstance(figure, torch.Tensor) and figure.ndim == 0 for figure in info)
    assert torch.equal(loss, before)
    assert torch.equal(info.loss, before)
    assert not loss.requires_grad
    assert info.perturbed_loss > before
    torch.testing.assert_close(info.dual_norm, norm(gradient))
    assert float(info.radius) == 0.05
    assert bool(info.active)


def test_a_closure_may_return_a_number(task: Task) -> None:
    optimizer = task.optimizer(SAM())
    closure = task.closure(optimizer)
    assert optimizer.step(lambda: float(closure().detach())).ndim == 0


def test_a_closure_that_clears_no_gradients_gives_the_same_step() -> None:
    results = []
    for clears in (True, False):
        task = make_task()
        optimizer = task.optimizer(SAM(rho=0.1))

        def closure(task: Task = task, optimizer: Any = optimizer, clears: bool = clears) -> torch.Tensor:
            if clears:
                optimizer.zero_grad()
            loss = task.loss()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        results.append(task.weights())
    assert same(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("variant", [SAM(rho=0.5), SAM(rho=0.5, steps=3), ASAM(rho=1.0), SAM(rho=0.5).sharded(4)])
def test_restoring_is_bitwise(dtype: torch.dtype, variant: Any) -> None:
    task = make_task(dtype)
    optimizer = task.optimizer(variant, lr=0.0, momentum=0.0)  # a base optimizer that stays where it is
    home = task.weights()
    addresses = [p.data_ptr() for p in task.model.parameters()]
    for _ in range(5):
        optimizer.step(task.closure(optimizer), batch=(task.x, task.y))
    assert same(task.weights(), home)
    assert [p.data_ptr() for p in task.model.parameters()] == addresses
    assert not same(task.visited[1], home)  # negative control: the parameters were away


def test_subtracting_would_not_be_bitwise() -> None:
    """Negative control of the test above: the restore that many libraries use drifts in float32."""
    task = make_task(torch.float32)
    drifted = [(w + e) - e for w, e in zip(task.weights(), make_task(torch.float32, seed=1).weights(), strict=True)]
    assert not same(drifted, task.weights())


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("variant", [SAM(rho=0.0), ASAM(rho=0.0), SAM(rho=0.0).sharded(12)])
def test_rho_zero_is_bitwise_the_base_optimizer(base: Any, dtype: torch.dtype, variant: Any) -> None:
    plain, aware = make_task(dtype), make_task(dtype)
    optimizer = aware.optimizer(variant, base)
    alone = base(plain.model.parameters(), **{k: v for k, v in optimizer.defaults.items() if k in {"lr", "momentum"}})
    for _ in range(5):
        alone.step(plain.closure(alone))
        optimizer.step(aware.closure(optimizer), batch=(aware.x, aware.y))
    assert same(plain.weights(), aware.weights())


def test_rho_is_not_ignored() -> None:
    """Negative control of the test above."""
    plain, aware = make_task(), make_task()
    for task, rho in ((plain, 0.0), (aware, 1e-6)):
        optimizer = task.optimizer(SAM(rho=rho))
        optimizer.step(task.closure(optimizer))
    assert not same(plain.weights(), aware.weights())


def test_shards_see_m_examples_each_and_the_loss_is_their_mean(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.1).sharded(4))
    seen = []
    closure = task.closure(optimizer)

    def recording(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append((x, y))
        return closure(x, y)

    expected = task.loss().detach()
    loss = optimizer.step(recording, batch=(task.x, task.y))
    torch.testing.assert_close(loss, expected)
    assert [len(x) for x, _ in seen] == [4] * 6
    assert torch.equal(torch.cat([x for x, _ in seen[::2]]), task.x)
    assert torch.equal(torch.cat([y for _, y in seen[::2]]), task.y)
    assert float(optimizer.info.gradient_evaluations) == 2


def test_a_batch_may_be_nested(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.1).sharded(6))
    closure = task.closure(optimizer)
    optimizer.step(lambda batch, flag: closure(batch["x"], batch["y"][0]), batch=({"x": task.x, "y": [task.y]}, True))
    assert len(task.visited) == 4


class Pair(NamedTuple):
    x: torch.Tensor
    weight: torch.Tensor


def test_a_batch_may_be_a_named_tuple_and_hold_what_has_no_examples(task: Task) -> None:
    """A 0-d tensor goes to every shard as it is; kills the mutants that build the tuple wrongly, or cut the number."""
    optimizer = task.optimizer(SAM(rho=0.1).sharded(6))
    seen: list[Pair] = []

    def closure(pair: Pair) -> torch.Tensor:
        seen.append(pair)
        optimizer.zero_grad()
        loss = (task.model(pair.x) ** 2).mean() * pair.weight
        loss.backward()
        return loss

    optimizer.step(closure, batch=(Pair(task.x, torch.tensor(0.5)),))
    assert [(type(pair), len(pair.x), float(pair.weight)) for pair in seen] == [(Pair, 6, 0.5)] * 4


def test_a_parameter_without_gradient_is_left_alone() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    base = torch.optim.SGD([used, unused, frozen], lr=0.1, weight_decay=0.5)
    optimizer = SharpnessAware(base, SAM(rho=0.1))

    def closure() -> torch.Tensor:
        loss = (used**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(unused.data, torch.ones(2))  # weight decay would move it, had it a gradient of zero
    assert torch.equal(frozen.data, torch.ones(2))
    assert unused.grad is None
    assert not torch.equal(used.data, torch.ones(2))


def test_a_gradient_that_is_the_parameter_itself_survives() -> None:
    """The perturbed tensor is reused by the next step; a gradient that shares its memory must not go with it."""

    class Alias(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(w)
            return (w * w).sum() / 2

        @staticmethod
        def backward(ctx: Any, *up: torch.Tensor) -> torch.Tensor:
            return ctx.saved_tensors[0].detach()

    w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=1.0), SAM(rho=5.0, steps=3))

    def closure() -> torch.Tensor:
        loss: torch.Tensor = Alias.apply(w)  # type: ignore[no-untyped-call]
        loss.backward()
        return loss

    for expected in ([-3.0, -4.0], [3.0, 4.0]):  # w - 2 w: the gradient at w + 5 w / |w| is 2 w, and |w| stays 5
        optimizer.step(closure)
        torch.testing.assert_close(w.data, torch.tensor(expected))
