"""Pictures show what they were given, on the axes that they were given, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from samfamily import pictures
from samfamily.canvas import COLOURS
from samfamily.curvature import Density

T = np.linspace(-0.2, 0.2, 9)


def density(largest: float, draws: int = 3) -> Density:
    nodes, weights = np.array([-0.1, 0.0, largest / 2, largest]), np.array([0.01, 0.97, 0.01, 0.01])
    shifts = np.linspace(0, 1e-3, draws)
    return Density(tuple(nodes + s for s in shifts), (weights,) * draws, 4 * draws)


def slices(curvature: float) -> dict[str, Any]:
    return {"gradient": curvature * T**2, "random": np.array([0.1 * T**2, 0.3 * T**2])}


def records(scale: float) -> list[dict[str, Any]]:
    return [
        {"step": 10 * i, "loss": 1.0 / (i + 1), "lambda_max": scale * i, "ratio": 2.0, "m_sharpness": 0.1,
         "cosine": -0.5, "effective_radius": 0.05}
        for i in range(4)
    ]  # fmt: skip


DRAWN: dict[str, tuple[Callable[..., Figure], int]] = {
    "spectrum": (lambda ax: pictures.spectrum({"SGD": density(4), "SAM": density(2)}, ax), 1),
    "along": (lambda ax: pictures.along(T, slices(1), ax, rho=0.1), 1),
    "compare": (lambda ax: pictures.compare(T, {"SGD": slices(9), "SAM": slices(1)}, ax, rho=0.1), 2),
    "training": (lambda ax: pictures.training({"SGD": records(9), "SAM": records(1)}, ax), 6),
}
"""Each picture, given axes or None, and the number of axes that it needs."""


def labels(ax: Axes) -> list[str]:
    return ax.get_legend_handles_labels()[1]


@pytest.mark.parametrize("name", DRAWN)
def test_the_axes_given_are_the_axes_drawn_on(name: str) -> None:
    draw, panels = DRAWN[name]
    figure = Figure()
    axes = list(figure.subplots(1, panels, squeeze=False).flat)
    bystander = figure.add_subplot()
    assert draw(axes[0] if panels == 1 else axes) is figure
    assert all(ax.lines and ax.get_title("left") for ax in axes)
    assert figure.axes == [*axes, bystander]  # none was added
    assert not bystander.lines  # negative control: what is drawn elsewhere is told from what is drawn here


@pytest.mark.parametrize("name", [name for name, (_, panels) in DRAWN.items() if panels > 1])
def test_another_number_of_axes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"1 axes for [26] panels: give one for each"):
        DRAWN[name][0]([Figure().add_subplot()])


@pytest.mark.parametrize("name", DRAWN)
def test_no_setting_changes_and_a_figure_can_be_saved(name: str, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw, panels = DRAWN[name]
    figure = draw(None)
    figure.savefig(tmp_path / "picture.png", dpi=50)
    assert len(figure.axes) == panels
    assert all(ax.get_title("left") and (ax.get_ylabel() or name in {"training", "compare"}) for ax in figure.axes)
    assert dict(mpl.rcParams) == before


def covered(figure: Figure) -> bool:
    """Tell whether a legend covers part of the axes' inside, or a title."""
    figure.draw_without_rendering()
    boxes = [legend.get_window_extent() for ax in figure.axes if (legend := ax.get_legend())]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    assert boxes
    insides = [ax.patch.get_window_extent().padded(-2) for ax in figure.axes]
    titles = [text for ax in figure.axes for text in ax.get_children() if isinstance(text, Text) and text.get_text()]
    return any(box.overlaps(x) for box in boxes for x in insides + [t.get_window_extent() for t in titles])


@pytest.mark.parametrize("name", DRAWN)
def test_no_legend_covers_data(name: str) -> None:
    assert not covered(DRAWN[name][0](None))


def test_a_legend_that_covers_data_would_be_found() -> None:
    """Negative control of the test above."""
    figure = pictures.along(T, slices(1))
    figure.axes[0].legend(loc="upper center")
    assert covered(figure)


def test_pictures_do_not_load_pyplot() -> None:
    program = (
        "import sys, samfamily.pictures as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "p.along([0.0, 1.0], {'a': [0.0, 1.0]})\n"
        "assert 'matplotlib.figure' in sys.modules\n"  # what is loaded can be told
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_error_tells_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(ImportError, match="matplotlib, which is not installed: pip install matplotlib"):
        pictures.along(T, slices(1))


def test_a_spectrum_shows_the_smoothed_density_and_the_largest_eigenvalue() -> None:
    """Kills the mutants that draw another width, drop the band, or mark another eigenvalue."""
    figure = pictures.spectrum({"SGD": density(4), "SAM": density(2)}, width=0.05)
    [ax] = figure.axes
    curves = [line for line in ax.lines if len(line.get_xdata()) > 10]  # type: ignore[arg-type]
    assert [line.get_label() for line in curves] == ["SGD, largest 4", "SAM, largest 2"]
    x, y = (np.asarray(values, dtype=float) for values in curves[0].get_data())
    seen = y > ax.get_ylim()[0]
    np.testing.assert_allclose(y[seen], density(4).smoothed(x, 0.05)[0][seen])
    assert not np.allclose(y[seen], density(4).smoothed(x, 0.06)[0][seen])  # negative control
    peak = np.interp(4, x, y)
    assert peak > 2 * ax.get_ylim()[0]  # one eigenvalue can be seen
    assert len(ax.collections) == 2
    markers = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "^"]  # type: ignore[index]
    assert markers == pytest.approx([4.001, 2.001])
    assert ax.get_yscale() == "log"


