"""What `scaling` measures in PyTorch: processes of one thread each, which share a model by DistributedDataParallel.

`python -m benchmarks.scaling_torch` is one of these processes; they meet in a file and talk over the loopback device.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.collectives_torch import Sent
from benchmarks.contest import in_turn
from benchmarks.scaling_task import LEARNING_RATE, MOMENTUM, RHO, SGD, WAYS, Measured, Task
from benchmarks.workers import told
from samfamily_torch import SAM, SharpnessAware

PATIENCE = timedelta(seconds=30)
"""How long a process waits for the others."""
WARM_UP = 2
"""The wrapper forms its buckets anew after a first step."""


def measured(task: Task, rank: int, size: int, rounds: int) -> list[Measured]:
    """Count and time every way to take a step, in turn."""
    steps = {way: step(task, way, rank, size) for way in WAYS}
    sent = {}
    for way, take in steps.items():
        for _ in range(WARM_UP):
            take()
        with Sent() as counted:
            take()
        sent[way] = counted.bytes
    seconds = in_turn(steps, rounds)
    return [Measured(way, sent[way], seconds[way]) for way in WAYS]


def step(task: Task, way: str, rank: int, size: int) -> Callable[[], object]:
    """One step of one process among `size`, on its part of the global batch."""
    model = network(task)
    wrapped: nn.Module = DistributedDataParallel(model) if size > 1 else model
    inputs = batch(task).chunk(size)[rank]
    base = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def closure(x: Tensor) -> Tensor:
        base.zero_grad()
        loss: Tensor = (wrapped(x) ** 2).mean()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    if way == SGD:
        return lambda: (closure(inputs), base.step())
    m, variant = task.m(way, size), SAM(RHO)
    optimizer = SharpnessAware(base, variant if m is None else variant.sharded(m), wrapped)
    return lambda: optimizer.step(closure, batch=(inputs,))


def network(task: Task) -> nn.Module:
    """A multilayer perceptron, the same in every process."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in zip(task.widths, task.widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch(task: Task) -> Tensor:
    """The global batch."""
    random: Any = torch.Generator().manual_seed(1)
    return torch.randn(task.batch, task.widths[0], generator=random)


def main() -> None:
    """Be one of the processes."""
    asked = told()
    task, rank, size = Task(tuple(asked["widths"]), asked["batch"]), asked["rank"], asked["size"]
    torch.set_num_threads(1)
    if size > 1:
        store = f"file://{asked['store']}"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=PATIENCE)
    found = measured(task, rank, size, asked["rounds"])
    if size > 1:
        distributed.destroy_process_group()
    print(json.dumps([way._asdict() for way in found]))


if __name__ == "__main__":
    main()
