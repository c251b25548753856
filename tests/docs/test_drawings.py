"""The pictures of docs/idea.md: what is drawn is the highest there is, and what is committed is what is drawn."""

from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.scripts import DOCS, script


@pytest.fixture(scope="module")
def drawings() -> ModuleType:
    return script("drawings")


@pytest.mark.parametrize("p", [1.0, 2.0, inf])
def test_no_point_of_the_ball_is_higher_on_the_linear_part(drawings: Any, p: float) -> None:
    point, height = drawings.climb(p, drawings.GRADIENT)
    assert drawings.GRADIENT @ point == pytest.approx(height)
    assert np.max(drawings.GRADIENT @ drawings.sphere(p)) == pytest.approx(height, rel=1e-4)


def test_the_star_is_the_maximum_and_the_climb_is_not(drawings: Any) -> None:
    """Negative control included: on this loss the first-order step misses a third of the rise."""
    highest = np.max(drawings.rise(drawings.sphere(2.0)))
    assert drawings.rise(drawings.worst(1.0)) == pytest.approx(highest, rel=1e-4)
    assert drawings.rise(drawings.climb(2.0, drawings.GRADIENT)[0]) < 0.7 * highest


def test_the_committed_pictures_are_these(drawings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "FOLDER", tmp_path)
    drawings.main()
    for picture in tmp_path.iterdir():
        assert picture.read_bytes() == (DOCS / "assets/idea" / picture.name).read_bytes(), "run `make docs`"
