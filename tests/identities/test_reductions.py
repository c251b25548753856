"""Every row reduces to SAM or to the base optimizer where its paper says so, and not elsewhere (P19 to P32)."""

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samfamily import (
    AESAM,
    ASAM,
    CRSAM,
    ESAM,
    FAMILY,
    GNP,
    GSAM,
    MSAM,
    RSAM,
    SAM,
    SSAM,
    SSAMD,
    SSSAM,
    USAM,
    WSAM,
    AsyncSAM,
    Ball,
    EigenSAM,
    FisherSAM,
    FriendlySAM,
    LookSAM,
    PeriodicSAM,
    SAMPa,
    Variant,
    VaSSO,
)
from samfamily.radius import Unnormalised
from tests.identities.walks import LR, affine, far, quadratic, smooth, walk

SGD = SAM(rho=0.0)
RHO = 0.3
seeds = st.integers(0, 10_000)

BITWISE_SAM: dict[str, tuple[Variant, Variant]] = {
    "GSAM, alpha=0": (GSAM(RHO, alpha=0.0), GSAM(RHO, alpha=0.1)),
    "FriendlySAM, sigma=0": (FriendlySAM(RHO, sigma=0.0, lmbda=0.3), FriendlySAM(RHO, sigma=0.1)),
    "LookSAM, k=1": (LookSAM(RHO, k=1), LookSAM(RHO, k=2)),
    "PeriodicSAM, k=1": (PeriodicSAM(RHO, k=1), PeriodicSAM(RHO, k=2)),
    "SSSAM, probability=1": (SSSAM(RHO, probability=1.0), SSSAM(RHO, probability=0.5)),
    "AESAM, c=-inf": (AESAM(RHO, c=-inf), AESAM(RHO, c=inf)),
    "CRSAM, gamma=beta=0": (CRSAM(RHO, gamma=0.0, beta=0.0), CRSAM(RHO)),
    "SSAM, sparsity=0": (SSAM(RHO, sparsity=0.0), SSAM(RHO, sparsity=0.5)),
    "SSAMD, sparsity=0": (SSAMD(RHO, sparsity=0.0), SSAMD(RHO, sparsity=0.5)),
    "ESAM, beta=1": (ESAM(RHO, beta=1.0), ESAM(RHO, beta=0.5)),
    "RSAM, sigma=0": (RSAM(RHO, sigma=0.0), RSAM(RHO, sigma=0.1)),
    "FisherSAM, eta=0": (FisherSAM(RHO, eta=0.0), FisherSAM(RHO, eta=1.0)),
}
NEARLY_SAM: dict[str, tuple[Variant, Variant]] = {
    "GNP, alpha=1": (GNP(RHO, alpha=1.0), GNP(RHO, alpha=0.9)),
    "VaSSO, theta=1": (VaSSO(RHO, theta=1.0), VaSSO(RHO, theta=0.5)),
    "WSAM, coupled, gamma=1/2": (WSAM(RHO, gamma=0.5, decoupled=False), WSAM(RHO, gamma=0.6, decoupled=False)),
    "WSAM, decoupled, gamma=1/2": (WSAM(RHO, gamma=0.5), WSAM(RHO, gamma=0.6)),
    "EigenSAM, alpha=0": (EigenSAM(RHO, alpha=0.0), EigenSAM(RHO, alpha=0.2)),
    "GSAM of the loss, alpha=1, and GNP": (WSAM(RHO, gamma=0.5), GSAM(RHO, alpha=0.5, minimize_fp=False)),
}
BASE: dict[str, tuple[Variant, Variant]] = {
    "GNP, alpha=0": (GNP(RHO, alpha=0.0), GNP(RHO, alpha=0.1)),
    "WSAM, gamma=0": (WSAM(RHO, gamma=0.0, decoupled=False), WSAM(RHO, gamma=0.1, decoupled=False)),
    "AESAM, c=inf": (AESAM(RHO, c=inf), AESAM(RHO, c=0.0)),
    "LookSAM, rho=0": (LookSAM(0.0), LookSAM(RHO)),
    "MSAM, rho=0": (MSAM(0.0), MSAM(RHO)),
    "SAMPa, rho=0, lambda=0": (SAMPa(0.0, lmbda=0.0), SAMPa(RHO, lmbda=0.0)),
}


