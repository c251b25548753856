"""Layer 2: what rounding leaves of a perturbation: all of it, but for weights in half precision."""

from math import inf, sqrt
from typing import Any

import numpy as np
import pytest

from samfamily import SAM, PeriodicSAM, Step, Variant, Vec
from samfamily.program import State, drive
from samfamily.reference import NumpySpace


def step(variant: Variant, w: list[float], d: list[float], dtype: Any, at: int = 0) -> Step:
    """Return a step from w along the constant gradient d."""
    space = NumpySpace(1)
    gradient = Vec(space, (np.array(d, dtype),))
    return drive(variant.program(Vec(space, (np.array(w, dtype),)), State(at)), lambda request: gradient)


# A float16 next to 1 is 2^-10 away, and one next to 1024 is 1 away.
SHARES = [
    (2.0, 2.0**-3, [1.0, 1.0], [1.0, 0.0], 1.0),
    (2.0, 2.0**-13, [1.0, 1.0], [1.0, 0.0], 0.0),
    (2.0, 0.75 * 2.0**-10, [1.0, 1.0], [1.0, 0.0], 4 / 3),
    (inf, 2.0**-3, [1.0, 1.0], [-1.0, 1.0], 1.0),
    (inf, 2.0**-3, [1.0, 1024.0], [-1.0, 1.0], 1 / sqrt(2)),
]


@pytest.mark.parametrize(("p", "rho", "w", "d", "share"), SHARES)
def test_the_share_that_arrives_in_half_precision(
    p: float, rho: float, w: list[float], d: list[float], share: float
) -> None:
    found = step(SAM(rho=rho, p=p), w, d, np.float16)
    assert found.radius == rho
    assert float(found.arrived) == pytest.approx(share, rel=1e-6)
    assert float(found.effective_radius) == pytest.approx(share * rho, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rho", [0.0, 2.0**-40, 2.0**-3])
def test_wider_weights_are_not_looked_at(dtype: Any, rho: float) -> None:
    """The share is the number 1, which costs nothing, also where in truth nothing arrived."""
    found = step(SAM(rho=rho), [1.0, 1.0], [1.0, 0.0], dtype)
    assert isinstance(found.arrived, float)
    assert isinstance(found.radius, float)  # known before the step, and no array either
    assert found.arrived == 1
    assert found.effective_radius == rho


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("variant", [SAM(rho=0.0), PeriodicSAM(rho=0.5, k=2)], ids=["zero", "between climbs"])
def test_a_step_that_does_not_climb_goes_nowhere(variant: Variant, dtype: Any) -> None:
    assert float(step(variant, [1.0, 1.0], [1.0, 0.0], dtype, at=1).effective_radius) == 0
