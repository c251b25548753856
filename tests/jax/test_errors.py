"""Every error names the value and the remedy."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from samfamily import SAM, LookSAM
from samfamily_jax import sharpness_aware, value_and_grad

W = jnp.array([3.0, 4.0])


def loss(w: Any, x: Any = 1.0) -> Any:
    return jnp.sum(w**2) * jnp.mean(x)


@pytest.mark.parametrize("transform", [value_and_grad, sharpness_aware])
@pytest.mark.parametrize("variant", [SAM, 0.05, None])
def test_variant_must_be_a_variant(transform: Any, variant: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a Variant, got .*SAM\(rho=0\.05\)"):
        transform(loss, variant)


def test_a_row_with_memory_needs_the_explicit_state() -> None:
    with pytest.raises(ValueError, match=r"SAM has a memory or a schedule.*use sharpness_aware"):
        value_and_grad(loss, SAM(rho=lambda step: 0.1 * step))


def test_a_state_of_other_parameters() -> None:
    """Of as many leaves, but other shapes, which would broadcast."""
    sa = sharpness_aware(loss, LookSAM())
    with pytest.raises(ValueError, match=r"does not belong to LookSAM and these parameters: make it with .*init"):
        sa.value_and_grad(W, sa.init(jnp.ones(1)))


@pytest.mark.parametrize("params", [{"n": jnp.array(1)}, jnp.arange(3), {}, None, {"k": jax.random.key(0)}, "w"])
def test_parameters_without_a_float_leaf(params: Any) -> None:
    with pytest.raises(ValueError, match=r"no float leaf to differentiate, found .*: pass float arrays"):
        value_and_grad(lambda p: 0.0, SAM())(params)
    with pytest.raises(ValueError, match=r"no float leaf to differentiate"):
        sharpness_aware(lambda p: 0.0, SAM()).init(params)


@pytest.mark.parametrize("jit", [False, True])
def test_m_that_does_not_divide_the_batch(jit: bool) -> None:
    vg = value_and_grad(loss, SAM().sharded(5))
    with pytest.raises(ValueError, match=r"m = 5 does not divide the batch of 12.*\[1, 2, 3, 4, 6, 12\]"):
        (jax.jit(vg) if jit else vg)(W, jnp.ones(12))


def test_a_sharded_variant_needs_a_batch() -> None:
    vg = value_and_grad(loss, SAM().sharded(2))
    with pytest.raises(ValueError, match=r"argument \[1\] of the loss has no array.*batch_argnums"):
        vg(W)
    with pytest.raises(ValueError, match=r"argument \[1\] of the loss has no array.*batch_argnums"):
        vg(W, 2.0)
    two = value_and_grad(lambda w, x, y: loss(w, x) + jnp.mean(y), SAM().sharded(2), batch_argnums=(1, 2))
    with pytest.raises(ValueError, match=r"different lengths \[4, 6\]"):
        two(W, jnp.ones(4), jnp.ones(6))


@pytest.mark.parametrize("m", [1, 2])
def test_a_second_part_of_the_batch_is_not_left_whole_unasked(m: int) -> None:
    """With m = 1 a target of shape (b,) would be broadcast against one example, and nothing would be seen."""

    def fit(w: Any, x: Any, y: Any) -> Any:
        return jnp.mean((x * jnp.sum(w) - y) ** 2)

    x, y = jnp.arange(4.0), jnp.arange(4.0) ** 2
    with pytest.raises(ValueError, match=r"cuts argument 1.*\[2\] have as many entries.*batch_argnums=\(1, 2\)"):
        value_and_grad(fit, SAM().sharded(m))(W, x, y)
    with pytest.raises(ValueError, match=r"\[2, 3\] have as many entries.*batch_argnums=\(1, 2, 3\)"):
        value_and_grad(lambda w, x, y, z: fit(w, x, y * z), SAM().sharded(m))(W, x, y, y)
    with pytest.raises(ValueError, match=r"argument \[\] of the loss has no array"):
        value_and_grad(fit, SAM().sharded(m), batch_argnums=())(W, x, y)
    both, _ = value_and_grad(fit, SAM().sharded(m), batch_argnums=(1, 2))(W, x, y)
    assert float(both) == pytest.approx(float(fit(W, x, y)), rel=1e-6)
    left, _ = value_and_grad(fit, SAM().sharded(1), batch_argnums=1)(W, x, y)
    assert float(left) != pytest.approx(float(fit(W, x, y)), rel=1e-3)
    other = value_and_grad(lambda w, x, scale: loss(w, x) * jnp.sum(scale), SAM().sharded(m))
    assert jnp.isfinite(other(W, x, jnp.ones(3))[0])  # what is no part of the batch stays whole


def test_argnums_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"argnums = 2 .* called with 1 positional"):
        value_and_grad(loss, SAM(), argnums=2)(W)


def test_a_loss_that_raises_in_the_second_pass_changes_nothing() -> None:
    calls = []

    def fails(w: Any) -> Any:
        calls.append(w)
        if len(calls) == 2:
            raise ConnectionError("the data went away")
        return loss(w)

    sa = sharpness_aware(fails, SAM(rho=0.5))
    state = sa.init(W)
    with pytest.raises(ConnectionError):
        sa.value_and_grad(W, state)
    assert int(state.step) == 0
    (_, gradients), _ = sa.value_and_grad(W, state)
    assert gradients.shape == W.shape


@pytest.mark.parametrize("bad", [lambda w: None, lambda w: w], ids=["None", "a vector"])
def test_a_loss_that_is_not_a_scalar(bad: Any) -> None:
    with pytest.raises(TypeError, match="scalar"):
        value_and_grad(bad, SAM())(W)


@pytest.mark.parametrize("rho", [jnp.array(-0.1), jnp.array(jnp.nan), jnp.array(jnp.inf), jnp.ones(2)])
def test_a_bad_rho_in_an_array(rho: Any) -> None:
    with pytest.raises(ValueError, match="rho must be"):
        SAM(rho=rho)
