"""Points are written into one copy that is kept, or over the weights; nowhere else, and only when they are wanted."""

from typing import Any

import numpy as np
import pytest
import torch

from samfamily import SAM, Vec
from samfamily_torch import SharpnessAware, TorchSpace, foreach, space
from samfamily_torch.foreach import LARGE, add_into
from samfamily_torch.space import Displaced
from tests.spaces import checks
from tests.spaces.checks import ORDERS, SHAPES, layouts
from tests.spaces_under_test import TORCH
from tests.torch.conftest import make_task, same
from tests.torch.memory import remembered

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
    out = tuple(torch.empty_like(u) for u in W)
    point.leaves.write(out)
    expected = [torch.tensor([12.0, 24.0]), torch.tensor(36.0)]
    assert same(list(out), expected)
    assert same(list(point.leaves), expected)  # whoever looks at it sees the same
    assert same(list(w.leaves), list(W))
    point.leaves.write(w.leaves)
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
    found = remembered(optimizer)
    gradients = [p.grad for p in task.model.parameters()]
    half = [w + 0.5 * g for w, g in zip(before, gradients, strict=True) if g is not None]
    assert same(found, half)
    assert not same(task.weights(), before)  # negative control: a sum on these would be another


# ------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("sizes", [[3, 5], [LARGE], [LARGE - 1, LARGE, 0, LARGE + 1]], ids=str)
def test_large_leaves_and_small_ones_hold_the_sum(sizes: list[int]) -> None:
    x, y, out = (tuple(torch.randn(n) for n in sizes) for _ in range(3))
    add_into(out, -3.0, x, y)
    for o, u, v in zip(out, x, y, strict=True):
        torch.testing.assert_close(o, v - 3.0 * u)


# ------------------------------------------------------------------------------------------- scalars that are not read


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every scalar as one on an accelerator, which is never read."""
    for module in (foreach, space):
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
    out, moved = tuple(torch.empty_like(v) for v in y), tuple(v.clone() for v in y)
    add_into(out, scalar, x, y)
    checks.assert_leaves(out, exact, size, y)
    add_into(moved, scalar, x, moved)
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