@pytest.mark.parametrize("case", BITWISE_SAM)
@given(seed=seeds)
def test_bitwise_sam(case: str, seed: int) -> None:
    assert np.array_equal(walk(BITWISE_SAM[case][0], smooth(seed), seed).w, walk(SAM(RHO), smooth(seed), seed).w)


@pytest.mark.parametrize("case", NEARLY_SAM)
@given(seed=seeds)
def test_sam_to_rounding(case: str, seed: int) -> None:
    assert far(walk(NEARLY_SAM[case][0], smooth(seed), seed).w, walk(SAM(RHO), smooth(seed), seed).w) <= 1e-12


@pytest.mark.parametrize("case", BASE)
@given(seed=seeds)
def test_the_base_optimizer(case: str, seed: int) -> None:
    assert np.array_equal(walk(BASE[case][0], smooth(seed), seed).w, walk(SGD, smooth(seed), seed).w)


@pytest.mark.parametrize("table", [BITWISE_SAM, NEARLY_SAM, BASE], ids=["bitwise SAM", "SAM", "base"])
def test_only_there(table: dict[str, tuple[Variant, Variant]]) -> None:
    """Negative control: the neighbouring hyper-parameter does something else."""
    target = SGD if table is BASE else SAM(RHO)
    for case, (_, neighbour) in table.items():
        assert far(walk(neighbour, smooth(3), 3).w, walk(target, smooth(3), 3).w) > 1e-6, case


@pytest.mark.parametrize("name", FAMILY)
def test_every_row_at_rho_zero_follows_the_gradient_at_w(name: str) -> None:
    """But for what a row does besides perturbing: RSAM's noise, and SAMPa's look ahead."""
    rest = {"RSAM": {"sigma": 0.0}, "SAMPa": {"lmbda": 0.0}}.get(name, {})
    variant = FAMILY[name](rho=0.0, **rest)
    assert np.array_equal(walk(variant, smooth(1), 1).w, walk(SGD, smooth(1), 1).w)


@pytest.mark.parametrize("name", ["RSAM", "SAMPa"])
def test_two_rows_do_more_than_perturb(name: str) -> None:
    """Negative control of the test above: the noise and the look ahead stay at a radius of zero."""
    assert far(walk(FAMILY[name](rho=0.0), smooth(1), 1).w, walk(SGD, smooth(1), 1).w) > 1e-6


@given(seed=seeds, alpha=st.floats(0, 2))
def test_gsam_descends_the_perturbed_loss_and_closes_the_gap(seed: int, alpha: float) -> None:
    """P22: <gradient, h> = |h|^2, and the rest is alpha times the part of g across h."""
    w = walk(GSAM(RHO, alpha=alpha), smooth(seed), seed, steps=1)
    loss = smooth(seed)
    g, h = (_gradient(loss, point) for point in w.asked[0])
    across = g - (g @ h) / (h @ h) * h
    gradient = w.gradients[0]
    np.testing.assert_allclose(gradient @ h, h @ h, rtol=1e-11)
    np.testing.assert_allclose(gradient @ gradient, h @ h + alpha**2 * (across @ across), rtol=1e-11)
    np.testing.assert_allclose((gradient - h) @ g, -alpha * (across @ across), rtol=1e-8, atol=1e-12)


@given(seed=seeds, alpha=st.floats(0, 2))
def test_gsam_of_the_loss_descends_it_and_closes_the_gap(seed: int, alpha: float) -> None:
    """P22 with g and h exchanged, and the sign with them: the gap's gradient is h - g."""
    loss = smooth(seed)
    w = walk(GSAM(RHO, alpha=alpha, minimize_fp=False), loss, seed, steps=1)
    g, h = (_gradient(loss, point) for point in w.asked[0])
    across = h - (g @ h) / (g @ g) * g
    np.testing.assert_allclose(w.gradients[0] @ g, g @ g, rtol=1e-11)
    np.testing.assert_allclose(w.gradients[0] @ h, g @ h + alpha * (across @ across), rtol=1e-10)


