"""Canvas: figures and axes for `samfamily.pictures`, made and dressed without pyplot and without global settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Given = TypeVar("Given")

COLOURS = ("#2a62c9", "#e0632a", "#2f9e6e", "#a44a9c", "#b58900")
"""Told apart with any colour vision and, by their lightness, in grey: blue, orange, green, purple, ochre."""
GREY = "#8a939c"
"""Of what is no data; readable on white and on black."""


def canvas(
    given: Axes | Sequence[Axes] | None, panels: int, size: tuple[float, float], *, across: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes: those that are given, or new ones of this size in inches, which share an axis.

    Args:
        given: one Axes, or several.
        panels: how many are needed.
        size: of a new figure.
        across: side by side with one scale upwards, rather than one above the other with one scale across.

    Returns:
        The figure and so many axes.

    Raises:
        ValueError: not as many axes as panels.
        ImportError: matplotlib is not installed.

    Example:
        >>> figure, axes = canvas(None, 2, (4, 3))
        >>> len(axes), axes[0].get_shared_x_axes().joined(*axes)
        (2, True)
    """
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError("pictures are drawn by matplotlib, which is not installed: pip install matplotlib") from error
    if given is None:
        figure = Figure(size, dpi=150, layout="constrained")
        shape = (1, panels) if across else (panels, 1)
        axes = list(figure.subplots(*shape, squeeze=False, sharex=True, sharey=across).flat)
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
        return figure, axes
    axes = [given] if isinstance(given, Axes) else list(given)
    if len(axes) != panels:
        raise ValueError(f"{len(axes)} axes for {panels} panels: give one for each, or none for a new figure")
    return cast("Figure", axes[0].get_figure(root=True)), axes


def coloured(items: Iterable[Given]) -> Iterator[tuple[Given, str]]:
    """Yield each item with its colour: matplotlib's own cycle, where a style changed it, or else `COLOURS`."""
    import matplotlib as mpl

    ruling = mpl.rcParams["axes.prop_cycle"]
    changed = ruling != mpl.rcParamsDefault["axes.prop_cycle"] and "color" in ruling.keys
    yield from zip(items, cycle(ruling.by_key()["color"] if changed else COLOURS), strict=False)


LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 1.4, "columnspacing": 1.2, "borderpad": 0.3}


def dress(ax: Axes, title: str, columns: int = 3) -> None:
    """Write the title and, between it and the axes where no data are, what the lines are.

    Args:
        ax: with all its lines.
        title: what it shows.
        columns: how many names fit into a row; 0 if what the lines are is told elsewhere.

    Example:
        >>> _, [ax] = canvas(None, 1, (4, 3))
        >>> _ = ax.plot([0, 1], label="SGD")
        >>> dress(ax, "Loss")
        >>> ax.get_title("left"), [text.get_text() for text in ax.get_legend().get_texts()]
        ('Loss', ['SGD'])
    """
    named = len(ax.get_legend_handles_labels()[1]) if columns else 0
    if named:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=columns, **LEGEND)
    ax.set_title(title, loc="left", fontsize=11, pad=6 + 15 * (-(-named // columns) if named else 0))
