"""Accumulation and clipping."""

import torch

from benchmarks.fault_table import Outcome, all_of, fault, radius_is
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import LR, RHO, Loss, agree, network, quadratic, sam, vector


@fault(
    "Micro-batches accumulated inside the closure make one step of SAM", "davda54/sam#3, davda54/sam#62, davda54/sam#94"
)
def accumulation(library: Library) -> Outcome:
    """One perturbation for the whole batch, with gradients summed over its parts, as memory allows."""
    task = network()
    fit = task.loss
    parts: list[Loss] = [fit, lambda model: sum((p.square().sum() for p in model.parameters()), torch.tensor(0.0))]
    task.loss = lambda model: torch.stack([part(model) for part in parts]).sum()
    expected = sam(task.copy(), steps=2)
    optimizer = task.build(library)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = [part(task.model) for part in parts]
        for loss in losses:
            loss.backward()
        return torch.stack(losses).sum().detach()

    for _ in range(2):
        library.step(optimizer, closure)
    return agree(task.weights(), expected)


@fault("Clipping inside the closure clips the step and not the radius", "davda54/sam#32, davda54/sam#64")
def clipping_in_the_closure(library: Library) -> Outcome:
    """A clipped first gradient has the same direction, so the perturbation must not care."""
    task = quadratic(vector())
    (w,) = task.weights()
    optimizer = task.build(library)

    def closure() -> torch.Tensor:
        loss = task.closure(optimizer)()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 0.5)
        return loss

    library.step(optimizer, closure)
    direction = (w - 1) / (w - 1).norm()  # of both gradients, which lie on one line
    return all_of(agree(task.weights(), [w - LR * 0.5 * direction]), radius_is(task.radius, RHO))


@fault("Clipping in a manual loop clips the gradient that is followed", "davda54/sam#32, davda54/sam#64")
def clipping_in_a_manual_loop(library: Library) -> Outcome:
    """Between the second backward and the step, `.grad` must be what the base optimizer will see."""
    task = quadratic(vector())
    (w,) = task.weights()
    optimizer = task.build(library)
    parameters = list(task.model.parameters())
    library.manual(optimizer, task.closure(optimizer), lambda: torch.nn.utils.clip_grad_norm_(parameters, 0.5))
    return agree(task.weights(), [w - LR * 0.5 * (w - 1) / (w - 1).norm()])
