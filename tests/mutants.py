"""Tests of the tests: change the core in one place at a time, and see whether a test notices.

    make mutants                                       every file of FILES
    make mutants ARGS="samfamily/ball.py --workers 1"  one file, one mutant at a time

The changes are mutmut's.  They are made here, and not by `mutmut run`, since that passes over whatever stands outside a
plain function: class attributes such as `needs_gradient`, the defaults of dataclasses, and every property.  Each mutant
is tried in a fork of one process that has imported all but the core, on what noticed its neighbours first and then on
the quickest tests, so trying one takes as long as a quick test that fails.  A survivor is explained where
docs/testing.md shows it; the exit status is 1 where one is not, or where a file's score is below 95 %.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from functools import cache, cached_property, partial
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import islice
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
import pytest
from libcst.metadata import MetadataWrapper
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parents[1]
CORE = ("tests/identities", "tests/laws")
FILES: dict[str, tuple[str, ...]] = {
    f"samfamily/{name}.py": CORE for name in ("ball", "ascent", "radius", "descent", "variant")
}
FILES |= {
    f"samfamily/{name}.py": tuple(f"tests/exact/test_{test}.py" for test in tests.split())
    for name, tests in {
        "exact": "trust_region vertices errors smooth",
        "trust_region": "trust_region",
        "search": "smooth inner_gap errors",
        "inner": "inner_gap",
        "gap": "first_order errors",
        "vertices": "vertices errors",
        "arrays": "arrays errors trust_region vertices smooth",
    }.items()
}
"""The files to change, each with the tests that should notice."""

OPTIONS = [
    "--exitfirst",
    "--tb=no",
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "-o",
    "addopts=--import-mode=importlib",
]
OPTIONS += ["-k", "not jax and not torch"]  # the same laws on other frameworks, which take longer
SETTINGS = {
    "HYPOTHESIS_PROFILE": "mutants",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
HEAVY = ["einops", "hypothesis", "jax.numpy", "numpy", "torch"]
ENOUGH = 0.95
PATIENCE = 120
"""In seconds of a processor; a mutant that takes more has fallen into a loop, which counts as noticed."""


# ------------------------------------------------------------------------------------------------------------- mutants


@dataclass(frozen=True)
class Mutant:
    """One file with one change.

    Attributes:
        file: the file, seen from the root of the repository.
        place: the class and function that the change stands in.
        module: the file's syntax tree.
        node: the part of the tree that changes.
        changed: what it changes into.
    """

    file: str
    place: str
    module: cst.Module
    node: cst.CSTNode
    changed: cst.CSTNode

    @cached_property
    def source(self) -> str:
        """The changed file."""
        tree = self.module.deep_replace(self.node, self.changed)
        assert isinstance(tree, cst.Module)
        return tree.code

    @property
    def difference(self) -> str:
        """What changed, as docs/testing.md shows it."""
        lines = unified_diff(self.module.code.splitlines(), self.source.splitlines(), n=0, lineterm="")
        return "\n".join([f"@@ {self.file} {self.place}".rstrip() + " @@", *list(lines)[3:]])


class Changes(cst.CSTVisitor):
    """Collects the mutants of a file.  Types are passed over: the type checkers test them."""

    def __init__(self, file: str, module: cst.Module) -> None:
        super().__init__()
        self.file, self.module = file, module
        self.mutants: list[Mutant] = []
        self._place: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, m.Annotation() | m.AnnAssign(annotation=m.Annotation(m.Name("TypeAlias")))):
            return False
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._place.append(node.name.value)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                place = ".".join(self._place)
                self.mutants += [Mutant(self.file, place, self.module, node, changed) for changed in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self._place.pop()


def mutants(file: str) -> list[Mutant]:
    """Return the mutants of a file."""
    module = MetadataWrapper(cst.parse_module((ROOT / file).read_text())).module  # a tree in which no node stands twice
    changes = Changes(file, module)
    module.visit(changes)
    return changes.mutants


# -------------------------------------------------------------------------------------------------------------- trying


class Changed(MetaPathFinder, InspectLoader):
    """Imports one module with another source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return how to import the module, or None for any other."""
        module = self.mutant.file.removesuffix(".py").replace("/", ".")
        return ModuleSpec(fullname, self) if fullname == module else None

    def get_source(self, fullname: str) -> str:
        """Return the source."""
        return self.mutant.source


@dataclass(eq=False)  # pytest hashes its plugins
class Clock:
    """A pytest plugin that tells how long each test takes."""

    sender: Connection
    seconds: dict[str, float] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        self.sender.send(self.seconds)


@dataclass(eq=False)
class Notice:
    """A pytest plugin that tells which test notices a mutant.

    Attributes:
        sender: where to tell.
        likely: what noticed other mutants of the same place, which runs first.
        seconds: how long each test takes; the quickest come next.
    """

    sender: Connection
    likely: set[str]
    seconds: dict[str, float]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: (item.nodeid not in self.likely, self.seconds.get(item.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.sender.send(report.nodeid)


def attempt(tests: Iterable[str], mutant: Mutant | None, plugin: Clock | Notice) -> None:
    """Run the tests, on a mutant if there is one, and exit with their status; in a process of its own."""
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
    if mutant:
        sys.meta_path.insert(0, Changed(mutant))
    sys.exit(int(pytest.main([*OPTIONS, *tests], plugins=[plugin])))


def begin(
    tests: Iterable[str], mutant: Mutant | None, plugin: Callable[[Connection], Clock | Notice]
) -> tuple[ForkProcess, Connection]:
    """Begin an attempt; return its process and what its plugin tells, which ends when the process does."""
    fork = get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=attempt, args=(tests, mutant, plugin(sender)))
    process.start()
    sender.close()
    return process, receiver


@cache
def durations(tests: Iterable[str]) -> dict[str, float]:
    """Return how long each test takes, in seconds; nothing where one fails without any change."""
    process, receiver = begin(tests, None, Clock)
    with suppress(EOFError), receiver:
        seconds: dict[str, float] = receiver.recv()
        process.join()
        return seconds if process.exitcode == 0 else {}
    return {}


def survivors(candidates: Iterable[Mutant], workers: int) -> Iterator[Mutant]:
    """Try mutants, several at a time, and yield those that no test notices."""
    likely: dict[str, set[str]] = defaultdict(set)
    waiting, running = iter(candidates), dict[Any, tuple[ForkProcess, Mutant, Connection]]()
    while True:
        for mutant in islice(waiting, workers - len(running)):
            tests = FILES[mutant.file]
            notice = partial(Notice, likely=likely[mutant.place], seconds=durations(tests))
            process, receiver = begin(tests, mutant, notice)
            running[receiver] = process, mutant, receiver
        if not running:
            return
        for ready in connection.wait(running):
            process, mutant, receiver = running.pop(ready)
            with suppress(EOFError), receiver:  # what fails before a test does tells nothing
                likely[mutant.place].add(receiver.recv())
            process.join()
            if process.exitcode == 0:
                yield mutant


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants of the files that `argv` names, print scores and survivors, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("files", nargs="*", default=list(FILES), help="files of the core; all that have tests")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many mutants to try at a time")
    arguments = parser.parse_args(argv)

    os.chdir(ROOT)
    os.environ |= SETTINGS
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # so that no fork looks through what all share
    explained = (ROOT / "docs" / "testing.md").read_text()
    good = True
    for file in arguments.files:
        began = time.monotonic()
        if not durations(FILES[file]):
            print(f"{file}: its tests fail without any change: run pytest {' '.join(FILES[file])}")
            return 1
        candidates, alive = mutants(file), 0
        for mutant in survivors(candidates, arguments.workers):
            alive += 1
            known = mutant.difference in explained
            good &= known
            print(mutant.difference, "" if known else "^ not explained in docs/testing.md", sep="\n", flush=True)
        score = 1 - alive / len(candidates)
        good &= score >= ENOUGH
        minutes = (time.monotonic() - began) / 60
        print(
            f"{file}: {len(candidates) - alive} of {len(candidates)} killed, {score:.1%}, {minutes:.1f} min", flush=True
        )
    return not good


if __name__ == "__main__":
    sys.exit(main())
