"""Layer 2: m examples share one perturbation, whatever drives the variant."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import samfamily_jax
from samfamily import ASAM, SAM, Variant, reference
from samfamily.program import add
from samfamily_torch import SharpnessAware
from tests.strategies import seeds

N, SIZE, RHO = 12, 4, 0.3
DIVISORS = st.sampled_from([1, 2, 3, 4, 6, 12])
U = 2.0**-53


def problem(seed: int) -> tuple[Any, Any, Any]:
    """Return w, a Hessian and examples x of the loss (w'Hw) / 2 + mean_i x_i'w."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(SIZE, SIZE))
    return rng.normal(size=SIZE), a + a.T, rng.normal(size=(N, SIZE))


def numpy_gradient(variant: Variant, w: Any, H: Any, x: Any) -> Any:
    def loss(w: Any, x: Any) -> tuple[Any, Any]:
        return w[0] @ H @ w[0] / 2 + np.mean(x @ w[0]), [H @ w[0] + x.mean(0)]

    return reference.value_and_grad(loss, variant)([w], x)[1][0]


def torch_gradient(variant: Variant, w: Any, H: Any, x: Any) -> Any:
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = SharpnessAware(torch.optim.SGD([parameter], lr=1.0), variant)

    def closure(x: Any) -> Any:
        optimizer.zero_grad()
        loss = parameter @ torch.tensor(H) @ parameter / 2 + torch.mean(x @ parameter)
        loss.backward()
        return loss

    optimizer.step(closure, batch=(torch.tensor(x),))
    assert parameter.grad is not None
    return parameter.grad.numpy()


def jax_gradient(variant: Variant, w: Any, H: Any, x: Any) -> Any:
    def loss(w: Any, x: Any, H: Any) -> Any:
        return w @ H @ w / 2 + jnp.mean(x @ w)

    with jax.enable_x64(True):
        return np.asarray(
            samfamily_jax.value_and_grad(loss, variant)(jnp.asarray(w), jnp.asarray(x), jnp.asarray(H))[1]
        )


Gradient = Callable[[Variant, Any, Any, Any], Any]
DRIVERS: list[Gradient] = [numpy_gradient, torch_gradient, jax_gradient]


def has_the_closed_form(gradient: Gradient, seed: int, m: int) -> None:
    """P21: mSAM - SAM = rho H (mean of the shards' unit gradients - unit mean gradient), to 1e-12."""
    w, H, x = problem(seed)
    shards = H @ w + x.reshape(-1, m, SIZE).mean(1)
    units = shards / np.linalg.norm(shards, axis=1, keepdims=True)
    g = H @ w + x.mean(0)
    expected = RHO * H @ (units.mean(0) - g / np.linalg.norm(g))
    difference = gradient(SAM(rho=RHO).sharded(m), w, H, x) - gradient(SAM(rho=RHO), w, H, x)
    np.testing.assert_allclose(difference, expected, rtol=0, atol=1e-12)


@given(seeds, DIVISORS)
def test_the_closed_form_of_common_curvature(seed: int, m: int) -> None:
    has_the_closed_form(numpy_gradient, seed, m)


@pytest.mark.parametrize("gradient", DRIVERS)
@pytest.mark.parametrize("m", [1, 4, 12])
def test_the_closed_form_on_every_driver(gradient: Gradient, m: int) -> None:
    has_the_closed_form(gradient, 0, m)


@pytest.mark.parametrize("gradient", DRIVERS)
@pytest.mark.parametrize("row", [SAM(rho=RHO), SAM(rho=RHO, p=3, steps=2), ASAM(rho=RHO)], ids=str)
def test_the_whole_batch_is_the_unsharded_variant_bit_by_bit(gradient: Gradient, row: Variant) -> None:
    w, H, x = problem(1)
    np.testing.assert_array_equal(gradient(row.sharded(N), w, H, x), gradient(row, w, H, x))


@given(seeds, DIVISORS)
def test_identical_shards_are_no_shards(seed: int, m: int) -> None:
    w, H, x = problem(seed)
    x = np.tile(x[:m], (N // m, 1))
    one, many = (numpy_gradient(v, w, H, x) for v in (SAM(rho=RHO), SAM(rho=RHO).sharded(m)))
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-13 * float(np.linalg.norm(H)))


@given(seeds, DIVISORS)
def test_the_order_of_the_shards_does_not_matter(seed: int, m: int) -> None:
    w, H, x = problem(seed)
    order = np.random.default_rng(seed).permutation(N // m)
    shuffled = x.reshape(-1, m, SIZE)[order].reshape(N, SIZE)
    row = SAM(rho=RHO).sharded(m)
    np.testing.assert_allclose(
        numpy_gradient(row, w, H, shuffled), numpy_gradient(row, w, H, x), rtol=0, atol=1e-13 * float(np.linalg.norm(H))
    )


def test_the_order_of_the_examples_does() -> None:
    """Negative control of the test above: moving an example to another shard changes the result."""
    w, H, x = problem(0)
    row = SAM(rho=RHO).sharded(4)
    assert np.max(abs(numpy_gradient(row, w, H, np.roll(x, 1, 0)) - numpy_gradient(row, w, H, x))) > 1e-3


@given(seeds, DIVISORS)
def test_affine_examples_do_not_see_m(seed: int, m: int) -> None:
    w, H, x = problem(seed)
    np.testing.assert_allclose(numpy_gradient(SAM(rho=RHO).sharded(m), w, 0 * H, x), x.mean(0), rtol=0, atol=40 * U)


# ------------------------------------------------------------------------------------------------------------ mutants


def add_up(steps: Iterable[Any]) -> Any:
    """Return the sum over shards where the mean is meant."""
    return reduce(add, steps)


def only_the_last(steps: Iterable[Any]) -> Any:
    return list(steps)[-1]


@pytest.mark.parametrize("mutant", [add_up, only_the_last])
def test_mutants_of_the_mean_are_killed(mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "mean", mutant)
    with pytest.raises(AssertionError):
        has_the_closed_form(numpy_gradient, 0, 4)


def ignores_m(variant: Variant, w: Any, H: Any, x: Any) -> Any:
    return numpy_gradient(SAM(rho=RHO), w, H, x)


def takes_every_kth_example(variant: Variant, w: Any, H: Any, x: Any) -> Any:
    m = variant.m or N
    return numpy_gradient(variant, w, H, x.reshape(m, -1, SIZE).swapaxes(0, 1).reshape(N, SIZE))


@pytest.mark.parametrize("mutant", [ignores_m, takes_every_kth_example])
def test_mutants_of_the_cut_are_killed(mutant: Gradient) -> None:
    with pytest.raises(AssertionError):
        has_the_closed_form(mutant, 0, 4)
