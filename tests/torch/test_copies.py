"""Copies and pickles of the optimizer are whole, and go on like the original."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from samfamily_torch import SAM, FriendlySAM, LookSAM
from tests.torch.conftest import Task, make_task, same


def by_deepcopy(task: Task, optimizer: Any) -> tuple[Task, Any]:
    task, optimizer = copy.deepcopy((task, optimizer))
    return task, optimizer


def by_pickle(task: Task, optimizer: Any) -> tuple[Task, Any]:
    task, optimizer = pickle.loads(pickle.dumps((task, optimizer)))
    return task, optimizer


def by_torch(task: Task, optimizer: Any) -> tuple[Task, Any]:
    file = io.BytesIO()
    torch.save((task, optimizer), file)
    file.seek(0)
    task, optimizer = torch.load(file, weights_only=False)
    return task, optimizer


@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle, by_torch])
@pytest.mark.parametrize("variant", [SAM(rho=0.1), LookSAM(rho=0.1, k=3), FriendlySAM(rho=0.1)], ids=lambda v: v.name)
def test_a_copy_goes_on_like_the_original(copied: Any, variant: Any) -> None:
    task = make_task()
    optimizer = task.optimizer(variant)
    for _ in range(4):
        optimizer.step(task.closure(optimizer))
    other, again = copied(task, optimizer)
    assert again.variant == variant
    assert again.param_groups is again.base.param_groups
    before = task.weights()
    for _ in range(4):
        again.step(other.closure(again))
    assert same(task.weights(), before)
    for _ in range(4):
        optimizer.step(task.closure(optimizer))
    assert same(task.weights(), other.weights())


def test_a_manual_step_is_not_copied_halfway() -> None:
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.1))
    task.loss().backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="a manual step is in progress"):
        copy.deepcopy(optimizer)
