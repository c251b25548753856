"""Faults that were met by experiment, one test each."""

from typing import Any

import pytest
import torch

from samfamily import GNP, MSAM, SAM, WSAM, FriendlySAM, LookSAM
from samfamily_torch import SharpnessAware
from tests.torch.conftest import Task, make_task, norm, same
from tests.torch.memory import remembered


def step(task: Task, optimizer: Any) -> None:
    optimizer.step(task.closure(optimizer))


def test_a_skipped_manual_step_is_forgotten() -> None:
    """Its gradient must not reach the next batch."""
    skipped, fresh = make_task(), make_task()
    optimizer = skipped.optimizer(SAM(rho=0.1))
    skipped.loss().backward()
    with optimizer.perturbed():
        (1e6 * skipped.loss()).backward()
    optimizer.zero_grad()
    for task, follows in ((skipped, optimizer), (fresh, fresh.optimizer(SAM(rho=0.1)))):
        task.loss().backward()
        with follows.perturbed():
            task.loss().backward()
        follows.step()
    assert same(skipped.weights(), fresh.weights())


def test_clipping_between_perturbed_and_step_clips(task: Task) -> None:
    optimizer, before = task.optimizer(SAM(rho=0.1), lr=1.0, momentum=0.0), task.weights()
    task.loss().backward()
    with optimizer.perturbed():
        task.loss().backward()
    torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1e-6)
    optimizer.step()
    moved = norm([a - b for a, b in zip(task.weights(), before, strict=True)])
    assert 0.9e-6 < float(moved) < 1.1e-6


def test_a_base_optimizers_own_rho_is_left_alone(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.05), torch.optim.Adadelta)
    step(task, optimizer)
    assert float(optimizer.info.radius) == 0.05
    assert optimizer.param_groups[0]["rho"] == 0.9


def test_gradients_in_views_of_a_bucket_are_kept_apart() -> None:
    """What DDP's gradient_as_bucket_view does: every backward writes to the same memory."""
    walks = []
    for viewed in (False, True):
        task = make_task()
        optimizer = task.optimizer(GNP(rho=0.5))
        bucket = torch.zeros(sum(p.numel() for p in task.model.parameters()), dtype=torch.float64)

        def closure(task: Task = task, bucket: Any = bucket, viewed: bool = viewed) -> torch.Tensor:
            loss = task.loss()
            loss.backward()
            start = 0
            for p in task.model.parameters():
                if viewed and p.grad is not None:
                    view = bucket[start : start + p.numel()].view_as(p)
                    view.copy_(p.grad)
                    p.grad = view
                start += p.numel()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        walks.append(task.weights())
    assert same(*walks)


def test_second_order_with_a_rho_for_each_group() -> None:
    a, b = (torch.nn.Parameter(torch.tensor([x, y], dtype=torch.float64)) for x, y in ((1.0, 2.0), (-1.0, 0.5)))

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a**3).sum() + (a * b).sum() ** 2 + (b**4).sum()

    def perturbed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        g = torch.autograd.grad(loss(a, b), (a, b), create_graph=True)
        n = torch.sqrt(sum((x**2).sum() for x in g))  # type: ignore[arg-type]
        return loss(a + 0.5 * g[0] / n, b + 0.1 * g[1] / n)

    expected = torch.autograd.grad(perturbed(a, b), (a, b))
    groups: list[dict[str, Any]] = [{"params": [a], "rho": 0.5}, {"params": [b], "rho": 0.1}]
    optimizer = SharpnessAware(torch.optim.SGD(groups, lr=0.0), SAM(second_order=True))

    def closure() -> torch.Tensor:
        value = loss(a, b)
        value.backward()
        return value

    optimizer.step(closure)
    for p, g in zip((a, b), expected, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=0)


