"""What holds of every row alike: its cost, its safety, its invariance, the length of its perturbation."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samfamily import FAMILY, SAM, SSAMD, EigenSAM, FisherSAM, Leaf, RandomSmoothing, Vec, noise, reference
from samfamily.reference import NumpySpace
from tests.identities.walks import LEAVES, affine, far, flat_loss, join, quadratic, smooth, start, walk

seeds = st.integers(0, 10_000)
SGD = SAM(rho=0.0)


@pytest.mark.parametrize("name", FAMILY)
def test_sixty_steps_cost_what_the_row_declares(name: str) -> None:
    variant = FAMILY[name]()
    asked = walk(variant, smooth(0), steps=60).asked
    counted = sum(map(len, asked)) / 60
    if name == "AESAM":
        assert 1 < counted < variant.gradients_per_step == 2  # as many as the gradients' history makes it
    elif name == "SSSAM":
        assert abs(counted - variant.gradients_per_step) <= 4 * sqrt(0.25 / 60)  # four standard deviations of the coin
    else:
        assert counted == pytest.approx(variant.gradients_per_step, abs=1e-12)


def test_the_cheap_rows_are_cheap() -> None:
    assert FAMILY["LookSAM"](k=5).gradients_per_step == pytest.approx(1.2)
    assert [FAMILY[name]().gradients_per_step for name in ("MSAM", "OptSAM", "RandomSmoothing")] == [1, 1, 1]


@pytest.mark.parametrize("name", FAMILY)
def test_a_row_is_stateful_where_the_steps_before_matter(name: str) -> None:
    """From the same weights, a step after others elsewhere is another one than the first, or is bitwise the same."""
    soon: dict[str, Any] = {"SSAMD": {"every": 2}}  # and not after a hundred steps
    variant, differs = FAMILY[name](**soon.get(name, {})), False
    for seed in range(5):
        sa = reference.sharpness_aware(smooth(seed), variant, LEAVES)
        first = state = sa.init(start(seed))
        for elsewhere in range(1 + seed):
            state = sa.evaluate(start(seed + 1 + elsewhere), state)[1].state
        one, other = (sa.evaluate(start(seed), s)[1].gradient.collapse() for s in (first, state))
        differs |= not np.array_equal(join(one), join(other))
    assert variant.stateful is differs


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("loss", [affine, flat_loss], ids=["affine", "flat"])
def test_a_constant_gradient_is_followed_and_nothing_is_divided_by_zero(name: str, loss: Any) -> None:
    """P3, P4: warnings are errors here, so a 0/0 anywhere would fail."""
    result = walk(FAMILY[name](), loss(2), steps=8)
    assert np.isfinite(result.w).all()
    assert far(result.w, walk(SGD, loss(2), steps=8).w) <= 1e-12


WITH_A_SCALE = ("USAM", "FisherSAM")
"""Their perturbation is as long as the gradient makes it."""


@pytest.mark.parametrize("name", sorted(set(FAMILY) - set(WITH_A_SCALE)))
@given(seed=seeds, k=st.integers(-8, 8))
def test_the_perturbation_does_not_depend_on_the_losss_scale(name: str, seed: int, k: int) -> None:
    """P15, bitwise: a power of two moves no mantissa."""
    loss = smooth(seed)

    def scaled(w: Any) -> Any:
        value, gradients = loss(w)
        return 2.0**k * value, [2.0**k * g for g in gradients]

    ours, theirs = walk(FAMILY[name](), loss, seed, steps=1), walk(FAMILY[name](), scaled, seed, steps=1)
    for a, b in zip(ours.asked[0], theirs.asked[0], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", WITH_A_SCALE)
def test_two_rows_depend_on_the_losss_scale(name: str) -> None:
    """Negative control of the test above, and a warning that their docstrings give."""
    loss = smooth(0)
    doubled = walk(FAMILY[name](), lambda w: (0.0, [2 * g for g in loss(w)[1]]), steps=1).asked[0]
    assert max(map(far, doubled, walk(FAMILY[name](), loss, steps=1).asked[0])) > 1e-4


@given(seed=seeds, eta=st.floats(0, 10))
def test_fisher_sam_stays_on_its_ellipsoid(seed: int, eta: float) -> None:
    """P20: sqrt(e' F e) = rho."""
    w = walk(FisherSAM(rho=0.3, eta=eta), smooth(seed), seed, steps=1)
    e = w.asked[0][1] - w.asked[0][0]
    g = np.concatenate([x.ravel() for x in smooth(seed)([w.asked[0][0][:6].reshape(2, 3), w.asked[0][0][6:]])[1]])
    np.testing.assert_allclose(np.sqrt(e @ ((1 + eta * g**2) * e)), 0.3, rtol=1e-9)


def test_sam_on_moves_the_normalisation_leaves_alone() -> None:
    """P19: inside the ball the norm is over what moves; here the first leaf, of six weights."""
    asked = walk(FAMILY["SAMON"](rho=0.3, size=None), smooth(0), steps=1).asked[0]
    e = asked[1] - asked[0]
    assert not e[6:].any()
    np.testing.assert_allclose(np.linalg.norm(e), 0.3, rtol=1e-12)


@pytest.mark.parametrize("name", ["SSAM", "SSAMD"])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.9])
def test_sparse_sam_moves_a_fraction_and_less_than_rho(name: str, sparsity: float) -> None:
    """P19: the mask follows the normalisation."""
    for asked in walk(FAMILY[name](rho=0.3, sparsity=sparsity, every=2), smooth(0), steps=6).asked:
        e = asked[1] - asked[0]
        assert np.count_nonzero(e) == round((1 - sparsity) * 10)
        assert np.linalg.norm(e) < 0.3


