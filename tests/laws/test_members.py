"""Layer 2: what a member of an axis declares of itself is what it does, and it begins as its row does."""

from collections.abc import Iterable, Iterator
from dataclasses import FrozenInstanceError, fields, replace
from math import inf, nan, sqrt
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samfamily import (
    AESAM,
    MSAM,
    RSAM,
    SAM,
    SSSAM,
    Ball,
    EigenSAM,
    FriendlySAM,
    PeriodicSAM,
    RandomSmoothing,
    SAMPa,
    Variant,
    VaSSO,
    Vec,
)
from samfamily.ascent import (
    Ascent,
    Direction,
    Gradient,
    GradientAtNoise,
    Last,
    Mean,
    Noise,
    PreviousGradient,
    Recalled,
    Residual,
    RunningMean,
    TopEigenvector,
    TowardsEigenvector,
)
from samfamily.descent import (
    Across,
    Blend,
    Climb,
    Curvature,
    Decoupled,
    Descended,
    Descent,
    Extrapolated,
    Momentum,
    Perturbed,
    Renormalised,
    Reuse,
    SecondOrder,
    SurrogateGap,
    SurrogateGapOfLoss,
    Velocity,
)
from samfamily.program import Asking, HessianVector, Site, State, ask, drive
from samfamily.radius import Bernoulli, Constant, Periodic, Radius, Reach, Thresholded, Tied, Unnormalised
from tests.laws.losses import SIZE, Loss, start, vec, walk, wavy
from tests.strategies import flat, seeds

ASCENTS: list[Ascent] = [
    Gradient(),
    Residual(),
    RunningMean(),
    PreviousGradient(),
    Recalled(),
    Noise(),
    GradientAtNoise(),
    TowardsEigenvector(every=20),
]
DESCENTS: list[Descent] = [
    Perturbed(),
    SecondOrder(),
    Blend(0.3),
    Decoupled(0.3),
    SurrogateGap(0.3),
    SurrogateGapOfLoss(0.3),
    Renormalised(),
    Reuse(0.3),
    Momentum(),
    Extrapolated(0.3, 0.1),
    Curvature(0.3, 0.2),
]
RADII: list[Radius] = [Constant(0.1), Unnormalised(0.1), Periodic(0.1, 3), Bernoulli(0.1), Thresholded(0.1)]


def name(member: object) -> str:
    return type(member).__name__


ascents, descents, radii = (
    pytest.mark.parametrize("member", members, ids=name) for members in (ASCENTS, DESCENTS, RADII)
)


class Asked(NamedTuple):
    """What a member returned, and what it asked for."""

    result: Any
    points: list[Vec]
    products: list[HessianVector]


def ran(result: Any, loss: Loss) -> Asked:
    asked = Asked(None, [], [])

    def answer(request: Any) -> Any:
        if isinstance(request, HessianVector):
            asked.products.append(request)
            return vec(loss.hessian(flat(request.w.collapse())) @ flat(request.v.collapse()))
        if isinstance(request, Vec):
            asked.points.append(request)
            return vec(loss.gradient(flat(request.collapse())))
        return bool(request.predicate)

    return asked._replace(result=drive(ask(result), answer))


def numbers(x: Any) -> Any:
    """Return all numbers of nested tuples of Vecs and scalars in one vector."""
    if isinstance(x, tuple):
        return np.concatenate([np.zeros(0), *map(numbers, x)])
    return flat(x.collapse()) if isinstance(x, Vec) else np.ravel([] if x is None else x)


def shape(x: Any) -> Any:
    """Return the structure of nested tuples of Vecs and scalars."""
    if isinstance(x, tuple):
        return type(x), [shape(part) for part in x]
    return "vec" if isinstance(x, Vec) else "nothing" if x is None else "scalar"


def at(seed: int) -> Vec:
    return vec(start(seed))


def state(member: Ascent, step: int, seed: int) -> State:
    """Return a state in the middle of things: the memory at one place, the descent's at another."""
    memory = member.init(at(seed))
    if isinstance(memory, Mean | Last | TopEigenvector):
        memory = type(memory)(at(seed + 1))
    return State(step, memory, descent=Velocity(at(99)))


def climb(loss: Loss, seed: int, g: Vec | None) -> Climb:
    w, d = at(seed), at(seed + 1)
    return Climb(w, g, d, Ball().at(Site(w, d, 0)), 0.1, w, 0)


# ------------------------------------------------------------------------------------------------------------- ascents


