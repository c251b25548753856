"""Recommend a radius for a model of your own, with the evidence.

MODULE:FUNCTION names a function `train(variant, steps, seed)` that trains your model with this variant for so many
steps and returns its loss or error on held-out data, the lower the better: a number, or a mapping with "score" and, if
you like, "effective" (the share of the perturbation that rounding left, `info.effective_radius / info.radius`) and
"gap" (what `inner_gap` says the first-order step misses, in shares of the rise). `examples/tune_rho.py` has one for
PyTorch and one for JAX. Hold data out: a radius that was chosen on test data makes the test worthless.
"""

import argparse
import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console

import samfamily
from benchmarks.arguments import positive_integer
from benchmarks.rho_search import FACTOR, Search
from benchmarks.tables import markdown
from samfamily import Variant

AROUND = 4
"""Radii on each side of the row's default."""
HEADINGS = ("rho", "steps", "seeds", "score", "difference to rho = 0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `rho`."""
    parser.add_argument(
        "function", metavar="MODULE:FUNCTION", help="what trains your model, as examples.tune_rho:torch"
    )
    parser.add_argument("--variant", choices=list(samfamily.FAMILY), default="SAM", help="the row of the family")
    parser.add_argument("--m", type=positive_integer, help="examples that share a perturbation (default: all)")
    parser.add_argument("--steps", type=positive_integer, default=1000, help="steps of a whole training")
    parser.add_argument("--seeds", type=positive_integer, default=3, help="seeds of the radii that come to the end")
    parser.add_argument(
        "--radii",
        type=positive,
        nargs="+",
        metavar="RHO",
        help=f"(default: nine about the row's own, by factors of {FACTOR:g})",
    )


def positive(text: str) -> float:
    """A radius above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no radius: give a number above 0, such as 0.05")
    return value


def main(arguments: argparse.Namespace) -> int:
    """Search, and print every radius with what is recommended."""
    console = Console()
    build, train = samfamily.FAMILY[arguments.variant], named(arguments.function)
    default = float(inspect.signature(build).parameters["rho"].default)
    radii = arguments.radii or [default * FACTOR**k for k in range(-AROUND, AROUND + 1)]

    def variant(rho: float) -> Variant:
        built: Variant = build(rho=rho)
        return built if arguments.m is None else built.sharded(arguments.m)

    try:
        search = Search(train, variant, arguments.steps, arguments.seeds, partial(console.print, highlight=False))
    except ValueError as error:
        raise SystemExit(f"rho: {error}") from error
    search(radii)
    console.print(markdown(HEADINGS, table(search)), highlight=False, markup=False, soft_wrap=True)
    whole = (len(radii) * arguments.steps + sum(search.base_lengths)) * arguments.seeds
    console.print(f"{search.trained} steps; all radii to the end with all seeds would be {whole}.", highlight=False)
    console.print(" ".join(search.advice()), highlight=False, markup=False, soft_wrap=True)
    return 0


def named(text: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION names."""
    module, _, function = text.partition(":")
    if not module or not function:
        raise SystemExit(f"rho: {text!r} is not MODULE:FUNCTION: give for example examples.tune_rho:torch")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SystemExit(f"rho: there is no module {error.name!r} from here: is the folder right?") from error
    if not callable(getattr(found, function, None)):
        raise SystemExit(f"rho: {module} has no function {function!r}")
    chosen: Callable[..., Any] = getattr(found, function)
    return chosen


def table(search: Search) -> list[list[str]]:
    """A row for each radius and number of steps, the whole trainings last."""
    rows = []
    for rho, steps in sorted(search.trials, key=lambda place: (place[1], place[0])):
        compared = steps == search.steps and rho > 0 and not (search.diverged(rho) or search.diverged(0.0))
        gain = str(search.gain(rho)) if compared else ""
        rows.append(
            [f"{rho:g}", f"{steps}", f"{len(search.trials[rho, steps])}", f"{search.mean(rho, steps):.4g}", gain]
        )
    return rows
