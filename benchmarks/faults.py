"""Look for the faults that users of sharpness-aware libraries have reported, in each library that is installed.

Every entry of the table is the result of a probe, a function that takes a few steps and measures. Peers that are not
installed are left out; `pip install NAME==VERSION` adds one.
"""

import argparse
import importlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.arguments import folder
from benchmarks.fault_table import Finding, Probe, details, markdown, terminal_table
from benchmarks.progress import Display

BACKENDS = {"torch": "benchmarks.faults_torch", "jax": "benchmarks.faults_jax"}  # each has `probes()` and `libraries()`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `faults`."""
    parser.add_argument("--backend", choices=tuple(BACKENDS), default="torch", help="the framework of the libraries")
    parser.add_argument("--output", type=folder, metavar="DIR", help="where faults.md and faults.json are written")


def main(arguments: argparse.Namespace) -> int:
    """Probe, print the table and what was measured, and write both where that is asked for."""
    console = Console()
    backend = importlib.import_module(BACKENDS[arguments.backend])
    libraries = backend.libraries()
    findings = examine(backend.probes(), libraries, Display(console))
    names = [library.name for library in libraries]
    console.print(terminal_table(findings, names))
    console.print()
    for line in details(findings, names):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if arguments.output is not None:
        write(arguments.output, arguments.backend, findings, names)
        console.print(f"written: {arguments.output}/faults.md, faults.json", highlight=False, soft_wrap=True)
    return 0


def examine(probes: Sequence[Probe], libraries: Sequence[Any], display: Display | None = None) -> list[Finding]:
    """Run every probe on every library."""
    display = display or Display(Console(quiet=True))
    found = ((probe, Finding(probe, {library.name: probe(library) for library in libraries})) for probe in probes)
    with display.live():
        return display.follow("probing", probes, found, name=lambda probe: probe.title)


def write(where: Path, backend: str, findings: Sequence[Finding], libraries: Sequence[str]) -> None:
    """Write the table as Markdown, to be pasted as it is, and everything that was found as JSON."""
    where.mkdir(parents=True, exist_ok=True)
    ran_on = f"{backend} {version(backend)}, Python {platform.python_version()}"
    made = f"Produced by `python -m benchmarks faults --backend {backend}` with {ran_on}."
    legend = f"✓: holds. ✗: does not. –: the library does not offer it. {made}"
    (where / "faults.md").write_text(markdown(findings, libraries, legend), encoding="utf-8")
    rows = [
        {
            "name": finding.probe.name,
            "topic": finding.probe.topic,
            "title": finding.probe.title,
            "where": finding.probe.where,
            "outcomes": {name: outcome._asdict() for name, outcome in finding.outcomes.items()},
        }
        for finding in findings
    ]
    content = {"backend": backend, "ran_on": ran_on, "libraries": list(libraries), "faults": rows}
    (where / "faults.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