def test_the_dynamic_mask_lets_flat_coordinates_go() -> None:
    """Along a constant gradient it ends with the steepest three of its five, from wherever it began; two take turns."""
    began = []
    for seed in range(5):
        asked = walk(SSAMD(0.3, every=1, drop=0.4, seed=seed), affine(0), steps=10).asked
        moved = [set(np.flatnonzero(points[1] - points[0])) for points in asked]
        gradient = np.concatenate([x.ravel() for x in affine(0)([np.zeros((2, 3)), np.zeros(4)])[1]])
        steepest = set(np.argsort(-np.abs(gradient))[:3])
        assert steepest < moved[-1]
        assert moved[-2] != moved[-1]
        began.append(steepest < moved[0])
    assert not all(began)


@given(seed=seeds)
def test_eigen_sam_turns_towards_the_top_eigenvector(seed: int) -> None:
    """The perturbation is rho sqrt(1 + alpha^2 |v across g|^2) long, and v is the Hessian's top eigenvector."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.concatenate([[10.0], rng.uniform(-1, 1, 9)])
    loss = quadratic(seed, eigenvalues)
    variant = EigenSAM(rho=0.2, alpha=0.5, every=1, iterations=30)
    w = walk(variant, loss, seed, steps=1)
    v = np.concatenate([x.ravel() for x in w.states[0].ascent.v.collapse()])
    g = np.concatenate([x.ravel() for x in loss([w.asked[0][0][:6].reshape(2, 3), w.asked[0][0][6:]])[1]])
    top = np.linalg.qr(np.random.default_rng(seed).normal(size=(10, 10)))[0][:, 0]
    assert abs(abs(v @ top) - 1) <= 1e-8
    across = v - (v @ g) / (g @ g) * g
    e = w.asked[0][1] - w.asked[0][0]
    np.testing.assert_allclose(np.linalg.norm(e), 0.2 * np.sqrt(1 + 0.25 * across @ across), rtol=1e-8)
    assert variant.hessian_vector_products_per_step == 30


def test_noise_is_standard_normal_and_never_the_same() -> None:
    """Moments within five standard errors, no correlation between leaves, steps or seeds."""
    n = 40_000
    like = Vec(NumpySpace([Leaf(), Leaf()]), (np.zeros(n), np.zeros((n // 4, 4))))
    draws = [np.ravel(x) for seed in (0, 1) for step in (0, 1) for x in noise.normal(like, seed, step).leaves]
    for z in draws:
        assert abs(z.mean()) < 5 / sqrt(n)
        assert abs((z**2).mean() - 1) < 5 * sqrt(2 / n)
        assert abs((z**4).mean() - 3) < 5 * sqrt(96 / n)
        assert abs((z[1:] * z[:-1]).mean()) < 5 / sqrt(n)
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 5 / sqrt(n)
    again = noise.normal(like, 0, 1).leaves[0]
    np.testing.assert_array_equal(again, draws[2])


def test_random_smoothing_has_length_rho_and_changes_every_step() -> None:
    asked = walk(RandomSmoothing(rho=0.3), affine(0), steps=3).asked
    w = [walk(SGD, affine(0), steps=t).w for t in range(3)]
    e = [points[0] - x for points, x in zip(asked, w, strict=True)]
    np.testing.assert_allclose([np.linalg.norm(x) for x in e], 0.3, rtol=1e-12)
    assert abs(e[0] @ e[1]) < 0.09 * 0.99
