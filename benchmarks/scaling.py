"""Count and time what SAM sends between devices, with an m and without, and carry it to thousands of devices on paper.

Simulated devices and processes share the processors of one machine, so a step does not become faster with more of them:
only the ratios within one block of a table mean something. They are medians over rounds in which all ways take a step
in turn, each with an interval that covers it with 95 % confidence. What is counted depends on no machine's speed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import scaling_figures, scaling_paper
from benchmarks.arguments import folder, positive_integer
from benchmarks.contest import relative
from benchmarks.provenance import machine, today, versions
from benchmarks.scaling_paper import Figures
from benchmarks.scaling_runs import PLACES, Place
from benchmarks.scaling_task import SGD, Measured, Task
from benchmarks.tables import markdown, terminal

PACKAGES = ("samfamily", "torch", "jax", "jaxlib", "optax", "numpy")
ROUNDS, QUICK = 40, 6
QUICK_DEVICES = 2
"""With `--quick` more of them are left out, and one too."""
HEADINGS = ("devices, b", "step", "all-reduces", "small ones", "MB", "time, in units of SGD's")
Found = tuple[Place, list[Measured]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `scaling`."""
    parser.add_argument("--paper", action="store_true", help="print the model's table alone, and measure nothing")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rounds, on {QUICK_DEVICES} devices only")
    parser.add_argument(
        "--rounds",
        type=positive_integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"rounds of timing (default: {ROUNDS}, with --quick {QUICK})",
    )
    parser.add_argument("--out", type=folder, default=Path("scaling"), metavar="DIR", help="where tables and plots go")


def main(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write them; or print what the model says."""
    console = Console()
    if arguments.paper:
        on_paper(console)
        return 0
    return 0 if make(arguments, console).exists() else 1


def make(arguments: argparse.Namespace, console: Console, task: Task | None = None) -> Path:
    """Do the work, show the tables on this console, and return the path of the page."""
    start, task = time.perf_counter(), task or Task()
    rounds = getattr(arguments, "rounds", QUICK if arguments.quick else ROUNDS)
    places = [place for place in PLACES if not arguments.quick or place.devices == QUICK_DEVICES]
    found: list[Found] = []
    for place in places:
        console.print(f"{place.name}: {place.devices}", highlight=False)
        found.append((place, place.measure(task, rounds)))
    tables = [measured(name, found, task) for name in dict.fromkeys(place.name for place in places)]
    for table in tables:
        console.print(terminal(*table))
    on_paper(console)
    seconds = time.perf_counter() - start
    how = f"{today()}. {machine()}. {versions(PACKAGES)}. {rounds} rounds, {seconds:.0f} s."
    return write(arguments.out, how, task, found, tables, console)


def measured(name: str, found: Sequence[Found], task: Task) -> Figures:
    """The table of one kind of devices: a block for each number of them."""
    rows = [row for place, ways in found if place.name == name for row in block(place, ways, task)]
    widths = "-".join(map(str, task.widths))
    return f"{name}: MLP {widths}, a global batch of {task.batch}", HEADINGS, rows


def block(place: Place, ways: Sequence[Measured], task: Task) -> list[tuple[str, ...]]:
    """A row for each way to take a step; SGD's own time is told, so that a reader sees how long a step is."""
    seconds = {way.way: way.seconds for way in ways}
    rows: list[tuple[str, ...]] = []
    for way in ways:
        ratio = relative(seconds, way.way, SGD)
        at_all = f"1, {statistics.median(way.seconds) * 1e3:.1f} ms"
        rows.append(
            (
                f"{place.devices}, b = {task.batch // place.devices}" if way.way == SGD else "",
                way.way,
                f"{way.gradients}",
                f"{way.small}",
                f"{sum(way.sent) / 1e6:.2f}",
                at_all if way.way == SGD else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
            )
        )
    return rows


ON_PAPER = "On paper: the time that m = b saves of a step without an m"


def on_paper(console: Console) -> None:
    """Show what the model says."""
    console.print(ON_PAPER)
    for table in scaling_paper.tables():
        console.print(terminal(*table))
    for line in scaling_paper.assumptions():
        console.print(f"- {line}", highlight=False)


def write(out: Path, how: str, task: Task, found: Sequence[Found], tables: Sequence[Figures], console: Console) -> Path:
    """Write the tables as Markdown, all that was measured as JSON, and the plots."""
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# Scaling", f"{__doc__}".strip(), how]
    parts += [f"## {title}\n\n{markdown(headings, rows)}" for title, headings, rows in tables]
    parts.append(f"## {ON_PAPER}\n\n" + "\n".join(f"- {line}" for line in scaling_paper.assumptions()))
    parts += [f"### {title}\n\n{markdown(headings, rows)}" for title, headings, rows in scaling_paper.tables()]
    page = out / "scaling.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    kept: Mapping[str, Any] = {
        "made": how,
        "task": task._asdict(),
        "measured": [
            {"where": place.name, "devices": place.devices, "ways": [way._asdict() for way in ways]}
            for place, ways in found
        ],
    }
    (out / "scaling.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    scaling_figures.measured(found, task).savefig(out / "measured.png")
    scaling_figures.on_paper().savefig(out / "on-paper.png")
    console.print(f"The page: {page}", highlight=False, soft_wrap=True)
    return page