@given(seed=seeds)
def test_gsam_is_sam_along_an_eigenvector(seed: int) -> None:
    """P22: with H = c I the gradients are parallel, and there is nothing across."""
    loss = quadratic(seed, eigenvalues=np.full(10, 1.5))
    assert far(walk(GSAM(RHO, alpha=0.9), loss, seed).w, walk(SAM(RHO), loss, seed).w) <= 1e-12
    other = quadratic(seed)
    assert far(walk(GSAM(RHO, alpha=0.9), other, seed).w, walk(SAM(RHO), other, seed).w) > 1e-6


@given(seed=seeds, gamma=st.floats(0, 0.9))
def test_wsam_is_gnp_and_decoupled_is_coupled_over_plain_descent(seed: int, gamma: float) -> None:
    coupled = walk(WSAM(RHO, gamma, decoupled=False), smooth(seed), seed)
    assert far(coupled.w, walk(GNP(RHO, gamma / (1 - gamma)), smooth(seed), seed).w) <= 1e-12
    assert far(walk(WSAM(RHO, gamma), smooth(seed), seed).w, coupled.w) <= 1e-11
    if gamma > 0.1:  # momentum tells them apart
        a, b = (walk(WSAM(RHO, gamma, decoupled=d), smooth(seed), seed, momentum=0.9) for d in (True, False))
        assert far(a.w, b.w) > 1e-6


@given(seed=seeds)
def test_first_steps(seed: int) -> None:
    """P24, P25: Friendly-SAM and VaSSO begin with SAM's step; AsyncSAM and OptSAM with the base optimizer's."""
    first = {name: walk(row, smooth(seed), seed, steps=2) for name, row in _first_step_rows().items()}
    sam, sgd = walk(SAM(RHO), smooth(seed), seed, 1).gradients[0], walk(SGD, smooth(seed), seed, 1).gradients[0]
    for name, expected in (("FriendlySAM", sam), ("VaSSO", sam), ("AsyncSAM", sgd), ("OptSAM", sgd), ("MSAM", sgd)):
        assert np.array_equal(first[name].gradients[0], expected), name
        after = walk(SAM(RHO) if expected is sam else SGD, smooth(seed), seed, steps=2).gradients[1]
        assert far(first[name].gradients[1], after) > 1e-9, name  # negative control


@given(seed=seeds, sigma=st.floats(0.1, 0.9), lmbda=st.floats(0.1, 0.9))
def test_friendly_sam_in_the_papers_order(seed: int, sigma: float, lmbda: float) -> None:
    """P24: the paper updates the mean first; that is the code's order with another sigma."""
    equivalent = sigma * lmbda / (1 - sigma * (1 - lmbda))
    ours = walk(FriendlySAM(RHO, equivalent, lmbda), smooth(seed), seed, steps=5)
    loss, m, w = smooth(seed), None, None
    for points in ours.asked:
        w = points[0]
        g = _gradient(loss, w)
        m = g if m is None else lmbda * m + (1 - lmbda) * g
        d = g - sigma * m
        epsilon = RHO * d / np.linalg.norm(d)
        np.testing.assert_allclose(points[1] - w, epsilon, atol=1e-10)


@given(seed=seeds, alpha=st.floats(0.1, 2))
def test_looksam_reuses_what_lies_across(seed: int, alpha: float) -> None:
    """P26: the remembered part is across g; off-steps differ from g by alpha |g|, at alpha = 0 not at all."""
    loss = smooth(seed)
    w = walk(LookSAM(RHO, k=3, alpha=alpha), loss, seed, steps=5)
    for t in (0, 3):
        v = np.concatenate([x.ravel() for x in w.states[t].descent.v.collapse()])
        g = _gradient(loss, w.asked[t][0])
        assert abs(v @ g) <= 1e-12 * np.linalg.norm(v) * np.linalg.norm(g) + 1e-14
    for t in (1, 2, 4):
        g = _gradient(loss, w.asked[t][0])
        v = np.concatenate([x.ravel() for x in w.states[t].descent.v.collapse()])
        along = alpha * np.linalg.norm(g) * v / np.linalg.norm(v)
        np.testing.assert_allclose(w.gradients[t] - g, along, rtol=1e-9, atol=1e-12)
    none, periodic = LookSAM(RHO, k=3, alpha=0.0), PeriodicSAM(RHO, k=3)
    assert np.array_equal(walk(none, loss, seed).w, walk(periodic, loss, seed).w)


