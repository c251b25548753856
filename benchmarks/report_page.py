"""The report's page: which table, figures and facts stand on it, and what is said about them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page, provenance, report_spectra
from benchmarks.cells import Cell, Recipe, Result
from benchmarks.figures import ascent_lines, learning_curves, plane
from benchmarks.landscape import Landscape, limits
from benchmarks.methods import ETA, METHODS, NOISE_LEVELS, SHARD
from benchmarks.network import CHANNELS, KERNELS, STRIDE
from benchmarks.report_table import TITLES
from benchmarks.summary import Row, capital, finding, labels
from samfamily.curvature import Density

SHORT = (
    "A quick run, to show the page: its trainings are too short and too few to compare the methods. `make report` does."
)
DATA = {"mnist1d": "MNIST-1D", "digits": "8×8 digits"}


def write(
    arguments: argparse.Namespace,
    recipe: Recipe,
    results: Sequence[Result],
    rows: Sequence[Row],
    landscapes: Sequence[Landscape],
    spectra: Sequence[tuple[Cell, Density]],
    elapsed: float,
) -> Path:
    """Write the page and return its path."""
    backends = {name: TITLES[name] for name in rows[0].errors}
    headline, *more = findings(arguments, results)
    text = page.page(
        f"Sharpness-aware minimisation on {DATA[recipe.data]}",
        headline,
        [
            *map(page.paragraph, more),
            page.section("Test error", *_table_texts(arguments), page.table(rows, backends), *_table_notes()),
            page.section("Learning curves", _curves(results, backends)),
            page.section("The loss around the solutions", *_around(landscapes, backends)),
            report_spectra.section(spectra, backends),
            page.section("What was run", *_facts(arguments, recipe, results, elapsed)),
        ],
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path: Path = arguments.out / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def findings(arguments: argparse.Namespace, results: Sequence[Result]) -> list[str]:
    """What the run found, the headline first; a quick run finds nothing, and says so."""
    return [SHORT] if arguments.quick else [finding(results), finding(results, "sgd")]


def panel_labels(noise: float) -> str:
    """The kind of labels, short enough to head a figure."""
    return f"{100 * noise:.0f} % of labels replaced" if noise else "clean labels"


def _table_texts(arguments: argparse.Namespace) -> list[str]:
    seeds = "one seed" if arguments.seeds == 1 else f"{arguments.seeds} seeds"
    return [
        page.paragraph(
            f"The mean after the last epoch over {seeds}, ± the standard error of that mean. The lowest error of each "
            "group is bold. SAM takes two gradients a step: at equal epochs compare it with SGD, at equal numbers of "
            "gradient evaluations with SGD given twice the epochs."
        )
    ]


def _table_notes() -> list[str]:
    text = (
        "Time relative to SGD is the time of all steps of a training over that of SGD in the same framework. A step's "
        "time is the median over epochs that the methods ran in turn in one process on one thread, after an epoch that "
        "was not counted; compilation and evaluation are left out."
    )
    return [f'<p class="quiet">{text}</p>']


def _curves(results: Sequence[Result], backends: dict[str, str]) -> str:
    figures = []
    for backend, title in backends.items():
        for noise in NOISE_LEVELS:
            shown = [r for r in results if r.cell.backend == backend and r.cell.noise == noise]
            alt = f"Test error against gradient evaluations for every method, {title}, {labels(noise)}."
            figures.append(learning_curves(shown, f"{title}, {panel_labels(noise)}", alt))
    caption = "Test error after each epoch: the mean over seeds, in a band of one standard error."
    return page.panels(figures, caption, tuple(METHODS))


def _around(landscapes: Sequence[Landscape], backends: dict[str, str]) -> list[str]:
    where = f"Solutions found by {backends[landscapes[0].cell.backend]}."
    lines, planes = [], []
    found_methods = {found.cell.method for found in landscapes}
    methods = [method for method in METHODS if method in found_methods]
    for noise in NOISE_LEVELS:
        here = [found for found in landscapes if found.cell.noise == noise]
        by_method = {m: [found.along_ascent for found in here if found.cell.method == m] for m in methods}
        rho = METHODS["sam"].radii[noise]
        alt = f"Training loss against distance along the ascent direction, {', '.join(by_method)}, {labels(noise)}."
        lines.append(ascent_lines(by_method, rho, capital(panel_labels(noise)), alt))
        first = {found.cell.method: found.plane for found in here if found.plane is not None}
        for method in methods:
            name = METHODS[method].name
            alt = f"Training loss over a plane of random directions through the solution of {name}, {labels(noise)}."
            planes.append(plane(first[method], limits(first.values()), f"{name}, {panel_labels(noise)}", alt))
    return [
        page.paragraph(
            "Left of zero the loss is followed downhill, right of it uphill: along the direction of the gradient over "
            "the training data, in which SAM climbs."
        ),
        page.panels(
            lines,
            f"{where} Training loss at w + t·ε̂ for the unit ascent direction ε̂. Thin: each seed. Thick: their mean. "
            "Dotted: the radius ρ with which SAM was trained.",
            methods,
        ),
        page.paragraph(
            "A plane through the solution, spanned by two random directions in which every filter has the norm of the "
            "network's own (filter normalisation, Li et al. 2018, arXiv 1712.09913). SGD and SAM are cut by the same "
            "random draw and share the colours of their row; the scale is logarithmic."
        ),
        page.panels(planes, f"{where} Training loss, seed 0. The cross is the solution."),
    ]


def _facts(arguments: argparse.Namespace, recipe: Recipe, results: Sequence[Result], elapsed: float) -> list[str]:
    data = results[0].cell.dataset()
    kernels = ", ".join(map(str, KERNELS))
    radii = [
        f"{method.name}: ρ = {' and '.join(f'{method.radii[noise]:g}' for noise in NOISE_LEVELS)}"
        for method in METHODS.values()
        if method.build is not None
    ]
    entries = {
        "Data": f"{DATA[recipe.data]}: {len(data.inputs)} training and {len(data.evaluation_inputs)} test signals of "
        f"length {data.inputs.shape[1]}, ten classes. Replaced labels are drawn anew from all ten classes, "
        "once for each seed; test labels are never touched.",
        "Network": f"{len(KERNELS)} convolutions of {CHANNELS} channels (kernels {kernels}; stride {STRIDE}) with "
        "ReLU, then one linear layer; no normalisation.",
        "Base optimizer": f"SGD, learning rate {recipe.learning_rate:g} falling to zero along a cosine, momentum "
        f"{recipe.momentum:g}, weight decay {recipe.weight_decay:g}, batches of {recipe.batch_size} (the last, partial "
        f"batch of each epoch is dropped), {recipe.epochs} epochs, for SGD also {2 * recipe.epochs}.",
        "Radii": f"{'; '.join(radii)} (on clean and on noisy labels). ASAM: η = {ETA:g}. m = {SHARD}: each {SHARD} "
        "examples of a batch have their own perturbation.",
        "How they were chosen": "By python -m benchmarks tune on MNIST-1D: the lowest error on a fifth of the training "
        "data that was held out; the learning rate is the best for SGD on clean labels. Test data had no part in it.",
        "Same start": "In both frameworks a seed stands for the same initial weights, replaced labels and batches.",
        "Seeds": ", ".join(map(str, range(arguments.seeds))),
        "Versions": provenance.versions(),
        "Machine": f"{provenance.machine()}; {arguments.workers} processes of one thread each",
        "Run": f"{provenance.today()}, {elapsed:.0f} seconds",
    }
    options = ("data", "backend", "seeds", "epochs", "workers", "out")
    return [page.facts(entries), page.command(provenance.command_line("report", arguments, options))]
