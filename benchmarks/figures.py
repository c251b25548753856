"""The figures of the page, as inline SVG that follows the page's own text colour in light and dark."""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, PercentFormatter

from benchmarks.cells import Result
from benchmarks.landscape import DISTANCES, PLANE, Grid
from benchmarks.methods import METHODS
from samfamily import pictures
from samfamily.curvature import Density

INK = "#010203"  # stands for the page's text colour until the SVG is written
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.6,
}
SIZE = (4.6, 3.3)
TICKS = (-0.5, -0.25, 0.0, 0.25, 0.5)


def learning_curves(results: Iterable[Result], title: str, alt: str) -> str:
    """Test error against gradient evaluations: the mean over seeds, and one standard error around it."""
    with mpl.rc_context(STYLE):
        figure, axes = _panel()
        for key, method in METHODS.items():
            found = [result for result in results if result.cell.method == key]
            curves = np.array([result.errors for result in found])
            budget = np.linspace(0, found[0].cell.gradient_evaluations, curves.shape[1] + 1)[1:]
            mean, error = curves.mean(axis=0), curves.std(axis=0, ddof=min(1, len(curves) - 1)) / np.sqrt(len(curves))
            axes.fill_between(budget, mean - error, mean + error, color=method.colour, alpha=0.2, linewidth=0)
            axes.plot(budget, mean, color=method.colour, linestyle="--" if method.dashed else "-", label=method.name)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
        axes.set(xlabel="gradient evaluations", ylabel="test error", xlim=(0, None))
        return _svg(figure, title, alt)


def ascent_lines(lines: Mapping[str, Sequence[Grid]], rho: float, title: str, alt: str) -> str:
    """Training loss along the direction in which SAM climbs: each seed thin, their mean thick."""
    with mpl.rc_context(STYLE):
        figure, axes = _panel()
        for key, found in lines.items():
            colour = METHODS[key].colour
            for losses in found:
                axes.plot(DISTANCES, losses, color=colour, linewidth=0.6, alpha=0.6)
            axes.plot(DISTANCES, np.mean(found, axis=0), color=colour)
        axes.axvline(rho, color=METHODS["sam"].colour, linewidth=0.8, linestyle=":")
        axes.axvline(0, color=INK, linewidth=0.5)
        axes.set(xlabel="distance from the solution", ylabel="training loss", ylim=(0, None))
        axes.margins(x=0)
        return _svg(figure, title, alt)


def plane(losses: Grid, limits: tuple[float, float], title: str, alt: str) -> str:
    """Training loss over two filter-normalised random directions, in the colours of `limits`."""
    with mpl.rc_context(STYLE):
        figure, axes = _panel()
        scale = LogNorm(*limits)
        filled = axes.pcolormesh(PLANE, PLANE, losses, norm=scale, cmap="viridis", shading="gouraud", rasterized=True)
        levels = np.geomspace(*limits, 9)[1:-1]
        axes.contour(PLANE, PLANE, losses, levels=levels, colors="white", linewidths=0.6, alpha=0.8)
        axes.plot(0, 0, marker="+", color="white", markersize=9)
        axes.set_aspect("equal")
        axes.set(xlabel="first direction", ylabel="second direction", xticks=TICKS, yticks=TICKS)
        bar = figure.colorbar(filled, ax=axes, label="training loss", ticks=levels, format="%.2g", shrink=0.95)
        bar.minorticks_off()
        return _svg(figure, title, alt)


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.add_subplot()


def picture(draw: Callable[[], Figure], name: str, alt: str) -> str:
    """A picture of the library's, with the page's ink."""
    with mpl.rc_context(STYLE):
        return _inline(draw(), name, alt)


def spectrum(densities: Mapping[str, Density], title: str, alt: str, methods: Sequence[str]) -> str:
    """Spectral densities in the colours of these methods."""

    def draw() -> Figure:
        with mpl.rc_context({"axes.prop_cycle": cycler(color=[METHODS[method].colour for method in methods])}):
            return pictures.spectrum(densities, title=title)

    return picture(draw, f"spectrum {title}", alt)


def _svg(figure: Figure, title: str, alt: str) -> str:
    """The figure under this title."""
    figure.axes[0].set_title(title, fontsize=11, loc="left")
    return _inline(figure, title, alt)


def _inline(figure: Figure, name: str, alt: str) -> str:
    """The figure as SVG to stand inside a page: no addresses, no fixed size, identifiers of its own, the page's ink."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    prefix = re.sub(r"\W+", "-", name.lower())
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = text.replace(INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
