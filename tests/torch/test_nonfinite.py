"""What is not finite, in any pass, changes nothing."""

import copy
from collections.abc import Callable
from math import inf, isnan, nan
from typing import Any

import pytest
import torch
from torch import Tensor

from samfamily_torch import FAMILY, MSAM, SAM, FriendlySAM, LookSAM, SharpnessAware, run
from tests.torch.conftest import Task, make_task, same
from tests.torch.memory import own, remembered

VARIANTS = [SAM(rho=0.1), LookSAM(rho=0.1, k=2), FriendlySAM(rho=0.1), MSAM(rho=0.1), SAM(rho=0.1, steps=2)]


def spoiling(task: Task, optimizer: Any, at: int, what: str, value: float) -> Callable[[], Tensor]:
    """Return a closure whose call number `at` has a loss, or one entry of a gradient, of `value`."""
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = task.loss()
        loss.backward()
        if calls == at and what == "gradient":
            weight = task.model[0].weight
            assert isinstance(weight, Tensor)
            assert weight.grad is not None
            weight.grad[0, 0] = value
        return loss * value if calls == at and what == "loss" else loss

    return closure


def everything(task: Task, optimizer: Any) -> Any:
    return copy.deepcopy((task.weights(), optimizer.state_dict()["state"], own(optimizer)["state"]))


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(a == b)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.name}-{v.ascent.steps}")
@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("at", [1, 2])
def test_the_step_is_skipped_and_nothing_changes(variant: Any, what: str, value: float, at: int) -> None:
    task = make_task()
    optimizer = task.optimizer(variant)
    for _ in range(4):
        optimizer.step(task.closure(optimizer))
    before = everything(task, optimizer)
    at = min(at, round(variant.gradients_per_step)) if variant.name != "LookSAM" else at
    loss = optimizer.step(spoiling(task, optimizer, at, what, value))
    assert alike(everything(task, optimizer), before)
    assert all(p.grad is None for p in task.model.parameters())
    assert int(optimizer.info.skipped) == 1
    assert not optimizer.info.active
    assert what == "gradient" or not torch.isfinite(loss)
    optimizer.step(task.closure(optimizer))
    assert not same(task.weights(), before[0])
    assert int(optimizer.info.skipped) == 1


def test_a_good_step_is_not_skipped() -> None:
    """Negative control: an untouched closure moves the weights, and the count stays at zero."""
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.1))
    before = task.weights()
    optimizer.step(spoiling(task, optimizer, 3, "loss", nan))
    assert not same(task.weights(), before)
    assert int(optimizer.info.skipped) == 0


@pytest.mark.parametrize("at", [1, 2])
def test_raising_says_where_and_changes_nothing(at: int) -> None:
    task = make_task()
    optimizer = SharpnessAware(
        torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9), SAM(rho=0.1), on_nonfinite="raise"
    )
    optimizer.step(task.closure(optimizer))
    before = everything(task, optimizer)
    where = "w" if at == 1 else "the perturbed point"
    with pytest.raises(FloatingPointError, match=f"the loss at {where} is nan.*on_nonfinite"):
        optimizer.step(spoiling(task, optimizer, at, "loss", nan))
    assert alike(everything(task, optimizer), before)


def test_one_bad_shard_skips_the_step() -> None:
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.1).sharded(4))
    before = task.weights()
    x = task.x.clone()
    x[5, 0] = nan
    optimizer.step(task.closure(optimizer), batch=(x, task.y))
    assert same(task.weights(), before)
    assert int(optimizer.info.skipped) == 1


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("interface", ["perturbed", "two steps"])
def test_a_manual_step_is_skipped_too(at: int, interface: str) -> None:
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.1))
    optimizer.step(task.closure(optimizer))
    before = everything(task, optimizer)
    factors = [nan if at == pass_ else 1.0 for pass_ in (1, 2)]
    (factors[0] * task.loss()).backward()
    if interface == "perturbed":
        with optimizer.perturbed():
            (factors[1] * task.loss()).backward()
        optimizer.step()
    else:
        optimizer.first_step()
        (factors[1] * task.loss()).backward()
        optimizer.second_step()
    assert alike(everything(task, optimizer), before)
    assert int(optimizer.info.skipped) == 1
    task.loss().backward()
    with optimizer.perturbed():
        task.loss().backward()
    optimizer.step()
    assert not same(task.weights(), before[0])