def test_one_draw_has_no_band_since_its_error_is_unknown() -> None:
    assert not pictures.spectrum({"SGD": density(4, draws=1)}).axes[0].collections


@pytest.mark.parametrize(
    ("densities", "width"), [({}, None), ({"SGD": density(4)}, 0.0), ({"SGD": density(4)}, np.nan)]
)
def test_a_spectrum_of_nothing_or_without_width_is_refused(densities: Any, width: Any) -> None:
    with pytest.raises(ValueError, match="give one or more, and a positive width"):
        pictures.spectrum(densities, width=width)


def test_slices_are_drawn_as_they_are_given_and_several_with_their_mean() -> None:
    figure = pictures.along(T, slices(3), rho=0.1)
    [ax] = figure.axes
    assert labels(ax) == ["gradient", "random", "ball, ρ = 0.1"]
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines}
    np.testing.assert_array_equal(lines["gradient"], 3 * T**2)
    np.testing.assert_allclose(lines["random"], 0.2 * T**2)
    assert sum(line.get_linewidth() < 1 and line.get_color() == COLOURS[1] for line in ax.lines) == 2
    [ball] = [patch for patch in ax.patches if patch.get_label() == "ball, ρ = 0.1"]
    assert (ball.get_x(), ball.get_x() + ball.get_width()) == pytest.approx((-0.1, 0.1))  # type: ignore[attr-defined]
    assert "ball" not in " ".join(labels(pictures.along(T, slices(3)).axes[0]))  # negative control: no rho, no ball


def test_losses_at_other_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="8 losses of 'gradient' at 9 distances"):
        pictures.along(T, {"gradient": T[1:]})


def test_models_are_compared_on_one_scale_also_on_axes_that_share_none() -> None:
    axes = list(Figure().subplots(1, 2))
    alone = [pictures.along(T, slices(c)).axes[0].get_ylim() for c in (9, 1)]
    assert alone[0] != alone[1]  # negative control: on their own they have scales of their own
    pictures.compare(T, {"SGD": slices(9), "SAM": slices(1)}, axes)
    assert axes[0].get_ylim() == axes[1].get_ylim() == pytest.approx(alone[0])
    assert [ax.get_title("left") for ax in axes] == ["SGD", "SAM"]


def test_training_has_a_panel_for_each_quantity_over_common_steps() -> None:
    figure = pictures.training({"SGD": records(9), "SAM": records(1)})
    assert [ax.get_title("left") for ax in figure.axes] == list(pictures.SERIES.values())
    assert figure.axes[0].get_shared_x_axes().joined(figure.axes[0], figure.axes[-1])
    assert [ax.get_xlabel() for ax in figure.axes] == [""] * 5 + ["step"]
    assert labels(figure.axes[0]) == ["SGD", "SAM"]
    sgd, sam = figure.axes[1].lines
    np.testing.assert_array_equal(np.asarray(sgd.get_data()), [[0, 10, 20, 30], [0, 9, 18, 27]])
    np.testing.assert_array_equal(np.asarray(sam.get_ydata()), [0, 1, 2, 3])  # a measured 0 is no gap


def test_what_was_not_measured_leaves_a_gap_or_no_panel() -> None:
    run = records(1)
    run[1]["lambda_max"], run[2]["lambda_max"] = None, np.nan
    for record in run:
        del record["cosine"]
    figure = pictures.training(run)
    assert pictures.SERIES["cosine"] not in [ax.get_title("left") for ax in figure.axes]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [0, np.nan, np.nan, 3])
    assert not figure.axes[0].get_legend()  # one run without a name needs none


def test_one_quantity_on_axes_of_ones_own() -> None:
    ax = Figure().add_subplot()
    pictures.training(records(1), ax, series=["ratio"])
    assert ax.get_title("left") == "λ₁ / λ₅"


@pytest.mark.parametrize("run", [[], [{"step": 0}], [{"step": 0, "loss": np.nan}]])
def test_nothing_to_draw_is_refused(run: Any) -> None:
    with pytest.raises(ValueError, match="there is nothing to draw"):
        pictures.training(run)


def test_a_style_of_the_users_keeps_its_colours() -> None:
    with mpl.rc_context({"axes.prop_cycle": cycler(color=["#000001", "#000002"])}):
        lines = [line for line in pictures.along(T, {"a": T, "b": T}).axes[0].lines if line.get_label() in ("a", "b")]
    assert [line.get_color() for line in lines] == ["#000001", "#000002"]
    assert pictures.along(T, {"a": T}).axes[0].lines[0].get_color() == COLOURS[0]  # negative control
