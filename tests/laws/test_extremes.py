"""Layer 2: directions at the ends of a dtype's range have a finite answer of the right length, on every framework."""

from math import inf

import numpy as np
import pytest

from samfamily import Ball
from tests.laws.ball_laws import p_norm
from tests.spaces_under_test import EPS, FRAMEWORKS, Framework, to_tree
from tests.strategies import flat, site

ENDS = {
    "huge": {"float64": 1e307, "float32": 3e37, "float16": 3e4, "bfloat16": 3e37},
    "least normal": {"float64": 2.3e-308, "float32": 1.2e-38, "float16": 6.2e-5, "bfloat16": 1.2e-38},
    "subnormal": {"float64": 1e-310, "float32": 1e-40, "float16": 1e-6, "bfloat16": 1e-40},
}
CASES = [(f, t, end) for f in FRAMEWORKS for t in f.dtypes for end in ENDS]


@pytest.mark.parametrize(("framework_", "dtype", "end"), CASES, ids=[f"{f.name}-{t}-{end}" for f, t, end in CASES])
def test_the_answer_is_finite_and_on_the_sphere_or_zero(framework_: Framework, dtype: str, end: str) -> None:
    """Zero only where the framework flushes subnormal numbers to zero."""
    x = ENDS[end][dtype]
    with framework_.mode(), np.errstate(all="ignore"):
        d = framework_.vec((np.array([x, -x]), np.array(0.0)), [dtype] * 2)
        w = framework_.vec((np.array([1.0, -2.0]), np.array(3.0)), [dtype] * 2)
        for p in (1.0, 1.5, 2.0, 3.0, inf):
            epsilon = 0.5 * Ball(p).at(site(w)).maximiser(d)
            point = flat(to_tree(w + epsilon))
            size = p_norm(flat(to_tree(epsilon)), p)
            assert np.all(np.isfinite(point)), (p, point)
            flushed = end == "subnormal" and size == 0
            assert flushed or abs(size - 0.5) <= 8 * EPS[dtype], (p, size)
