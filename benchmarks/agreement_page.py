"""What `agreement` writes: every distance as CSV, a page with the largest of each row, and a picture."""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.agreement_rows import CONTROL, ROWS
from benchmarks.agreement_task import BATCH, LIMIT, LIMITED, LR, MOMENTUM, TASKS
from benchmarks.agreement_walked import Walked, of_task
from benchmarks.exact_figures import STYLE
from benchmarks.provenance import command_line, machine, today, versions

PACKAGES = ("samfamily", "torch", "jax", "jaxlib", "optax", "numpy", "mnist1d")
FLOOR = 1e-17
"""Where a distance of zero is drawn."""
IN_FLOAT32 = (
    "In float32 the frameworks round differently, and training carries a difference on, most where a ReLU or a mask "
    "falls the other way; the control, one framework's rho larger by a millionth, tells how far. That both run one "
    "algorithm is what the float64 column shows."
)
QUIET, OPTION, FARTHEST, CONTROLLED = "#2a62c9", "#1d9c78", "#e0632a", "#7d8792"


def write(arguments: argparse.Namespace, found: Sequence[Walked], seconds: float) -> Path:
    """Write everything and return the page's path."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    distances(arguments.out / "agreement.csv", found)
    picture(found).savefig(arguments.out / "agreement.png")
    options = [option for option in ("steps", "workers", "out") if hasattr(arguments, option)]
    command = command_line("agreement", arguments, options) + (" --optimised" if arguments.optimised else "")
    command += " --tasks " + " ".join(arguments.tasks)
    how = (
        "Distances are relative: the Euclidean norm of the difference of all weights over that of PyTorch's. SGD, "
        f"learning rate {LR:g}, momentum {MOMENTUM:g}, batches of {BATCH} of MNIST-1D. "
        f"{IN_FLOAT32} The largest over all steps:"
    )
    parts = [
        "# PyTorch and JAX on one path",
        *summary(found),
        "![Distance of the weights against the step](agreement.png)",
        how,
        table(found),
        f"`{command}`",
        f"{today()}. {machine()}. {versions(PACKAGES)}. {seconds:.0f} s.",
    ]
    page: Path = arguments.out / "agreement.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def summary(found: Sequence[Walked]) -> list[str]:
    """A sentence for each task: which row is farthest."""
    sentences = []
    for task in dict.fromkeys(walked.task for walked in found):
        rows = of_task(found, task)
        if rows:
            asked = f"; asked: {LIMIT:g}" if task == LIMITED else ""
            sentences.append(
                f"{TASKS[task].title}: of {len(rows)} rows {rows[0].row} is farthest, {rows[0].largest:.1e} after at "
                f"most {len(rows[0].distances)} steps{asked}."
            )
    return sentences


def table(found: Sequence[Walked]) -> str:
    """The largest distance of each row, a column for each task."""
    tasks = list(dict.fromkeys(walked.task for walked in found))
    largest = {(walked.task, walked.row): f"{walked.largest:.1e}" for walked in found}
    lines = ["| row | " + " | ".join(TASKS[task].title for task in tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    lines += [
        f"| {row} | " + " | ".join(largest.get((task, row), "") for task in tasks) + " |"
        for row in dict.fromkeys(walked.row for walked in found)
    ]
    return "\n".join(lines)


def distances(path: Path, found: Sequence[Walked]) -> None:
    """Write every distance."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("task", "row", "step", "relative distance", "distance"))
        for walked in found:
            pairs = zip(walked.relative, walked.distances, strict=True)
            out.writerows((walked.task, walked.row, i, f"{r:.6e}", f"{d:.6e}") for i, (r, d) in enumerate(pairs, 1))


def picture(found: Sequence[Walked]) -> Figure:
    """Distance against step, a panel for each task and a line for each row."""
    with mpl.rc_context(STYLE):
        tasks = list(dict.fromkeys(walked.task for walked in found))
        figure = Figure(figsize=(4.2 * len(tasks), 3.8), layout="constrained")
        for axes, task in zip(figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True):
            rows = of_task(found, task)
            for i, walked in reversed(list(enumerate(rows))):
                colour = FARTHEST if i == 0 else OPTION if ROWS[walked.row].option else QUIET
                label = f"farthest: {walked.row}" if i == 0 else None
                _line(axes, walked, colour, 1.6 if i == 0 else 0.7, label)
            for walked in (w for w in found if (w.task, w.row) == (task, CONTROL)):
                _line(axes, walked, CONTROLLED, 1.2, "control", "--")
            if task == LIMITED:
                axes.axhline(LIMIT, color="black", linewidth=0.8, linestyle=":", label=f"asked: {LIMIT:g}")
            axes.set(title=TASKS[task].title, xlabel="step", yscale="log")
            axes.legend(loc="center right", fontsize=8)
        figure.axes[0].set_ylabel("relative distance of the weights")
        figure.suptitle("PyTorch against JAX: the family (blue) and options (green)", x=0.01, ha="left", fontsize=12)
        return figure


def _line(axes: Axes, walked: Walked, colour: str, width: float, label: str | None, style: str = "-") -> None:
    heights = [max(x, FLOOR) for x in walked.relative]
    axes.plot(range(1, len(heights) + 1), heights, style, color=colour, linewidth=width, label=label)