def test_a_manual_step_can_raise() -> None:
    task = make_task()
    optimizer = SharpnessAware(torch.optim.SGD(task.model.parameters(), lr=0.1), SAM(rho=0.1), on_nonfinite="raise")
    before = task.weights()
    (nan * task.loss()).backward()
    with pytest.raises(FloatingPointError), optimizer.perturbed():
        pass
    assert same(task.weights(), before)


def test_the_count_is_saved() -> None:
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.1))
    optimizer.step(spoiling(task, optimizer, 1, "loss", nan))
    again = task.optimizer(SAM(rho=0.1))
    again.load_state_dict(optimizer.state_dict())
    again.step(task.closure(again))
    assert int(again.info.skipped) == 1


@pytest.mark.parametrize("choice", ["ignore", None, True])
def test_there_are_two_choices(choice: Any) -> None:
    with pytest.raises(ValueError, match=r'on_nonfinite must be "skip" or "raise"'):
        SharpnessAware(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), SAM(), on_nonfinite=choice)


@pytest.mark.parametrize("name", FAMILY)
def test_no_row_lets_a_bad_batch_through(name: str) -> None:
    """Weights and memory stay finite, whatever the row, for a batch of NaN among good ones."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 1))
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), FAMILY[name](), model)

    def closure(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for step in range(6):
        x = torch.full((8, 3), nan) if step in {0, 3} else torch.randn(8, 3)
        loss = optimizer.step(closure, batch=(x,))
        assert isnan(loss) == (step in {0, 3})
    assert int(optimizer.info.skipped) == 2
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(torch.isfinite(x).all() for x in remembered(optimizer))


# ------------------------------------------------------------------------------------- where a device keeps the answer


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator, nobody looks at a number before the step is over; if at all."""
    monkeypatch.setattr(run, "is_finite", lambda x: torch.isfinite(torch.as_tensor(x)))


class Counting(torch.nn.BatchNorm1d):
    """Batch normalisation, and a buffer that every pass replaces."""

    seen: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  its name there
        self.seen = self.seen + input.detach().mean()
        return super().forward(input)


BASES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "fused SGD without momentum": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
}


UNREAD = [SAM(rho=0.1), SAM(rho=0.1).sharded(4), LookSAM(rho=0.1, k=2)]


def with_and_without_bad_batches(variant: Any, base: str, device: str = "cpu") -> list[Any]:
    """Return what is left of a walk in which the first and the fourth batch are NaN, and of one without these."""
    found = []
    for bad in ((0, 3), ()):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), Counting(4), torch.nn.Linear(4, 1)).to(device)
        optimizer = SharpnessAware(BASES[base](model.parameters()), variant, model)

        def closure(x: Tensor, optimizer: Any = optimizer, model: Any = model) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = model(x).square().mean()
            loss.backward()
            return loss

        batches = iter(torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(1)))
        for step in range(4 + len(bad)):
            x = torch.full((8, 3), nan) if step in bad else next(batches)
            optimizer.step(closure, batch=(x.to(device),))
        assert int(optimizer.info.skipped) == len(bad)
        found.append((optimizer.base.state_dict()["state"], [b.clone() for b in model.buffers()], model.state_dict()))
    return found


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", UNREAD, ids=lambda v: f"{v.name}-{v.m}")
def test_a_bad_batch_leaves_no_trace(variant: Any, base: str) -> None:
    """Weights, buffers and the base optimizer's state are bitwise those of who never met it, also as the first one."""
    assert alike(*with_and_without_bad_batches(variant, base))