@pytest.mark.parametrize("variant", [MSAM(), LookSAM(k=2), FriendlySAM()])
def test_memory_follows_its_parameter_when_layers_are_frozen_and_thawed(variant: Any) -> None:
    """The memory of what stays is kept, and what is new begins anew."""
    task = make_task()
    optimizer = task.optimizer(variant)
    step(task, optimizer)
    kept = remembered(optimizer)
    task.model[0].weight.requires_grad_(False)
    step(task, optimizer)
    task.model[0].weight.requires_grad_(True)
    step(task, optimizer)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3, dtype=torch.float64))]})
    step(task, optimizer)
    assert len(remembered(optimizer)) == len(kept) + 1


def test_a_looksam_step_along_parallel_gradients_reuses_nothing() -> None:
    """What is left across is rounding, and must not be stretched to 0.7 of the gradient."""
    w = torch.nn.Parameter(torch.tensor([0.3, 0.7, -0.1], dtype=torch.float64))
    c = torch.tensor([1.0, 2.0, 3.7], dtype=torch.float64)
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=1.0), LookSAM(k=3))

    def closure() -> torch.Tensor:
        loss = (c * w).sum() * 1.1
        loss.backward()
        return loss

    for _ in range(4):
        before = w.detach().clone()
        optimizer.step(closure)
        torch.testing.assert_close(before - w.detach(), 1.1 * c)


def test_second_step_counts_as_a_step(task: Task) -> None:
    optimizer, calls = task.optimizer(SAM()), []
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    task.loss().backward()
    optimizer.first_step()
    task.loss().backward()
    optimizer.second_step()
    scheduler.step()  # warns, which is an error here, if no step was seen
    assert calls == ["post"]


@pytest.mark.parametrize("variant", [LookSAM(k=5), FriendlySAM(), MSAM()])
def test_a_sharded_run_resumes_bitwise(variant: Any) -> None:
    """With three shards a mean keeps a factor of 1/3 beside it, which a checkpoint multiplies in."""
    whole, broken = make_task(torch.float32), make_task(torch.float32)
    row = variant.sharded(4)
    optimizers = [task.optimizer(row) for task in (whole, broken)]
    for _ in range(6):
        optimizers[0].step(whole.closure(optimizers[0]), batch=(whole.x, whole.y))
    for part in (2, 4):
        for _ in range(part):
            optimizers[1].step(broken.closure(optimizers[1]), batch=(broken.x, broken.y))
        saved = optimizers[1].state_dict()
        optimizers[1] = broken.optimizer(row)
        optimizers[1].load_state_dict(saved)
    assert same(whole.weights(), broken.weights())


def test_a_loss_without_curvature_has_a_second_order_step() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=1.0), SAM(second_order=True))

    def closure() -> torch.Tensor:
        loss = (3 * w).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(w.data, torch.tensor([-2.0, -1.0]))


def test_sparse_gradients_are_taken() -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = SharpnessAware(torch.optim.SGD(embedding.parameters(), lr=0.1), SAM(rho=0.1))
    before = embedding.weight.detach().clone()

    def closure() -> torch.Tensor:
        loss: torch.Tensor = (embedding(torch.tensor([1, 3])) ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    moved = (embedding.weight.detach() != before).any(1)
    assert moved.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("batch", [torch.ones(2), {"x": 1}, "xy"])
def test_a_batch_that_is_no_tuple(task: Task, batch: Any) -> None:
    optimizer = task.optimizer(SAM())
    with pytest.raises(TypeError, match=r"batch must be a tuple.*batch=\(x, y\)"):
        optimizer.step(task.closure(optimizer), batch=batch)


def test_refusals(task: Task) -> None:
    with pytest.raises(ValueError, match="maximize=True"):
        task.optimizer(SAM(), maximize=True)
    optimizer = task.optimizer(SAM())
    before = task.weights()
    with pytest.raises(RuntimeError, match=r"left no gradient.*call loss\.backward"):
        optimizer.step(task.loss)
    task.loss().backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="manual step is in progress: finish it with step"):
        optimizer.load_state_dict({})
    task.loss().backward()
    optimizer.second_step()
    assert not same(task.weights(), before)
    decoupled = task.optimizer(WSAM())
    decoupled.param_groups[0].pop("lr")
    before = task.weights()
    with pytest.raises(RuntimeError, match="a group has no 'lr'"):
        step(task, decoupled)
    assert same(task.weights(), before)
