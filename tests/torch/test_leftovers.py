"""Gradients that a loop made before `step(closure)` are not lost without a word."""

import warnings
from typing import Any

import pytest
import torch

from samfamily_torch import SAM
from tests.torch.conftest import Task, make_task, same


def accumulate(task: Task, empties: str | None) -> Any:
    """Make gradients, and step with a closure that empties them in this way, or does not."""
    optimizer = task.optimizer(SAM(rho=0.1))

    def closure() -> torch.Tensor:
        if empties is not None:
            optimizer.zero_grad(set_to_none=empties == "to None")
        loss = task.loss()
        loss.backward()
        return loss

    for _ in range(2):
        task.loss().backward()
        optimizer.step(closure)
        optimizer.zero_grad()


def test_gradients_that_nobody_uses_are_warned_of(task: Task) -> None:
    with pytest.warns(
        UserWarning, match=r"did not empty them: they are not used\. Accumulate inside the closure"
    ) as told:
        accumulate(task, empties=None)
    assert len(told) == 2
    assert told[0].filename == __file__
    twin = make_task()
    accumulate(twin, empties="to None")
    assert same(task.weights(), twin.weights())  # the step was that of the closure alone


@pytest.mark.parametrize("empties", ["to None", "in place"])
def test_a_closure_that_empties_them_is_not_warned_of(task: Task, empties: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accumulate(task, empties)


@pytest.mark.parametrize("variant", [SAM(rho=0.1), SAM(rho=0.1).sharded(3)], ids=["whole", "sharded"])
def test_what_the_last_step_left_is_not_warned_of(task: Task, variant: Any) -> None:
    """A closure that leaves emptying to the optimizer is no fault."""
    optimizer = task.optimizer(variant)

    def closure(x: torch.Tensor | None = None, y: torch.Tensor | None = None) -> torch.Tensor:
        loss = task.loss(x, y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure, batch=(task.x, task.y))
