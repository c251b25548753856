"""Measure what a sharpness-aware step costs beyond its gradients and the base optimizer's step.

Counted: calls and passes over memory to perturb and to restore. Timed: whole steps, in units of the limit, which is two
gradients and one step of the base optimizer; this library's SAM and a widely used other one's, and the variants that
take little more than one gradient. All contenders of a table are timed in turn, in one process, and compared within
each round; the figure is the median of these ratios, with an interval that covers it with 95 % confidence.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import folder, positive_integer
from benchmarks.contest import CLOCKS, Ratio, in_turn, relative
from benchmarks.provenance import machine, today, versions

PACKAGES = ("samfamily", "torch", "pytorch_optimizer", "numpy")
ROUNDS = {"mlp": 25, "conv": 60, "narrow": 60}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `overhead`."""
    parser.add_argument("--backend", choices=("torch",), default="torch", help="the framework that is measured")
    parser.add_argument(
        "--tasks", nargs="+", choices=tuple(ROUNDS), default=list(ROUNDS), metavar="TASK", help="of mlp, conv, narrow"
    )
    parser.add_argument(
        "--rounds",
        type=positive_integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"rounds of timing (default: {', '.join(f'{n} for {name}' for name, n in ROUNDS.items())})",
    )
    parser.add_argument(
        "--threads",
        type=positive_integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help="threads (default: torch's own)",
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
    from benchmarks import overhead_torch as measured

    threads, clock = measured.threads(getattr(arguments, "threads", None)), CLOCKS[arguments.clock]
    found: dict[str, Any] = {
        "made": today(),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "threads": threads,
        "clock": arguments.clock,
    }
    tables = [counted(found, measured.counts())]
    console.print(terminal(*tables[0]))
    for key in arguments.tasks:
        task = measured.TASKS[key]
        rounds = getattr(arguments, "rounds", ROUNDS[key])
        seconds = in_turn(dict(measured.contenders(task)), rounds, clock)
        tables.append(timed(found, key, task, seconds))
        console.print(terminal(*tables[-1]))
        if key == "conv":
            cheap = in_turn(dict(measured.cheap_contenders(task)), rounds, clock)
            tables.append(cheaply_timed(found, measured, cheap))
            console.print(terminal(*tables[-1]))
    return write(arguments, found, tables, console)


Figures = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A title, headings and rows."""


def counted(found: dict[str, Any], counts: Mapping[str, tuple[int, float, int]]) -> Figures:
    """What perturbing and restoring take."""
    found["counts"] = {
        name: {"calls": calls, "passes": passes, "read": read} for name, (calls, passes, read) in counts.items()
    }
    rows = [(name, str(calls), f"{passes:.2f}", str(read)) for name, (calls, passes, read) in counts.items()]
    title = "To perturb and to restore 50 tensors of 64 x 64 float32"
    return title, ("", "calls", "passes over memory", "values read to the host"), rows


def timed(found: dict[str, Any], key: str, task: Any, seconds: Mapping[str, Sequence[float]]) -> Figures:
    """Steps in units of the limit with the same base optimizer."""
    rows, kept = [], {}
    for name in seconds:
        kind, _, who = name.partition(": ")
        ratio = relative(seconds, name, f"{kind}: limit")
        kept[name] = _kept(ratio, seconds[name], task.target if who == "samfamily" else None)
        if who != "limit":
            rows.append((f"{task.base_name}, {kind}", who, str(ratio), _verdict(kept[name])))
        else:
            rows.append((f"{task.base_name}, {kind}", who, f"{min(seconds[name]) * 1e3:.1f} ms at best", ""))
    found[key] = {"task": task.name, "rounds": len(next(iter(seconds.values()))), "steps": kept}
    return f"{task.name}: in units of the limit", ("base optimizer", "step", "median", "target"), rows


def cheaply_timed(found: dict[str, Any], measured: Any, seconds: Mapping[str, Sequence[float]]) -> Figures:
    """Steps in units of the plain optimizer's."""
    rows, kept = [], {}
    for name, (variant, target) in measured.CHEAP.items():
        kept[name] = _kept(relative(seconds, name, "plain"), seconds[name], target)
        gradients = f"{variant.gradients_per_step:g}"
        rows.append((name, gradients, str(Ratio(**kept[name]["ratio"])), _verdict(kept[name])))
    found["cheap"] = {"rounds": len(seconds["plain"]), "steps": kept}
    title = f"{measured.TASKS['conv'].name}: in units of the plain optimizer's step"
    return title, ("variant", "gradients", "median", "target"), rows


def _kept(ratio: Ratio, seconds: Sequence[float], target: float | None) -> dict[str, Any]:
    return {"ratio": vars(ratio), "seconds": list(seconds), "target": target}


def _verdict(kept: Mapping[str, Any]) -> str:
    target = kept["target"]
    if target is None:
        return ""
    ratio = Ratio(**kept["ratio"])
    told = "reached" if ratio.high <= target else "missed" if ratio.low > target else "cannot be told"
    return f"{target:g}: {told}"


def terminal(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for the terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def write(arguments: argparse.Namespace, found: Mapping[str, Any], tables: Sequence[Figures], console: Console) -> Path:
    """Write the tables as Markdown, and all that was measured as JSON."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    how = (
        f"{found['made']}. {found['machine']}, {found['threads']} threads, {found['clock']} time. {found['versions']}."
    )
    parts = [f"# Overhead\n\n{__doc__}\n{how}"]
    for title, headings, rows in tables:
        lines = [f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *rows)]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    page: Path = arguments.out / "overhead.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (arguments.out / "overhead.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    console.print(f"The page: {page}", highlight=False, soft_wrap=True)
    return page
