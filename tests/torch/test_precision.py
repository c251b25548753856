"""Mixed precision: autocast, a stock GradScaler, and perturbations that rounding takes away."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from samfamily_torch import FAMILY, MSAM, SAM, USAM, FriendlySAM, LookSAM, SharpnessAware
from tests.torch.conftest import Task, make_task, norm, same

SCALE = 2.0**16


def scaled_closure(task: Task, optimizer: Any, scaler: GradScaler, overflow_at: int = 0) -> Any:
    calls = 0

    def closure(*batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = task.loss(*batch)
        scaler.scale(loss).backward()
        if calls == overflow_at:
            first = next(task.model.parameters())
            assert first.grad is not None
            first.grad.view(-1)[0] = torch.inf
        return loss

    return closure


def make_scaler(init_scale: float = SCALE, **options: Any) -> GradScaler:
    return GradScaler("cpu", init_scale=init_scale, **options)


ROWS = [SAM(rho=0.1), USAM(rho=0.1), LookSAM(rho=0.1, k=2), FriendlySAM(rho=0.1), MSAM(rho=0.1)]
ROWS += [SAM(rho=0.1, second_order=True), SAM(rho=0.1).sharded(4), FAMILY["EigenSAM"](), FAMILY["WSAM"]()]


@pytest.mark.parametrize("variant", ROWS, ids=range(len(ROWS)))
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_scaler_of_a_power_of_two_changes_no_bit(variant: Any, base: Any) -> None:
    """Every row, also those that depend on the loss's scale or remember gradients while the scale changes."""
    plain, scaled = make_task(), make_task()
    ours, theirs = plain.optimizer(variant, base), scaled.optimizer(variant, base)
    scaler = make_scaler(growth_interval=2)
    for _ in range(6):
        loss = ours.step(plain.closure(ours), batch=(plain.x, plain.y))
        told = theirs.step(scaled_closure(scaled, theirs, scaler), batch=(scaled.x, scaled.y), scaler=scaler)
        scaler.update()
        assert torch.equal(loss, told)
    assert scaler.get_scale() > SCALE
    assert same(plain.weights(), scaled.weights())
    assert torch.equal(ours.info.dual_norm, theirs.info.dual_norm)


def test_forgetting_the_scaler_would_show() -> None:
    """Negative control: scaled gradients through a plain step go elsewhere."""
    plain, scaled = make_task(), make_task()
    ours, theirs = plain.optimizer(USAM(rho=1e-6)), scaled.optimizer(USAM(rho=1e-6))
    ours.step(plain.closure(ours))
    theirs.step(scaled_closure(scaled, theirs, make_scaler()))
    assert not same(plain.weights(), scaled.weights())


@pytest.mark.parametrize("overflow_at", [1, 2])
def test_an_overflow_in_either_pass_skips_and_lowers_the_scale(overflow_at: int) -> None:
    task = make_task()
    optimizer, scaler = task.optimizer(SAM(rho=0.1)), make_scaler()
    optimizer.step(scaled_closure(task, optimizer, scaler), scaler=scaler)
    scaler.update()
    before, state = task.weights(), copy.deepcopy(optimizer.base.state_dict())
    optimizer.step(scaled_closure(task, optimizer, scaler, overflow_at), scaler=scaler)
    scaler.update()
    assert same(task.weights(), before)
    assert scaler.get_scale() == SCALE / 2
    assert int(optimizer.info.skipped) == 1
    for index, entry in optimizer.base.state_dict()["state"].items():
        assert torch.equal(entry["momentum_buffer"], state["state"][index]["momentum_buffer"])
    optimizer.step(scaled_closure(task, optimizer, scaler), scaler=scaler)
    scaler.update()
    assert not same(task.weights(), before)


def test_an_overflow_is_no_error_with_a_scaler_even_where_others_raise() -> None:
    task = make_task()
    optimizer = SharpnessAware(torch.optim.SGD(task.model.parameters(), lr=0.1), SAM(rho=0.1), on_nonfinite="raise")
    scaler = make_scaler()
    optimizer.step(scaled_closure(task, optimizer, scaler, 1), scaler=scaler)
    scaler.update()
    assert scaler.get_scale() == SCALE / 2


