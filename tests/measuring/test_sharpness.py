"""Sharpness is measured by the program that trains: the same climb, the same ball, the same m."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import isnan
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samfamily import (
    ASAM,
    FAMILY,
    GSAM,
    MSAM,
    SAM,
    AsyncSAM,
    FisherSAM,
    FriendlySAM,
    LookSAM,
    Variant,
    exact,
    filterwise,
    sharpness,
)
from samfamily.reference import Landscape as NumpyLandscape
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape, SharpnessAware
from tests.measuring.networks import Case, jax_loss, mlp, torch_loss

EXAMPLES = 24
ROWS: dict[str, Variant] = {
    "SAM": SAM(rho=0.1),
    "SAM, m=8": SAM(rho=0.1).sharded(8),
    "SAM, m=1": SAM(rho=0.1).sharded(1),
    "SAM, 3 steps, p=3, m=8": SAM(rho=0.1, p=3, steps=3).sharded(8),
    "ASAM, m=8": ASAM(rho=0.5).sharded(8),
    "ASAM, filters": ASAM(rho=0.5, size=filterwise),
    "FisherSAM": FisherSAM(rho=0.1),
    "GSAM, m=8": GSAM(rho=0.1).sharded(8),
    "FriendlySAM": FriendlySAM(rho=0.1),
    "LookSAM": LookSAM(rho=0.1),
    "MSAM": MSAM(rho=0.1),
    "AsyncSAM": AsyncSAM(rho=0.1),
    "SAM, second order": SAM(rho=0.1, second_order=True),
}


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


@cache
def case() -> Case:
    whole = mlp()
    return whole._replace(x=whole.x[:EXAMPLES], y=whole.y[:EXAMPLES])


def on_torch() -> Landscape:
    c = case()
    return Landscape(torch_loss(c), c.module, (torch.from_numpy(c.x), torch.from_numpy(c.y)))


def on_jax() -> JaxLandscape:
    c = case()
    return JaxLandscape(jax_loss(c), [jnp.asarray(x) for x in c.leaves], (jnp.asarray(c.x), jnp.asarray(c.y)))


@pytest.mark.parametrize("name", ROWS)
def test_the_climb_is_the_training_step_s(name: str) -> None:
    """A measure with a climb of its own would differ in m, the metric or the norm for one of these rows."""
    variant, c = ROWS[name], mlp()
    c = c._replace(x=c.x[:EXAMPLES], y=c.y[:EXAMPLES])
    optimizer = SharpnessAware(torch.optim.SGD(c.module.parameters(), lr=0.0), variant, model=c.module)

    def closure(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = torch_loss(c)(x, y)
        loss.backward()
        return loss

    optimizer.step(closure, batch=(torch.from_numpy(c.x), torch.from_numpy(c.y)))
    told, found = optimizer.info, sharpness.climb(on_torch(), variant)
    for key in ("perturbed_loss", "dual_norm", "radius", "effective_radius"):
        np.testing.assert_allclose(getattr(found, key), float(getattr(told, key)), rtol=1e-12, err_msg=key)
    with torch.no_grad():
        np.testing.assert_allclose(found.loss, torch_loss(c)(torch.from_numpy(c.x), torch.from_numpy(c.y)), rtol=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_both_frameworks_measure_the_same(name: str) -> None:
    a, b = sharpness.climb(on_torch(), ROWS[name]), sharpness.climb(on_jax(), ROWS[name])
    np.testing.assert_allclose(a, b, rtol=1e-8)
    assert not any(map(isnan, a))


def test_every_row_can_be_measured() -> None:
    rows = [row() for row in FAMILY.values()]
    assert len(rows) > 20
    for variant in rows:
        assert np.isfinite(sharpness.worst_case(on_torch(), variant).value), variant.name


@pytest.mark.parametrize("name", ["SAM", "SAM, m=8", "SAM, 3 steps, p=3, m=8", "MSAM", "SAM, second order"])
def test_a_climb_costs_what_a_step_costs(name: str) -> None:
    landscape, variant = on_torch(), ROWS[name]
    sharpness.climb(landscape, variant)
    asked_elsewhere = name == "MSAM"  # it climbs its momentum, and the loss at w takes a gradient more
    assert landscape.spent.gradients == pytest.approx(variant.gradients_per_step + asked_elsewhere, abs=1e-12)


def relu_network(scale: float) -> NumpyLandscape:
    """Return two layers without biases whose function is the same at every scale: w1 * scale, w2 / scale."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 7)) * scale, rng.normal(size=(7, 1)) / scale
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 1))

    def loss(w: Any, x: Any, y: Any) -> Any:
        hidden = np.maximum(x @ w[0], 0)
        off = hidden @ w[1] - y
        back = off @ w[1].T * (hidden > 0)
        return float(np.mean(off**2)), [2 * x.T @ back / len(x), 2 * hidden.T @ off / len(x)]

    return NumpyLandscape(loss, [a, b], (x, y))


