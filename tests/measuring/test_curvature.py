"""Eigenvalues and densities against the dense Hessian, on both frameworks, and the same from the same weights."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from samfamily import Landscape, curvature
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape as TorchLandscape
from tests.measuring.networks import NETWORKS, Case, dense_hessian, jax_loss, torch_loss

FRAMEWORKS = ("torch", "jax")


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


@cache
def case(name: str) -> Case:
    return NETWORKS[name]()


def landscape(name: str, framework: str) -> Landscape:
    c = case(name)
    if framework == "torch":
        return TorchLandscape(torch_loss(c), c.module, (torch.from_numpy(c.x), torch.from_numpy(c.y)))
    return JaxLandscape(jax_loss(c), [jnp.asarray(x) for x in c.leaves], (jnp.asarray(c.x), jnp.asarray(c.y)))


@cache
def exact(name: str) -> Any:
    return np.linalg.eigvalsh(dense_hessian(case(name)))


@cache
def ends(name: str, framework: str) -> curvature.Eigenpairs:
    return curvature.eigenvalues(landscape(name, framework), top=10, bottom=5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", NETWORKS)
def test_both_ends_are_those_of_the_dense_hessian(name: str, framework: str) -> None:
    found, values = ends(name, framework), exact(name)
    assert found.converged
    np.testing.assert_allclose(found.values, [*values[::-1][:10], *values[:5][::-1]], rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_frameworks_measure_the_same(name: str) -> None:
    a, b = (ends(name, framework) for framework in FRAMEWORKS)
    np.testing.assert_allclose(a.values, b.values, rtol=1e-8)
    assert a.products == b.products


@pytest.mark.parametrize(("name", "framework"), [("MLP", "jax"), ("CNN", "torch"), ("transformer", "torch")])
def test_the_density_is_that_of_the_dense_hessian(name: str, framework: str) -> None:
    """And knowing both ends it is nearer."""
    values, found = exact(name), ends(name, framework)
    blind = curvature.density(landscape(name, framework), order=40, draws=4)
    seeing = curvature.density(landscape(name, framework), order=40, draws=4, known=found)
    assert distance(blind, values) <= 0.02 * (values[-1] - values[0])
    assert distance(seeing, values) <= distance(blind, values)


def distance(found: curvature.Density, values: Any) -> float:
    return float(wasserstein_distance(np.concatenate(found.nodes), values, np.concatenate(found.weights)))
