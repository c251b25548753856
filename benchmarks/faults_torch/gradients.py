"""Gradients that come and go."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.fault_table import Outcome, all_of, fault, shown
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import LR, RHO, Task, agree, quadratic, sam, same, vector


def _pair() -> Task:
    """Two parameters, a and b."""
    return quadratic(vector(3), vector(2))


def _only_a(model: Any) -> Tensor:
    return 0.5 * (model[0] - 1).square().sum()


def _displaced(w: Tensor, gradient: Tensor, norm: Tensor) -> Tensor:
    """One step of SAM on 0.5 (w - 1)^2, where the whole gradient has this norm."""
    return w - LR * (w + RHO * gradient / norm - 1)


@fault(
    "A gradient that is missing in pass 2 leaves no perturbation behind",
    "davda54/sam#51, SamsungLabs/ASAM, mosaicml/composer",
)
def missing_in_pass_two(library: Library) -> Outcome:
    """Restoring only what has a gradient leaves the rest at the perturbed point for good."""
    task = _pair()
    a, b = task.weights()
    norm = torch.cat([a - 1, b - 1]).norm()
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer, at={2: _only_a}))
    found = task.weights()
    return all_of(agree([found[1]], [b], what="b"), agree([found[0]], [_displaced(a, a - 1, norm)], what="a"))


@fault("A gradient that comes only in pass 2 is followed", "davda54/sam#51, nblt/F-SAM#1")
def only_in_pass_two(library: Library) -> Outcome:
    """`KeyError: 'old_p'`: what the first pass did not see was restored all the same."""
    task = _pair()
    a, b = task.weights()
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer, at={1: _only_a}))
    return agree(task.weights(), [_displaced(a, a - 1, (a - 1).norm()), b - LR * (b - 1)])


@fault(
    "A gradient that is missing in pass 1, after a step that had it, takes no stale perturbation",
    "SamsungLabs/ASAM, mosaicml/composer, juntang-zhuang/GSAM",
)
def missing_in_pass_one_after_having_one(library: Library) -> Outcome:
    """A perturbation kept from the last step is subtracted where none was added; the error is as large as rho."""
    task = _pair()
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer))
    a, b = task.weights()
    library.step(optimizer, task.closure(optimizer, at={1: _only_a}))
    return agree(task.weights(), [_displaced(a, a - 1, (a - 1).norm()), b - LR * (b - 1)])


@fault("A parameter that the loss does not use is not decayed", "torch.optim's own rule")
def unused_parameter(library: Library) -> Outcome:
    """A zero in the place of None lets weight decay shrink a parameter that the base optimizer would skip."""
    task = _pair()
    task.loss = _only_a
    _, b = task.weights()
    optimizer = task.build(library, base=torch.optim.AdamW, weight_decay=0.5)
    for _ in range(2):
        library.step(optimizer, task.closure(optimizer))
    return same([task.weights()[1]], [b], what="b")


@fault("An exception in pass 1 leaves the weights alone, and the next step is right", "any data loader")
def exception_in_pass_one(library: Library) -> Outcome:
    """Training that catches an error and goes on must go on from where it was."""
    return _interrupted(library, at=1)


@fault(
    "An exception in pass 2 brings the weights home, and the next step is right", "juntang-zhuang/GSAM, any data loader"
)
def exception_in_pass_two(library: Library) -> Outcome:
    """Out of memory, a lost worker, Ctrl-C: all come while the weights are perturbed."""
    return _interrupted(library, at=2)


def _interrupted(library: Library, at: int) -> Outcome:
    def fail(_: Any) -> Tensor:
        raise ConnectionError("the data went away")

    task = _pair()
    optimizer = task.build(library)
    before = task.weights()
    raised = ""
    try:
        library.step(optimizer, task.closure(optimizer, at={at: fail}))
    except ConnectionError as error:
        raised = shown(error)
    if not raised:
        return Outcome(False, "the exception was swallowed")
    home = same(task.weights(), before)
    expected = sam(_pair())
    library.step(optimizer, task.closure(optimizer))
    return all_of(home, agree(task.weights(), expected, what="w after the next step"))
