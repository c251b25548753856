"""Kinds of parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fault_table import Outcome, all_of, fault, radius_is
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import Task, agree, quadratic, sam, vector


def _matches_sam(library: Library, task: Task, steps: int = 3, tolerance: float = 1e-6) -> Outcome:
    expected = sam(task.copy(), steps)
    optimizer = task.build(library)
    for _ in range(steps):
        library.step(optimizer, task.closure(optimizer))
    return agree(task.weights(), expected, tolerance)


@fault("Sparse gradients", "SamsungLabs/ASAM, SAM-ON")
def sparse_gradients(library: Library) -> Outcome:
    """`nn.Embedding(sparse=True)`: multiplying, stacking or flattening the gradient raises."""
    torch.manual_seed(0)
    table = nn.Embedding(6, 3, sparse=True, dtype=torch.float64)
    rows = torch.tensor([0, 2, 2, 5])
    return _matches_sam(library, Task(table, lambda model: (model(rows) - 1).square().mean()))


@fault("Complex parameters", "davda54/sam, SamsungLabs/ASAM")
def complex_parameters(library: Library) -> Outcome:
    """A norm by squares takes w^2 where |w|^2 is meant."""
    return _matches_sam(library, quadratic(torch.complex(vector(3), vector(3).flip(0)), vector(2)))


@fault("0-d and empty parameters", "any learned temperature, any pruned layer")
def scalar_and_empty_parameters(library: Library) -> Outcome:
    """A maximum over no entries raises, and a scale is a parameter like any other."""
    return _matches_sam(
        library, quadratic(torch.tensor(3.0, dtype=torch.float64), torch.zeros(0, 2).double(), vector(2))
    )


@fault("Several dtypes in one model share one norm", "any mixed-precision model")
def several_dtypes(library: Library) -> Outcome:
    """One norm over half, single and double precision, and every weight keeps its own."""
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    task = quadratic(*(0 * vector(3, dtype) for dtype in dtypes))
    before = [w.dtype for w in task.weights()]

    def loss(model: Any) -> Tensor:
        return torch.stack([(p.double() - 1).square().sum() for p in model]).sum()

    task.loss = loss
    optimizer = task.build(library)
    library.step(optimizer, task.closure(optimizer))
    kept = [w.dtype for w in task.weights()] == before
    return all_of(radius_is(task.radius, 0.2), Outcome(kept, "dtypes kept" if kept else "a dtype changed"))


@fault("Tied weights are perturbed once", "any language model")
def tied_weights(library: Library) -> Outcome:
    """A weight that two modules share is one parameter, with one gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    x = torch.randn(12, 4, dtype=torch.float64)
    return _matches_sam(library, Task(model, lambda net: (net(x) - 1).square().mean()))
