"""Cost."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.fault_table import Outcome, fault
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import network, quadratic, vector


@fault("A step of SAM makes two passes", "dydjw9/Efficient_SAM")
def passes_of_sam(library: Library) -> Outcome:
    """Counted calls of the closure."""
    task = network()
    optimizer = task.build(library)
    closure = task.closure(optimizer)
    for _ in range(10):
        library.step(optimizer, closure)
    return Outcome(len(task.visited) == 20, f"{len(task.visited) / 10:g} passes a step")


@fault("LookSAM(k=5) makes 1.2 passes a step", "pytorch_optimizer 4.1.0, davda54/sam#69")
def passes_of_looksam(library: Library) -> Outcome:
    """A cheap variant that makes both passes at every step saves nothing."""
    task = network()
    optimizer = library.looksam(task.model.parameters(), k=5)
    closure = task.closure(optimizer)
    for _ in range(10):
        library.step(optimizer, closure)
    return Outcome(len(task.visited) == 12, f"{len(task.visited) / 10:g} passes a step")


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is read, which on an accelerator waits for everything before it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default  # noqa: SLF001  what .item() and bool() call
        return func(*args, **(kwargs or {}))


@fault("The host does not wait for the device once for each parameter", "MSAM, mosaicml/composer")
def host_reads(library: Library) -> Outcome:
    """`.item()` in a loop over parameters."""
    few, many = (_reads(library, [vector() for _ in range(count)]) for count in (5, 25))
    return Outcome(few == many, f"{few} reads with 5 parameters, {many} with 25")


def _reads(library: Library, parameters: list[Tensor]) -> int:
    task = quadratic(*parameters)
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer))
    with Reads() as reads:
        library.step(optimizer, task.closure(optimizer))
    return reads.count
