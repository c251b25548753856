"""Layer 1 for what sparse masks and noise need: threshold, largest, rounding, counter and normal."""

from typing import Any

import numpy as np
import pytest

from samfamily import Vec, noise
from samfamily.reference import NumpySpace
from tests.spaces_under_test import FRAMEWORKS, Framework, to_numpy

TREE = (np.array([[3.0, -1.0], [0.0, -3.0]]), np.array(2.0), np.zeros(0), np.array([1.0, 3.0]))
frameworks = pytest.mark.parametrize("framework_", FRAMEWORKS, ids=lambda f: f.name)


@frameworks
def test_threshold_and_largest(framework_: Framework) -> None:
    """The k-th largest size, and ones at the k largest, the first of them where there are ties."""
    sizes = np.sort(np.abs(np.concatenate([x.ravel() for x in TREE])))[::-1]
    flat = np.concatenate([x.ravel() for x in TREE])
    order = np.argsort(-np.abs(flat), kind="stable")
    with framework_.mode():
        v = Vec(framework_.space(len(TREE)), framework_.leaves(TREE))
        for k in range(1, sizes.size + 1):
            assert float(v.space.threshold(v.leaves, k)) == sizes[k - 1]
            picked = np.concatenate([to_numpy(x).ravel() for x in v.largest(k).leaves])
            assert set(np.flatnonzero(picked)) == set(order[:k])
            assert set(order[: k - 1]) != set(np.flatnonzero(picked))  # negative control


@frameworks
def test_rounding_is_the_coarsest_leafs(framework_: Framework) -> None:
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    with framework_.mode():
        for coarse in framework_.dtypes:
            leaves = framework_.leaves((np.ones(2), np.ones(())), [framework_.dtypes[0], coarse])
            assert framework_.space(2).rounding(leaves) == max(eps[framework_.dtypes[0]], eps[coarse])


@frameworks
@pytest.mark.parametrize("step", [0, 3, 2**31 - 1])
def test_noise_is_numpys(framework_: Framework, step: int) -> None:
    reference: Any = noise.normal(Vec(NumpySpace(len(TREE)), TREE), 7, step).leaves
    with framework_.mode():
        v = Vec(framework_.space(len(TREE)), framework_.leaves(TREE))
        ours = [to_numpy(x) for x in noise.normal(v, 7, step).leaves]
        other = [to_numpy(x) for x in noise.normal(v, 8, step).leaves]
        counted = to_numpy(v.space.counter(5, v.leaves[0]))
    rtol = 1e-12 if framework_.dtypes[0] == "float64" else 1e-4
    for a, b, c in zip(ours, reference, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5 if rtol > 1e-9 else 0)
        assert not a.size or not np.allclose(c, b, rtol=1e-3)  # negative control: another seed
    np.testing.assert_array_equal(counted, [[5, 6], [7, 8]])
