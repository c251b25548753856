"""Figures as SVG files: points with 95 % intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from benchmarks.paper.section import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "samfamily",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.4,
}
COLOURS = ("#7d8792", "#e0632a", "#1d9c78", "#5a7fe6", "#b04fc0", "#c9a227", "#2b9db5", "#8c5a3c", "#d1426a")
MARKS = "os^DvP*X<>"


QUIET: dict[str, Any] = {"color": "#dde1e5", "linewidth": 0.8, "zorder": 1}


def draw(figure: Figure, path: Path) -> None:
    """Write the figure to this file."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7.2, 4.2), layout="constrained")
        axes = canvas.add_subplot()
        line, number = "-" if figure.joined else "", 0
        background = "the other rows"
        for series in figure.series:
            mean = np.array([interval.mean for interval in series.y])
            if series.quiet:
                axes.plot(series.x, mean, "o" + line, markersize=3, label=background, **QUIET)
                background = "_"  # named once
                continue
            ends = np.array([[interval.low, interval.high] for interval in series.y])
            reach = np.where(np.isfinite(ends), abs(ends - mean[:, None]), 0.0).T
            axes.errorbar(
                series.x,
                mean,
                reach,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKS[number // len(COLOURS) % len(MARKS)],
                linestyle=line,
                markersize=4,
                capsize=2,
                label=series.name,
            )
            number += 1
        if figure.ceiling:
            axes.set_ylim(0, figure.ceiling)
        if figure.logx:
            axes.set_xscale("log", base=2)
            axes.set_xticks(figure.series[0].x)
            axes.xaxis.set_major_formatter("{x:g}")
        if figure.logy:
            axes.set_yscale("log")
        axes.set(xlabel=figure.xlabel, ylabel=figure.ylabel)
        axes.set_title(figure.title, fontsize=11, loc="left")
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, format="svg", metadata={"Date": None})