@ascents
def test_an_ascent_asks_for_what_it_declares(member: Ascent) -> None:
    found = ran(member(at(0), state(member, 1, 0)), wavy(0))
    assert len(found.points) == member.gradients
    assert member.hands_over_gradient is (found.result.g is not None)
    if found.result.g is not None:
        np.testing.assert_array_equal(numbers(found.result.g), wavy(0).gradient(start(0)))
    steps = [ran(member(at(0), state(member, t, 0)), wavy(0)) for t in range(100)]
    assert sum(len(step.products) for step in steps) == pytest.approx(100 * member.hessian_vector_products)


@ascents
def test_an_ascent_is_stateful_where_the_steps_before_matter(member: Ascent) -> None:
    one, other = (numbers(ran(member(at(0), s), wavy(0)).result.d) for s in (state(member, 1, 1), state(member, 2, 2)))
    assert member.stateful is bool(np.any(one != other))


@ascents
def test_the_memory_of_an_ascent_keeps_its_shape(member: Ascent) -> None:
    assert shape(ran(member(at(0), state(member, 1, 0)), wavy(0)).result.memory) == shape(member.init(at(0)))


@pytest.mark.parametrize("member", [Residual(), RunningMean()], ids=name)
def test_a_mean_begins_with_the_first_gradient(member: Ascent) -> None:
    """Whatever the memory said: a state is also built by hand, or from a checkpoint of something else."""
    found = ran(member(at(0), state(member, 0, 0)), wavy(0)).result
    for x in (found.d, found.memory.mean):
        np.testing.assert_array_equal(numbers(x), numbers(found.g))
    assert not np.any(numbers(member.init(at(0))))


@given(seeds, st.floats(0.05, 1))
def test_a_running_mean_is_the_sum_of_what_was(seed: int, theta: float) -> None:
    """d_t = (1 - theta)^t g_0 + theta sum_s (1 - theta)^(t - s) g_s, the weights adding up to one."""
    member, loss = RunningMean(theta=theta), wavy(seed)
    s, gradients = State(0, member.init(at(0))), []
    for t in range(4):
        found = ran(member(at(t), s), loss).result
        s = State(t + 1, found.memory)
        gradients.append(numbers(found.g))
        weights = np.array([(1 - theta) ** t] + [theta * (1 - theta) ** (t - i) for i in range(1, t + 1)])
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(numbers(found.d), weights @ np.array(gradients), rtol=1e-10, atol=1e-10)


@given(seeds)
def test_what_is_recalled_is_recalled_whole(seed: int) -> None:
    """Its length too, which a radius in units of it needs."""
    for member, sign in ((Recalled(), 1.0), (Recalled(sign=-1.0), -1.0)):
        found = ran(member(at(seed), state(member, 1, seed)), wavy(seed)).result
        np.testing.assert_array_equal(numbers(found.d), sign * start(99))


@given(seeds, st.floats(0.01, 1))
def test_a_ball_round_noise_lies_where_the_gradient_was_asked(seed: int, sigma: float) -> None:
    found = walk(RSAM(rho=0.3, sigma=sigma, seed=seed), wavy(seed), at(seed))
    here, there = (flat(point.collapse()) for point in found.points)
    g = flat(found.gradients[0].collapse())
    np.testing.assert_allclose(there - here, 0.3 * g / np.linalg.norm(g), atol=1e-12)
    z = numbers(Noise(seed=seed)(at(seed), State(0)).d)
    np.testing.assert_allclose(here - start(seed), sigma * z, atol=1e-12)


