"""The figures of `exact`, as PNG for a page: dark ink on white, readable in a dark page too."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.inner_gaps import STAGES, Measured
from samfamily.exact import direction_bound, gap_bound

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "legend.frameon": False,
    "savefig.dpi": 160,
}
COLOURS = ("#7d8792", "#2a62c9", "#e0632a")


def orders(found: dict[str, Any]) -> Figure:
    """The first-order step's two errors against the radius, each under its bound."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        radii, beta, norm = found["radii"], found["beta"], found["norm"]
        for axes, errors, bound, title in (
            (left, found["directions"], direction_bound, "Direction: error / rho, first order"),
            (right, found["gaps"], gap_bound, "Value: gap, third order"),
        ):
            axes.loglog(radii, [bound(beta, rho, norm) for rho in radii], "--", color=COLOURS[0], label="proven bound")
            axes.loglog(radii, errors, "o-", color=COLOURS[2], markersize=4, label="exact")
            axes.set(xlabel="rho", title=title)
            axes.legend()
        return figure


def attained(measured: Sequence[Measured]) -> Figure:
    """The share of the inner maximum that the first-order step attains, over the radius, before and after training."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for stage, colour in zip(STAGES, COLOURS, strict=True):
            for backend, marker in (("torch", "-"), ("jax", "o")):
                found = [m.found for m in measured if (m.stage, m.backend) == (stage, backend)]
                if found:
                    label = stage if marker == "-" else None
                    ratios = np.array([gap.ratio for gap in found])
                    axes.plot([gap.rho for gap in found], ratios, marker, color=colour, markersize=4, label=label)
        axes.axvline(0.05, color="black", linewidth=0.7, linestyle=":")
        axes.annotate("SAM's default", (0.05, 0.03), xytext=(4, 0), textcoords="offset points", fontsize=9)
        axes.set_xscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="rho", title="Share of the inner maximum that the first-order step attains", ylim=(0, 1.03))
        axes.legend(title="lines: PyTorch, points: JAX", loc="upper right")
        return figure
