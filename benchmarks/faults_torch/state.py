"""Checkpoints and copies."""

import copy
import io
import pickle
from typing import Any

import torch
from torch import Tensor

from benchmarks.fault_table import Outcome, all_of, fault
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import Task, agree, network, same, tensors_of

STEPS = 3


def _written(content: Any, *, weights_only: bool = False) -> Any:
    """What `torch.load` makes of what `torch.save` wrote."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


def _steps(library: Library, optimizer: Any, task: Task, count: int = STEPS) -> None:
    for _ in range(count):
        library.step(optimizer, task.closure(optimizer))


@fault(
    "`state_dict` has the base optimizer's state",
    "davda54/sam#34, davda54/sam#39, davda54/sam#73, mosaicml/composer#3259",
)
def base_state_in_state_dict(library: Library) -> Outcome:
    """Momentum is not saved, the file is too small, and the loss jumps on resuming."""
    saved, own = _saved(library)
    kept = sum(_among(saved, x) for x in own)
    return Outcome(kept == len(own) > 0, f"{kept} of {len(own)} momentum buffers saved")


@fault("`state_dict` has no copy of the weights and no gradient", "davda54/sam#73, juntang-zhuang/GSAM")
def no_transient_buffers(library: Library) -> Outcome:
    """A perturbation or a copy of the weights that lies in the state makes every file larger."""
    saved, own = _saved(library)
    more = sum(x.numel() for x in saved if x.numel() > 1 and not _among(own, x))
    return Outcome(not more, f"{more} numbers besides the base optimizer's state")


def _saved(library: Library) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors in the state_dict after some steps, and those in the base optimizer's own state."""
    task = network()
    optimizer = task.build(library, momentum=0.9)
    _steps(library, optimizer, task)
    return tensors_of(optimizer.state_dict()), tensors_of(dict(library.base_of(optimizer).state))


def _among(tensors: list[Tensor], wanted: Tensor) -> bool:
    return any(x.dtype == wanted.dtype and torch.equal(x, wanted) for x in tensors)


@fault("Training resumes bitwise", "davda54/sam#34, davda54/sam#73")
def bitwise_resume(library: Library) -> Outcome:
    """Three steps, a file, three steps more: the same numbers as six steps in one go."""
    through = network(dtype=torch.float32)
    _steps(library, through.build(library, base=torch.optim.AdamW), through, 2 * STEPS)
    first = network(dtype=torch.float32)
    optimizer = first.build(library, base=torch.optim.AdamW)
    _steps(library, optimizer, first)
    saved = _written({"model": first.model.state_dict(), "optimizer": optimizer.state_dict()})
    second = network(dtype=torch.float32)
    resumed = second.build(library, base=torch.optim.AdamW)
    second.model.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    _steps(library, resumed, second)
    return same(second.weights(), through.weights())


@fault("A checkpoint loads with `weights_only=True`", "torch.load's default")
def loads_weights_only(library: Library) -> Outcome:
    """An object in the state that is no tensor, number or container needs a pickle that one must trust."""
    task = network()
    optimizer = task.build(library, momentum=0.9)
    _steps(library, optimizer, task)
    optimizer.load_state_dict(_written(optimizer.state_dict(), weights_only=True))
    return Outcome(True, "loaded")


@fault(
    "After loading, a change to `param_groups` still reaches the base optimizer",
    "mosaicml/composer#3259, davda54/sam#28",
)
def groups_after_loading(library: Library) -> Outcome:
    """Two lists of groups, of which the scheduler changes one and the base optimizer reads the other."""
    task = network()
    optimizer = task.build(library)
    _steps(library, optimizer, task)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = task.weights()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    _steps(library, optimizer, task, 1)
    return agree(task.weights(), before, tolerance=1e-12, what="w after a step at lr = 0")


@fault("`copy.deepcopy` copies model and optimizer together", "torch.optim's own promise")
def deep_copies(library: Library) -> Outcome:
    """Weight averaging, restarts and hyper-parameter searches copy a training in the middle."""
    task = network()
    optimizer = task.build(library, momentum=0.9)
    _steps(library, optimizer, task, 1)
    model, copied = copy.deepcopy((task.model, optimizer))
    return _goes_on_alike(library, task, optimizer, model, copied)


@fault("`pickle` carries model and optimizer together", "torch.optim's own promise")
def pickles(library: Library) -> Outcome:
    """Process pools and `torch.save(optimizer)` pickle the object itself."""
    task = network()
    optimizer = task.build(library, momentum=0.9)
    _steps(library, optimizer, task, 1)
    model, copied = pickle.loads(pickle.dumps((task.model, optimizer)))
    return _goes_on_alike(library, task, optimizer, model, copied)


def _goes_on_alike(library: Library, task: Task, optimizer: Any, model: Any, copied: Any) -> Outcome:
    other = Task(model, task.loss)
    before = task.weights()
    _steps(library, copied, other)
    alone = same(task.weights(), before, what="the original after the copy's steps")
    _steps(library, optimizer, task)
    return all_of(alone, agree(other.weights(), task.weights(), what="the copy"))
