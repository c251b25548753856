"""Draw the pictures of docs/idea.md into docs/assets/idea: `make docs`.

Every point that is drawn is what the library computes: the perturbations are those of `samfamily.ball`, the maximum
is that of `samfamily.exact`.
"""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from samfamily import Vec
from samfamily.ball import BallAt
from samfamily.exact import maximize_quadratic
from samfamily.reference import NumpySpace

FOLDER = Path(__file__).parent / "assets/idea"
BLUE, ORANGE, GREY = "#2a62c9", "#e0632a", "#8a939c"
STYLE: dict[Any, Any] = {"svg.hashsalt": "samfamily", "font.size": 10, "mathtext.fontset": "cm"}
GRADIENT = np.array([1.0, 0.55])
HESSIAN = np.array([[0.9, -1.2], [-1.2, 2.6]])


def climb(p: float, gradient: Any, rho: float = 1.0) -> tuple[Any, float]:
    """The highest point of the loss's linear part in the ball, and the dual norm of the gradient."""
    ball, g = BallAt(p), Vec(NumpySpace(1), (np.asarray(gradient, dtype=float),))
    [unit] = ball.maximiser(g).collapse()
    return rho * unit, float(ball.dual_norm(g))


def sphere(p: float, rho: float = 1.0) -> Any:
    """Points all round the ball of norm p."""
    turn = np.linspace(0, 2 * np.pi, 721)
    points = np.stack([np.cos(turn), np.sin(turn)])
    return rho * points / np.linalg.norm(points, p, axis=0)


def plain(axes: Any, title: str, reach: float) -> None:
    """No frame and equal units."""
    axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11)


def arrow(axes: Any, to: Any, colour: str) -> None:
    """From the weights to this point."""
    axes.annotate(
        "", to, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    )


def balls() -> Figure:
    """Three balls, the gradient, and where the loss's linear part is highest in each."""
    figure = Figure((8.4, 3.1), layout="constrained")
    names = {1.0: ("1", r"\infty"), 2.0: ("2", "2"), inf: (r"\infty", "1")}
    for axes, (p, (name, dual)) in zip(figure.subplots(1, 3), names.items(), strict=True):
        point, steepest = climb(p, GRADIENT)
        along = np.array([-GRADIENT[1], GRADIENT[0]])
        for level in (-0.5, 0.0, 0.5, 1.0):
            foot = level * steepest * GRADIENT / (GRADIENT @ GRADIENT)
            line = np.stack([foot - 4 * along, foot + 4 * along])
            top = level == 1.0
            axes.plot(*line.T, color=ORANGE if top else GREY, lw=1.2 if top else 0.6, ls="-" if top else ":")
        axes.fill(*sphere(p), color=BLUE, alpha=0.12, lw=0)
        axes.plot(*sphere(p), color=BLUE, lw=1.4)
        arrow(axes, 0.6 * GRADIENT, GREY)
        axes.plot(0, 0, "o", color="black", ms=4)
        axes.plot(*point, "s", color=ORANGE, ms=7)
        axes.text(-0.06, -0.08, "$w$", ha="right", va="top")
        axes.text(*(0.6 * GRADIENT + 0.05), "$g$", color=GREY, ha="center", va="bottom")
        axes.text(*(point + 0.08), r"$\hat\epsilon$", color=ORANGE, ha="left", va="bottom")
        plain(axes, rf"$p = {name}$: as high as $\rho\,\Vert g\Vert_{{{dual}}} = {steepest:.2f}\,\rho$", 1.55)
    return figure


def maximum() -> Figure:
    """A loss that bends inside the ball: where the climb ends, and where the maximum is."""
    figure = Figure((5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    rho, grid = 1.0, np.linspace(-1.7, 1.7, 241)
    surface = rise(np.stack(np.meshgrid(grid, grid)))
    axes.contour(grid, grid, surface, 18, colors=GREY, linewidths=0.6)
    axes.plot(*sphere(2.0, rho), color=BLUE, lw=1.6)
    first, _ = climb(2.0, GRADIENT, rho)
    best = worst(rho)
    for point, marker, size, name in (
        (first, "s", 7, r"the climb, $\hat\epsilon$"),
        (best, "*", 13, "the exact maximum"),
    ):
        arrow(axes, point, ORANGE if marker == "s" else "black")
        label = rf"{name}: $L$ rises by {rise(point):.2f}"
        axes.plot(*point, marker, color=ORANGE if marker == "s" else "black", ms=size, ls="", label=label)
    axes.plot(0, 0, "o", color="black", ms=4)
    axes.text(-0.06, -0.08, "$w$", ha="right", va="top")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), frameon=False, fontsize=9)
    plain(axes, r"$L(w + \epsilon)$ in the ball $\Vert\epsilon\Vert_2 \leq \rho$", 1.7)
    return figure


def rise(point: Any) -> Any:
    """The loss there less the loss at the weights."""
    return np.tensordot(GRADIENT, point, 1) + 0.5 * np.einsum("i...,ij,j...->...", point, HESSIAN, point)


def worst(rho: float) -> Any:
    """The exact maximum in the Euclidean ball."""
    return maximize_quadratic(GRADIENT, HESSIAN, rho).epsilon


def main() -> None:
    """Write both."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in (balls, maximum):
            draw().savefig(FOLDER / f"{draw.__name__}.svg", format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