def test_one_unscale_for_each_update(monkeypatch: pytest.MonkeyPatch) -> None:
    unscaled: list[Any] = []
    true = GradScaler.unscale_

    def counted(self: GradScaler, optimizer: torch.optim.Optimizer) -> None:
        unscaled.append(optimizer)
        true(self, optimizer)

    monkeypatch.setattr(GradScaler, "unscale_", counted)
    task = make_task()
    optimizer, scaler = task.optimizer(SAM(rho=0.1, steps=3)), make_scaler()
    for step in range(3):
        optimizer.step(scaled_closure(task, optimizer, scaler), scaler=scaler)
        scaler.update()
        assert unscaled == [optimizer.base] * (step + 1)


@pytest.mark.parametrize("interface", ["perturbed", "two steps"])
@pytest.mark.parametrize("variant", [SAM(rho=0.1), USAM(rho=0.1), FriendlySAM(rho=0.1)], ids=lambda v: v.name)
def test_a_manual_loop_takes_the_scaler(interface: str, variant: Any) -> None:
    plain, scaled = make_task(), make_task()
    ours, theirs, scaler = plain.optimizer(variant), scaled.optimizer(variant), make_scaler()
    for _ in range(3):
        ours.step(plain.closure(ours))
        theirs.zero_grad()
        scaler.scale(scaled.loss()).backward()
        if interface == "perturbed":
            with theirs.perturbed(scaler=scaler):
                scaler.scale(scaled.loss()).backward()
            theirs.step(scaler=scaler)
        else:
            theirs.first_step(scaler=scaler)
            scaler.scale(scaled.loss()).backward()
            theirs.second_step(scaler=scaler)
        scaler.update()
    assert same(plain.weights(), scaled.weights())


def test_a_scaler_that_comes_late_or_goes_is_refused() -> None:
    """Scaled and unscaled gradients do not meet in one step."""
    task = make_task()
    optimizer, scaler, before = task.optimizer(SAM(rho=0.1)), make_scaler(), task.weights()
    for first, second in ((None, scaler), (scaler, None)):
        scaler.scale(task.loss()).backward()
        optimizer.first_step(scaler=first)
        scaler.scale(task.loss()).backward()
        with pytest.raises(RuntimeError, match=r"one scaler for all passes of a step"):
            optimizer.second_step(scaler=second)
        assert same(task.weights(), before)


def test_a_manual_overflow_skips_and_lowers_the_scale() -> None:
    task = make_task()
    optimizer, scaler, before = task.optimizer(SAM(rho=0.1)), make_scaler(), task.weights()
    scaler.scale(task.loss() * 1e308).backward()
    with optimizer.perturbed(scaler=scaler):
        scaler.scale(task.loss()).backward()
    optimizer.step(scaler=scaler)
    scaler.update()
    assert same(task.weights(), before)
    assert scaler.get_scale() == SCALE / 2


def test_a_scaler_that_is_off_is_no_scaler() -> None:
    plain, scaled = make_task(), make_task()
    ours, theirs = plain.optimizer(SAM(rho=0.1)), scaled.optimizer(SAM(rho=0.1))
    scaler = make_scaler(enabled=False)
    ours.step(plain.closure(ours))
    theirs.step(scaled_closure(scaled, theirs, scaler), scaler=scaler)
    scaler.update()
    theirs.step(scaled_closure(scaled, theirs, scaler, 2), scaler=scaler)
    assert same(plain.weights(), scaled.weights())
    assert int(theirs.info.skipped) == 1


@pytest.mark.parametrize("closure", [True, False])
def test_a_scalers_own_step_is_refused_and_nothing_sticks(closure: bool) -> None:
    task = make_task()
    optimizer, scaler, before = task.optimizer(SAM(rho=0.1)), make_scaler(), task.weights()
    scaler.scale(task.loss()).backward()
    arguments = (scaled_closure(task, optimizer, scaler),) if closure else ()
    with pytest.raises(RuntimeError, match=r"call optimizer.step\(closure, scaler=scaler\)"):
        scaler.step(optimizer, *arguments)
    assert same(task.weights(), before)
    optimizer.step(scaled_closure(task, optimizer, scaler), scaler=scaler)
    assert not same(task.weights(), before)


