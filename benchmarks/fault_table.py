"""Faults as functions: what a probe is, what it finds, and the table of faults against libraries.

Nothing here knows a framework. `benchmarks.faults_torch` has the probes for PyTorch, `benchmarks.faults_jax` for JAX.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

MARKS = {True: "✓", False: "✗", None: "–"}
COLOURS = {True: "green", False: "red", None: "dim"}
LONGEST_DETAIL = 160


class Outcome(NamedTuple):
    """What a probe found: free of the fault, or not, or None where the library does not offer what is probed."""

    ok: bool | None
    detail: str


class NotOfferedError(Exception):
    """The library has no such interface, so that there is nothing to probe; the message says which."""


@dataclass(frozen=True)
class Probe:
    """One fault, and the function that looks for it in a library.

    Attributes:
        title: what must hold, in the words of the table.
        where: who met the fault: `owner/repository#issue`, or the release in which it was measured.
        look: takes a library, and measures.
    """

    title: str
    where: str
    look: Callable[[Any], Outcome]

    @property
    def name(self) -> str:
        return self.look.__name__

    @property
    def topic(self) -> str:
        """The heading that it stands under: the first line of its module's docstring."""
        return (getattr(self.look, "__globals__", {}).get("__doc__") or "").partition("\n")[0].rstrip(".")

    def __call__(self, library: Any) -> Outcome:
        """Look for the fault; whatever the library raises is the fault, and its message the detail."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.look(library)
        except NotOfferedError as missing:
            return Outcome(None, str(missing))
        except Exception as error:  # noqa: BLE001  any error of the library's is a finding
            return Outcome(False, shown(error))


def fault(title: str, where: str) -> Callable[[Callable[[Any], Outcome]], Probe]:
    """Make the decorated function a `Probe`."""
    return lambda look: Probe(title, where, look)


def probes_of(modules: Iterable[ModuleType]) -> list[Probe]:
    """The probes of these modules, in the order in which they stand there."""
    return [value for module in modules for value in vars(module).values() if isinstance(value, Probe)]


def radius_is(found: float, rho: float) -> Outcome:
    """Whether the perturbation is as long as rho, to a tenth."""
    return Outcome(abs(found - rho) <= 0.1 * rho, f"radius {found:.3g}, rho {rho:.3g}")


def all_of(*outcomes: Outcome) -> Outcome:
    """The first that is not ok, or everything that was found."""
    for outcome in outcomes:
        if not outcome.ok:
            return outcome
    return Outcome(True, "; ".join(outcome.detail for outcome in outcomes))


def shown(error: BaseException) -> str:
    """An error in one line of bounded length."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    return text if len(text) <= LONGEST_DETAIL else f"{text[: LONGEST_DETAIL - 3]}..."


@dataclass(frozen=True)
class Finding:
    """One row: a probe with what it found in each library, by the library's name."""

    probe: Probe
    outcomes: dict[str, Outcome]


def terminal_table(findings: Sequence[Finding], libraries: Sequence[str]) -> Table:
    """The table for a terminal, with a rule between topics and the sum of each column below."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("What must hold", ratio=1)
    for name in libraries:
        table.add_column(name.replace(" ", "\n"), justify="center", vertical="bottom")
    topic = ""
    for finding in findings:
        if finding.probe.topic != topic:
            topic = finding.probe.topic
            table.add_section()
            table.add_row(f"[italic]{topic}[/]")
        found = [finding.outcomes[name].ok for name in libraries]
        table.add_row(finding.probe.title, *(f"[{COLOURS[ok]}]{MARKS[ok]}[/]" for ok in found))
    table.add_section()
    table.add_row("free of", *(total(findings, name) for name in libraries))
    return table


def total(findings: Sequence[Finding], library: str) -> str:
    """How many of the faults that can be looked for the library is free of."""
    found = [finding.outcomes[library].ok for finding in findings]
    return f"{found.count(True)}/{len(found) - found.count(None)}"


def details(findings: Sequence[Finding], libraries: Sequence[str]) -> Iterable[str]:
    """A line for each pair of fault and library."""
    for finding in findings:
        yield finding.probe.title
        for name in libraries:
            outcome = finding.outcomes[name]
            yield f"  {MARKS[outcome.ok]} {name}: {outcome.detail}"


def markdown(findings: Sequence[Finding], libraries: Sequence[str], produced_by: str) -> str:
    """The table in Markdown, with a line that says how to produce it again."""
    lines = [
        "| What must hold | Where users met the opposite | " + " | ".join(libraries) + " |",
        "|---|---|" + ":-:|" * len(libraries),
    ]
    topic = ""
    for finding in findings:
        probe = finding.probe
        if probe.topic != topic:
            topic = probe.topic
            lines.append(f"| **{topic}** |" + " |" * (len(libraries) + 1))
        marks = [MARKS[finding.outcomes[name].ok] for name in libraries]
        lines.append(f"| {_cell(probe.title)} | {linked(_cell(probe.where))} | " + " | ".join(marks) + " |")
    lines.append("| **Free of** | | " + " | ".join(total(findings, name) for name in libraries) + " |")
    return "\n".join([*lines, "", produced_by, ""])


def linked(text: str) -> str:
    """The text with every `owner/repository#number` made a link."""
    return re.sub(r"\b([\w.-]+/[\w.-]+)#(\d+)", r"[\1#\2](https://github.com/\1/issues/\2)", text)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
