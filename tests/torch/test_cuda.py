"""On a CUDA device: the walks of a CPU, no waiting, one pass to the model, mixed precision, and numbers not finite."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, nextafter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from samfamily import filterwise
from samfamily_torch import ASAM, FAMILY, GSAM, SAM, RandomSmoothing, SharpnessAware
from tests.torch.conftest import ON_CUDA, make_task, same
from tests.torch.test_nonfinite import BASES, UNREAD, alike, with_and_without_bad_batches
from tests.torch.test_precision import ROWS as SCALED
from tests.torch.test_precision import coarse, scaled_closure

DEVICE = "cuda"
pytestmark = ON_CUDA

OPTIONS = {
    "SAM, p=1": SAM(rho=0.1, p=1),
    "SAM, p=3": SAM(rho=0.1, p=3),
    "SAM, p=inf": SAM(rho=0.02, p=inf),
    "SAM, 3 steps": SAM(rho=0.1, steps=3),
    "SAM, second order": SAM(rho=0.1, second_order=True),
    "SAM, schedule": SAM(rho=lambda step: 0.02 * step),
    "ASAM, filterwise": ASAM(rho=0.1, size=filterwise),
}
ROWS = {name: row() for name, row in FAMILY.items()} | OPTIONS
CASES = ROWS | {f"{name}, m=4": row.sharded(4) for name, row in ROWS.items() if not row.ball.mask.why_not_sharded}


class Network(nn.Module):
    """Filters, a layer of normalisation, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.filters, self.hidden = nn.Conv1d(3, 5, 2), nn.Linear(5, 8)
        self.norm, self.output = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.output(torch.tanh(self.norm(self.hidden(torch.tanh(self.filters(x).flatten(1))))))
        return y


class Training:
    """The network in training on batches of 12, all drawn on the CPU and copied."""

    def __init__(self, device: str, variant: Any, base: Any = BASES["SGD"], dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.model = Network().to(device, dtype)
        self.batches = [
            (x.to(device, dtype), x.sum((1, 2), dtype=dtype).sin().to(device)) for x in torch.randn(8, 12, 3, 2)
        ]
        self.optimizer = SharpnessAware(base(self.model.parameters()), variant, self.model)

    def closure(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = (self.model(x) - y[:, None]).square().mean()
        loss.backward()
        return loss

    def steps(self, first: int, last: int) -> None:
        for batch in self.batches[first:last]:
            self.optimizer.step(self.closure, batch=batch)

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).cpu()


def walk(device: str, variant: Any) -> Tensor:
    training = Training(device, variant)
    training.steps(0, 6)
    return training.weights()


def distance(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


# --------------------------------------------------------------------------------------------------------- same walks


@pytest.mark.parametrize("case", CASES)
def test_every_row_walks_as_on_a_cpu(case: str) -> None:
    """Random rows too, whose noise is counted and not drawn."""
    there = Training(DEVICE, CASES[case])
    assert all(p.device.type == DEVICE for p in there.model.parameters())
    assert distance(walk(DEVICE, CASES[case]), walk("cpu", CASES[case])) <= 1e-9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SAM(rho=0.1), SAM(rho=0.1 * (1 + 1e-6))),
        (ASAM(rho=0.5), ASAM(rho=0.5 * (1 + 1e-6))),
        (RandomSmoothing(rho=0.1, seed=0), RandomSmoothing(rho=0.1, seed=1)),
        (GSAM().sharded(4), GSAM().sharded(6)),
    ],
    ids=["SAM", "ASAM", "noise", "m"],
)
def test_the_comparison_sees_a_small_difference(one: Any, other: Any) -> None:
    """Negative control: a radius that differs in the sixth digit, another seed, another m."""
    assert distance(walk(DEVICE, one), walk("cpu", other)) > 1e-9


# --------------------------------------------------------------------------------------------------------- no waiting


