"""Reproduce the claims of the SAM paper in kind: train, measure, and write a page with a verdict on each.

Whatever is finished is kept, and a run that was stopped, however, goes on where it was.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.arguments import BACKENDS, folder, positive_integer
from benchmarks.paper.claims import CLAIMS, USUAL
from benchmarks.paper.execution import Execution, duration, estimates, plan
from benchmarks.paper.lab import Lab
from benchmarks.paper.page import what_was_run, write
from benchmarks.paper.store import Store
from benchmarks.pool import processes
from benchmarks.provenance import command_line

OUT, QUICK_OUT = Path("docs/results"), Path("paper/quick")
QUICK = {"seeds": 2, "tuning_seeds": 0, "epochs": 2, "points": 2, "examples": 256}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `paper`."""
    parser.add_argument(
        "claims",
        nargs="*",
        metavar="CLAIM",
        help=f"letters out of {', '.join(CLAIMS)}, or all; default: {USUAL[0]} to {USUAL[-1]}",
    )
    parser.add_argument("--backend", choices=BACKENDS, default=Lab.backend, help="the framework that trains")
    parser.add_argument(
        "--workers", type=positive_integer, default=os.cpu_count() or 1, help="processes, of one thread each"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small trainings, nothing tuned, to see the pages; minutes"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be done and how long it takes, and stop")
    parser.add_argument(
        "--out", type=folder, help=f"where pages are written; default: {OUT}, or, where it is quick, {QUICK_OUT}"
    )
    parser.add_argument("--cache", type=folder, default=Path("paper"), help="where finished work is kept")
    for name, meaning in (("seeds", "seeds of each training that is shown"), ("epochs", "epochs of a usual training")):
        parser.add_argument(f"--{name}", type=positive_integer, default=getattr(Lab, name), help=meaning)


def main(arguments: argparse.Namespace) -> int:
    """Do the work, write the page, say where it is."""
    console = Console()
    lab = Lab(arguments.backend, arguments.seeds, epochs=arguments.epochs)
    if arguments.quick:
        lab = Lab(arguments.backend, **QUICK)
    store, letters = Store(arguments.cache), chosen(arguments.claims)
    store.sweep()
    if arguments.plan:
        tell(lab, letters, store, arguments.workers, console)
        return 0
    claims = [CLAIMS[letter] for letter in letters]
    with processes(arguments.workers) as executor:
        found = Execution(store, executor, arguments.workers, console).carry_out(claims, lab)
    sections = [claim.judge(lab, known, store) for claim, known in zip(claims, found, strict=True)]
    size = () if arguments.quick else ("seeds", "epochs")
    command = command_line(" ".join(["paper", *letters]), arguments, ("backend", "workers", *size))
    command += " --quick" * arguments.quick
    path = write(destination(arguments), claims, sections, what_was_run(lab, command))
    console.print(f"The page: {path}", highlight=False, soft_wrap=True)
    return 0


def destination(arguments: argparse.Namespace) -> Path:
    """Where pages are written; a quick look never replaces results."""
    return arguments.out or (QUICK_OUT if arguments.quick else OUT)


def chosen(letters: Sequence[str]) -> list[str]:
    """The claims that these letters stand for, in the alphabet's order."""
    if "all" in letters:
        return list(CLAIMS)
    if unknown := [letter for letter in letters if letter not in CLAIMS]:
        raise SystemExit(f"there is no claim {unknown[0]!r}; choose letters out of {', '.join(CLAIMS)}, or all")
    return [letter for letter in CLAIMS if letter in (letters or USUAL)]


def tell(lab: Lab, letters: Sequence[str], store: Store, workers: int, console: Console) -> None:
    """What each claim takes, were it alone, and all together."""
    for group in (*([letter] for letter in letters), letters):
        works = plan([CLAIMS[letter] for letter in group], lab, store)
        left = [work for work in works if work not in store]
        time = duration(estimates(left) / workers)
        console.print(f"{''.join(group)}: {len(works)} pieces of work, {len(left)} left, {time}", highlight=False)
