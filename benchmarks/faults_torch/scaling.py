"""A stock `torch.amp.GradScaler`."""

import torch

from benchmarks.fault_table import Outcome, all_of, fault, shown
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.nonfinite import overflowing
from benchmarks.faults_torch.task import Task, agree, network, sam, same


def _scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=1024.0)


def _update(scaler: torch.amp.GradScaler) -> None:
    """Update the scale, unless the step has done so: a second update finds no record of an inf check."""
    try:
        scaler.update()
    except AssertionError:
        return


@fault(
    "A step with a stock GradScaler is the step without",
    "davda54/sam#7, davda54/sam#11, davda54/sam#79, juntang-zhuang/GSAM#2",
)
def scaler_step(library: Library) -> Outcome:
    """Two backwards in one step, and one scaler that unscales once."""
    task, scaler = network(), _scaler()
    expected = sam(task.copy(), steps=3)
    optimizer = task.build(library)
    for _ in range(3):
        library.scaled(optimizer, task.closure(optimizer, scaler=scaler), scaler)
        _update(scaler)
    return agree(task.weights(), expected)


@fault(
    "A manual loop with a stock GradScaler is the loop without", "davda54/sam#7, huggingface/pytorch-image-models#1366"
)
def scaler_in_a_manual_loop(library: Library) -> Outcome:
    """`unscale_` twice before one `update` raises, so a two-step needs the scaler's place thought out."""
    task, scaler = network(), _scaler()
    expected = sam(task.copy(), steps=3)
    optimizer = task.build(library)
    for _ in range(3):
        library.scaled_manual(optimizer, task.closure(optimizer, scaler=scaler), scaler)
        _update(scaler)
    return agree(task.weights(), expected)


@fault(
    "`scaler.step(optimizer, closure)` does not apply scaled gradients",
    "pytorch_optimizer 4.1.0, huggingface/accelerate",
)
def closure_given_to_the_scaler(library: Library) -> Outcome:
    """A positional closure passes through the scaler, and its gradients are scaled: an update 1024 times too long."""
    task, scaler = network(), _scaler()
    expected = sam(task.copy())
    optimizer = task.build(library)
    closure, before = task.closure(optimizer, scaler=scaler), task.weights()
    closure()  # the scaler wants gradients to look at
    try:
        scaler.step(optimizer, closure)
    except Exception as raised:  # noqa: BLE001  a refusal is the answer that is hoped for
        untouched = same(task.weights(), before)
        return Outcome(untouched.ok, f"{untouched.detail}; {shown(raised)}")
    return agree(task.weights(), expected)


@fault(
    "`scaler.step(optimizer)` without a closure raises, and moves nothing",
    "Lightning-AI/pytorch-lightning#17650, davda54/sam#90",
)
def scaler_without_a_closure(library: Library) -> Outcome:
    """What Lightning does in float16, and Hugging Face's Trainer: one backward, and a step that cannot be SAM's."""
    task, scaler = network(), _scaler()
    optimizer = task.build(library)
    task.closure(optimizer, scaler=scaler)()
    before = task.weights()
    try:
        scaler.step(optimizer)
    except Exception as raised:  # noqa: BLE001  a refusal is the answer that is hoped for
        untouched = same(task.weights(), before)
        return Outcome(untouched.ok, f"{untouched.detail}; {shown(raised)}")
    return Outcome(False, "no error")


@fault("An overflow in pass 1 skips the step and halves the scale", "davda54/sam#79, nblt/F-SAM#5")
def overflow_in_pass_one(library: Library) -> Outcome:
    """The first gradients decide the perturbation and are thrown away: the scaler never looks at them."""
    return _skipped(library, at=1)


@fault("An overflow in pass 2 skips the step and halves the scale", "davda54/sam#79, nblt/F-SAM#5")
def overflow_in_pass_two(library: Library) -> Outcome:
    """The weights must be home before the scaler decides to skip."""
    return _skipped(library, at=2)


def _skipped(library: Library, at: int) -> Outcome:
    task, scaler = network(), _scaler()
    optimizer = task.build(library)
    _any_step(library, optimizer, task, scaler, at=0)
    before, scale = task.weights(), scaler.get_scale()
    _any_step(library, optimizer, task, scaler, at=at)
    home = same(task.weights(), before)
    halved = Outcome(scaler.get_scale() == scale / 2, f"scale {scale:g} became {scaler.get_scale():g}")
    _any_step(library, optimizer, task, scaler, at=0)
    moved = any(not torch.equal(a, b) for a, b in zip(task.weights(), before, strict=True))
    return all_of(home, halved, Outcome(moved, "the next step is taken" if moved else "no step is taken afterwards"))


def _any_step(library: Library, optimizer: object, task: Task, scaler: torch.amp.GradScaler, at: int) -> None:
    """A scaled step, by closure where the library has that and in a manual loop where not."""
    closure = task.closure(optimizer, at={at: overflowing(task.loss)}, scaler=scaler)
    try:
        library.scaled(optimizer, closure, scaler)
    except NotImplementedError:
        library.scaled_manual(optimizer, closure, scaler)
    _update(scaler)
