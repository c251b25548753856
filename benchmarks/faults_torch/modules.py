"""Batch norm, dropout, random state."""

import torch
from torch import Tensor, nn

from benchmarks.fault_table import Outcome, all_of, fault
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import LR, Task, agree, network, same


def _normalised(momentum: float | None = 0.1) -> Task:
    return network(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=momentum), nn.Tanh(), nn.Linear(8, 2))


def _statistics(task: Task) -> list[Tensor]:
    return [b.detach().double().clone() for b in task.model.buffers()]


@fault("Batch-norm statistics after a step are those of the pass at w", "davda54/sam#17, davda54/sam#30")
def batch_norm_statistics(library: Library) -> Outcome:
    """Both passes move the running averages, one of them at weights that nobody will evaluate."""
    return _one_pass_counts(library, 0.1, "running_mean", "running_var")


@fault("Cumulative batch-norm statistics (`momentum=None`) are those of the pass at w", "davda54/sam#30")
def cumulative_batch_norm_statistics(library: Library) -> Outcome:
    """The usual remedy sets the momentum to zero, and here there is none to set."""
    return _one_pass_counts(library, None, "running_mean", "running_var")


@fault("`num_batches_tracked` counts one batch a step", "davda54/sam")
def batches_counted_twice(library: Library) -> Outcome:
    """Momentum zero stops the averages and not the counter."""
    return _one_pass_counts(library, 0.1, "num_batches_tracked")


def _one_pass_counts(library: Library, momentum: float | None, *names: str) -> Outcome:
    task = _normalised(momentum)
    optimizer = task.build(library)
    outcomes = []
    for _ in range(2):
        alone = task.copy()
        alone.loss(alone.model)
        library.step(optimizer, task.closure(optimizer))
        for name in names:
            found, expected = (getattr(t.model[1], name).double() for t in (task, alone))
            outcomes.append(agree([found], [expected], what=name))
    return all_of(*outcomes)


@fault(
    "What holds the statistics still can be entered twice, and survives an exception",
    "davda54/sam#17, juntang-zhuang/GSAM",
)
def statistics_held_still_twice(library: Library) -> Outcome:
    """A helper that saves the momentum in the module saves its own zero the second time: frozen for ever after."""
    task = _normalised()
    optimizer = task.build(library)
    switches = library.statistics_switches()
    if switches is None:
        _fail_in_pass_two(library, optimizer, task)
    else:
        disable, enable = switches
        disable(task.model)
        disable(task.model)
        enable(task.model)
    fresh = _normalised()
    fresh.model.load_state_dict(task.model.state_dict())
    for each in (task, fresh):
        each.loss(each.model)
    return agree(_statistics(task), _statistics(fresh), what="the statistics of a later pass")


def _fail_in_pass_two(library: Library, optimizer: object, task: Task) -> None:
    def fail(model: nn.Module) -> Tensor:
        task.loss(model)
        raise ConnectionError("the data went away")

    try:
        library.step(optimizer, task.closure(optimizer, at={2: fail}))
    except ConnectionError:
        return


@fault("An exception in pass 2 leaves the statistics of one pass at most", "juntang-zhuang/GSAM")
def statistics_after_an_exception(library: Library) -> Outcome:
    """The pass that failed was at the perturbed point, and its statistics are not to stay."""
    task = _normalised()
    none, one = task.copy(), task.copy()
    one.loss(one.model)
    optimizer = task.build(library)
    _fail_in_pass_two(library, optimizer, task)
    found = _statistics(task)
    either = [agree(found, _statistics(t), what="the statistics") for t in (none, one)]
    return next((outcome for outcome in either if outcome.ok), either[1])


@fault("Dropout masks are the same in both passes, and new in the next step", "davda54/sam")
def dropout_masks(library: Library) -> Outcome:
    """With another mask the second pass differentiates another function than the one that the first climbed."""
    task = network(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 2))
    masks: list[Tensor] = []
    task.model[1].register_forward_hook(lambda _module, _inputs, output: masks.append(output == 0))
    optimizer = task.build(library)
    for _ in range(2):
        library.step(optimizer, task.closure(optimizer))
    first, second, third = masks[:3]
    shared = float((first == second).double().mean())
    anew = Outcome(not torch.equal(first, third), "new masks in the next step")
    return all_of(Outcome(shared == 1, f"{shared:.0%} of the mask's entries are shared by both passes"), anew)


@fault("rho = 0 is bitwise the base optimizer, batch norm and dropout included", "davda54/sam#80")
def no_radius_with_buffers(library: Library) -> Outcome:
    """Two passes at one point must leave weights, statistics and the random state as one pass leaves them."""
    task = network(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2), dtype=torch.float32)
    plain = task.copy()
    base = torch.optim.AdamW(plain.model.parameters(), lr=LR)
    optimizer = task.build(library, rho=0.0, base=torch.optim.AdamW)
    torch.manual_seed(1)
    for _ in range(3):
        base.step(plain.closure(base))
    torch.manual_seed(1)
    for _ in range(3):
        library.step(optimizer, task.closure(optimizer))
    return all_of(
        same(task.weights(), plain.weights()), same(_statistics(task), _statistics(plain), what="the statistics")
    )
