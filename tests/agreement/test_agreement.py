"""Layer 3: NumPy, PyTorch and JAX walk the same path, for every row and option."""

from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

import numpy as np
import pytest

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
    SAMON,
    SSAM,
    SSAMD,
    SSSAM,
    USAM,
    WSAM,
    Adaptive,
    AsyncSAM,
    Ball,
    EigenSAM,
    FisherSAM,
    FriendlySAM,
    LookSAM,
    OptSAM,
    PeriodicSAM,
    RandomSmoothing,
    SAMPa,
    StableSAM,
    Variant,
    VaSSO,
    biases,
    filterwise,
    layerwise,
)
from samfamily.ascent import Gradient
from tests.agreement.walks import LR, jax_walk, numpy_walk, torch_walk

STEPS = 30

ROWS: dict[str, Variant] = {
    "SAM": SAM(rho=0.1),
    "SAM, p=1": SAM(rho=0.1, p=1),
    "SAM, p=1.5": SAM(rho=0.1, p=1.5),
    "SAM, p=3": SAM(rho=0.1, p=3),
    "SAM, p=inf": SAM(rho=0.02, p=inf),
    "SAM, 3 steps": SAM(rho=0.1, steps=3),
    "SAM, 2 steps, p=3": SAM(rho=0.1, p=3, steps=2),
    "SAM, second order": SAM(rho=0.1, second_order=True),
    "SAM, schedule": SAM(rho=lambda step: 0.02 * step),
    "SAM, rho=0": SAM(rho=0.0),
    "ASAM": ASAM(rho=0.3),
    "ASAM, eta=0.1": ASAM(rho=0.3, eta=0.1),
    "ASAM, layerwise": ASAM(rho=0.1, size=layerwise),
    "ASAM, filterwise": ASAM(rho=0.1, size=filterwise),
    "ASAM, Euclidean biases": ASAM(rho=0.3, euclidean=biases),
    "ASAM, filterwise, Euclidean biases": ASAM(rho=0.1, size=filterwise, euclidean=biases),
    "ASAM, p=1": ASAM(rho=0.3, p=1),
    "ASAM, p=3, 2 steps": ASAM(rho=0.3, p=3, steps=2),
    "ASAM, p=inf": ASAM(rho=0.05, p=inf),
    "USAM": USAM(rho=0.1),
    "FisherSAM": FisherSAM(rho=0.1, eta=2.0),
    "SAMON": SAMON(rho=0.2),
    "SAMON, p=inf, Euclidean": SAMON(rho=0.05, p=inf, size=None),
    "SSAM": SSAM(rho=0.1, sparsity=0.3, every=7),
    "SSAMD": SSAMD(rho=0.1, sparsity=0.5, every=4),
    "ESAM": ESAM(rho=0.1, beta=0.6),
    "GSAM": GSAM(rho=0.1, alpha=0.4),
    "GSAM, minimize_fp=False": GSAM(rho=0.1, alpha=0.4, minimize_fp=False),
    "GNP": GNP(rho=0.1, alpha=0.8),
    "WSAM": WSAM(rho=0.1, gamma=0.6),
    "WSAM, coupled": WSAM(rho=0.1, gamma=0.6, decoupled=False),
    "StableSAM": StableSAM(rho=0.1),
    "LookSAM": LookSAM(rho=0.1, k=5),
    "PeriodicSAM": PeriodicSAM(rho=0.1, k=3),
    "SSSAM": SSSAM(rho=0.1),
    "AESAM": AESAM(rho=0.1),
    "FriendlySAM": FriendlySAM(rho=0.1),
    "VaSSO": VaSSO(rho=0.1, theta=0.3),
    "MSAM": MSAM(rho=0.1),
    "OptSAM": OptSAM(rho=0.1),
    "AsyncSAM": AsyncSAM(rho=0.1),
    "SAMPa": SAMPa(rho=0.1, lr=LR),
    "CRSAM": CRSAM(rho=0.1),
    "RSAM": RSAM(rho=0.1),
    "RandomSmoothing": RandomSmoothing(rho=0.1),
    "EigenSAM": EigenSAM(rho=0.1, every=10),
    "GSAM in ASAM's ball, p=3": GSAM(rho=0.1).within(Ball(3, Adaptive())),
    "LookSAM with 2 steps in a ball of p=inf": replace(LookSAM(rho=0.02), ascent=Gradient(2), ball=Ball(inf)),
}
CASES = {f"{name}{suffix}": row if m is None else row.sharded(m)
         for name, row in ROWS.items() for suffix, m in (("", None), (", m=6", 6))
         if m is None or not row.ball.mask.why_not_sharded}  # fmt: skip

reference_walk = cache(numpy_walk)


def distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_every_row_of_the_family_is_walked() -> None:
    assert {row.name for row in ROWS.values()} == set(FAMILY)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("walk", [torch_walk, jax_walk])
def test_float64(walk: Any, case: str) -> None:
    if walk is jax_walk and CASES[case].descent.adds and CASES[case].m:
        pytest.skip("the bridge has no batch to shard, and a bare value_and_grad nowhere to add")
    assert distance(walk(CASES[case], STEPS, "float64"), reference_walk(CASES[case], STEPS, "float64")) <= 1e-12


@pytest.mark.parametrize("case", ["SAM", "SAM, 3 steps", "SAM, second order", "ASAM, filterwise", "SAM, p=3, m=6"])
@pytest.mark.parametrize("walk", [torch_walk, jax_walk])
def test_float32(walk: Any, case: str) -> None:
    n = reference_walk(CASES[case], STEPS, "float64").size
    assert distance(walk(CASES[case], STEPS, "float32"), reference_walk(CASES[case], STEPS, "float64")) <= 1e-5 * n**0.5


@pytest.mark.parametrize("case", [*ROWS, "ASAM, filterwise, m=6"])
def test_jax_without_jit(case: str) -> None:
    """Six steps: long enough for every period to come round."""
    assert distance(jax_walk(CASES[case], 6, "float64", jit=False), reference_walk(CASES[case], 6, "float64")) <= 1e-12


@pytest.mark.parametrize("case", ["SAM", "SAM, second order", "ASAM, filterwise", "SAM, p=1, m=6"])
def test_the_comparison_sees_a_change_of_rho_in_the_ninth_digit(case: str) -> None:
    """Negative control: the tolerance is one that a real difference breaks."""
    variant = CASES[case]
    rho: Any = variant.radius.rho
    changed = variant.with_rho(rho * (1 + 1e-9))
    assert distance(numpy_walk(changed, STEPS, "float64"), reference_walk(variant, STEPS, "float64")) > 1e-12


@pytest.mark.parametrize("name", [name for name in ROWS if name not in {"SAM", "SAM, rho=0"}])
def test_every_option_changes_the_walk(name: str) -> None:
    """Negative control: no option is silently ignored, on any backend, since all agree with this one."""
    plain = SAM(rho=0.1) if name.startswith("SAM") else ASAM(rho=0.3)
    if ROWS[name] != plain:
        assert distance(reference_walk(ROWS[name], STEPS, "float64"), numpy_walk(plain, STEPS, "float64")) > 1e-6