MEASURES: dict[str, Callable[..., Any]] = {
    "worst_case": lambda landscape, variant: sharpness.worst_case(landscape, variant.sharded(4)),
    "searched": lambda landscape, variant: sharpness.searched(landscape, variant, iterations=3, restarts=1),
    "average_case": lambda landscape, variant: sharpness.average_case(landscape, variant, draws=4),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_adaptive_sharpness_does_not_see_a_rescaling(measure: str) -> None:
    one, other = (MEASURES[measure](relu_network(s), ASAM(rho=0.2, eta=0.0)).value for s in (1.0, 10.0))
    assert one == pytest.approx(other, rel=1e-9)
    one, other = (MEASURES[measure](relu_network(s), SAM(rho=0.2)).value for s in (1.0, 10.0))
    assert abs(other / one - 1) > 0.1  # negative control: in the Euclidean ball it is another number


def quadratic(seed: int, n: int = 4) -> tuple[NumpyLandscape, Any, Any]:
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(n, n))
    H, w, c = H + H.T, rng.normal(size=n), rng.normal(size=n)

    def loss(w: Any) -> Any:
        return float(0.5 * w[0] @ H @ w[0] + c @ w[0]), [H @ w[0] + c]

    return NumpyLandscape(loss, [w]), H @ w + c, H


@given(seed=st.integers(0, 2**16), rho=st.floats(0.01, 2.0))
def test_what_is_searched_is_the_maximum_or_below_it_and_not_below_the_first_step(seed: int, rho: float) -> None:
    landscape, g, H = quadratic(seed)
    highest = exact.maximize_quadratic(g, H, rho).value
    first = sharpness.worst_case(landscape, SAM(rho=rho)).value
    found = sharpness.searched(landscape, SAM(rho=rho), beta=float(abs(np.linalg.eigvalsh(H)).max()))
    slack = 1e-9 * (1 + abs(highest))
    assert first - slack <= found.value <= highest + slack
    assert highest <= found.upper + slack


def test_where_the_gradient_hardly_turns_the_maximum_is_exact() -> None:
    landscape, g, H = quadratic(5)
    beta = float(abs(np.linalg.eigvalsh(H)).max())
    rho = 0.1 * float(np.linalg.norm(g)) / beta
    found = sharpness.searched(landscape, SAM(rho=rho), beta=beta)
    assert found.upper - found.value <= 1e-6 * found.value
    assert found.value == pytest.approx(exact.maximize_quadratic(g, H, rho).value, rel=1e-6)
    assert sharpness.searched(landscape, SAM(rho=rho)).upper == np.inf  # nobody said how the gradient varies


def test_several_climbs_see_more_of_the_ball() -> None:
    """SAM with five climbs on a saddle, where the gradient turns: as in the paper's Table 11."""
    landscape, g, H = quadratic(7)
    rises = [sharpness.worst_case(landscape, SAM(rho=1.0, steps=k)).value for k in (1, 5)]
    assert rises[0] < rises[1] <= exact.maximize_quadratic(g, H, 1.0).value + 1e-9


def test_the_average_is_half_the_trace() -> None:
    landscape, _, H = quadratic(3, n=6)
    found = sharpness.average_case(landscape, SAM(rho=0.3), draws=2000)
    assert abs(found.value - 0.5 * 0.3**2 * np.trace(H)) < 4 * found.error < 0.5


def test_the_average_of_a_slope_is_nothing() -> None:
    """Kills a draw without its opposite."""
    landscape = NumpyLandscape(lambda w: (float(w[0].sum()), [np.ones(3)]), [np.zeros(3)])
    assert sharpness.average_case(landscape, SAM(rho=1.0), draws=3).value == pytest.approx(0, abs=1e-12)


def test_the_average_is_in_the_metric() -> None:
    landscape, _, H = quadratic(3, n=6)
    found = sharpness.average_case(landscape, ASAM(rho=0.3, eta=0.0), draws=2000)
    T = np.diag(abs(landscape.w.leaves[0]))
    assert abs(found.value - 0.5 * 0.3**2 * np.trace(T @ H @ T)) < 4 * found.error


def test_m_sharpness_is_the_mean_over_shards() -> None:
    rng = np.random.default_rng(0)
    x, w, rho = rng.normal(size=(12, 3)), rng.normal(size=3), 0.2

    def loss(w: Any, x: Any) -> Any:
        return float(np.mean(np.cos(x @ w[0]))), [-np.mean(np.sin(x @ w[0])[:, None] * x, 0)]

    rises: list[float] = []
    for m in (1, 3, 12):
        rises.clear()
        for shard in x.reshape(12 // m, m, 3):
            before, (g,) = loss([w], shard)
            rises.append(loss([w + rho * g / np.linalg.norm(g)], shard)[0] - before)
        landscape = NumpyLandscape(loss, [w], [(x[:6],), (x[6:],)] if m < 12 else (x,))
        found = sharpness.worst_case(landscape, SAM(rho=rho).sharded(m))
        np.testing.assert_allclose(found.samples, rises, rtol=1e-12)
        assert found.value == pytest.approx(np.mean(rises), rel=1e-12)
    whole = NumpyLandscape(loss, [w], [(x[:6],), (x[6:],)])  # without an m, batches share the perturbation
    assert sharpness.worst_case(whole, SAM(rho=rho)).value == pytest.approx(rises[0], rel=1e-12)


def test_what_cannot_be_measured_says_so() -> None:
    landscape = relu_network(1.0)
    with pytest.raises(ValueError, match=r"m = 5 does not divide the batch of 12 .* \[1, 2, 3, 4, 6, 12\]"):
        sharpness.worst_case(landscape, SAM(rho=0.1).sharded(5))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        sharpness.average_case(landscape, SAM(rho=0.1), draws=0)
    landscape.w.leaves[1][0] = np.nan
    for measure in MEASURES.values():
        with pytest.raises(ValueError, match="hold NaN or inf"):
            measure(landscape, SAM(rho=0.1))
