"""What a claim has to show: its statements, tables and figures, before anybody has written a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.interval import Interval
from benchmarks.paper.contest import Line
from benchmarks.paper.intervals import Statement


class Table(NamedTuple):
    """A table: what is shown, and beside it the numbers for a file of comma-separated values."""

    name: str
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[dict[str, Any]]


class Series(NamedTuple):
    """Points with intervals that belong together; quiet ones are the background of the others."""

    name: str
    x: Sequence[float]
    y: Sequence[Interval]
    quiet: bool = False


class Figure(NamedTuple):
    """A figure: series over one axis, joined by lines or not; shown from zero to the ceiling, where it has one."""

    name: str
    title: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    logx: bool = False
    logy: bool = False
    joined: bool = True
    ceiling: float | None = None


@dataclass(frozen=True)
class Section:
    """What a claim has to show.

    Attributes:
        statements: what the verdict is made of.
        ours: our figures, in a sentence.
        tables: its tables.
        figures: its figures.
        notes: paragraphs.
    """

    statements: Sequence[Statement]
    ours: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def contest_table(name: str, title: str, found: Sequence[Line]) -> Table:
    """Test errors at equal epochs and at equal gradient evaluations, with cost and measured time."""
    headings = [
        "", "setting", "gradients a step", "epochs", "test error %, equal epochs", "CPU seconds",
        "epochs ", "test error %, equal gradient evaluations",
    ]  # fmt: skip
    rows, numbers, several = [], [], len({line.group for line in found}) > 1
    for line in found:
        first, second = line.entry.equal_epochs[0], line.entry.equal_budget[0]
        label = f"{line.group}: {line.entry.name}" if several else line.entry.name
        cost = f"{first.evaluations / first.recipe.epochs / first.steps_per_epoch:.3g}"
        epochs = f"{first.recipe.epochs}", f"{second.recipe.epochs}"
        rows.append([
            label, line.entry.setting, cost, epochs[0], line.at_epochs.percent(), f"{line.seconds:.1f}",
            epochs[1], line.at_budget.percent(),
        ])  # fmt: skip
        numbers.append({"group": line.group, "name": line.entry.name, "setting": line.entry.setting,
            "gradients_per_step": cost, "seconds": line.seconds, "epochs": epochs[0],
            "seeds": " ".join(f"{training.seed}" for training in line.entry.equal_epochs),
            **spelled("error_equal_epochs", line.at_epochs, line.epochs), "epochs_at_equal_budget": epochs[1],
            **spelled("error_equal_budget", line.at_budget, line.budget)})  # fmt: skip
    return Table(name, title, headings, rows, numbers)


def spelled(name: str, interval: Interval, values: Sequence[float] = ()) -> dict[str, Any]:
    """An interval as columns of a file, with the values of the seeds where they are given."""
    told = {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {**told, f"{name}_by_seed": " ".join(map(str, values))} if values else told


def figures_table(name: str, title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Interval]]],
                  unit: float = 1.0) -> Table:  # fmt: skip
    """Intervals of several quantities, a row for each thing that was measured; shares where the unit is 100."""
    shown = [[label, *(i.percent() if unit == 100 else i.number() for i in found)] for label, found in rows]
    numbers = []
    for label, found in rows:
        entry: dict[str, Any] = {"name": label}
        for column, interval in zip(columns, found, strict=True):
            entry |= spelled(column, interval)
        numbers.append(entry)
    return Table(name, title, ["", *columns], shown, numbers)
