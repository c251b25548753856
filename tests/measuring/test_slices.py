"""Slices against closed forms and the filters of the weights, and from the same weights the same on both frameworks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from samfamily import Landscape, Leaf, Vec, slices
from samfamily.reference import Landscape as NumpyLandscape
from samfamily.reference import vec
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape as TorchLandscape
from tests.measuring.networks import NETWORKS, Case, jax_loss, torch_loss

FRAMEWORKS = ("torch", "jax")
DISTANCES = (-0.5, 0.0, 0.25, 1.0)


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def landscape(case: Case, framework: str) -> Landscape:
    if framework == "torch":
        return TorchLandscape(torch_loss(case), case.module, (torch.from_numpy(case.x), torch.from_numpy(case.y)))
    return JaxLandscape(
        jax_loss(case), [jnp.asarray(x) for x in case.leaves], (jnp.asarray(case.x), jnp.asarray(case.y))
    )


def quadratic(w: Any, names: Any = None) -> NumpyLandscape:
    """Half the squared distance from the origin, which along a direction is a parabola."""
    return NumpyLandscape(lambda w: (0.5 * float(sum(np.sum(x**2) for x in w)), list(w)), w, names=names)


def test_a_parabola_along_any_direction() -> None:
    w, d = [np.array([1.0, -2.0]), np.array([[0.5]])], [np.array([3.0, 1.0]), np.array([[-2.0]])]
    found = slices.along(quadratic(w), vec(d), DISTANCES)
    flat, along = (np.concatenate([x.ravel() for x in v]) for v in (w, d))
    expected = [0.5 * np.sum((flat + t * along) ** 2) for t in DISTANCES]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert not np.allclose(found, expected[::-1])  # negative control: a direction taken backwards


def test_a_plane_has_the_first_direction_in_its_rows() -> None:
    """Kills the mutant that swaps the directions: the plane of b and a is the transpose, and another one."""
    land = quadratic([np.array([1.0, 2.0])])
    a, b = (vec([x]) for x in (np.array([1.0, 0.0]), np.array([0.0, 3.0])))
    found = slices.plane(land, a, b, DISTANCES)
    np.testing.assert_array_equal(found[DISTANCES.index(0.0)], slices.along(land, a, DISTANCES))
    np.testing.assert_array_equal(found[:, DISTANCES.index(0.0)], slices.along(land, b, DISTANCES))
    np.testing.assert_array_equal(found.T, slices.plane(land, b, a, DISTANCES))
    assert not np.allclose(found, found.T)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_along_the_gradient_the_loss_rises_by_the_gradients_norm(framework: str) -> None:
    land, h = landscape(NETWORKS["MLP"](), framework), 1e-5
    g = land.gradient()[1]
    low, high = slices.along(land, g / g.norm(2), (-h, h))
    assert (high - low) / (2 * h) == pytest.approx(float(g.norm(2)), rel=1e-7)
    assert (high - low) / (2 * h) != pytest.approx(float(g.norm(2)) ** 2, rel=1e-2)  # negative control: g not divided


@pytest.mark.parametrize("name", NETWORKS)
def test_both_frameworks_see_the_same_slice(name: str) -> None:
    lands = [landscape(NETWORKS[name](), framework) for framework in FRAMEWORKS]
    directions = [slices.filter_normalised(land.w, seed=3) for land in lands]
    for ours, theirs in zip(*(d.collapse() for d in directions), strict=True):
        np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-12, atol=1e-15)
    a, b = (slices.along(land, d, DISTANCES) for land, d in zip(lands, directions, strict=True))
    np.testing.assert_allclose(a, b, rtol=1e-10)
    other = slices.along(lands[1], slices.filter_normalised(lands[1].w, seed=4), DISTANCES)
    assert not np.allclose(a, other)  # negative control: another seed is another direction


def test_pytorchs_weights_stand_where_they_stood() -> None:
    case = NETWORKS["CNN"]()
    before = case.leaves
    land = landscape(case, "torch")
    slices.along(land, slices.filter_normalised(land.w), DISTANCES)
    for ours, theirs in zip(case.leaves, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def norms(v: Vec, place: int, axis: int) -> Any:
    """The norms of one leaf's slices along an axis."""
    x = np.moveaxis(v.collapse()[place], axis, 0)
    return np.linalg.norm(x.reshape(len(x), -1), axis=1)


def test_every_filter_has_the_norm_of_the_weights_filter_and_the_rest_is_still() -> None:
    rng = np.random.default_rng(0)
    leaves = [Leaf("conv"), Leaf("bias"), Leaf("kernel", filter_axis=-1), Leaf("norm", normalisation=True)]
    w = vec([rng.normal(size=s) for s in ((4, 2, 3), (4,), (3, 5), (2, 2))], leaves)
    d = slices.filter_normalised(w)
    for place, axis in ((0, 0), (2, -1)):
        np.testing.assert_allclose(norms(d, place, axis), norms(w, place, axis), rtol=1e-12)
    assert not np.allclose(norms(d, 2, 0), norms(w, 2, 0))  # negative control: filters along the wrong axis
    assert not d.leaves[1].any()
    assert not d.leaves[3].any()


def test_a_scalar_beside_the_weights_counts() -> None:
    """Kills the mutant that reads the leaves of a Vec without its scalar."""
    w = vec([np.arange(6.0).reshape(2, 3) + 1])
    np.testing.assert_allclose(norms(slices.filter_normalised(3 * w), 0, 0), 3 * norms(w, 0, 0), rtol=1e-12)


def test_a_filter_of_zeros_does_not_move() -> None:
    d = slices.filter_normalised(vec([np.array([[0.0, 0.0], [1.0, 2.0]])]))
    assert not d.leaves[0][0].any()
    assert d.leaves[0][1].all()


def test_weights_without_filters_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="slice along the gradient"):
        slices.filter_normalised(vec([np.ones(3)]))
