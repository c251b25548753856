r"""Pictures of what is measured: spectra, slices, and sharpness over training.

Each function returns a `matplotlib.figure.Figure`, and draws on axes of yours where you give them.  matplotlib, which
`samfamily[pictures]` installs, is imported when a picture is drawn; pyplot never, so there is nothing to close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from samfamily.canvas import GREY, LEGEND, canvas, coloured, dress
from samfamily.curvature import Density
from samfamily.space import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = {
    "loss": "Loss",
    "lambda_max": "Largest eigenvalue λ₁",
    "ratio": "λ₁ / λ₅",
    "m_sharpness": "m-sharpness: the rise of the loss where the adversary goes",
    "cosine": "Cosine of the gradients here and where the adversary goes",
    "effective_radius": "How far the adversary goes",
}
"""What `training` can show, each with the title of its panel."""


def spectrum(
    densities: Mapping[str, Density],
    ax: Axes | None = None,
    width: float | None = None,
    *,
    title: str = "Eigenvalues of the loss's curvature",
) -> Figure:
    r"""Draw spectral densities on one axis of eigenvalues, the density on a logarithmic scale.

    With each eigenvalue a Gaussian of standard deviation \(\sigma\), as `Density.smoothed` gives it,

    $$ \phi_\sigma(\lambda) = \frac1n \sum_{i=1}^{n} \mathcal{N}(\lambda;\, \lambda_i, \sigma^2) , $$

    in a band of one standard error over the draws (Ghorbani, Krishnan and Xiao, arXiv 1901.10159).  The axis ends where
    one eigenvalue would no longer be seen.  A marker stands at the largest eigenvalue of each.

    Args:
        densities: what `samfamily.curvature.density` returned, by name.
        ax: where to draw; a new figure where None.
        width: \(\sigma\), in units of the eigenvalues; a hundredth of what all of them span where None.
        title: above the axes.

    Returns:
        The figure.

    Raises:
        ValueError: no density, or a width that is not positive.
        ImportError: matplotlib is not installed.

    Example:
        >>> nodes, weights = np.array([-1.0, 0.0, 9.0]), np.array([0.1, 0.8, 0.1])
        >>> figure = spectrum({"SGD": Density((nodes,), (weights,), products=3)})
        >>> figure.axes[0].get_xlabel()
        'eigenvalue'
    """
    if not densities or (width is not None and not 0 < width < inf):
        raise ValueError(f"{len(densities)} densities at the width {width}: give one or more, and a positive width")
    low, high = (pick(d.range[i] for d in densities.values()) for i, pick in enumerate((min, max)))
    width = width or (high - low or abs(high) or 1.0) / 100
    x = np.linspace(low - 4 * width, high + 4 * width, 500)
    floor = min(map(_faintest, densities.values())) / (sqrt(2 * pi) * width)
    figure, [ax] = canvas(ax, 1, (6.4, 3.6))
    for (name, density), colour in coloured(densities.items()):
        mean, error = density.smoothed(x, width)
        if np.all(np.isfinite(error)):
            low, high = (np.maximum(y, floor) for y in (mean - error, mean + error))
            ax.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
        largest = density.range[1]
        ax.plot(x, np.maximum(mean, floor), color=colour, label=f"{name}, largest {largest:.3g}")
        ax.plot(largest, floor, "^", color=colour, markersize=8, clip_on=False, zorder=3)
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.set(yscale="log", xlim=(x[0], x[-1]), xlabel="eigenvalue", ylabel="spectral density")
    ax.set_ylim(bottom=floor)
    dress(ax, title, columns=2)
    return figure


def along(
    distances: Array,
    losses: Mapping[str, Array],
    ax: Axes | None = None,
    *,
    rho: float | None = None,
    title: str = "Loss along directions through the weights",
    unit: str = "distance from the weights",
) -> Figure:
    r"""Draw slices of one landscape, \(t \mapsto L(w + t\,d)\), as `samfamily.slices.along` returns them.

    Args:
        distances: the t, shape (k,).
        losses: by name, shape (k,); or of several directions of a kind, shape (directions, k), which are drawn thin
            and their mean thick.
        ax: where to draw; a new figure where None.
        rho: the ball's radius, which is shaded where it is given.
        title: above the axes.
        unit: what the distances are.

    Returns:
        The figure.

    Raises:
        ValueError: losses at another number of distances.
        ImportError: matplotlib is not installed.

    Example:
        >>> t = np.linspace(-1, 1, 5)
        >>> figure = along(t, {"gradient": t**2 + t, "random": np.array([t**2, 2 * t**2])}, rho=0.5)
        >>> [line.get_label() for line in figure.axes[0].lines if not line.get_label().startswith("_")]
        ['gradient', 'random']
    """
    figure, [ax] = canvas(ax, 1, (5.2, 3.6))
    _lines(ax, distances, losses, rho, unit)
    dress(ax, title, columns=2)
    return figure


def _lines(ax: Axes, distances: Array, losses: Mapping[str, Array], rho: float | None, unit: str) -> None:
    for (name, found), colour in coloured(losses.items()):
        rows = np.atleast_2d(found)
        if rows.shape[1] != len(distances):
            raise ValueError(f"{rows.shape[1]} losses of {name!r} at {len(distances)} distances: give one for each")
        if len(rows) > 1:
            ax.plot(distances, rows.T, color=colour, linewidth=0.6, alpha=0.5)
        ax.plot(distances, rows.mean(0), color=colour, label=name)
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    if rho is not None:
        ax.axvspan(-rho, rho, color=GREY, alpha=0.2, linewidth=0, zorder=0, label=f"ball, ρ = {rho:g}")
    ax.set(xlim=(min(distances), max(distances)), xlabel=unit, ylabel="loss")


def compare(
    distances: Array,
    losses: Mapping[str, Mapping[str, Array]],
    axes: Sequence[Axes] | None = None,
    *,
    rho: float | None = None,
    unit: str = "distance from the weights",
) -> Figure:
    r"""Draw the same slices of several models side by side, on one scale of losses.

    Args:
        distances: the t, shape (k,).
        losses: for each model what `along` draws: \(t \mapsto L(w + t\,d)\) for each direction d.
        axes: where to draw, one for each model; a new figure where None.
        rho: the ball's radius, which is shaded where it is given.
        unit: what the distances are.

    Returns:
        The figure.

    Raises:
        ValueError: losses at another number of distances, or not as many axes as models.
        ImportError: matplotlib is not installed.

    Example:
        >>> t = np.linspace(-1, 1, 5)
        >>> figure = compare(t, {"SGD": {"gradient": 9 * t**2}, "SAM": {"gradient": t**2}}, rho=0.5)
        >>> [ax.get_title("left") for ax in figure.axes], figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
        (['SGD', 'SAM'], True)
    """
    figure, panels = canvas(axes, len(losses), (3.8 * len(losses) + 0.6, 3.6), across=True)
    for panel, (name, found) in zip(panels, losses.items(), strict=True):
        _lines(panel, distances, found, rho, unit)
        dress(panel, name, columns=0 if axes is None else 2)
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        panel.label_outer()
    if axes is None:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, **LEGEND)
    return figure


def training(
    records: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    series: Sequence[str] | None = None,
) -> Figure:
    r"""Draw sharpness over training, a panel for each quantity; all share the axis of steps.

    Args:
        records: one dict for each measurement, with the key `step` and those of `SERIES`, such as \(\lambda_1\) of
            \(\nabla^2 L(w_t)\) under `lambda_max`; or several such runs by name.  None and NaN leave a gap.
        ax: where to draw, one for each panel; a new figure where None.
        series: which quantities; all of `SERIES` that were measured where None.

    Returns:
        The figure.

    Raises:
        ValueError: nothing was measured, or not as many axes as quantities.
        ImportError: matplotlib is not installed.

    Example:
        >>> records = [{"step": 10 * i, "loss": 1 / (i + 1), "lambda_max": 5.0 + i} for i in range(4)]
        >>> figure = training(records)
        >>> [ax.get_title("left") for ax in figure.axes]
        ['Loss', 'Largest eigenvalue λ₁']
    """
    runs = records if isinstance(records, Mapping) else {"": records}
    measured = {key: {name: _line(run, key) for name, run in runs.items()} for key in series or SERIES}
    shown = {key: lines for key, lines in measured.items() if np.any(np.isfinite(np.concatenate([*lines.values()])))}
    if not shown:
        raise ValueError(f"no record has a finite number under any of {', '.join(measured)}: there is nothing to draw")
    figure, panels = canvas(ax, len(shown), (6.4, 0.8 + 1.4 * len(shown)))
    for panel, (key, lines) in zip(panels, shown.items(), strict=True):
        for (name, line), colour in coloured(lines.items()):
            steps = [record["step"] for record in runs[name]]
            panel.plot(steps, line, ".-", color=colour, label=name if name and panel is panels[0] else None)
        dress(panel, SERIES.get(key, key))
    panels[-1].set_xlabel("step")
    return figure


def _line(run: Sequence[Mapping[str, Any]], key: str) -> Array:
    """Return what a run's records have under a key, NaN where they have nothing."""
    return np.array([np.nan if record.get(key) is None else float(record[key]) for record in run])


def _faintest(density: Density) -> float:
    """Return the share of the spectrum below which nothing need be seen: a fifth of what the largest eigenvalue has."""
    shares = [float(weights[-1]) for weights in density.weights]
    return float(np.median(shares)) / (5 * len(shares))