def test_autocast_in_the_closure() -> None:
    """bfloat16 inside, float32 weights: the step is SAM's, to bfloat16's precision, and every bit of it arrives."""
    plain, mixed = make_task(torch.float32), make_task(torch.float32)
    ours, theirs = plain.optimizer(SAM(rho=0.05)), mixed.optimizer(SAM(rho=0.05))

    def closure() -> Tensor:
        theirs.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.mse_loss(mixed.model(mixed.x).float(), mixed.y)
        loss.backward()
        return loss

    for _ in range(5):
        ours.step(plain.closure(ours))
        theirs.step(closure)
    assert not same(plain.weights(), mixed.weights())
    for a, b in zip(plain.weights(), mixed.weights(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=0)
    assert float(theirs.info.effective_radius) == float(theirs.info.radius)


# ------------------------------------------------------------------------------------------------- what rounding takes


def coarse(dtype: torch.dtype, size: float = 1.0) -> tuple[nn.Parameter, Any]:
    w = nn.Parameter(torch.full((1000,), size, dtype=dtype))

    def closure() -> Tensor:
        w.grad = None
        loss = (w.float() * torch.linspace(0.5, 1.5, 1000)).sum()
        loss.backward()
        return loss

    return w, closure


def test_a_perturbation_that_vanishes_is_told_once() -> None:
    """bfloat16 weights of 1 and an entry of 0.0016: less than half of the spacing, and nothing moves."""
    w, closure = coarse(torch.bfloat16)
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.0), SAM(rho=0.05))
    with pytest.warns(UserWarning, match=r"of a perturbation of radius 0.05 only .* is left .* float32"):
        optimizer.step(closure)
    assert float(optimizer.info.effective_radius) < 0.025
    assert float(optimizer.info.radius) == pytest.approx(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(closure)


@pytest.mark.parametrize(("dtype", "rho"), [(torch.bfloat16, 2.0), (torch.float16, 0.5)])
def test_a_perturbation_that_arrives_is_not(dtype: torch.dtype, rho: float) -> None:
    """Negative control: with a larger radius, or finer weights, most of it arrives, and nobody is warned."""
    w, closure = coarse(dtype)
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.0), SAM(rho=rho))
    optimizer.step(closure)
    assert 0.9 < float(optimizer.info.effective_radius) / rho < 1.1


@pytest.mark.parametrize(("share", "warns"), [(0.45, True), (0.55, False)])
def test_the_warning_comes_where_less_than_half_arrives(share: float, warns: bool) -> None:
    """Of two bfloat16 weights the one at 0 takes all of its entry, and the one at 1 nothing."""
    near, far = (nn.Parameter(torch.full((1,), x, dtype=torch.bfloat16)) for x in (0.0, 1.0))
    optimizer = SharpnessAware(torch.optim.SGD([near, far], lr=0.0), SAM(rho=1e-3))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (share * near.float() + (1 - share**2) ** 0.5 * far.float()).sum()
        loss.backward()
        return loss

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        optimizer.step(closure)
    assert float(optimizer.info.effective_radius) == pytest.approx(share * 1e-3, rel=0.02)
    assert len(told) == warns


def test_a_float32_master_takes_the_whole_perturbation() -> None:
    """The optimizer holds the master; the closure copies it into the bfloat16 model, whose gradient it hands back."""
    master, model = nn.Parameter(torch.full((1000,), 1.0)), torch.full((1000,), 1.0, dtype=torch.bfloat16)
    model.requires_grad_(True)
    optimizer = SharpnessAware(torch.optim.SGD([master], lr=0.1), SAM(rho=0.05))
    at: list[Tensor] = []

    def closure() -> Tensor:
        at.append(master.detach().clone())
        with torch.no_grad():
            model.copy_(master)
        model.grad = None
        loss = (model.float() ** 2).sum()
        loss.backward()
        assert model.grad is not None
        master.grad = model.grad.float()
        return loss

    optimizer.step(closure)
    assert float((at[1] - at[0]).norm()) == pytest.approx(0.05, rel=1e-4)
    assert float(optimizer.info.effective_radius) == float(optimizer.info.radius)


def test_gradients_that_square_out_of_float16_have_a_norm() -> None:
    w = nn.Parameter(torch.zeros(10, dtype=torch.float16))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.0), SAM(rho=0.05))

    def closure() -> Tensor:
        w.grad = torch.full_like(w, 3000.0)
        return torch.zeros(())

    optimizer.step(closure)
    assert float(optimizer.info.dual_norm) == pytest.approx(3000 * 10**0.5, rel=1e-6)
    assert float(optimizer.info.effective_radius) == pytest.approx(0.05, rel=1e-2)