@given(seed=seeds)
def test_msam_with_an_unnormalised_radius_is_nesterov(seed: int) -> None:
    """P28: at rho = lr mu, unnormalised, the perturbed point is Nesterov's."""
    mu = 0.9
    variant = replace(MSAM(mu=mu), radius=Unnormalised(LR * mu))
    ours = walk(variant, smooth(seed), seed, momentum=mu)
    loss, w, v = smooth(seed), ours.asked[0][0], np.zeros(10)
    for _ in range(6):
        v = mu * v + _gradient(loss, w - LR * mu * v)
        w = w - LR * v
    np.testing.assert_allclose(ours.w, w, rtol=1e-11)
    assert far(walk(MSAM(RHO, mu=mu), smooth(seed), seed, momentum=mu).w, w) > 1e-6


@given(seed=seeds, lmbda=st.floats(0, 1))
def test_sampa(seed: int, lmbda: float) -> None:
    """P29: a constant gradient is followed whatever lambda; and lambda = 0 is a limit, not a special case."""
    assert far(walk(SAMPa(RHO, lmbda, LR), affine(seed), seed).w, walk(SGD, affine(seed), seed).w) <= 1e-12
    zero, small = (walk(SAMPa(RHO, value, LR), smooth(seed), seed).w for value in (0.0, 1e-9))
    assert far(small, zero) <= 1e-8
    assert far(walk(SAMPa(RHO, 0.5, LR), smooth(seed), seed).w, zero) > 1e-6


@given(seed=seeds, gamma=st.floats(0, 2))
def test_crsam_on_a_quadratic_has_no_second_difference(seed: int, gamma: float) -> None:
    """P30."""
    loss = quadratic(seed)
    assert far(walk(CRSAM(RHO, gamma, 0.1), loss, seed).w, walk(CRSAM(RHO, 0.0, 0.1), loss, seed).w) <= 1e-11
    if gamma > 0.1:
        a, b = (walk(CRSAM(RHO, value, 0.1), smooth(seed), seed).w for value in (gamma, 0.0))
        assert far(a, b) > 1e-9


@given(seed=seeds, gamma=st.floats(0, 2), beta=st.floats(-1, 1))
def test_crsam_on_a_quadratic_is_gnp(seed: int, gamma: float, beta: float) -> None:
    """P30: there h - g is half of the first difference, so beta counts twice beyond SAM."""
    loss = quadratic(seed)
    ours, theirs = (walk(row, loss, seed, 1) for row in (CRSAM(RHO, gamma, beta), GNP(RHO, 1 + 2 * beta)))
    assert far(ours.gradients[0], theirs.gradients[0]) <= 1e-11


@given(seed=seeds)
def test_stable_sam_goes_sams_way_at_the_gradients_length(seed: int) -> None:
    """P32."""
    loss = smooth(seed)
    w = walk(FAMILY["StableSAM"](RHO), loss, seed, steps=1)
    g, h = (_gradient(loss, point) for point in w.asked[0])
    np.testing.assert_allclose(w.gradients[0], np.linalg.norm(g) / np.linalg.norm(h) * h, rtol=1e-11)


@given(seed=seeds)
def test_usam_is_sam_at_the_gradients_length(seed: int) -> None:
    asked = walk(USAM(RHO), smooth(seed), seed, steps=1).asked[0]
    g = _gradient(smooth(seed), asked[0])
    np.testing.assert_allclose(asked[1] - asked[0], RHO * g, atol=1e-12)
    assert far(walk(ASAM(RHO), smooth(seed), seed, 1).asked[0][1], asked[1]) > 1e-6


def _gradient(loss: Any, point: Any) -> Any:
    return np.concatenate([x.ravel() for x in loss([point[:6].reshape(2, 3), point[6:]])[1]])


def _first_step_rows() -> dict[str, Variant]:
    rows = FriendlySAM(RHO), VaSSO(RHO), AsyncSAM(RHO), FAMILY["OptSAM"](rho=RHO), MSAM(RHO)
    return {row.name: row for row in rows}


def test_a_ball_can_be_exchanged() -> None:
    """The row stays, the geometry changes: GSAM in a box."""
    boxed = walk(GSAM(RHO).within(Ball(inf)), smooth(1), 1, 1).asked[0]
    np.testing.assert_allclose(np.abs(boxed[1] - boxed[0]), RHO)
