"""Points are written into one buffer that is kept, or over the weights; nowhere else, and only when they are wanted."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from samfamily import SAM, Vec
from samfamily_torch import SharpnessAware, TorchSpace, foreach, space
from samfamily_torch.buffer import CACHED, FEW, SMALL, Buffer
from samfamily_torch.space import Displaced
from tests.spaces import checks
from tests.spaces.checks import ORDERS, SHAPES, layouts
from tests.spaces_under_test import TORCH
from tests.torch.conftest import make_task, same

W = (torch.tensor([10.0, 20.0]), torch.tensor(30.0))
X = (torch.tensor([1.0, 2.0]), torch.tensor(3.0))


def at_home() -> tuple[TorchSpace, Vec, Vec]:
    space = TorchSpace(2)
    space.home = tuple(w.clone() for w in W)
    return space, Vec(space, space.home), Vec(space, X)


def test_a_sum_on_the_weights_waits_to_be_written() -> None:
    _, w, x = at_home()
    point = w + 2.0 * x
    assert isinstance(point.leaves, Displaced)
    buffer = Buffer(w.leaves)
    point.leaves.write(buffer)
    expected = [torch.tensor([12.0, 24.0]), torch.tensor(36.0)]
    assert same(list(buffer.leaves), expected)
    assert same(list(point.leaves), expected)  # whoever looks at it sees the same
    assert same(list(w.leaves), list(W))
    point.leaves.move()
    assert same(list(w.leaves), expected)


@pytest.mark.parametrize("left", [True, False])
def test_it_waits_on_either_side_and_under_any_scalar(left: bool) -> None:
    _, w, x = at_home()
    for direction in (x, 0.5 * x, -x):
        point = w + direction if left else direction + w
        assert isinstance(point.leaves, Displaced) == (left or direction is not x)
        assert same(list(point.collapse()), [u + v for u, v in zip(W, direction.collapse(), strict=True)])


def test_other_sums_do_not_wait() -> None:
    """Negative control: a sum on a copy of the weights is one like any other."""
    space, w, x = at_home()
    copy = Vec(space, tuple(u.clone() for u in w.leaves))
    for total in (copy + x, x + 2.0 * w, w + 2.0 * w + x):
        assert isinstance(total.leaves, tuple)


def test_a_point_that_was_let_go_says_so() -> None:
    _, w, x = at_home()
    point = w + 2.0 * x
    assert isinstance(point.leaves, Displaced)
    point.leaves.release()
    with pytest.raises(RuntimeError, match=r"was let go: compute it again"):
        point.collapse()[0]


def test_what_a_row_remembers_is_computed_before_the_weights_move() -> None:
    from samfamily.descent import Descended, Momentum, Velocity
    from samfamily.radius import Constant
    from samfamily.variant import Variant

    class Anchored(Momentum):
        """Remembers the weights, half a gradient further."""

        looks_back = True

        def __call__(self, climb: Any, h: Vec, memory: Velocity) -> Descended:
            return Descended(h, Velocity(climb.w + 0.5 * h))

    task = make_task()
    optimizer = task.optimizer(Variant("Anchored", Constant(0.1), descent=Anchored()))
    before = task.weights()
    optimizer.step(task.closure(optimizer))
    remembered = optimizer.state_dict()["samfamily"]["state"][4][0]
    gradients = [p.grad for p in task.model.parameters()]
    half = [w + 0.5 * g for w, g in zip(before, gradients, strict=True) if g is not None]
    assert same(remembered, half)
    assert not same(task.weights(), before)  # negative control: a sum on these would be another


# ----------------------------------------------------------------------------------------------------------- layouts

TREES: dict[str, list[tuple[int, ...]]] = {
    "small": [(3, 5), (7,), (), (0, 2), (64,)],
    "small and larger": [(3, 5), (SMALL,), (10,), (SMALL + 1,)],
    "one": [(5,)],
    "none": [],
    "empty": [(0,), (2, 0)],
    "large": [(CACHED // 2, 1), (8,), (CACHED // 4,), *[(CACHED // 16,)] * (FEW + 1), (3,)],
}


def tree(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(shape).to(dtype) for shape in shapes)


@pytest.mark.parametrize("normed", [True, False], ids=["norm first", "no norm"])
@pytest.mark.parametrize("name", TREES)
def test_every_layout_holds_the_sum_and_gives_the_norm(name: str, normed: bool) -> None:
    x, y = tree(TREES[name]), tree(TREES[name])
    buffer, other = Buffer(y), tree(TREES[name])
    assert [b.shape for b in buffer.leaves] == [v.shape for v in y]
    for a in (0.5, -3.0):
        if normed:
            if x:
                n = foreach.two_norm(buffer.two_norms(x))
                torch.testing.assert_close(n, torch.cat([u.flatten().double() for u in x]).norm(), rtol=1e-4, atol=0)
            buffer.two_norms(x)
        buffer.write(a, x, y)
        for b, u, v in zip(buffer.leaves, x, y, strict=True):
            torch.testing.assert_close(b, v + a * u, rtol=1e-6, atol=1e-6)
        buffer.two_norms(other)  # what is kept of one tree is not taken for another's
        buffer.write(a, x, y)
        for b, u, v in zip(buffer.leaves, x, y, strict=True):
            torch.testing.assert_close(b, v + a * u, rtol=1e-6, atol=1e-6)


def test_leaves_of_one_buffer_do_not_overlap() -> None:
    y = tree(TREES["small and larger"])
    buffer = Buffer(y)
    for i, b in enumerate(buffer.leaves):
        b.fill_(i)
    assert all(bool((b == i).all()) for i, b in enumerate(buffer.leaves))
    spans = sorted((b.data_ptr(), b.data_ptr() + b.nbytes) for b in buffer.leaves)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_buffer_keeps_strides_and_dtypes() -> None:
    like = (torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.ones(3, dtype=torch.bfloat16))
    buffer = Buffer(like)
    assert [b.stride() for b in buffer.leaves] == [x.stride() for x in like]
    assert [b.dtype for b in buffer.leaves] == [x.dtype for x in like]
    assert buffer.fits(like)
    assert not buffer.fits(like[::-1])


def test_nothing_of_a_step_stays_in_the_buffer_s_keeping() -> None:
    """The gradient whose norm was taken is not kept from being freed."""
    task = make_task(torch.float32)
    for variant in (SAM(), SAM(rho=0.0)):
        optimizer = task.optimizer(variant)
        optimizer.step(task.closure(optimizer))
        assert optimizer._live._buffer._holds is None
    buffer = Buffer(X)
    buffer.two_norms(X)
    assert buffer._holds is X  # negative control
    buffer.forget()
    assert buffer._holds is None


# ------------------------------------------------------------------------------------------- scalars that are not read


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every scalar as one on an accelerator, which is never read."""
    from samfamily_torch import buffer

    for module in (foreach, space, buffer):
        monkeypatch.setattr(module, "read", lambda a: a)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("a", [1.0, -0.3, 1e6])
