"""Zero, infinite and undefined gradients."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.fault_table import Outcome, all_of, fault, shown
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import LR, Loss, agree, network, quadratic, same, tensors_of, vector


@fault(
    "A zero gradient is no 0/0: the base optimizer's step is all that happens", "davda54/sam#57, moskomule/sam.pytorch"
)
def zero_gradient(library: Library) -> Outcome:
    """A dead layer or an empty batch divides by a norm of zero, and every weight is NaN."""
    task = quadratic(vector())
    task.loss = lambda model: (0 * model[0]).sum()
    (w,) = task.weights()
    optimizer = task.build(library, weight_decay=0.5)
    library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), [w * (1 - LR * 0.5)])


@fault(
    "A loss of NaN in pass 1 skips the step: weights and momentum are untouched",
    "davda54/sam#57, davda54/sam#77, rollovd/LookSAM#1",
)
def nan_in_pass_one(library: Library) -> Outcome:
    """One bad batch makes every weight NaN, because the perturbation touches all of them."""
    return _survives(library, at=1, factor=float("nan"))


@fault("A loss of NaN in pass 2 skips the step: weights and momentum are untouched", "davda54/sam#57, davda54/sam#77")
def nan_in_pass_two(library: Library) -> Outcome:
    """The perturbed point may lie where the loss is not defined, though w does not."""
    return _survives(library, at=2, factor=float("nan"))


@fault("An infinite gradient with a finite loss in pass 1 skips the step", "davda54/sam#77, mosaicml/composer")
def infinite_gradient_in_pass_one(library: Library) -> Outcome:
    """Rho / inf is 0 and 0 * inf is NaN."""
    return _survives(library, at=1, factor=float("inf"))


@fault("An infinite gradient with a finite loss in pass 2 skips the step", "davda54/sam#77, mosaicml/composer")
def infinite_gradient_in_pass_two(library: Library) -> Outcome:
    """What the base optimizer is handed must be finite."""
    return _survives(library, at=2, factor=float("inf"))


class Overflow(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor: an overflow in the backward pass alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.factor, None


def overflowing(loss: Loss) -> Loss:
    """The same loss, with infinite gradients."""
    return lambda model: Overflow.apply(loss(model), float("inf"))  # type: ignore[no-untyped-call]


def _survives(library: Library, at: int, factor: float) -> Outcome:
    task = network()
    optimizer = task.build(library, momentum=0.9)
    library.step(optimizer, task.closure(optimizer))
    before, state = task.weights(), _state(library, optimizer)
    usual = task.loss
    bad: Loss = overflowing(usual) if factor == float("inf") else lambda model: usual(model) * factor
    raised = ""
    try:
        library.step(optimizer, task.closure(optimizer, at={at: bad}))
    except Exception as error:  # noqa: BLE001  to raise is a fair answer, if nothing was touched
        raised = shown(error)
    found = all_of(same(task.weights(), before), same(_state(library, optimizer), state, what="the state"))
    return Outcome(found.ok, f"{found.detail}; {raised}" if raised else found.detail)


def _state(library: Library, optimizer: Any) -> list[Tensor]:
    """The tensors of the base optimizer's state."""
    return [x.detach().clone() for x in tensors_of(dict(library.base_of(optimizer).state))]
