"""Choose the learning rate and each method's radius on validation data: the last fifth of the training data.

The validation labels carry the same noise as the labels trained on. The test data are not looked at. The learning rate
is that of SGD on clean labels, and everyone's; each radius is chosen at that rate, for clean and for noisy labels.
"""

import argparse
import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.arguments import add_common, backends, positive_integer
from benchmarks.cells import Cell, Recipe, Result, costliest_first
from benchmarks.methods import METHODS, NOISE_LEVELS
from benchmarks.pool import each, processes
from benchmarks.progress import Display
from benchmarks.train import run

LEARNING_RATES = (0.1, 0.2, 0.3)
RADII = {"sam": (0.025, 0.05, 0.1, 0.2), "asam": (0.1, 0.25, 0.5, 1.0), "sam-sharded": (0.025, 0.05, 0.1, 0.2)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `tune`."""
    add_common(parser)
    parser.set_defaults(backend="jax")
    parser.add_argument("--seeds", type=positive_integer, default=3, help="seeds for each setting")
    parser.add_argument("--epochs", type=positive_integer, default=Recipe.epochs, help="epochs of each training")


def main(arguments: argparse.Namespace) -> int:
    """Train every setting and print its validation errors."""
    console = Console()
    recipe = Recipe(data=arguments.data, epochs=arguments.epochs, validation=True)
    settings = [(dataclasses.replace(recipe, learning_rate=rate), "sgd", 0.0) for rate in LEARNING_RATES]
    settings += [(recipe, method, rho) for method, radii in RADII.items() for rho in radii]
    cells = costliest_first(
        [
            Cell(setting, backend, noise, method, rho, seed)
            for setting, method, rho in settings
            for noise in NOISE_LEVELS
            for backend in backends(arguments.backend)
            for seed in range(arguments.seeds)
        ]
    )
    display = Display(console)
    with processes(arguments.workers) as executor, display.live():
        results = display.follow("training", cells, each(executor, run, cells), cost=lambda c: c.gradient_evaluations)
    console.print(table(results, f"Validation error in %, {recipe.data}, {recipe.epochs} epochs"))
    return 0


def table(results: Sequence[Result], title: str) -> Table:
    """The mean validation errors, the best radius and the best learning rate in bold for each level of noise."""
    errors: dict[tuple[str, float, float], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        cell = result.cell
        errors[cell.method, cell.recipe.learning_rate, cell.rho][cell.noise].append(100 * result.errors[-1])
    shown = Table(title=title)
    for heading in ("Method", "Learning rate", "rho", *(f"{noise:.0%} replaced" for noise in NOISE_LEVELS)):
        shown.add_column(heading, justify="left" if heading == "Method" else "right")
    for setting in sorted(errors, key=lambda key: (list(METHODS).index(key[0]), *key[1:])):
        method, rate, rho = setting
        columns = []
        for noise in NOISE_LEVELS:
            mean = statistics.fmean(errors[setting][noise])
            best = min(statistics.fmean(found[noise]) for key, found in errors.items() if key[0] == method)
            columns.append(f"[bold]{mean:.2f}[/]" if mean == best else f"{mean:.2f}")
        shown.add_row(METHODS[method].name, f"{rate:g}", f"{rho:g}", *columns)
    return shown
