"""The page of `curvature`: one table, two spectra, the slices, and every number as CSV."""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import figures, page, provenance
from benchmarks.curvature_measures import DISTANCES, FILTERS, QUANTITIES, SHARD, Grid, Measured, pooled
from benchmarks.interval import Interval
from benchmarks.methods import METHODS
from benchmarks.network import CHANNELS, KERNELS
from benchmarks.report_page import DATA
from benchmarks.report_table import TITLES
from benchmarks.summary import labels
from benchmarks.tables import markdown
from samfamily import pictures

HEADINGS = ("", "SGD", "SAM", "SAM - SGD", "with SAM it", "Foret et al.")
OPTIONS = ("data", "backend", "noise", "seeds", "epochs", "examples", "workers", "out")
CAPTIONS = {
    "spectrum": "The spectral density of the Hessian of the training loss, by stochastic Lanczos quadrature: the mean "
    "over random directions and seeds, in a band of one standard error. Triangles: the largest eigenvalue seen.",
    "slices": "The training loss along directions of length one: the mean over seeds, and over three directions where "
    "they are random. Shaded: the ball with which SAM was trained.",
    "filters": "The same along random directions in units of the filters' lengths (Li et al., arXiv 1712.09913). Thin: "
    "each seed and direction. Thick: their mean.",
}


def by_method(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """What was found, SGD's first, each in the order of seeds."""
    ordered = sorted(measured, key=lambda found: found.cell.seed)
    present = {found.cell.method for found in measured}
    return {key: [found for found in ordered if found.cell.method == key] for key in METHODS if key in present}


def table(measured: Sequence[Measured]) -> list[list[str]]:
    """A row for each quantity: the mean of each method, and the mean difference, paired by seed."""
    sgd, sam = by_method(measured).values()
    rows = []
    for name, quantity in QUANTITIES.items():
        ours, theirs = ([found.numbers[name] for found in some] for some in (sgd, sam))
        gap = Interval.of([b - a for a, b in zip(ours, theirs, strict=True)])
        rows.append([quantity.words, *map(str, (Interval.of(ours), Interval.of(theirs), gap)), gap.verdict])
        rows[-1].append(" → ".join(quantity.paper))
    return rows


def finding(rows: Sequence[Sequence[str]]) -> str:
    """What falls and what does not, in a sentence."""
    verdicts: dict[str, list[str]] = {}
    for row in rows:
        verdicts.setdefault(row[4], []).append(row[0])
    told = (f"{verdict}: {', '.join(quantities)}" for verdict, quantities in verdicts.items())
    return f"With SAM instead of SGD: {'; '.join(told)}."


def write(arguments: argparse.Namespace, measured: Sequence[Measured], elapsed: float) -> Path:
    """Write the page, its pictures, its table in Markdown and every number, and return the page's path."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    drawn, rows, shown = _pictures(measured), table(measured), {}
    for name, (draw, alt) in drawn.items():
        draw().savefig(out / f"{name}.png")
        shown[name] = page.panels([figures.picture(draw, name, alt)], CAPTIONS[name])
    write_numbers(out / "curvature.csv", measured)
    (out / "curvature.md").write_text(markdown(HEADINGS, rows) + "\n", encoding="utf-8")
    sections = [
        page.section("Numbers", *map(page.paragraph, _notes(arguments)), page.plain_table(HEADINGS, rows)),
        page.section("Spectra", shown["spectrum"]),
        page.section("Slices", shown["slices"], shown["filters"]),
        page.section("What was run", *_facts(arguments, measured, elapsed)),
    ]
    title = f"Curvature of the solutions of SGD and SAM on {DATA[arguments.data]}"
    path = out / "index.html"
    path.write_text(page.page(title, finding(rows), sections), encoding="utf-8")
    return path


def write_numbers(path: Path, measured: Sequence[Measured]) -> None:
    """Every number as CSV, a line for each training."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["backend", "noise", "method", "rho", "seed", *QUANTITIES])
        for found in measured:
            cell, numbers = found.cell, [found.numbers[name] for name in QUANTITIES]
            lines.writerow([cell.backend, cell.noise, cell.method, cell.rho, cell.seed, *numbers])


def _pictures(measured: Sequence[Measured]) -> dict[str, tuple[Callable[[], Figure], str]]:
    """Each picture, to be drawn when asked, with what it shows."""
    found = {METHODS[key].name: some for key, some in by_method(measured).items()}
    densities = {name: pooled([m.density for m in some]) for name, some in found.items()}
    along = {name: _mean([m.along for m in some]) for name, some in found.items()}
    filters = {name: np.concatenate([m.filters for m in some]) for name, some in found.items()}
    title, unit = "Loss along random directions", "distance, in units of each filter's length"
    both = " and ".join(found)
    return {
        "spectrum": (lambda: pictures.spectrum(densities), f"Spectral densities of the solutions of {both}."),
        "slices": (
            lambda: pictures.compare(DISTANCES, along, rho=_rho(measured)),
            f"Training loss along the gradient, the top eigenvector and random directions, {both} side by side.",
        ),
        "filters": (
            lambda: pictures.along(FILTERS, filters, title=title, unit=unit),
            f"Training loss along random filter-normalised directions, {both}.",
        ),
    }


def _mean(lines: Sequence[Mapping[str, Grid]]) -> dict[str, Grid]:
    return {key: np.mean([line[key] for line in lines], axis=0) for key in lines[0]}


def _rho(measured: Sequence[Measured]) -> float:
    return max(found.cell.rho for found in measured)


def _notes(arguments: argparse.Namespace) -> list[str]:
    seeds = "One seed" if arguments.seeds == 1 else f"Means over {arguments.seeds} seeds ± 95 % intervals (Student's)"
    how = (
        f"{seeds}, {labels(arguments.noise)}, after {arguments.epochs} epochs. The loss is that of the first "
        f"{arguments.examples} training examples, or of all where there are fewer, as far as they fill shards "
        f"of {SHARD}. The difference is paired by seed, and is said to fall or rise where its interval leaves out 0."
    )
    paper = (
        "Foret et al. (arXiv 2010.01412, figure 3) trained a WideResNet-40-10 on CIFAR-10: another network, another "
        "task, 300 epochs. What can be compared is which way a quantity goes, not how far."
    )
    loss = (
        "With cross-entropy the Hessian of a network that fits its data goes to zero with the loss, so the training "
        "loss stands first in the table."
    )
    return [how, paper, loss]


def _facts(arguments: argparse.Namespace, measured: Sequence[Measured], elapsed: float) -> list[str]:
    recipe = measured[0].cell.recipe
    entries = {
        "Network": f"The report's: {len(KERNELS)} convolutions of {CHANNELS} channels with ReLU and one linear layer; "
        "no normalisation.",
        "Training": f"{TITLES[arguments.backend]}; SGD with learning rate {recipe.learning_rate:g} falling to zero "
        f"along a cosine, momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g}, batches of "
        f"{recipe.batch_size}; SAM with ρ = {_rho(measured):g}, the radius that python -m benchmarks tune chose.",
        "Versions": provenance.versions(),
        "Machine": f"{provenance.machine()}; {arguments.workers} processes of one thread each",
        "Run": f"{provenance.today()}, {elapsed:.0f} seconds",
    }
    return [page.facts(entries), page.command(provenance.command_line("curvature", arguments, OPTIONS))]
