"""perturbed(), first_step and second_step: the same step as step(closure), in a loop that one writes oneself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from samfamily import ASAM, FAMILY, SAM, LookSAM
from tests.torch.conftest import Task, make_task, norm, same


def with_closure(task: Task, optimizer: Any, climbs: int) -> None:
    optimizer.step(task.closure(optimizer))


def with_context(task: Task, optimizer: Any, climbs: int) -> None:
    optimizer.zero_grad()
    task.loss().backward()
    for _ in range(climbs):
        with optimizer.perturbed():
            task.loss().backward()
    optimizer.step()


def with_two_steps(task: Task, optimizer: Any, climbs: int) -> None:
    optimizer.zero_grad()
    for _ in range(climbs):
        task.loss().backward()
        optimizer.first_step(zero_grad=True)
    task.loss().backward()
    optimizer.second_step(zero_grad=True)


def with_first_step_and_step(task: Task, optimizer: Any, climbs: int) -> None:
    optimizer.zero_grad()
    for _ in range(climbs):
        task.loss().backward()
        optimizer.first_step()
    task.loss().backward()
    optimizer.step()
    optimizer.zero_grad()


def walk(variant: Any, climbs: int, take: Callable[[Task, Any, int], None]) -> list[torch.Tensor]:
    task = make_task(torch.float32)
    optimizer = task.optimizer(variant)
    for _ in range(4):
        take(task, optimizer, climbs)
    return task.weights()


@pytest.mark.parametrize("take", [with_context, with_two_steps, with_first_step_and_step])
@pytest.mark.parametrize(
    ("variant", "climbs"), [(SAM(rho=0.1), 1), (ASAM(), 1), (SAM(rho=0.1, steps=3), 3), (SAM(rho=0.0), 1)]
)
def test_every_interface_takes_the_same_steps(variant: Any, climbs: int, take: Any) -> None:
    assert same(walk(variant, climbs, take), walk(variant, climbs, with_closure))


def test_the_walks_are_not_those_of_the_base_optimizer() -> None:
    """Negative control of the test above."""
    assert not same(walk(SAM(rho=0.1), 1, with_context), walk(SAM(rho=0.0), 1, with_context))


def test_info_has_no_losses_in_a_manual_loop(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.1))
    with_context(task, optimizer, 1)
    assert optimizer.info.loss.isnan()
    assert float(optimizer.info.radius) == 0.1
    assert float(optimizer.info.gradient_evaluations) == 2


def test_the_weights_come_home_bitwise_also_after_an_exception() -> None:
    task = make_task(torch.bfloat16)
    optimizer = task.optimizer(SAM(rho=0.5))
    home, state = task.weights(), optimizer.state_dict()
    task.loss().backward()

    def fail_away_from_home() -> None:
        with optimizer.perturbed():
            assert not same(task.weights(), home)
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fail_away_from_home()
    assert same(task.weights(), home)
    assert all(p.grad is None for p in task.model.parameters())
    assert optimizer.state_dict() == state
    with_context(task, optimizer, 1)  # and the next step is taken as if nothing had happened
    again = make_task(torch.bfloat16)
    with_context(again, again.optimizer(SAM(rho=0.5)), 1)
    assert same(task.weights(), again.weights())


def test_first_step_leaves_no_gradient_behind(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.1))
    task.loss().backward()
    optimizer.first_step()
    assert all(p.grad is None for p in task.model.parameters())


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "EigenSAM"])
def test_every_row_in_a_manual_loop(name: str) -> None:
    """As many backwards at points of the variant's choosing as it asks for, whether or not it asks at the weights."""
    walks = []
    for manual in (False, True):
        task = make_task()
        task.model.insert(1, torch.nn.LayerNorm(8, dtype=torch.float64))
        optimizer = task.optimizer(FAMILY[name](k=3) if name in {"LookSAM", "PeriodicSAM"} else FAMILY[name]())
        for _ in range(5):
            if not manual:
                optimizer.step(task.closure(optimizer))
                continue
            optimizer.zero_grad()
            task.loss().backward()
            with optimizer.perturbed():
                task.loss().backward()
            while optimizer.unfinished:
                with optimizer.perturbed():
                    task.loss().backward()
            optimizer.step()
        walks.append(task.weights())
    assert same(*walks)


@pytest.mark.parametrize("wasteful", [False, True], ids=["asked", "always"])
def test_a_step_that_rests_says_so_and_leaves_what_it_follows_to_be_clipped(wasteful: bool) -> None:
    """A backward that nobody asked for changes nothing, and the step is as long as the clipped gradient."""
    task = make_task()
    optimizer = task.optimizer(LookSAM(rho=0.1, k=3), lr=1.0, momentum=0.0)
    asked = []
    for _ in range(6):
        task.loss().backward()
        with optimizer.perturbed() as wanted:
            asked.append(wanted)
            if wanted or wasteful:
                task.loss().backward()
        before = task.weights()
        length = torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1e-3)
        assert length > 1e-2  # negative control: there was something to clip
        optimizer.step()
        moved = [u - v for u, v in zip(task.weights(), before, strict=True)]
        if not wanted:
            torch.testing.assert_close(norm(moved), torch.tensor(1e-3, dtype=torch.float64), rtol=1e-3, atol=0)
        optimizer.zero_grad()
    assert asked == [True, False, False] * 2
