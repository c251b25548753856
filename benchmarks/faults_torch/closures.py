"""Closures and trainers."""

import re

import torch

from benchmarks.fault_table import Outcome, all_of, fault, shown
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import LR, RHO, agree, network, quadratic, sam, same, vector


@fault("`step(closure)` with a standard closure is SAM from the first step on", "pytorch_optimizer 4.1.0, davda54/sam")
def standard_closure(library: Library) -> Outcome:
    """A step that counts on gradients from before takes none at the first step, and those of the last one later."""
    task = network()
    expected = sam(task.copy(), steps=3)
    optimizer = task.build(library)
    closure = task.closure(optimizer)
    for _ in range(3):
        optimizer.step(closure)
    return agree(task.weights(), expected)


@fault("A closure that zeroes gradients in place (`set_to_none=False`) is as good", "SamsungLabs/ASAM, davda54/sam")
def zeroing_in_place(library: Library) -> Outcome:
    """A perturbation that shares memory with `.grad` is zeroed by the second pass."""
    task = network()
    expected = sam(task.copy(), steps=3)
    optimizer = task.build(library)

    def closure() -> torch.Tensor:
        task.model.zero_grad(set_to_none=False)
        loss = task.loss(task.model)
        loss.backward()
        return loss

    for _ in range(3):
        library.step(optimizer, closure)
    return agree(task.weights(), expected)


@fault("`step(closure)` returns the loss at w", "davda54/sam#31, davda54/sam#42")
def returned_loss(library: Library) -> Outcome:
    """Trainers log what `step` returns; None, or the perturbed loss, is not what they expect."""
    task = network()
    before = float(task.loss(task.model))
    optimizer = task.build(library)
    closure = task.closure(optimizer)
    closure()  # for those that want gradients from before
    returned = optimizer.step(closure)
    if returned is None:
        return Outcome(False, "returned None")
    return agree([torch.as_tensor(returned).detach().double()], [torch.tensor(before).double()], what="the loss")


@fault(
    "Lightning's closure (forward, zero_grad, backward, clip), given by keyword", "Lightning-AI/pytorch-lightning#17650"
)
def lightning_closure(library: Library) -> Outcome:
    """Automatic optimisation calls `optimizer.step(closure=closure)` with no gradient there, and wants the loss."""
    task = network()
    expected = sam(task.copy(), steps=2)
    optimizer = task.build(library)
    returned = None

    def closure() -> torch.Tensor:
        loss = task.loss(task.model)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1e6)
        return loss

    for _ in range(2):
        returned = optimizer.step(closure=closure)
    return all_of(agree(task.weights(), expected), Outcome(returned is not None, f"returned {type(returned).__name__}"))


@fault(
    "`step()` after one backward says what to do, and moves nothing",
    "davda54/sam#66, davda54/sam#90, kozistr/pytorch_optimizer#64",
)
def step_without_closure(library: Library) -> Outcome:
    """Hugging Face's Trainer and Accelerate call `step()` without a closure; "closure required" helps nobody."""
    task = network()
    optimizer = task.build(library)
    task.closure(optimizer)()
    before = task.weights()
    return all_of(_explained(optimizer.step), same(task.weights(), before))


@fault("A closure that does nothing leaves no perturbation behind", "davda54/sam, Lightning-AI/pytorch-lightning#17650")
def closure_that_does_nothing(library: Library) -> Outcome:
    """Lightning's manual optimisation hands `step` a closure that does nothing, after the user's own backward."""
    task = quadratic(vector())
    optimizer = task.build(library)
    task.closure(optimizer)()
    (before,) = task.weights()
    gradient = before - 1
    error = ""
    try:
        optimizer.step(lambda: None)
    except Exception as raised:  # noqa: BLE001  an error is a fair answer, if it moves nothing
        error = shown(raised)
    moved = task.weights()[0] - before
    if torch.equal(moved, torch.zeros_like(moved)):
        return Outcome(True, f"w is where it was; {error or 'no error'}")
    if not error and torch.allclose(moved, -LR * gradient, atol=1e-9):
        return Outcome(True, "a plain step of the base optimizer")
    return Outcome(False, f"w is {float(moved.norm()):.3f} away, rho = {RHO}; {error or 'no error'}")


@fault("A loss of exactly 0.0 is a loss", "mosaicml/composer")
def loss_of_zero(library: Library) -> Outcome:
    """A test for the loss's truth takes 0.0 for a failure, and skips the step."""
    task = network()
    usual = task.loss
    task.loss = lambda model: usual(model) - usual(model).detach()
    expected = sam(task.copy(), steps=2)
    optimizer = task.build(library)
    for _ in range(2):
        library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), expected)


@fault(
    "A second backward through the first pass's graph is an error, or right",
    "kozistr/pytorch_optimizer#64, kozistr/pytorch_optimizer#66",
)
def reused_graph(library: Library) -> Outcome:
    """With `retain_graph=True` the second pass differentiates at w again: at best an error, at worst plain SGD."""
    task = network()
    expected = sam(task.copy())
    optimizer = task.build(library)
    loss = task.loss(task.model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        return loss

    try:
        library.step(optimizer, closure)
    except RuntimeError as raised:
        return Outcome(True, shown(raised))
    return agree(task.weights(), expected)


def _explained(step: object) -> Outcome:
    """Whether calling it raises an error that names a call to make instead, such as step(closure)."""
    assert callable(step)
    try:
        step()
    except Exception as raised:  # noqa: BLE001  what is raised is the finding
        return Outcome(bool(re.search(r"step\(closure|first_step|perturbed", str(raised))), shown(raised))
    return Outcome(False, "no error")
