"""A claim in miniature, and a training of a second, for the tests of `python -m benchmarks paper`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.paper.claim import Claim
from benchmarks.paper.contest import compete, fixed, lines
from benchmarks.paper.execution import Execution
from benchmarks.paper.intervals import less
from benchmarks.paper.lab import Asking, Lab, Results
from benchmarks.paper.section import Section, contest_table
from benchmarks.paper.store import Store
from benchmarks.paper.training import row
from benchmarks.pool import ThisProcess

LAB = Lab("torch", seeds=2, tuning_seeds=1, epochs=1, points=2, examples=64)
TINY = LAB.base("mlp", "digits", noise=0.4)


def ask(lab: Lab) -> Asking[Any]:
    """A tiny contest, with a training that starts from another's labels."""
    first = TINY.but(row=row("SAM", rho=0.1))
    return (yield from compete(lab, [fixed("SGD", TINY), fixed("retaught", first.but(labels_from=first))]))


def judge(lab: Lab, found: Any, results: Results) -> Section:
    here = lines(results, "", found)
    return Section([less("retaught below SGD", here[1].epochs, here[0].epochs)], "", [contest_table("t", "", here)])


CLAIM = Claim("z", "a tiny claim", "nothing", ask, judge)


def carried_out(folder: Path) -> tuple[list[Any], str]:
    """The tiny claim done in this process with its results here: what it found, and what was said."""
    output = io.StringIO()
    execution = Execution(Store(folder), ThisProcess(), 1, Console(file=output, width=200))
    return execution.carry_out([CLAIM], LAB), output.getvalue()


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """All results in a store but for the seconds that they took."""
    files = sorted(folder.glob("*/*.npz"))
    return {p.name: {k: v for k, v in np.load(p).items() if k != "seconds"} for p in files}
