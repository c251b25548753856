"""Train the same network in PyTorch and in JAX with every row of the family, and show how far the two come apart.

Both begin from the same weights and see the same batches of MNIST-1D. After each step the distance of the weights is
taken, the Euclidean norm of their difference over that of PyTorch's weights. In float64, on a smooth network, it must
not exceed 1e-9; the exit status is 1 where it does. In float32 a difference in the seventh digit grows as training
amplifies it, and on a network with ReLU more so: that is shown, and nothing is asked of it.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import agreement_jax, agreement_page, agreement_torch
from benchmarks.agreement_rows import CONTROL, QUICK, ROWS
from benchmarks.agreement_task import TASKS
from benchmarks.agreement_walked import Walked, faults
from benchmarks.arguments import folder, positive_integer
from benchmarks.pool import each, processes
from benchmarks.progress import Display

STEPS, FEW = 200, 100


class Work(NamedTuple):
    """One row on one task, both by name, since a worker is told of it."""

    task: str
    row: str
    steps: int
    optimised: bool

    def __str__(self) -> str:
        return f"{TASKS[self.task].title}, {self.row}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `agreement`."""
    parser.add_argument("--quick", action="store_true", help=f"a few rows, in float64 alone, {FEW} steps")
    for name, known, quick, meaning in (
        ("tasks", TASKS, "tanh-float64", "networks and precisions"),
        ("rows", ROWS, "some", "rows"),
    ):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            choices=known,
            default=argparse.SUPPRESS,
            metavar=name[:-1].upper(),
            help=f"{meaning} (default: all, or {quick} with --quick)",
        )
    parser.add_argument(
        "--steps",
        type=positive_integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"steps of each training (default: {STEPS}, or {FEW} with --quick)",
    )
    parser.add_argument(
        "--optimised",
        action="store_true",
        help="let XLA optimise each program as it does for users; takes several times as long",
    )
    parser.add_argument("--workers", type=positive_integer, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=folder, default=Path("agreement"), metavar="DIR", help="where it is written")


def main(arguments: argparse.Namespace) -> int:
    """Walk, write, and fail where the two come apart."""
    start, console = time.perf_counter(), Console()
    for name, full, quick in (("tasks", TASKS, ["tanh-float64"]), ("rows", ROWS, QUICK), ("steps", STEPS, FEW)):
        vars(arguments).setdefault(name, quick if arguments.quick else full)
    rows = [name for name in ROWS if name in {*arguments.rows, CONTROL}]
    work = [Work(task, row, arguments.steps, arguments.optimised) for task in arguments.tasks for row in rows]
    display = Display(console)
    with processes(arguments.workers) as executor, display.live():
        found = display.follow("agreement", work, each(executor, measure, work))
    order = {(piece.task, piece.row): i for i, piece in enumerate(work)}
    found.sort(key=lambda walked: order[walked.task, walked.row])
    page = agreement_page.write(arguments, found, time.perf_counter() - start)
    wrong = faults(found)
    for sentence in (*agreement_page.summary(found), *wrong, f"The page: {page}"):
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)
    return int(bool(wrong))


def measure(work: Work) -> Walked:
    """Take both paths, and the distance between them after each step."""
    task, row = TASKS[work.task], ROWS[work.row]
    torch = agreement_torch.path(task, row.variant, work.steps)
    jax = agreement_jax.path(task, row.other or row.variant, work.steps, work.optimised)
    pairs = [(a.astype("float64"), b.astype("float64")) for a, b in zip(torch, jax, strict=True)]
    distances = tuple(float(np.linalg.norm(a - b)) for a, b in pairs)
    sizes = tuple(float(np.linalg.norm(a)) for a, _ in pairs)
    return Walked(work.task, work.row, distances, sizes)