@contextmanager
def waits() -> Iterator[list[str]]:
    """Collect where the host waits for the device."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            told = [w for w in seen if "called a synchronizing CUDA operation" in str(w.message)]
            found += [f"{w.filename}:{w.lineno}" for w in told]


def reads(variant: Any, base: str) -> int:
    """Return how many numbers a step reads: whether all was finite, unless a fused optimizer is told on the device.

    A memory must not move on where a step is skipped, and nor may the addend be added.  AESAM chooses by a value, in
    every shard.
    """
    blind = base.startswith("fused") and not variant.stateful and not variant.descent.adds
    return (not blind) + (variant.name == "AESAM") * (1 if variant.m is None else 12 // variant.m)


WAITING = BASES | {"AdamW": lambda p: torch.optim.AdamW(p, lr=0.1)}


@pytest.mark.parametrize("base", ["SGD", "fused SGD", "AdamW", "fused AdamW"])
@pytest.mark.parametrize("case", CASES)
def test_the_host_waits_for_no_more_than_one_number(case: str, base: str) -> None:
    training = Training(DEVICE, CASES[case], WAITING[base], torch.float32)
    training.steps(0, 2)  # momentum has to be there
    with waits() as found:
        training.steps(2, 6)
    with waits() as one:
        bool(torch.ones((), device=DEVICE) == 1)
    assert len(found) == 4 * reads(CASES[case], base) * len(one), found


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", [SAM(), ASAM(), GSAM(), SAM(p=3)], ids=lambda v: f"{v.name}-{v.ball.p:g}")
def test_nor_does_it_in_another_precision(variant: Any, dtype: torch.dtype) -> None:
    training = Training(DEVICE, variant, BASES["fused SGD"], dtype)
    training.steps(0, 2)
    with waits() as found:
        training.steps(2, 6)
    assert not found


def test_waiting_is_seen() -> None:
    """Negative control: a number that is read, a copy to the host, and one to the device."""
    x = torch.ones(3, device=DEVICE)
    for waiting in (lambda: x.sum().item(), x.cpu, lambda: torch.ones(3).to(DEVICE), lambda: bool(x[0] > 0)):
        with waits() as found:
            waiting()
        assert found


def test_looking_at_the_figures_is_up_to_the_user() -> None:
    training = Training(DEVICE, SAM(rho=0.1), BASES["fused SGD"])
    training.steps(0, 2)
    info = training.optimizer.info
    assert all(x.device.type == DEVICE for x in (info.loss, info.perturbed_loss, info.dual_norm, info.skipped))
    assert float(info.perturbed_loss) > float(info.loss)
    assert float(info.radius) == 0.1
    assert int(info.gradient_evaluations) == 2


# ------------------------------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", UNREAD, ids=lambda v: f"{v.name}-{v.m}")
def test_a_bad_batch_leaves_no_trace(variant: Any, base: str) -> None:
    """Weights, statistics and momentum are bitwise those of who never met it, whoever decides: host or device."""
    assert alike(*with_and_without_bad_batches(variant, base, DEVICE))


def test_skipping_on_the_device_waits_for_nothing() -> None:
    training = Training(DEVICE, SAM(rho=0.1), BASES["fused SGD"])
    training.steps(0, 3)
    before, x = training.weights(), torch.full_like(training.batches[0][0], torch.nan)
    momentum = [copy.deepcopy(state["momentum_buffer"]) for state in training.optimizer.state.values()]
    with waits() as found:
        loss = training.optimizer.step(training.closure, batch=(x, training.batches[0][1]))
    assert not found
    assert torch.equal(training.weights(), before)
    assert same([state["momentum_buffer"] for state in training.optimizer.state.values()], momentum)
    assert torch.isnan(loss)
    assert int(training.optimizer.info.skipped) == 1
    training.steps(3, 4)
    assert not torch.equal(training.weights(), before)
    assert int(training.optimizer.info.skipped) == 1


def test_raising_says_so_on_a_device_too() -> None:
    task = make_task().to(DEVICE)
    optimizer = SharpnessAware(torch.optim.SGD(task.model.parameters(), lr=0.1), SAM(rho=0.1), on_nonfinite="raise")
    before, task.x = task.weights(), task.x * torch.nan
    with pytest.raises(FloatingPointError, match="on_nonfinite"):
        optimizer.step(task.closure(optimizer))
    assert same(task.weights(), before)


# ------------------------------------------------------------------------------------------ one pass to the model


def noisy() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Dropout(0.5), nn.Linear(64, 1))
    return model.to(DEVICE), torch.randn(16, 3).to(DEVICE)


def random_state() -> Tensor:
    return torch.cuda.get_rng_state(DEVICE)


def masks_of(model: nn.Sequential) -> list[Tensor]:
    """Return a list that the masks of every pass will go into."""
    seen: list[Tensor] = []
    model[3].register_forward_hook(lambda module, inputs, output: seen.append(torch.eq(output, 0)))
    return seen


def closure_of(model: nn.Module, x: Tensor, optimizer: SharpnessAware) -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", FAMILY)
def test_every_pass_draws_the_same_masks_and_the_step_counts_as_one(name: str) -> None:
    model, x = noisy()
    seen = masks_of(model)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.0), FAMILY[name](), model)
    steps = []
    for seed in (7, 8):
        torch.manual_seed(seed)
        model(x)
        once = random_state()
        torch.manual_seed(seed)
        optimizer.step(closure_of(model, x, optimizer))
        assert torch.equal(random_state(), once)
        assert all(torch.equal(mask, seen[0]) for mask in seen)
        steps.append(seen[0])
        seen.clear()
    assert not torch.equal(*steps)  # negative control


def test_fresh_masks_can_be_had() -> None:
    """Negative control of the test above, and the switch."""
    model, x = noisy()
    seen = masks_of(model)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.0), SAM(), model, replay_random=False)
    optimizer.step(closure_of(model, x, optimizer))
    assert not torch.equal(*seen)


@pytest.mark.parametrize("base", BASES)
def test_statistics_are_those_of_the_pass_at_w(base: str) -> None:
    model, x = noisy()
    optimizer = SharpnessAware(BASES[base](model.parameters()), SAM(rho=0.5), model)
    for _ in range(3):
        alone = copy.deepcopy(model)
        alone(x)
        optimizer.step(closure_of(model, x, optimizer))
        torch.testing.assert_close(list(model.buffers()), list(alone.buffers()), rtol=1e-6, atol=1e-7)
        moved = copy.deepcopy(model)
        moved(x)
        assert not same(list(model.buffers()), list(moved.buffers()))  # negative control: one more pass would show


# --------------------------------------------------------------------------------------------------- mixed precision


@pytest.mark.parametrize("variant", SCALED, ids=range(len(SCALED)))
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_of_a_power_of_two_changes_no_bit(variant: Any, base: Any, fused: bool) -> None:
    plain, scaled = make_task().to(DEVICE), make_task().to(DEVICE)
    ours, theirs = plain.optimizer(variant, base, fused=fused), scaled.optimizer(variant, base, fused=fused)
    scaler = GradScaler(DEVICE, init_scale=2.0**16, growth_interval=2)
    for _ in range(5):
        loss = ours.step(plain.closure(ours), batch=(plain.x, plain.y))
        told = theirs.step(scaled_closure(scaled, theirs, scaler), batch=(scaled.x, scaled.y), scaler=scaler)
        scaler.update()
        assert torch.equal(loss, told)
    assert scaler.get_scale() > 2.0**16
    assert same(plain.weights(), scaled.weights())


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("before", [0, 2])
def test_an_overflow_in_either_pass_skips_and_lowers_the_scale(before: int, at: int, fused: bool) -> None:
    """Also at the very first step, where nothing has been made of the base optimizer's state."""
    task, twin = make_task().to(DEVICE), make_task().to(DEVICE)
    optimizer, other = (t.optimizer(SAM(rho=0.1), fused=fused) for t in (task, twin))
    scaler = GradScaler(DEVICE, init_scale=2.0**16)
    for step in range(5):
        bad = step == before
        optimizer.step(scaled_closure(task, optimizer, scaler, at if bad else 0), scaler=scaler)
        scaler.update()
        if not bad:
            other.step(twin.closure(other))
    assert scaler.get_scale() == 2.0**15
    assert int(optimizer.info.skipped) == 1
    assert same(task.weights(), twin.weights())


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_takes_the_step_to_its_precision(dtype: torch.dtype, outside: bool) -> None:
    """In the closure, or round the whole step, whose cache of casts would keep the second pass at w."""
    plain, mixed = make_task(torch.float32).to(DEVICE), make_task(torch.float32).to(DEVICE)
    ours, theirs = plain.optimizer(SAM(rho=0.5)), mixed.optimizer(SAM(rho=0.5))
    scaler = GradScaler(DEVICE, init_scale=2.0**8, growth_interval=2, enabled=dtype is torch.float16)

    def closure() -> Tensor:
        theirs.zero_grad()
        with torch.autocast(DEVICE, dtype):
            out = mixed.model(mixed.x)
        assert out.dtype is dtype
        loss = nn.functional.mse_loss(out.float(), mixed.y)
        scaler.scale(loss).backward()
        return loss

    for _ in range(4):
        ours.step(plain.closure(ours))
        with torch.autocast(DEVICE, dtype, enabled=outside):
            theirs.step(closure, scaler=scaler)
        scaler.update()
        torch.testing.assert_close(theirs.info.perturbed_loss, ours.info.perturbed_loss, rtol=3e-2, atol=0)
    assert int(theirs.info.skipped) == 0
    assert scaler.get_scale() == (2.0**10 if scaler.is_enabled() else 1)
    assert not same(plain.weights(), mixed.weights())
    for a, b in zip(plain.weights(), mixed.weights(), strict=True):
        torch.testing.assert_close(a, b, atol=3e-2, rtol=0)
    assert float(theirs.info.effective_radius) == float(theirs.info.radius) == 0.5
    assert float(ours.info.perturbed_loss) > 1.1 * float(ours.info.loss)  # what a cache at w would not see


