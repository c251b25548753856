"""Time a product with the curvature against a gradient on one batch, and count the vectors that an eigenvalue keeps.

Both times are taken in turn in one process, so that their ratio means something on a machine that others use.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from benchmarks.arguments import BACKENDS, backends, positive_integer
from samfamily import Landscape, curvature

MEMORY, PRODUCTS = 4, 12
"""Of the largest eigenvalue whose vectors are counted: so that it restarts a few times."""
MOST_TIMES, MOST_VECTORS = 2.5, 4
"""What a product may take at most, in gradients, and what there may be besides the memory, in copies of the weights."""
LARGE = 1_000_000
"""From so many weights on vectors are counted; below it what a graph holds of a batch is as large."""


@dataclass(frozen=True)
class Task:
    """A network with a batch.

    Attributes:
        name: what the network is.
        landscape: makes its loss on one batch.
        sync: waits for a gradient or a product.
        peak: runs a function and returns the bytes that it took at most, weights apart.
    """

    name: str
    landscape: Callable[[], Landscape]
    sync: Callable[[Any], Any]
    peak: Callable[[Callable[[], Any], Landscape], int]


@dataclass(frozen=True)
class Cost:
    """What was measured: times in gradients with their quartiles, vectors in copies of the weights."""

    name: str
    weights: int
    gradient: float
    ratio: float
    low: float
    high: float
    vectors: float | None

    @property
    def is_moderate(self) -> bool:
        """Whether both are within bounds."""
        return self.ratio <= MOST_TIMES and (self.vectors or 0) <= MOST_VECTORS


def measure(task: Task, rounds: int) -> Cost:
    """Time a gradient and a held product in turn, and find what the largest eigenvalue keeps besides its memory."""
    landscape = task.landscape()
    v = landscape.w
    with landscape.matrix() as product:
        ratios, gradients = [], []
        for round_ in range(-2, rounds):  # the first compile, and warm caches
            gradient, other = (_seconds(f, task.sync) for f in (landscape.gradient, lambda: product(v)))
            if round_ >= 0:
                gradients.append(gradient)
                ratios.append(other / gradient)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Cost(task.name, v.size, statistics.median(gradients), middle, low, high, _vectors(task, landscape))


def _vectors(task: Task, landscape: Landscape) -> float | None:
    if landscape.w.size < LARGE:
        return None
    most = task.peak(lambda: curvature.eigenvalues(landscape, memory=MEMORY, products=PRODUCTS), landscape)
    return most / sum(x.nbytes for x in landscape.w.leaves) - MEMORY


def _seconds(function: Callable[[], Any], sync: Callable[[Any], Any]) -> float:
    start = time.perf_counter()
    sync(function())
    return time.perf_counter() - start


def table(costs: dict[str, list[Cost]]) -> str:
    """The ratios and the vectors, a line for each network and backend."""
    lines = [
        "| network | weights | backend | gradient, ms | product / gradient, quartiles | vectors besides the memory |",
        "|---|---|---|---|---|---|",
    ]
    for backend, found in costs.items():
        lines += [
            f"| {c.name} | {c.weights:,} | {backend} | {1e3 * c.gradient:.1f} | {c.ratio:.2f} ({c.low:.2f} to "
            f"{c.high:.2f}) | {'' if c.vectors is None else f'{c.vectors:.2f}'} |"
            for c in found
        ]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `curvature-cost`."""
    parser.add_argument("--backend", choices=(*BACKENDS, "both"), default="both", help="the framework")
    parser.add_argument("--rounds", type=positive_integer, default=15, help="how often both are timed, at least 2")
    parser.add_argument("--only", default="", metavar="NAME", help="networks whose name holds this")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; fail where a product or an eigenvalue takes more than it should."""
    console = Console()
    costs = {name: list(_costs(name, arguments, console)) for name in backends(arguments.backend)}
    console.print(table(costs), highlight=False, markup=False, soft_wrap=True)
    every = [cost for found in costs.values() for cost in found]
    return int(not all(cost.is_moderate for cost in every))


def _costs(backend: str, arguments: argparse.Namespace, console: Console) -> Iterator[Cost]:
    tasks: list[Task] = importlib.import_module(f"benchmarks.curvature_cost_{backend}").tasks()
    for task in tasks:
        if arguments.only.lower() in task.name.lower():
            console.print(f"{task.name}, {backend} ...", highlight=False)
            yield measure(task, max(2, arguments.rounds))
