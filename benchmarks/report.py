"""Train the same small network with SGD, SAM, ASAM and m-sharded SAM, and write one page about what came of it.

Every method is trained in PyTorch and in JAX, from the same weights and on the same batches, on clean labels and with
40 % of the training labels replaced at random. The page is one self-contained file, `index.html`.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from rich.console import Console

from benchmarks.arguments import add_common, backends, folder, positive_integer
from benchmarks.cells import Cell, Recipe, Result, plan
from benchmarks.curvature_measures import density
from benchmarks.landscape import Landscape, survey
from benchmarks.methods import METHODS
from benchmarks.pool import each, processes
from benchmarks.progress import Display
from benchmarks.report_page import findings, write
from benchmarks.report_spectra import EFFORT
from benchmarks.report_table import terminal_table
from benchmarks.summary import rows
from benchmarks.train import run, seconds_per_step
from samfamily.curvature import Density

FULL = {"seeds": 3, "epochs": Recipe.epochs}
QUICK = {"seeds": 1, "epochs": 15}
SURVEYED = ("sgd", "sam")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `report`."""
    add_common(parser)
    parser.add_argument("--quick", action="store_true", help="one seed, fewer epochs: one to two minutes, same page")
    parser.add_argument("--out", type=folder, default=Path("report"), metavar="DIR", help="where the page is written")
    for name, meaning in (("seeds", "seeds for each training"), ("epochs", "epochs of each training")):
        parser.add_argument(
            f"--{name}",
            type=positive_integer,
            default=argparse.SUPPRESS,
            metavar="N",
            help=f"{meaning} (default: {FULL[name]}, or {QUICK[name]} with --quick)",
        )


def main(arguments: argparse.Namespace) -> int:
    """Train, write the page, print the table."""
    for name, value in (QUICK if arguments.quick else FULL).items():
        vars(arguments).setdefault(name, value)
    with processes(arguments.workers) as executor:
        page = make(arguments, executor, Console())
    return 0 if page.exists() else 1


def make(arguments: argparse.Namespace, executor: Executor, console: Console) -> Path:
    """Do the work in this executor, show how far it is on this console, and return the path of the page."""
    start = time.perf_counter()
    chosen = backends(arguments.backend)
    recipe = Recipe(data=arguments.data, epochs=arguments.epochs)
    cells = plan(recipe, chosen, METHODS, range(arguments.seeds))
    display = Display(console)
    with display.live():
        results: list[Result] = display.follow(
            "training", cells, each(executor, run, cells), cost=lambda cell: cell.gradient_evaluations
        )
        contests = [contest(cells, backend) for backend in chosen]
        timed = each(executor, seconds_per_step, contests)
        found = dict(display.follow("timing a step", contests, timed, name=lambda cells: cells[0].backend))
        seconds = {backend: found[backend] for backend in chosen}
        surveyed = [r for r in results if r.cell.method in SURVEYED and r.cell.backend == chosen[0]]
        landscapes: list[Landscape] = display.follow(
            "loss landscape", surveyed, each(executor, survey, surveyed), name=lambda result: str(result.cell)
        )
        looked = [(result, EFFORT) for result in surveyed if result.cell.seed == 0]
        spectra: list[tuple[Cell, Density]] = display.follow(
            "curvature", looked, each(executor, density, looked), name=lambda work: str(work[0].cell)
        )
    table = rows(results, seconds)
    elapsed = time.perf_counter() - start
    path = write(arguments, recipe, results, table, landscapes, spectra, elapsed)
    console.print(terminal_table(table, chosen))
    for sentence in findings(arguments, results):
        console.print(sentence, highlight=False)
    console.print(f"{elapsed:.0f} s. The page: {path}", highlight=False, soft_wrap=True)
    return path


def contest(cells: Sequence[Cell], backend: str) -> list[Cell]:
    """One cell for each method whose step is to be timed: all but those that only run for more epochs."""
    unlike = [cell for cell in cells if cell.backend == backend and cell.seed == 0 and cell.how.epoch_factor == 1]
    return list({cell.method: cell for cell in unlike}.values())
