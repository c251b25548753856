"""Groups, schedules and options."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from benchmarks.fault_table import Outcome, all_of, fault, radius_is
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import LR, RHO, Task, agree, network, quadratic, sam, same, vector


@fault("A learning-rate scheduler's changes arrive", "davda54/sam#28, mosaicml/composer#3259")
def scheduler_changes(library: Library) -> Outcome:
    """The model does not learn anything: the base optimizer reads another lr than the scheduler writes."""
    task = network()
    optimizer = task.build(library)
    scheduler = torch.optim.lr_scheduler.StepLR(library.scheduled(optimizer), step_size=1, gamma=0.0)
    library.step(optimizer, task.closure(optimizer))
    scheduler.step()
    before = task.weights()
    library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), before, tolerance=1e-12, what="w after a step at lr = 0")


@fault("A scheduler does not warn that no step was taken", "davda54/sam#28")
def scheduler_warning(library: Library) -> Outcome:
    """`lr_scheduler.step()` before `optimizer.step()`: the scheduler counts steps on an object that is not stepped."""
    task = network()
    optimizer = task.build(library)
    scheduler = torch.optim.lr_scheduler.StepLR(library.scheduled(optimizer), step_size=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        library.step(optimizer, task.closure(optimizer))
        scheduler.step()
    told = [str(w.message).partition("\n")[0] for w in caught if "lr_scheduler" in str(w.message)]
    return Outcome(not told, told[0] if told else "no warning")


@fault(
    "A group that is added during training is perturbed and stepped", "davda54/sam#65, kozistr/pytorch_optimizer#442"
)
def added_group(library: Library) -> Outcome:
    """Fine-tuning thaws layers; the new group lacks an option, or never reaches the base optimizer."""
    task = quadratic(vector(3), vector(2))
    extra = task.model[1]
    whole = task.copy()
    optimizer = library.build([task.model[0]], RHO, torch.optim.SGD, task.model, lr=LR)
    optimizer.add_param_group({"params": [extra]})
    library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), sam(whole))


@fault("Groups have a rho each", "davda54/sam, moskomule/sam.pytorch")
def rho_of_each_group(library: Library) -> Outcome:
    """One radius for all, or one group only."""
    task = quadratic(vector(3), vector(3))
    groups: list[dict[str, Any]] = [{"params": [task.model[0]], "rho": 0.3}, {"params": [task.model[1]], "rho": 0.0}]
    optimizer = library.build(groups, RHO, torch.optim.SGD, task.model, lr=LR)
    library.step(optimizer, task.closure(optimizer))
    here, there = task.visited[-2:]
    moved = [float((a - b).norm()) for a, b in zip(here, there, strict=True)]
    return all_of(Outcome(moved[1] == 0, f"rho = 0 moved {moved[1]:.3g}"), radius_is(moved[0], 0.3 / 2**0.5))


@fault("A rho that changes between steps arrives, and the weights come home", "MSAM")
def changing_rho(library: Library) -> Outcome:
    """Undoing a perturbation with the new rho leaves the difference in the weights."""
    task = quadratic(vector())
    before = task.weights()
    optimizer = task.build(library, lr=0.0)
    outcomes = []
    for rho in (0.1, 0.5, 0.2):
        library.set_rho(optimizer, rho)
        library.step(optimizer, task.closure(optimizer))
        outcomes.append(radius_is(task.radius, rho))
    return all_of(*outcomes, agree(task.weights(), before))


@fault("rho = 0 is bitwise the base optimizer", "davda54/sam#80, moskomule/sam.pytorch")
def no_radius(library: Library) -> Outcome:
    """The baseline of every comparison; some refuse it."""
    task = network(dtype=torch.float32)
    plain = task.copy()
    base = torch.optim.AdamW(plain.model.parameters(), lr=LR)
    optimizer = task.build(library, rho=0.0, base=torch.optim.AdamW)
    for _ in range(5):
        base.step(plain.closure(base))
        library.step(optimizer, task.closure(optimizer))
    return same(task.weights(), plain.weights())


@fault("Frozen parameters stay, and are trained once thawed", "any fine-tuning")
def frozen_parameters(library: Library) -> Outcome:
    """A parameter without a gradient has nothing to perturb, until it has."""
    task = network()
    frozen = list(task.model[0].parameters())
    before = [p.detach().clone() for p in frozen]
    for p in frozen:
        p.requires_grad_(False)
    reference: Task = copy.deepcopy(task)
    optimizer = task.build(library, weight_decay=0.1)
    library.step(optimizer, task.closure(optimizer))
    stayed = same([p.detach() for p in frozen], before, what="what is frozen")
    first = agree(task.weights(), sam(reference, decay=0.1))
    _thaw(task)
    _thaw(reference)
    library.step(optimizer, task.closure(optimizer))
    return all_of(stayed, first, agree(task.weights(), sam(reference, decay=0.1), what="w once thawed"))


def _thaw(task: Task) -> list[Tensor]:
    return [p.requires_grad_() for p in task.model.parameters()]
