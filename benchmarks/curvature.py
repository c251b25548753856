"""Measure the curvature of the solutions that SGD and SAM find: eigenvalues, trace, spectrum, and slices of the loss.

The network has no normalisation, since with batch normalisation the loss does not change with the length of the weights
and its curvature does. Trainings are those of `report`, with the radius that it uses. Foret et al. (arXiv 2010.01412,
figure 3) measured a WideResNet-40-10 without batch normalisation on CIFAR-10; their figures stand beside ours.
"""

import argparse
import time
from concurrent.futures import Executor
from pathlib import Path

from rich.console import Console

from benchmarks.arguments import BACKENDS, DATASETS, folder, positive_integer
from benchmarks.cells import Cell, Recipe, Result, costliest_first
from benchmarks.curvature_measures import SHARD, Effort, Measured, measure
from benchmarks.curvature_page import HEADINGS, table, write
from benchmarks.methods import METHODS, NOISE_LEVELS
from benchmarks.pool import each, processes
from benchmarks.progress import Display
from benchmarks.tables import markdown
from benchmarks.train import run

FULL = {"seeds": 5, "epochs": Recipe.epochs, "examples": 4000}
QUICK = {"seeds": 1, "epochs": 15, "examples": 1000}
COMPARED = ("sgd", "sam")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `curvature`."""
    parser.add_argument("--data", choices=DATASETS, default="mnist1d", help="the data set")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="the framework that trains and measures")
    parser.add_argument(
        "--noise", type=float, choices=NOISE_LEVELS, default=NOISE_LEVELS[0], help="share of training labels replaced"
    )
    parser.add_argument("--workers", type=positive_integer, default=2, help="processes, of one thread each")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer epochs: under a minute")
    parser.add_argument("--out", type=folder, default=Path("curvature"), metavar="DIR", help="where the page goes")
    meanings = {
        "seeds": "seeds for each training",
        "epochs": "epochs of each training",
        "examples": "training examples whose loss is measured, at most",
    }
    for name, meaning in meanings.items():
        parser.add_argument(
            f"--{name}",
            type=positive_integer,
            default=argparse.SUPPRESS,
            metavar="N",
            help=f"{meaning} (default: {FULL[name]}, or {QUICK[name]} with --quick)",
        )


def main(arguments: argparse.Namespace) -> int:
    """Train, measure, write the page, print the table."""
    for name, value in (QUICK if arguments.quick else FULL).items():
        vars(arguments).setdefault(name, value)
    if arguments.examples < SHARD:
        raise SystemExit(f"curvature: {arguments.examples} examples do not fill a shard of {SHARD}: give that or more")
    with processes(arguments.workers) as executor:
        page = make(arguments, executor, Console())
    return 0 if page.exists() else 1


def make(arguments: argparse.Namespace, executor: Executor, console: Console) -> Path:
    """Do the work in this executor, show how far it is on this console, and return the path of the page."""
    start = time.perf_counter()
    cells = plan(arguments)
    display = Display(console)
    with display.live():
        results: list[Result] = display.follow(
            "training", cells, each(executor, run, cells), cost=lambda cell: cell.gradient_evaluations
        )
        work = [(result, Effort(examples=arguments.examples)) for result in results]
        measuring = each(executor, measure, work)
        measured: list[Measured] = display.follow("measuring", work, measuring, name=lambda item: str(item[0].cell))
    elapsed = time.perf_counter() - start
    path = write(arguments, measured, elapsed)
    console.print(markdown(HEADINGS, table(measured)), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{elapsed:.0f} s. The page: {path}", highlight=False, soft_wrap=True)
    return path


def plan(arguments: argparse.Namespace) -> list[Cell]:
    """The trainings, the most expensive first."""
    recipe = Recipe(data=arguments.data, epochs=arguments.epochs)
    return costliest_first(
        [
            Cell(recipe, arguments.backend, arguments.noise, method, METHODS[method].radii[arguments.noise], seed)
            for seed in range(arguments.seeds)
            for method in COMPARED
        ]
    )