def half(rho: float) -> Any:
    """Return what a step of SAM tells whose bfloat16 weights are all 1."""
    w, _ = coarse(torch.bfloat16)
    w = nn.Parameter(w.detach().to(DEVICE))
    factors = torch.linspace(0.5, 1.5, 1000, device=DEVICE)
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.0), SAM(rho=rho))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (w.float() * factors).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer.info


def test_rounding_is_told_of_bfloat16_weights() -> None:
    lost, arrives = half(0.05), half(2.0)
    assert float(lost.effective_radius) < 0.025
    assert float(lost.radius) == pytest.approx(0.05)
    assert 0.9 < float(arrives.effective_radius) / 2 < 1.1


@pytest.mark.parametrize("size", [3000.0, 2.0**-24])
def test_gradients_that_square_out_of_float16_have_a_norm(size: float) -> None:
    w = nn.Parameter(torch.zeros(10, dtype=torch.float16, device=DEVICE))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.0), SAM(rho=0.05))

    def closure() -> Tensor:
        w.grad = torch.full_like(w, size)
        return torch.zeros((), device=DEVICE)

    optimizer.step(closure)
    assert float(optimizer.info.dual_norm) == pytest.approx(size * 10**0.5, rel=1e-6)
    assert float(optimizer.info.effective_radius) == pytest.approx(0.05, rel=1e-2)


@pytest.mark.parametrize("size", [1e-30, 1e30, nextafter(0.0, 1.0)])
def test_gradients_of_any_size_are_perturbed_by_rho(size: float) -> None:
    """In float64; the smallest number counts as zero."""
    w = nn.Parameter(torch.zeros(4, dtype=torch.float64, device=DEVICE))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.0), SAM(rho=0.05))
    seen = []

    def closure() -> Tensor:
        seen.append(float(w.detach().norm()))
        w.grad = torch.full_like(w, size)
        return torch.zeros((), device=DEVICE)

    optimizer.step(closure)
    assert seen[1] == pytest.approx(0.05 if size > 1e-300 else 0, rel=1e-12)
