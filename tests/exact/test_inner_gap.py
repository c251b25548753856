"""inner_gap: the same comparison on NumPy, PyTorch and JAX, and what it leaves behind."""

from dataclasses import FrozenInstanceError, astuple
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import samfamily_jax
import samfamily_torch
from samfamily import AESAM, ASAM, SAM, SSAM, USAM, FisherSAM, InnerGap, Variant, Vec, gap
from samfamily.inner import measure
from samfamily.program import drive
from samfamily.reference import NumpySpace
from samfamily.search import Effort
from tests.exact.oracles import on_the_sphere

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(12, 3)), rng.normal(size=12)
W, V = rng.normal(size=(3, 4)), rng.normal(size=4)
"""A tanh network of one hidden layer."""


def value(w: Any, v: Any, x: Any = X, y: Any = Y) -> Any:
    return np.mean((np.tanh(x @ w) @ v - y) ** 2)


def numpy_gap(variant: Variant, **kwargs: Any) -> InnerGap:
    def answer(point: Vec) -> Any:
        w, v = point.collapse()
        a = np.tanh(X @ w)
        r = 2 * (a @ v - Y) / 12
        return value(w, v), Vec(point.space, (X.T @ (r[:, None] * v * (1 - a**2)), a.T @ r))

    effort = Effort(kwargs.get("iterations", 20), kwargs.get("restarts", 3), 1e-6, kwargs.get("seed", 0))
    return drive(measure(variant, Vec(NumpySpace(2), (W, V)), kwargs.get("beta"), effort), answer)


def torch_gap(variant: Variant, **kwargs: Any) -> InnerGap:
    w, v = (torch.nn.Parameter(torch.tensor(x)) for x in (W, V))

    def closure(x: Any, y: Any) -> Any:
        w.grad = v.grad = None
        loss = torch.mean((torch.tanh(x @ w) @ v - y) ** 2)
        loss.backward()
        return loss

    batch = (torch.tensor(X), torch.tensor(Y))
    return samfamily_torch.inner_gap(closure, [w, v], variant, batch=batch, **kwargs)


def jax_gap(variant: Variant, **kwargs: Any) -> InnerGap:
    with jax.enable_x64(True):
        loss = jax.jit(lambda p, x, y: jnp.mean((jnp.tanh(x @ p[0]) @ p[1] - y) ** 2))
        return samfamily_jax.inner_gap(loss, variant, **kwargs)([jnp.asarray(W), jnp.asarray(V)], X, Y)


VARIANTS = [SAM(rho=0.05), SAM(rho=1.0), SAM(rho=0.3, p=1), SAM(rho=0.1, p=inf), SAM(rho=0.3, p=3), ASAM(rho=0.5)]


@pytest.mark.parametrize("backend", [torch_gap, jax_gap])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.name}-{v.ball.p}-{v.radius.rho}")
@pytest.mark.parametrize("beta", [None, 5.0])
def test_the_backends_agree(backend: Any, variant: Variant, beta: float | None) -> None:
    ours, theirs = numpy_gap(variant, beta=beta), backend(variant, beta=beta)
    np.testing.assert_allclose(astuple(theirs), astuple(ours), rtol=1e-9)


def test_the_figures_are_what_they_say() -> None:
    found = numpy_gap(SAM(rho=1.0))
    assert found.loss == value(W, V)
    assert found.rho == 1.0
    assert found.p == 2
    samples = [value(W + e[:12].reshape(3, 4), V + e[12:]) for e in on_the_sphere(16, 1.0, 3000)]
    assert found.best >= max(samples)
    assert found.best >= found.first_order
    assert found.gap == found.best - found.first_order
    assert found.ratio == (found.first_order - found.loss) / (found.best - found.loss)
    assert not found.certified
    assert found.upper == inf
    assert not found.beta_given
    assert found.x == found.beta * found.rho / found.dual_norm
    assert found.bound == gap.gap_bound(found.beta, 1.0, found.dual_norm)
    assert found.gap <= found.bound
    assert 3 <= found.evaluations <= 1 + 3 * 21


def test_a_beta_proves_the_maximum_where_rho_is_small() -> None:
    found = numpy_gap(SAM(rho=0.01), beta=20.0)
    assert found.x < 0.5
    assert found.certified
    assert found.beta == 20.0
    assert found.beta_given
    assert found.best <= found.upper <= found.best * (1 + 1e-6)
    assert not numpy_gap(SAM(rho=0.5), beta=20.0).certified


def test_the_ratio_falls_as_rho_grows() -> None:
    ratios = [numpy_gap(SAM(rho=rho)).ratio for rho in (0.01, 0.1, 1.0)]
    assert 1 >= ratios[0] > 0.999
    assert ratios[0] > ratios[1] > ratios[2]


def test_the_slope_seen_is_below_any_true_constant() -> None:
    """On a quadratic the slope cannot exceed the largest eigenvalue, and a search along it comes near."""
    H = np.diag([3.0, 1.0, -2.0])

    def answer(point: Vec) -> Any:
        (w,) = point.collapse()
        return 0.5 * w @ H @ w, Vec(point.space, (H @ w,))

    w = Vec(NumpySpace(1), (np.array([1.0, 1.0, 1.0]),))
    found = drive(measure(SAM(rho=5.0), w, None, Effort(50, 5)), answer)
    assert 2.9 <= found.beta <= 3.0 * (1 + 1e-12)


