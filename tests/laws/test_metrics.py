"""Layer 2: the metrics of ASAM: scale invariance, what breaks it, and what each measures."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from samfamily import Adaptive, Ball, Identity, Leaf, Vec, biases, elementwise, filterwise, layerwise
from samfamily.metric import Metric
from samfamily.reference import NumpySpace
from tests.laws.ball_laws import p_norm
from tests.strategies import flat, seeds, site

NAMES = ["conv.weight", "conv.bias", "scale"]
SHAPES: list[tuple[int, ...]] = [(3, 2, 2), (3,), ()]
ORDERS = [1.0, 1.5, 2.0, 3.0, 10.0]


def vec(leaves: Any, names: list[Any] = NAMES) -> Vec:
    return Vec(NumpySpace(names), tuple(leaves))


def draw(seed: int) -> tuple[list[Any], list[Any], np.random.Generator]:
    rng = np.random.default_rng(seed)
    w, g = ([rng.normal(size=shape) for shape in SHAPES] for _ in range(2))
    return w, g, rng


def elementwise_factors(rng: np.random.Generator) -> list[Any]:
    return [np.exp(rng.normal(size=shape)) for shape in SHAPES]


def layerwise_factors(rng: np.random.Generator) -> list[Any]:
    return [np.exp(rng.normal()) * np.ones(shape) for shape in SHAPES]


def filterwise_factors(rng: np.random.Generator) -> list[Any]:
    return [np.exp(rng.normal(size=(3, 1, 1))) * np.ones(SHAPES[0]), *elementwise_factors(rng)[1:]]


FACTORS = {elementwise: elementwise_factors, layerwise: layerwise_factors, filterwise: filterwise_factors}


def is_scale_invariant(metric: Metric, factors: Any, p: float, seed: int) -> None:
    """P18: where L(Aw) = L(w) the gradient is A^-1 g, and the answer there is A times the answer at w."""
    w, g, rng = draw(seed)
    a = factors(rng)
    ball = Ball(p, metric)
    here, there = vec(w), vec([s * x for s, x in zip(a, w, strict=True)])
    T = metric(site(here))
    if p == 1:
        top = np.sort(abs(flat((T * vec(g)).collapse()) if isinstance(T, Vec) else flat(g)))
        assume(top[-1] > top[-2] * (1 + 1e-9))
    at_w = ball.at(site(here)).maximiser(vec(g)).collapse()
    at_aw = ball.at(site(there)).maximiser(vec([x / s for s, x in zip(a, g, strict=True)])).collapse()
    np.testing.assert_allclose(flat(at_aw), flat(a) * flat(at_w), rtol=1e-12, atol=1e-30)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("size", FACTORS, ids=lambda size: size.__name__)
@given(seeds)
def test_scale_invariance(size: Any, p: float, seed: int) -> None:
    is_scale_invariant(Adaptive(size, eta=0.0), FACTORS[size], p, seed)


@pytest.mark.parametrize(
    "metric",
    [Adaptive(eta=0.01), Adaptive(eta=0.0, euclidean=biases), Identity()],
    ids=["eta", "biases", "identity"],
)
def test_what_breaks_scale_invariance(metric: Metric) -> None:
    """Negative control: eta > 0, Euclidean biases, and the identity."""
    with pytest.raises(AssertionError):
        is_scale_invariant(metric, elementwise_factors, 2.0, 0)


def test_a_size_without_its_absolute_value_is_killed() -> None:
    """The mutant's sign cancels in T lmo(T d) for one climb; a flip of the weights' signs does not change |w| + eta."""
    w, g, _ = draw(0)
    flipped = [-x for x in w]

    def answers(size: Any) -> list[Any]:
        ball = Ball(2, Adaptive(size, eta=0.1))
        return [flat(ball.at(site(vec(at))).maximiser(vec(g)).collapse()) for at in (w, flipped)]

    np.testing.assert_array_equal(*answers(elementwise))
    assert np.max(abs(np.subtract(*answers(lambda leaf, x: x)))) > 1e-3


# ------------------------------------------------------------------------------------------------ what each measures


@given(seeds, st.sampled_from([0.0, 0.01, 1.0]))
def test_the_formulas_of_the_sizes(seed: int, eta: float) -> None:
    w, _, _ = draw(seed)
    kernel = [Leaf(NAMES[0], filter_axis=-1), *map(Leaf, NAMES[1:])]
    expected: list[tuple[Any, list[Any], list[Any]]] = [
        (elementwise, NAMES, [abs(x) for x in w]),
        (layerwise, NAMES, [np.sqrt(np.sum(x**2)) for x in w]),
        (filterwise, NAMES, [np.sqrt(np.sum(w[0] ** 2, (1, 2))).reshape(3, 1, 1), abs(w[1]), abs(w[2])]),
        (filterwise, kernel, [np.sqrt(np.sum(w[0] ** 2, (0, 1))), abs(w[1]), abs(w[2])]),
    ]
    for size, names, sizes in expected:
        T = Adaptive(size, eta)(site(vec(w, names))).collapse()
        for x, y, u in zip(T, sizes, w, strict=True):
            np.testing.assert_allclose(np.broadcast_to(x, u.shape), np.broadcast_to(y + eta, u.shape), rtol=1e-14)


@pytest.mark.parametrize("size", FACTORS, ids=lambda size: size.__name__)
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
@given(seeds)
def test_euclidean_leaves_have_the_metric_one(size: Any, p: float, seed: int) -> None:
    """P1 and P2 with T = 1 on the biases alone."""
    w, g, _ = draw(seed)
    metric = Adaptive(size, 0.01, euclidean=biases)
    T = [np.asarray(x) + 0 * u for x, u in zip(metric(site(vec(w))).collapse(), w, strict=True)]
    np.testing.assert_array_equal(T[1], 1)
    assert not np.any(T[0] == 1)
    e = flat(Ball(p, metric).at(site(vec(w))).maximiser(vec(g)).collapse())
    q = p / (p - 1)
    assert np.sum(flat(g) * e) == pytest.approx(float(p_norm(flat(T) * flat(g), q)), rel=1e-13)
    assert float(p_norm(e / flat(T), p)) == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("name", ["conv.bias", "b", "layer/b", "norm.beta", "in_proj_bias"])
def test_biases_are_told_by_the_last_part_of_the_name(name: str) -> None:
    assert biases(Leaf(name))


@pytest.mark.parametrize("name", ["conv.weight", "beta.weight", "bias.scale"])
def test_what_is_no_bias_is_not_taken_for_one(name: str) -> None:
    assert not biases(Leaf(name))


def test_leaves_without_names_cannot_be_told() -> None:
    w, g, _ = draw(0)
    with pytest.raises(ValueError, match="names"):
        Ball(2, Adaptive(euclidean=biases)).at(site(vec(w, [""] * 3))).maximiser(vec(g))


def test_a_zero_weight_moves_only_by_eta() -> None:
    w, g = (np.array([0.0, 2.0]),), (np.array([1.0, 1.0]),)
    for eta, moves in ((0.0, False), (0.01, True)):
        e = Ball(2, Adaptive(eta=eta)).at(site(vec(w, ["x"]))).maximiser(vec(g, ["x"])).collapse()[0]
        assert bool(e[0] != 0) is moves
