"""Rounding."""

import warnings
from typing import Any

import torch
from torch import Tensor

from benchmarks.fault_table import Outcome, fault, radius_is
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import RHO, Loss, Task, agree, network, quadratic, sam, same

CYCLES = 20


@fault("Weights in float32 come home bitwise", "moskomule/sam.pytorch, mosaicml/composer, SamsungLabs/ASAM")
def comes_home_in_float32(library: Library) -> Outcome:
    """Adding and subtracting a perturbation rounds twice."""
    return _cycles(library, torch.float32)


@fault("Weights in bfloat16 come home bitwise", "moskomule/sam.pytorch, mosaicml/composer, SamsungLabs/ASAM")
def comes_home_in_bfloat16(library: Library) -> Outcome:
    """In bfloat16 the drift of subtraction is half a percent of the weights after a thousand steps."""
    return _cycles(library, torch.bfloat16)


def _cycles(library: Library, dtype: torch.dtype) -> Outcome:
    task = network(dtype=dtype)
    before = task.weights()
    optimizer = task.build(library, lr=0.0)
    for _ in range(CYCLES):
        library.step(optimizer, task.closure(optimizer))
    if task.visited[0] and all(torch.equal(a, b) for a, b in zip(task.visited[0], task.visited[1], strict=True)):
        return Outcome(False, "the weights were never perturbed")
    return same(task.weights(), before, what=f"w after {CYCLES} steps at lr = 0")


@fault("A perturbation that bfloat16 rounds away arrives, or is warned of", "any SAM on bfloat16 weights")
def perturbation_rounded_away(library: Library) -> Outcome:
    """A thousand weights at 1 move by less than half a unit in the last place: plain SGD, at twice the price."""
    task = quadratic(torch.ones(1000, dtype=torch.bfloat16))
    task.loss = lambda model: model[0].float().square().sum()
    optimizer = task.build(library, rho=0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            library.step(optimizer, task.closure(optimizer))
    told = [str(w.message) for w in caught if "perturb" in str(w.message) or "round" in str(w.message)]
    share = task.radius / 0.05
    return Outcome(share > 0.5 or bool(told), f"{share:.0%} of rho arrived; {'warned' if told else 'no warning'}")


@fault("The norm of float16 gradients does not overflow", "davda54/sam")
def norm_in_float16(library: Library) -> Outcome:
    """A thousand gradients of 3000 have a norm beyond float16's range: rho / inf, and no perturbation."""
    task = quadratic(torch.zeros(1000, dtype=torch.float16))
    task.loss = lambda model: 3000 * model[0].float().sum()
    optimizer = task.build(library, lr=1e-6)
    library.step(optimizer, task.closure(optimizer))
    return radius_is(task.radius, RHO)


@fault("Gradients of 1e-25 are perturbed by rho", "pytorch_optimizer 4.1.0")
def tiny_gradients(library: Library) -> Outcome:
    """Squared in float32 they vanish, and a stabilising constant in the denominator outweighs them long before."""
    task = quadratic(2 * torch.ones(3), scale=1e-25)
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer))
    return radius_is(task.radius, RHO)


@fault("Gradients of 1e25 are perturbed by rho", "pytorch_optimizer 4.1.0")
def huge_gradients(library: Library) -> Outcome:
    """Squared in float32 they are infinite."""
    task = quadratic(2 * torch.ones(3), scale=1e25)
    optimizer = task.build(library, lr=1e-30)
    library.step(optimizer, task.closure(optimizer))
    return radius_is(task.radius, RHO)


@fault("Weights in float64 are stepped in float64", "pytorch_optimizer 4.1.0")
def double_precision(library: Library) -> Outcome:
    """A norm in float32 puts a float64 trajectory off by 1e-9, where agreement is tested to 1e-12."""
    task = network()
    expected = sam(task.copy(), steps=10)
    optimizer = task.build(library)
    for _ in range(10):
        library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), expected, tolerance=1e-12)


@fault("`torch.autocast` in the closure sees the perturbed weights", "davda54/sam#11")
def autocast_in_the_closure(library: Library) -> Outcome:
    """The usual place: the forward pass alone is in low precision."""
    task, expected = _in_autocast()
    usual = task.loss
    task.loss = lambda model: _autocast(usual, model)
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), expected, tolerance=1e-4)


@fault("`torch.autocast` round the whole step sees the perturbed weights", "every library, by autocast's cache")
def autocast_round_the_step(library: Library) -> Outcome:
    """Autocast keeps the low-precision copies of w that pass 1 made, and pass 2 uses them again: plain SGD."""
    task, expected = _in_autocast()
    optimizer = task.build(library)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), expected, tolerance=1e-4)


def _in_autocast() -> tuple[Task, list[Tensor]]:
    """A task in float32, and where one step of SAM with its loss under autocast leads."""
    task = network(dtype=torch.float32)
    usual, inside = task.loss, task.copy()
    inside.loss = lambda model: _autocast(usual, model)
    return task, sam(inside)


def _autocast(loss: Loss, model: Any) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return loss(model)