@given(seeds, st.floats(-2, 2))
def test_turning_towards_the_eigenvector(seed: int, alpha: float) -> None:
    """d is a unit along g, and alpha of the part of v across it, on the side that g is on."""
    member = TowardsEigenvector(alpha=alpha, every=5)
    v = at(seed + 1) / at(seed + 1).norm(2)
    found = ran(member(at(seed), State(1, TopEigenvector(3.0 * v))), wavy(seed)).result
    g, d, v = numbers(found.g), numbers(found.d), numbers(v)
    assert d @ g == pytest.approx(np.linalg.norm(g))
    assert d @ v - g @ v / np.linalg.norm(g) == pytest.approx(
        alpha * np.sign(g @ v) * (1 - (g @ v) ** 2 / (g @ g)), abs=1e-10
    )
    np.testing.assert_allclose(numbers(found.memory), v, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_an_eigenvector_begins_as_a_unit_of_noise(seed: int) -> None:
    z = numbers(Noise(seed=seed)(at(0), State(0)).d)
    memory = TowardsEigenvector(seed=seed).init(at(0))
    np.testing.assert_allclose(numbers(memory), z / np.linalg.norm(z), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------ descents


@descents
def test_a_descent_asks_for_what_it_declares(member: Descent) -> None:
    loss, g, h = wavy(0), vec(wavy(0).gradient(start(0))), at(5)
    found = ran(member(climb(loss, 0, g), h, member.init(at(0))), loss)
    assert 1 + len(found.points) == member.gradients
    assert len(found.products) == member.hessian_vector_products
    assert member.adds is (found.result.addend is not None)
    other = ran(member(climb(loss, 0, at(6)), h, member.init(at(0))), loss)
    assert member.needs_gradient is bool(np.any(numbers(tuple(found.result)) != numbers(tuple(other.result))))


@descents
def test_the_two_faces_of_a_descent_have_one_shape(member: Descent) -> None:
    memory = member.init(at(0))
    climbed = ran(member(climb(wavy(0), 0, at(4)), at(5), memory), wavy(0)).result
    rested = ran(member.idle(at(4), memory), wavy(0)).result
    assert shape(climbed) == shape(rested)
    assert shape(climbed.memory) == shape(memory)
    assert member.stateful is bool(memory)
    assert not np.any(numbers(memory))


@pytest.mark.parametrize("member", [member for member in DESCENTS if not member.stateful], ids=name)
def test_a_descent_without_a_memory_leaves_alone_what_it_is_given(member: Descent) -> None:
    memory = Velocity(at(7))
    for result in (member(climb(wavy(0), 0, at(4)), at(5), memory), member.idle(at(4), memory)):
        assert ran(result, wavy(0)).result.memory is memory


@descents
def test_a_descent_rests_at_a_radius_of_zero(member: Descent) -> None:
    """But for the one that looks ahead, which climbs by zero; and the rest costs one gradient and adds nothing."""
    variant = Variant("at rest", Constant(0.0), descent=member)
    found = walk(variant, wavy(0), at(0))
    assert member.rests is (len(found.points) == 1)
    if member.rests:
        np.testing.assert_array_equal(numbers(found.step.gradient), wavy(0).gradient(start(0)))
        assert not np.any(numbers(found.step.addend))


def test_momentum_adds_up_what_is_followed() -> None:
    memory, total = Momentum(0.5).init(at(0)), np.zeros(SIZE)
    for t in range(3):
        followed, memory, _ = Momentum(0.5)(climb(wavy(0), 0, None), at(t), memory)
        total = 0.5 * total + numbers(followed)
        np.testing.assert_allclose(numbers(memory), total)


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_looking_ahead(seed: int, lmbda: float, lr: float) -> None:
    """The gradient lr d further on is blended in and remembered; lr may be a schedule."""
    loss, c = wavy(seed), climb(wavy(seed), seed, None)
    for rate in (lr, lambda step: lr + step):
        found = ran(Extrapolated(lmbda, rate)(c, at(5), Velocity(at(6))), loss)
        np.testing.assert_allclose(numbers(found.points[0]), numbers(c.w) - lr * numbers(c.d))
        ahead = loss.gradient(numbers(found.points[0]))
        np.testing.assert_allclose(numbers(found.result.memory), ahead)
        np.testing.assert_allclose(numbers(found.result.gradient), numbers(at(5)) + lmbda * (ahead - numbers(at(5))))


def test_looking_ahead_goes_as_far_as_the_schedule_says_at_each_step() -> None:
    variant, w = SAMPa(lr=lambda step: 0.5 + step), at(0)
    state = variant.init(w)
    for step in range(3):
        found = walk(variant, wavy(0), w, state)
        expected = numbers(w) - (0.5 + step) * numbers(state.descent.v)
        np.testing.assert_allclose(numbers(found.points[-1]), expected, rtol=1e-12)
        state = found.step.state


@given(seeds, st.floats(-1, 1), st.floats(-1, 1))
def test_the_differences_along_the_perturbation(seed: int, gamma: float, beta: float) -> None:
    """Of a cubic they are known: its gradient x^2 has the second one 2 e^2 and the first one 4 x e."""
    cubic = Loss(lambda x: np.sum(x**3) / 3, lambda x: x**2, lambda x: np.diag(2 * x))
    x, e = start(seed), 0.1 * start(seed + 1) / np.linalg.norm(start(seed + 1))
    found = ran(Curvature(gamma, beta)(climb(cubic, seed, vec(x**2)), vec((x + e) ** 2), ()), cubic).result
    np.testing.assert_allclose(
        numbers(found.gradient), (x + e) ** 2 + gamma * 2 * e**2 + beta * 4 * x * e, rtol=1e-9, atol=1e-12
    )


@given(seeds)
def test_what_looksam_remembers(seed: int) -> None:
    r"""The part of h across g, whole; nothing where they are parallel; and when resting what it has."""
    g, h = at(seed), at(seed + 1)
    memory = Reuse(0.5)(climb(wavy(0), 0, g), h, Across(at(9))).memory
    x, y = numbers(g), numbers(h)
    np.testing.assert_allclose(numbers(memory), y - (x @ y) / (x @ x) * x, atol=1e-12)
    assert not np.any(numbers(Reuse(0.5)(climb(wavy(0), 0, g), 3.0 * g, memory).memory))
    assert Reuse(0.5).idle(g, memory).memory is memory


# --------------------------------------------------------------------------------------------------------------- radii


def reached(member: Radius, norms: Iterable[float]) -> Iterator[tuple[Any, Any]]:
    """Yield the `Reach` that a radius decides on at each step, and the memory that it decided with."""
    memory = member.init(at(0))
    for step, norm in enumerate(norms):
        reach = member(Site(at(0), at(0), step), np.float64(norm), memory)
        yield reach, memory
        memory = reach.memory


@radii
def test_a_radius_climbs_as_often_as_it_declares(member: Radius) -> None:
    reaches = [reach for reach, _ in reached(member, 300 * [2.0])]
    assert {float(reach.rho) for reach in reaches} == {0.2 if isinstance(member, Unnormalised) else 0.1}
    assert np.mean([reach.climbs for reach in reaches]) == pytest.approx(member.climbs_per_step, abs=sqrt(4 / 300))
    assert replace(member, rho=0.0).climbs_per_step == 0


@pytest.mark.parametrize("norm", [2.0, inf, nan])
def test_a_radius_of_zero_is_zero_whatever_the_gradient(norm: float) -> None:
    """Known to be zero, and not a product that would have to be read: it saves the second gradient on every backend."""
    for member in RADII[:-1]:
        assert replace(member, rho=0.0)(Site(at(0), at(0), 0), np.float64(norm), ()).rho == 0


@pytest.mark.parametrize("member", [*ASCENTS, *DESCENTS, *RADII], ids=name)
def test_a_memory_is_finite_where_the_weights_are_zero(member: Any) -> None:
    assert np.all(np.isfinite(numbers(member.init(0.0 * at(0)))))


@radii
def test_a_radius_is_stateful_where_the_steps_before_matter(member: Radius) -> None:
    some = [(float(reach.rho), bool(reach.climbs)) for reach, _ in reached(member, [1.0, 3.0, 2.0, 9.0] * 6)]
    assert member.stateful is (len(set(some[2::4])) > 1)


@radii
def test_a_radius_follows_its_schedule_and_keeps_the_shape_of_its_memory(member: Radius) -> None:
    scheduled = replace(member, rho=lambda step: 0.5 + step)
    for step, (reach, memory) in enumerate(reached(scheduled, 4 * [1.0])):
        assert reach.rho == 0.5 + step
        assert shape(reach.memory) == shape(memory)
    assert scheduled.scheduled
    assert not member.scheduled


def test_the_coin_falls_otherwise_for_another_seed() -> None:
    first, again, other = ([bool(r.climbs) for r, _ in reached(Bernoulli(0.1, seed=s), 64 * [1.0])] for s in (0, 0, 1))
    assert first == again != other


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.floats(0, 0.95))
def test_the_moments_are_sums_over_what_was(norms: list[float], delta: float) -> None:
    """Weighted by (1 - delta) delta^age; a deviation of c and more climbs."""
    squares, means = np.array(norms) ** 2, []
    for t, (reach, _) in enumerate(reached(Thresholded(0.1, delta=delta), norms)):
        weights = (1 - delta) * delta ** np.arange(t, -1, -1)
        means.append(weights @ squares[: t + 1])
        variance = weights @ (squares[: t + 1] - means) ** 2
        np.testing.assert_allclose(reach.memory, (means[-1], variance), rtol=1e-9, atol=1e-9)
        assert bool(reach.climbs) is bool(squares[t] >= means[-1] or variance == 0)


@given(st.floats(0.1, 10), st.sampled_from([0.5, 0.75, 0.9375]))
def test_the_first_step_deviates_by_a_known_amount(norm: float, delta: float) -> None:
    """By (1 - delta)^(-1/2) whatever the gradient, at which a threshold just lets it climb."""
    deviation = (1 - delta) ** -0.5
    for c, climbs in ((deviation - 1e-9, True), (deviation + 1e-9, False), (-inf, True), (inf, False)):
        for threshold in (c, lambda step, c=c: c + step):
            ((reach, _),) = reached(Thresholded(0.1, threshold, delta), [norm])
            assert bool(reach.climbs) is climbs
    ((reach, _),) = reached(Thresholded(0.1, 0.0, 0.0), [norm])
    assert bool(reach.climbs)  # without a memory there is no deviation, and 0 >= 0


@given(st.floats(0.1, 1), st.floats(1, 2), st.floats(0, 1), st.floats(-1, 2))
def test_a_tied_rho_moves_with_the_learning_rate(low: float, high: float, rho_min: float, share: float) -> None:
    """As far between its ends as the learning rate is between its own, also beyond them; but no radius is below 0."""
    tied = Tied(lambda step: low + step * (high + 1 - low), high + 1, 3.0, low, rho_min)
    assert tied(share) == pytest.approx(max(0.0, rho_min + share * (3.0 - rho_min)), abs=1e-12)


@given(st.floats(0, 2), st.floats(0.5, 2), st.floats(0, 3))
def test_a_tied_rho_is_in_proportion_unless_told_otherwise(lr: float, lr_max: float, rho_max: float) -> None:
    assert Tied(lambda step: lr, lr_max, rho_max)(0) == pytest.approx(rho_max * lr / lr_max)


@pytest.mark.parametrize("lowest", [1.0, 2.0])
def test_a_tied_rho_needs_two_learning_rates(lowest: float) -> None:
    with pytest.raises(ValueError, match=f"lr_max must be above lr_min, got 1.0 and {lowest}"):
        Tied(lambda step: step, 1.0, 0.1, lowest)


# ----------------------------------------------------------------------------------------------------- their products

EVERY_RADIUS = {
    "always": Constant(0.1),
    "every third": Periodic(0.1, 3),
    "a coin": Bernoulli(0.1),
    "never": Constant(0.0),
}
EVERY_ASCENT = {name(ascent): ascent for ascent in ASCENTS} | {"three steps": Gradient(steps=3)}


@pytest.mark.parametrize("radius", EVERY_RADIUS.values(), ids=EVERY_RADIUS)
@pytest.mark.parametrize("ascent", EVERY_ASCENT.values(), ids=EVERY_ASCENT)
def test_any_product_costs_what_it_states_and_says_how_far_it_went(radius: Radius, ascent: Ascent) -> None:
    for descent in DESCENTS:
        recalls_nothing = isinstance(ascent, Recalled) and not descent.stateful
        if not isinstance(descent, SecondOrder) and not recalls_nothing:
            costs_what_it_states(Variant(name(descent), radius, ascent=ascent, descent=descent))


def costs_what_it_states(variant: Variant) -> None:
    w, state, radius, counts, climbs = at(0), variant.init(at(0)), variant.radius, [], []
    for step in range(12):
        found = walk(variant, wavy(0), w, state)
        w, state = w - 0.1 * found.step.gradient, found.step.state
        assert shape(state) == shape(variant.init(w))
        counts.append(len(found.points))
        rho, climbed, _ = tuple[Any, ...](radius(Site(w, w, step), found.step.dual_norm, ()))
        climbs.append(bool(climbed) and (rho != 0 or not variant.descent.rests))
        if climbs[-1]:
            assert counts[-1] == variant.ascent.hands_over_gradient + variant.gradients_besides_w
            assert variant.gradient_returned == counts[-1] * variant.descent.returns_last
            if type(variant.descent) in map(type, DESCENTS):  # a new one need not say so
                assert (found.step.gradient is found.gradients[-1]) == variant.descent.returns_last
        elif counts[-1] == variant.gradient_returned:
            assert found.step.gradient is found.gradients[-1]
        assert float(found.step.radius) == (float(rho) if climbs[-1] else 0.0)
    if isinstance(radius, Bernoulli):  # as it fell
        variant = replace(variant, radius=replace(radius, probability=np.mean(climbs)))
    if variant.descent.rests or radius.rho:
        assert np.mean(counts) == pytest.approx(variant.gradients_per_step)


class Least(Descent):
    """A descent that says as little as it can."""

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Descended:
        return Descended(h)


class Little(Ascent):
    """An ascent that says as little as it can."""

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        g = yield w
        return Direction(g, g)


class Shortest(Radius):
    """A radius that says as little as it can."""

    def __call__(self, site: Site, dual_norm: Any, memory: Any) -> Reach:
        return Reach(self.rho)


def test_what_a_member_leaves_unsaid() -> None:
    """No memory, always a climb, nothing to add: with members of few words a step is SAM's."""
    variant = Variant("short", Shortest(0.1), ascent=Little(), descent=Least())
    found, sam = walk(variant, wavy(0), at(0)), walk(SAM(rho=0.1), wavy(0), at(0))
    assert found.step.state == variant.init(at(0))._replace(step=1) == State(1)
    assert found.step.addend is None
    np.testing.assert_array_equal(numbers(found.step.gradient), numbers(sam.step.gradient))
    assert not variant.stateful
    costs_what_it_states(variant)


# ----------------------------------------------------------------------------------------------------- what they accept


@pytest.mark.parametrize("member", [*ASCENTS, *DESCENTS, *RADII, Tied(abs, 1.0, 0.1), Ball()], ids=name)
def test_a_member_is_a_value(member: Any) -> None:
    assert hash(member) == hash(replace(member))
    assert member == replace(member)
    for field in fields(member):
        with pytest.raises(FrozenInstanceError):
            setattr(member, field.name, getattr(member, field.name))


@pytest.mark.parametrize("member", [*ASCENTS, *DESCENTS, *RADII], ids=name)
def test_what_is_no_number_is_refused_under_its_name(member: Any) -> None:
    """Also where a row checks first, under the name that its paper gives.  Seeds and signs are not checked."""
    for field in fields(member):
        if field.name not in {"seed", "sign"}:
            with pytest.raises((TypeError, ValueError), match=rf"^(1 - )?{field.name} must be .*got nan"):
                replace(member, **{field.name: nan})


@pytest.mark.parametrize("c", [nan, "many", None, 1j])
def test_a_threshold_is_a_number_or_a_schedule(c: Any) -> None:
    with pytest.raises(ValueError, match=f"^c must be a number or a schedule, got {c!r}"):
        Thresholded(0.1, c)


# ------------------------------------------------------------------------------------------------------------ defaults


@pytest.mark.parametrize(
    ("member", "row"),
    [
        (Residual(), FriendlySAM().ascent),
        (RunningMean(), VaSSO().ascent),
        (Noise(), RandomSmoothing().ascent),
        (GradientAtNoise(), RSAM().ascent),
        (TowardsEigenvector(), EigenSAM().ascent),
        (Momentum(), MSAM().descent),
        (Periodic(0.1), PeriodicSAM(0.1, k=1).radius),
        (Bernoulli(0.1), SSSAM(0.1).radius),
        (Thresholded(0.1), AESAM(0.1).radius),
    ],
    ids=name,
)
def test_a_members_defaults_are_its_rows(member: object, row: object) -> None:
    """Whoever builds a variant of members alone gets what the paper proposes; Periodic alone climbs always."""
    assert member == row


# ----------------------------------------------------------------------------------------------------- what is let go


@pytest.mark.parametrize("member", [Perturbed, Momentum])
def test_a_descent_that_does_not_look_back_is_shown_no_climb(member: type[Any]) -> None:
    """So that the memory of the climb is free while the last gradient is computed."""
    shown = []

    class Looking(member):  # type: ignore[misc]
        def __call__(self, climb: Any, h: Vec, memory: Any) -> Any:
            shown.append(climb)
            return super().__call__(climb, h, memory)

    class LookingBack(Looking):
        looks_back = True

    assert member.looks_back is False
    for descent in (Looking(), LookingBack()):
        variant = Variant("Looking", Constant(0.1), descent=descent)
        walk(variant, wavy(0), at(0), variant.init(at(0)))
    assert shown[0] is None
    assert shown[1].g is None  # nor is the gradient at w kept for one that does not need it
    assert np.isclose(numbers(shown[1].epsilon) @ numbers(shown[1].epsilon), 0.01)


def test_a_variant_with_the_rho_that_it_has_is_itself() -> None:
    variant = Variant("SAM", Constant(0.1))
    assert variant.with_rho(variant.radius.rho) is variant
    assert variant.with_rho(0.2) is not variant
