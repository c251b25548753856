"""Layer 2: what a hyper-parameter may be, what the error says otherwise, and when it says it."""

from collections.abc import Callable
from fractions import Fraction
from math import inf, nan
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from samfamily import ASAM, SAM, SSAMD, Variant, Vec
from samfamily.reference import NumpySpace, sharpness_aware
from tests.laws.losses import start, tree, vec, walk, wavy

Build = Callable[[Any], Any]
RHO: Build = lambda x: SAM(rho=x)  # noqa: E731
STEPS: Build = lambda x: SAM(steps=x)  # noqa: E731
M: Build = lambda x: SAM().sharded(x)  # noqa: E731

BAD: list[tuple[str, Build, type[Exception], list[Any]]] = [
    ("rho", RHO, ValueError, [-0.1, nan, inf, -inf, np.float32(-1), np.float64(nan), -1]),
    ("rho", RHO, ValueError, [np.array(-0.5), torch.tensor(-0.5), jnp.asarray(-0.5), np.array(nan), torch.tensor(inf)]),
    ("rho", RHO, TypeError, ["big", None, [0.1], 1j]),
    ("rho", lambda x: ASAM(rho=x), ValueError, [-0.1, nan, inf]),
    ("rho", lambda x: SAM().with_rho(x), ValueError, [-0.1, nan, inf]),
    ("p", lambda x: SAM(p=x), ValueError, [0.5, 0, -2, nan, -inf, 0.999]),
    ("p", lambda x: SAM(p=x), TypeError, ["2", None, 2j]),
    ("p", lambda x: ASAM(p=x), ValueError, [0.5, nan]),
    ("eta", lambda x: ASAM(eta=x), ValueError, [-0.01, nan, inf]),
    ("eta", lambda x: ASAM(eta=x), TypeError, ["small", None]),
    ("steps", STEPS, ValueError, [0, -1]),
    ("steps", STEPS, TypeError, [1.5, 1.0, True, "2", None]),
    ("steps", lambda x: ASAM(steps=x), ValueError, [0]),
    ("m", M, ValueError, [0, -3]),
    ("m", M, TypeError, [2.5, True, "32"]),
]
CASES = [(name, build, error, x) for name, build, error, values in BAD for x in values]
REMEDIES = (": use ", ": choose ", ": pass ", " must be a ")


@pytest.mark.parametrize(
    ("name", "build", "error", "value"), CASES, ids=[f"{i}-{c[0]}-{c[3]!r}"[:40] for i, c in enumerate(CASES)]
)
def test_the_error_names_the_value_and_the_remedy(name: str, build: Build, error: type[Exception], value: Any) -> None:
    with pytest.raises(error) as info:
        build(value)
    message = str(info.value)
    assert message.startswith(name)
    assert repr(value) in message or str(value) in message
    assert any(remedy in message for remedy in REMEDIES)


@pytest.mark.parametrize("shape", [(1,), (2,)])
def test_a_radius_is_one_number(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one number.*pass a 0-d array"):
        SAM(rho=np.ones(shape))


GOOD: list[Callable[[], Variant]] = [
    lambda: SAM(rho=0),
    lambda: SAM(rho=np.float32(0.1)),
    lambda: SAM(rho=Fraction(1, 10)),
    lambda: SAM(rho=torch.tensor(0.1)),
    lambda: SAM(rho=jnp.asarray(0.1)),
    lambda: SAM(rho=lambda step: -1.0),
    lambda: SAM(p=1),
    lambda: SAM(p=inf),
    lambda: SAM(p=np.float64(1.5)),
    lambda: STEPS(np.int64(3)),
    lambda: ASAM(eta=0),
    lambda: SAM(second_order=True, p=2.0),
    lambda: M(np.int32(4)),
]


@pytest.mark.parametrize("build", GOOD, ids=range(len(GOOD)))
def test_everything_else_is_accepted(build: Callable[[], Variant]) -> None:
    """Negative control: the errors above are not those of a row that refuses all."""
    assert isinstance(build(), Variant)


@pytest.mark.parametrize("arguments", [{"p": 1}, {"p": inf}, {"p": 3}, {"steps": 2}])
def test_second_order_says_what_it_needs(arguments: dict[str, Any]) -> None:
    remedy = r"second_order .* use p=2, steps=1 and no metric \(for p = 1 .* nothing is lost\)$"
    with pytest.raises(ValueError, match=remedy) as info:
        SAM(second_order=True, **arguments)
    ((name, value),) = arguments.items()
    assert f"{name}={value}" in str(info.value).replace(" = ", "=")


def test_a_mask_that_cannot_be_sharded_says_why() -> None:
    variant = SSAMD()
    with pytest.raises(ValueError, match=r"^SSAMD cannot be sharded with m = 4: ") as info:
        variant.sharded(4)
    assert str(info.value).endswith(str(variant.ball.mask.why_not_sharded))


# ---------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("value", [-0.1, nan, inf, np.float64(-2), np.array(-0.5)])
def test_a_schedule_is_checked_when_it_is_computed(value: Any) -> None:
    variant = SAM(rho=lambda step: 0.1 if step < 2 else value)
    sa = sharpness_aware(wavy(0), variant)
    w = list(tree(start(0)))
    state = sa.init(w)
    for _ in range(2):
        _, state = sa.value_and_grad(w, state)
    with pytest.raises(ValueError, match="rho must be finite and at least 0") as info:
        sa.value_and_grad(w, state)
    assert str(value) in str(info.value)


def test_a_schedule_is_a_function_of_the_step() -> None:
    seen: list[Any] = []

    def rho(step: Any) -> float:
        seen.append(step)
        return 0.1 * step

    variant, state = SAM(rho=rho), None
    for step in range(3):
        found = walk(variant, wavy(0), vec(start(0)), state)
        state = found.step.state
        assert np.linalg.norm(found.epsilon) == pytest.approx(0.1 * step, rel=1e-12)
        assert found.step.radius == 0.1 * step
    assert seen == [0, 1, 2]


def test_a_radius_for_each_leaf() -> None:
    w = vec(start(0))
    rho = Vec(NumpySpace(3), (np.array(0.0), np.array(0.2), np.array(0.1)))
    whole, split = (walk(SAM(rho=r), wavy(0), w) for r in (1.0, rho))
    pairs = zip((0.0, 0.2, 0.1), tree(whole.epsilon), tree(split.epsilon), strict=True)
    for r, x, y in pairs:
        np.testing.assert_allclose(y, r * x, rtol=1e-12, atol=1e-15)
    assert split.step.radius == 0.2