def test_a_flat_loss_is_attained_whole() -> None:
    w = Vec(NumpySpace(1), (np.ones(2),))
    found = drive(measure(SAM(rho=0.1), w, None, Effort(3, 2)), lambda point: (1.0, 0.0 * point))
    assert (found.ratio, found.gap, found.x) == (1.0, 0.0, inf)


def test_x_is_finite_where_the_gradient_is_small() -> None:
    """On a bowl of curvature 0.1, with a gradient of length 0.1."""
    w = Vec(NumpySpace(1), (np.array([1.0, 0.0]),))
    found = drive(measure(SAM(rho=0.2), w, None, Effort(3, 2)), lambda w: (0.05 * w.inner(w), 0.1 * w))
    assert found.dual_norm == pytest.approx(0.1, rel=1e-12)
    assert found.x == pytest.approx(0.2, rel=1e-9)


def test_the_ball_is_the_rows_own_at_its_first_step() -> None:
    """What a metric, a radius and a schedule read is handed to them: gradient, dual norm, memory and step."""
    plain = numpy_gap(SAM(rho=0.1))
    assert numpy_gap(FisherSAM(rho=0.1)).dual_norm < plain.dual_norm
    assert numpy_gap(USAM(rho=0.1)).rho == 0.1 * plain.dual_norm
    assert numpy_gap(AESAM(rho=0.1)).rho == 0.1
    assert numpy_gap(SAM(rho=lambda step: 0.1 + step)).rho == 0.1


def test_the_bound_is_that_of_the_balls_own_norm() -> None:
    found = numpy_gap(SAM(rho=0.01, p=1))
    assert found.bound == gap.gap_bound(found.beta, 0.01, found.dual_norm, p=1)
    assert found.bound != gap.gap_bound(found.beta, 0.01, found.dual_norm, p=2)


def test_what_was_measured_stays_as_it_was() -> None:
    with pytest.raises(FrozenInstanceError):
        numpy_gap(SAM(rho=0.01)).best = 0.0  # type: ignore[misc]


def test_it_prints_what_a_person_asks() -> None:
    text = str(numpy_gap(SAM(rho=0.01), beta=20.0))
    assert text.startswith("rho = 0.01: the first-order step takes the loss from ")
    assert "the maximum is" in text
    assert "the best found is" in str(numpy_gap(SAM(rho=1.0)))


@pytest.mark.parametrize("measured", [numpy_gap, torch_gap, jax_gap])
def test_what_has_no_single_ball_is_refused(measured: Any) -> None:
    leafwise = SAM(rho=Vec(NumpySpace(2), (np.array(0.1), np.array(0.2))))
    for variant, error, words in (
        (
            SAM(rho=0.1).sharded(4),
            ValueError,
            r"m = 4 has an inner maximum .* one shard as the batch$",
        ),
        (SSAM(rho=0.1), ValueError, "keeps a mask"),
        (leafwise, TypeError, "a radius for each leaf"),
    ):
        with pytest.raises(error, match=words):
            measured(variant)
    with pytest.raises(ValueError, match="beta must be finite and at least 0"):
        measured(SAM(rho=0.1), beta=-1.0)


def test_a_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 1))
    model[0].bias.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0) if p.requires_grad else None
    before = [(p.data.clone(), p.data_ptr(), p.grad) for p in model.parameters()]

    def closure() -> Any:
        model.zero_grad()
        loss = model(torch.tensor(X, dtype=torch.float32)).square().mean()
        loss.backward()
        return loss

    state = torch.random.get_rng_state()
    found = samfamily_torch.inner_gap(closure, model, ASAM(rho=0.1))
    assert found.evaluations > 2
    assert torch.equal(torch.random.get_rng_state(), state)
    for p, (data, address, gradient) in zip(model.parameters(), before, strict=True):
        assert torch.equal(p.data, data)
        assert p.data_ptr() == address
        assert p.grad is gradient


def test_an_exception_brings_the_weights_home() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    calls = 0

    def closure() -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ZeroDivisionError
        w.grad = None
        loss = (w**2).sum()
        loss.backward()
        return loss

    with pytest.raises(ZeroDivisionError):
        samfamily_torch.inner_gap(closure, [w], SAM(rho=0.1))
    assert torch.equal(w.data, torch.ones(3))


def test_errors_of_the_adapters() -> None:
    w = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        samfamily_torch.inner_gap(lambda: None, [w], SAM())
    w.requires_grad_(True)
    with pytest.raises(TypeError, match="the closure returned None"):
        samfamily_torch.inner_gap(lambda: None, [w], SAM())
    with pytest.raises(TypeError, match=r"variant must be a Variant, got 0.05"):
        samfamily_torch.inner_gap(lambda: None, [w], 0.05)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"variant must be a Variant, got 0.05"):
        samfamily_jax.inner_gap(lambda w: w, 0.05)  # type: ignore[arg-type]


def test_jax_takes_aux_and_leaves_that_are_no_floats() -> None:
    params = {"w": jnp.ones(2), "n": 3}
    found = samfamily_jax.inner_gap(lambda p: (jnp.sum(p["w"] ** 2), "aux"), SAM(rho=0.5), has_aux=True)(params)
    assert found.best == pytest.approx((np.sqrt(2) + 0.5) ** 2, rel=1e-6)
    assert found.ratio == pytest.approx(1.0, abs=1e-6)