# ------------------------------------------------------------------------------------------------------- accumulation


def test_one_perturbation_for_the_accumulated_batch() -> None:
    """A closure that sweeps over micro-batches is the whole batch, with the memory of one."""
    whole, swept = make_task(), make_task()
    ours, theirs = whole.optimizer(SAM(rho=0.1)), swept.optimizer(SAM(rho=0.1))

    def closure() -> Tensor:
        theirs.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for x, y in zip(swept.x.split(4), swept.y.split(4), strict=True):
            loss = swept.loss(x, y) / 3
            loss.backward()
            total += loss.detach()
        return total

    for _ in range(3):
        torch.testing.assert_close(ours.step(whole.closure(ours)), theirs.step(closure))
    for a, b in zip(whole.weights(), swept.weights(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_one_perturbation_for_each_micro_batch_is_another_algorithm() -> None:
    """m-sharding with m the micro-batch: the closure sees 4 examples at a time, twice each."""
    task, whole = make_task(), make_task()
    optimizer, plain = task.optimizer(SAM(rho=0.5).sharded(4)), whole.optimizer(SAM(rho=0.5))
    seen: list[int] = []

    def closure(x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        optimizer.zero_grad()
        loss = task.loss(x, y)
        loss.backward()
        return loss

    optimizer.step(closure, batch=(task.x, task.y))
    plain.step(whole.closure(plain))
    assert seen == [4] * 6
    assert not same(task.weights(), whole.weights())


def test_clipping_belongs_before_the_base_optimizers_step() -> None:
    """A hook there clips what is descended, once; the perturbation does not see it."""
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.1), lr=1.0, momentum=0.0)

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(task.model.parameters(), 0.01)

    optimizer.base.register_step_pre_hook(clip)
    before = task.weights()
    optimizer.step(task.closure(optimizer))
    moved = [a - b for a, b in zip(task.weights(), before, strict=True)]
    assert float(torch.cat([x.flatten() for x in moved]).norm()) == pytest.approx(0.01, rel=1e-3)
    went = [a - b for a, b in zip(task.visited[1], task.visited[0], strict=True)]
    assert float(torch.cat([x.flatten() for x in went]).norm()) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_hook_that_clips_sees_gradients_without_the_loss_scale(fused: bool, scaled: bool) -> None:
    """Also that of a fused optimizer, which a scaler else lets unscale within its step."""
    task, scaler, norms = make_task(), make_scaler(), []
    optimizer = task.optimizer(SAM(rho=0.1), fused=fused)

    def clip(*_: Any) -> None:
        norms.append(float(nn.utils.clip_grad_norm_(task.model.parameters(), max_norm=0.01)))

    optimizer.base.register_step_pre_hook(clip)
    before = task.weights()
    if scaled:
        optimizer.step(scaled_closure(task, optimizer, scaler), scaler=scaler)
    else:
        optimizer.step(task.closure(optimizer))
    moved = norm([a - b for a, b in zip(task.weights(), before, strict=True)])
    assert 0.01 < norms[0] < 10
    torch.testing.assert_close(float(moved), 0.1 * 0.01, rtol=1e-4, atol=0)


def test_gradients_that_were_unscaled_before_the_step_are_refused() -> None:
    """A scaler divides for each optimizer once, and the step would divide what is divided."""
    task, scaler = make_task(), make_scaler()
    optimizer = task.optimizer(SAM(rho=0.1))
    before = task.weights()

    def by_hand(unscale: Any) -> None:
        scaler.scale(task.loss()).backward()
        with optimizer.perturbed(scaler=scaler):
            scaler.scale(task.loss()).backward()
        unscale()
        optimizer.step(scaler=scaler)

    with pytest.raises(RuntimeError, match=r"has divided \.grad by the loss scale, and the step does so itself"):
        by_hand(lambda: scaler.unscale_(optimizer))
    assert same(task.weights(), before)
    scaler.update()
    by_hand(lambda: None)
    scaler.update()
    plain = make_task()
    sam = plain.optimizer(SAM(rho=0.1))
    sam.step(plain.closure(sam))
    torch.testing.assert_close(task.weights(), plain.weights(), rtol=1e-12, atol=0)
