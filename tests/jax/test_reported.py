"""Faults that were met by experiment, one test each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from samfamily import AESAM, FAMILY, SAM, reference
from samfamily_jax import sharpness_aware, value_and_grad
from samfamily_jax.bridge import gradient_transformation


def loss(w: Any, x: Any) -> Any:
    return jnp.mean((x @ w - 1) ** 2)


X, W = jax.random.normal(jax.random.key(0), (8, 4)), jnp.arange(4.0)


def test_parameters_are_not_taken_for_the_batch() -> None:
    with pytest.raises(ValueError, match="name one argument as batch and as parameters"):
        value_and_grad(lambda x, w: loss(w, x), SAM().sharded(2), argnums=1)(X, W)
    _, right = value_and_grad(lambda x, w: loss(w, x), SAM().sharded(2), argnums=1, batch_argnums=0)(X, W)
    np.testing.assert_allclose(right, value_and_grad(loss, SAM().sharded(2))(W, X)[1], rtol=1e-6)


def test_batch_argnums_may_be_negative_and_must_fit() -> None:
    _, right = value_and_grad(loss, SAM().sharded(2))(W, X)
    np.testing.assert_array_equal(value_and_grad(loss, SAM().sharded(2), batch_argnums=-1)(W, X)[1], right)
    with pytest.raises(ValueError, match=r"batch_argnums = \(1, 7\) does not fit a loss called with 2"):
        value_and_grad(loss, SAM().sharded(2), batch_argnums=(1, 7))(W, X)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "WSAM"])
def test_the_first_state_can_be_donated(name: str) -> None:
    sa = sharpness_aware(loss, FAMILY[name](), normalisation=True)
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(sa.init(W))]
    assert len(set(buffers)) == len(buffers)


def test_the_bridge_keeps_the_parameters_dtype() -> None:
    for dtype in (jnp.bfloat16, jnp.float32):
        tx = gradient_transformation(optax.sgd(0.1), AESAM())
        w, x = W.astype(dtype), X.astype(dtype)
        f = jax.value_and_grad(lambda w, x=x: loss(w, x))
        updates: Any
        updates, _ = tx.update(f(w)[1], tx.init(w), w, value_and_grad_fn=f)
        assert updates.dtype == dtype


def test_numpy_second_order_in_float32() -> None:
    def cubic(w: list[Any]) -> tuple[float, list[Any]]:
        return float(np.real(np.sum(w[0] ** 3))), [3 * w[0] ** 2]

    vg = reference.value_and_grad(cubic, SAM(rho=0.1, second_order=True))
    narrow, wide = (vg([np.array([1.0, 2.0], t)])[1][0] for t in (np.float32, np.float64))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)


def test_numpy_refuses_what_it_would_truncate_or_cut_askew() -> None:
    def square(w: list[Any], *batch: Any) -> tuple[float, list[Any]]:
        return float(np.sum(w[0] ** 2)), [2 * w[0]]

    with pytest.raises(ValueError, match=r"weights must be float arrays, got \['int64'\]"):
        reference.value_and_grad(square, SAM())([np.array([3, 4])])
    with pytest.raises(ValueError, match=r"different lengths \[3, 4\]"):
        reference.value_and_grad(square, SAM().sharded(2))([np.ones(2)], np.ones(4), np.ones(3))


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("GSAM", {"alpha": "a"}),
        ("GSAM", {"alpha": float("nan")}),
        ("LookSAM", {"alpha": None}),
        ("SAMPa", {"lr": float("nan")}),
        ("ESAM", {"beta": 0}),
        ("ESAM", {"beta": "a"}),
        ("WSAM", {"gamma": 1.0}),
        ("WSAM", {"gamma": "a"}),
        ("SSAMD", {"drop": "a"}),
        ("SSAMD", {"drop": 1.5}),
        ("AESAM", {"c": float("nan")}),
        ("AESAM", {"c": "a"}),
        ("VaSSO", {"theta": 0}),
        ("ASAM", {"size": "layerwise"}),
    ],
    ids=str,
)
def test_a_hyper_parameter_that_cannot_be(row: str, wrong: dict[str, Any]) -> None:
    (keyword, value), *_ = wrong.items()
    with pytest.raises((ValueError, TypeError), match=f"{keyword}.* (must|got) .*{value}"):
        FAMILY[row](**wrong)
