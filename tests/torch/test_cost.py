"""What a step asks of the machine besides gradients and the base optimizer: counted, never timed."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.counting import Count
from samfamily import ASAM, MSAM, SAM, USAM, Vec
from samfamily_torch import SharpnessAware, live
from samfamily_torch.live import LiveParameters

PASSES, CALLS = 8, 12
IN_PLACE = 9
"""Passes where the weights are saved, overwritten and copied back."""
UNREAD = 9, 15
"""Passes and calls where scalars stay where they are: the guarded division is four calls, a multiple comes first."""
SCALARS = 0.2
"""Passes that a tree of small leaves takes at most for its scalars."""
TENSORS = (torch.Tensor, torch.nn.Parameter)
SHAPES = [(100,), (64, 64), (200, 200), (300, 300)]
"""Of small and larger leaves, of trees that fit into a cache and of one that does not."""


class Still(torch.optim.Optimizer):
    """A base optimizer that stays where it is and costs nothing."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        pass


def count(variant: Any, shape: tuple[int, ...], device: str = "cpu") -> tuple[int, float, int]:
    """Return calls, passes over 50 tensors, and values read, of the third perturb and restore together."""
    parameters = [torch.nn.Parameter(torch.ones(shape, device=device)) for _ in range(50)]
    optimizer, counted = SharpnessAware(Still(parameters), variant), Count()
    for _ in range(3):
        counted = Count()
        parts: list[Callable[..., None]] = [optimizer.first_step, optimizer.second_step]
        for part in parts:
            for p in parameters:
                p.grad = torch.full(shape, 0.1, device=device)
            with counted:
                part(zero_grad=False)
    return counted.calls, counted.passes(parameters), counted.reads


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "why_in_place", lambda leaves: "the test says so")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_perturbing_and_restoring(shape: tuple[int, ...]) -> None:
    calls, passes, _ = count(SAM(), shape)
    assert calls <= CALLS
    assert passes <= PASSES + SCALARS


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_perturbing_and_restoring_in_place(shape: tuple[int, ...]) -> None:
    calls, passes, _ = count(SAM(), shape)
    assert calls <= CALLS
    assert passes <= IN_PLACE + SCALARS


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_perturbing_and_restoring_where_scalars_are_not_read(shape: tuple[int, ...]) -> None:
    calls, passes, reads = count(SAM(), shape, "meta")
    assert calls <= UNREAD[1]
    assert passes <= UNREAD[0] + SCALARS
    assert reads == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_more_copy_would_be_counted(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the tests above."""
    before, (calls, passes, _) = LiveParameters.go, count(SAM(), shape)

    def cloning(self: LiveParameters, point: Vec, again: bool = False) -> None:
        assert all(x.clone() is not x for x in self.w.leaves)
        before(self, point, again)

    monkeypatch.setattr(LiveParameters, "go", cloning)
    more_calls, more_passes, _ = count(SAM(), shape)
    assert more_calls == calls + 50
    assert more_passes == pytest.approx(passes + 2)


def test_momentum_sam_takes_no_more_than_its_momentum_besides() -> None:
    """Two norms, point and momentum."""
    _, passes, _ = count(MSAM(), (200, 200))
    assert passes <= 7 + 3.05


# -------------------------------------------------------------------------------------------------------------- memory


def copies(variant: Any, keeping: list[Any] | None = None) -> list[int]:
    """Return how many tensors of the parameter's size are alive when each gradient of steps 2 and 3 is computed.

    The weights and their gradient are not counted.
    """
    w = torch.nn.Parameter(torch.ones(12_345))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.01), variant)
    alive = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        assert w.grad is not None
        found = [x for x in gc.get_objects() if type(x) in TENSORS and x.numel() == w.numel()]
        alive.append(len({x.data_ptr() for x in found} | {w.data_ptr(), w.grad.data_ptr()}) - 2)
        if keeping is not None:
            keeping.append(w.grad)
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return alive[len(alive) // 3 :]


@pytest.mark.parametrize(
    "variant", [SAM(), USAM(), ASAM(), SAM(p=1), SAM(p=3.0)], ids=lambda v: f"{v.name}-{v.ball.p:g}"
)
def test_one_copy_at_most(variant: Any) -> None:
    assert copies(variant) == [1] * 4


def test_between_climbs_there_is_one_direction_more() -> None:
    assert copies(SAM(steps=3)) == [1, 2, 2, 1] * 2


@pytest.mark.usefixtures("in_place")
def test_one_copy_at_most_in_place() -> None:
    assert copies(SAM()) == [1] * 4


def test_a_gradient_that_somebody_keeps_is_seen() -> None:
    """Negative control of the tests above."""
    assert min(copies(SAM(), keeping=[])) > 1


def test_the_copy_is_the_same_at_every_step() -> None:
    w = torch.nn.Parameter(torch.ones(100_000))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.01), SAM())
    seen = []

    def closure() -> torch.Tensor:
        seen.append(w.data_ptr())
        loss = (w * w).sum()
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    assert len(set(seen[::2])) == len(set(seen[1::2])) == 1
    assert len(set(seen)) == 2  # negative control: the parameter was elsewhere