@pytest.mark.parametrize("base", ["SGD", "fused SGD", "fused AdamW"])
def test_a_scaler_may_overflow_at_the_first_step(base: str) -> None:
    """Nothing is made of the inf that tells it so, not even an empty momentum."""
    task, scaler = make_task(torch.float32), torch.amp.GradScaler("cpu")
    optimizer = SharpnessAware(BASES[base](task.model.parameters()), SAM(rho=0.1))
    before = task.weights()
    for factor in (inf, 1.0):

        def closure(factor: float = factor) -> Tensor:
            optimizer.zero_grad()
            loss = task.loss() * factor
            scaler.scale(loss).backward()
            return loss

        optimizer.step(closure, scaler=scaler)
        assert bool(optimizer.state) == (factor == 1)
        assert same(task.weights(), before) == (factor == inf)
        scaler.update()
    assert scaler.get_scale() == 2**15


@pytest.mark.parametrize("returned", [None, "loss", (torch.ones(()),), {"loss": 1.0}, torch.ones(2)])
def test_what_is_no_loss_is_refused(returned: Any, task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.1))
    before = task.weights()

    def closure() -> Any:
        task.loss().backward()
        return returned

    with pytest.raises(TypeError, match=r"the closure returned .* it must return the loss"):
        optimizer.step(closure)
    assert same(task.weights(), before)


# ------------------------------------------------------------------------- figures that are not read, as on a device


def test_a_mean_of_ones_over_any_number_of_shards_is_finite() -> None:
    one = torch.ones((), dtype=torch.float64)
    rounded = [n for n in range(1, 1000) if float(n * one * (1 / n)) != 1]
    assert 49 in rounded  # why it cannot be compared with 1
    for n in range(1, 1000):
        assert run.all_finite(n * one * (1 / n))
        assert not run.all_finite((n - 1) * one * (1 / n))


@pytest.mark.parametrize("fused", [False, True])
def test_forty_nine_shards_step(unread: None, fused: bool) -> None:
    task = make_task()
    x, y = torch.randn(49, 4).double(), torch.randn(49, 2).double()
    optimizer = task.optimizer(SAM(rho=0.1).sharded(1), fused=fused, momentum=0.0)
    before = task.weights()
    optimizer.step(task.closure(optimizer), batch=(x, y))
    assert int(optimizer.info.skipped) == 0
    assert not same(task.weights(), before)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_not_finite_raises_where_it_shall_though_a_device_could_decide(unread: None, fused: bool) -> None:
    task = make_task()
    base = torch.optim.SGD(task.model.parameters(), lr=0.1, fused=fused)
    optimizer = SharpnessAware(base, SAM(rho=0.1), on_nonfinite="raise")
    before = task.weights()
    with pytest.raises(FloatingPointError):
        optimizer.step(spoiling(task, optimizer, 2, "gradient", nan))
    assert same(task.weights(), before)


def kinked(w: Tensor) -> Tensor:
    """Loss and gradient are finite everywhere; the second derivative is not at 0."""
    return (w.abs() ** 1.5).sum()


@pytest.mark.parametrize("row", ["second order", "EigenSAM"])
def test_a_product_with_the_hessian_that_is_not_finite_is_noticed(row: str) -> None:
    variant = SAM(rho=0.1, second_order=True) if row == "second order" else FAMILY["EigenSAM"]()
    w = torch.nn.Parameter(torch.tensor([0.0, 1.0], dtype=torch.float64))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.1), variant)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = kinked(w)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert int(optimizer.info.skipped) == 1
    assert w.tolist() == [0.0, 1.0]
    with torch.no_grad():
        w[0] = 0.5  # negative control: a step like any other
    optimizer.step(closure)
    assert int(optimizer.info.skipped) == 1
    assert w.tolist() != [0.5, 1.0]
