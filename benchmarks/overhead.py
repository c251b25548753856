"""Measure what a sharpness-aware step costs beyond its gradients and the base optimizer's step.

Some figures are counted, and some are timed: whole steps, in units of the limit, which is two gradients and one step of
the base optimizer, or of the plain optimizer's step. All contenders of a table are timed in turn, in one process, and
compared within each round; the figure is the median of these ratios, with an interval that covers it with 95 %
confidence.
"""

import argparse
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import BACKENDS, folder, positive_integer
from benchmarks.comparison import HEADINGS, Contest, Counted, Row, absent_rows, compared_row, counted_row, unit_rows
from benchmarks.contest import CLOCKS, in_turn, relative
from benchmarks.provenance import machine, today, versions

TASKS = ("mlp", "conv", "narrow")
LARGER_TASKS = ("transformer", "resnet")
"""In PyTorch, for an accelerator."""
DEVICES = ("cpu", "cuda")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `overhead`."""
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="the framework that is measured")
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS + LARGER_TASKS,
        default=list(TASKS),
        metavar="TASK",
        help=f"of {', '.join(TASKS)}; in PyTorch also {', '.join(LARGER_TASKS)}",
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=argparse.SUPPRESS,
        help="in PyTorch (default: cpu); JAX takes the accelerator that it finds, see JAX_PLATFORMS",
    )
    parser.add_argument(
        "--rounds",
        type=positive_integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help="rounds of timing (default: 25 to 60, the more the shorter a step is)",
    )
    parser.add_argument(
        "--threads",
        type=positive_integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help="threads (default: the framework's own)",
    )
    parser.add_argument(
        "--clock", choices=tuple(CLOCKS), default="wall", help="cpu is less noisy where others use the machine too"
    )
    parser.add_argument("--out", type=folder, default=Path("overhead"), metavar="DIR", help="where the tables go")


def main(arguments: argparse.Namespace) -> int:
    """Count, time, print the tables and write them."""
    page = make(arguments, Console())
    return 0 if page.exists() else 1


def make(arguments: argparse.Namespace, console: Console) -> Path:
    """Do the work, show the tables on this console, and return the path of the page."""
    measured = importlib.import_module(f"benchmarks.overhead_{arguments.backend}")
    if unknown := [key for key in arguments.tasks if key not in measured.TASKS]:
        raise SystemExit(f"{arguments.backend} has no task {unknown[0]!r}: choose of {', '.join(measured.TASKS)}")
    device = measured.device(getattr(arguments, "device", None))
    found: dict[str, Any] = {
        "made": today(),
        "machine": machine(),
        "device": device.name,
        "versions": versions(measured.PACKAGES),
        "threads": measured.threads(getattr(arguments, "threads", None)),
        "clock": arguments.clock,
        "timed": {},
    }
    tables = [counted(found, measured.COUNTS, measured.counts())]
    console.print(terminal(*tables[0]))
    for key in arguments.tasks:
        for contest in measured.contests(device.take(measured.TASKS[key])):
            rounds = getattr(arguments, "rounds", contest.rounds)
            clock = device.clock or CLOCKS[arguments.clock]
            tables.append(timed(found, contest, in_turn(dict(contest.contenders()), rounds, clock)))
            console.print(terminal(*tables[-1]))
    return write(arguments, found, [f"{__doc__}", f"{measured.__doc__}"], tables, console)


Figures = tuple[str, Sequence[Row]]
"""A title and rows."""


def counted(found: dict[str, Any], title: str, counts: Sequence[Counted]) -> Figures:
    """The figures that were counted."""
    kept: dict[str, dict[str, float]] = {}
    for figure in counts:
        kept.setdefault(figure.who, {})[figure.what] = figure.value
    found["counts"] = kept
    return title, [counted_row(figure) for figure in counts]


def timed(found: dict[str, Any], contest: Contest, seconds: Mapping[str, Sequence[float]]) -> Figures:
    """Steps in units of one another."""
    ratios = [(pair, relative(seconds, pair.step, pair.unit)) for pair in contest.compared]
    found["timed"][contest.title] = {
        "seconds": seconds,
        "compared": [
            {"step": pair.step, "unit": pair.unit, "ratio": vars(ratio), "goal": pair.goal and vars(pair.goal)}
            for pair, ratio in ratios
        ],
    }
    rows = [*unit_rows(contest.compared, seconds), *(compared_row(pair, ratio) for pair, ratio in ratios)]
    return contest.title, [*rows, *absent_rows(contest)]


def terminal(title: str, rows: Sequence[Row]) -> Table:
    """A table for the terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, no_wrap=i > 1, overflow="fold")  # a narrow terminal shows every number
    for row in rows:
        table.add_row(*row)
    return table


def write(
    arguments: argparse.Namespace,
    found: Mapping[str, Any],
    about: Sequence[str],
    tables: Sequence[Figures],
    console: Console,
) -> Path:
    """Write the tables as Markdown, and all that was measured as JSON."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    how = (
        f"{found['made']}. {found['machine']}, {found['threads']} threads, {found['clock']} time, on "
        f"{found['device']}. {found['versions']}."
    )
    parts = ["# Overhead", *(text.strip() for text in about), how]
    for title, rows in tables:
        lines = [f"| {' | '.join(row)} |" for row in (HEADINGS, ["---"] * len(HEADINGS), *rows)]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    page: Path = arguments.out / "overhead.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (arguments.out / "overhead.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    console.print(f"The page: {page}", highlight=False, soft_wrap=True)
    return page