@pytest.mark.parametrize("layout", layouts(TORCH), ids=str)
def test_sums_with_scalars_that_stay_where_they_are(layout: list[str], a: float) -> None:
    random = np.random.default_rng(0)
    x, y = (TORCH.leaves(tuple(1e-3 * random.normal(size=s) for s in SHAPES), layout) for _ in range(2))
    scalar = torch.tensor(a, dtype=torch.float64)
    checks.check_linear(TORCH, x, y, scalar, 1.0)
    checks.check_linear(TORCH, x, y, scalar, torch.tensor(0.5))
    exact = [checks.wide(u) * a + checks.wide(v) for u, v in zip(x, y, strict=True)]
    size = [abs(e) + abs(a * checks.wide(u)) + abs(checks.wide(v)) for e, u, v in zip(exact, x, y, strict=True)]
    buffer, moved = Buffer(y), tuple(v.clone() for v in y)
    buffer.write(scalar, x, y)
    checks.assert_leaves(buffer.leaves, exact, size, y)
    foreach.add_into(moved, scalar, x, moved)
    checks.assert_leaves(moved, exact, size, y)
    with pytest.raises(AssertionError):  # negative control
        checks.assert_leaves(y, exact, size, y)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("b", [0.0, -1.0, 3.0, float("nan"), 1e-320])
def test_division_by_a_scalar_that_stays_where_it_is(b: float) -> None:
    divide = TorchSpace(1).divide
    for a in (1.0, 2.0, torch.tensor(2.0, dtype=torch.float64)):
        got = divide(a, torch.tensor(b, dtype=torch.float64))
        assert got.dtype == torch.float64
        assert float(got) == (float(a) / b if b > 1e-300 else 0.0)


@pytest.mark.parametrize("q", ORDERS)
def test_an_accelerators_values_are_never_read(q: float) -> None:
    """A meta tensor has none: reading one raises."""
    p = [torch.nn.Parameter(torch.empty(shape, device="meta")) for shape in ((2, 3), (), (4,))]
    optimizer = SharpnessAware(torch.optim.SGD(p, lr=0.1, momentum=0.9), SAM(p=q))
    for _ in range(2):
        for u in p:
            u.grad = torch.empty_like(u)
        optimizer.first_step()
        for u in p:
            u.grad = torch.empty_like(u)
        optimizer.second_step()
    assert optimizer.info.dual_norm.device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(optimizer.info.dual_norm)  # negative control
