"""accelerate, the real one: prepared optimizers with a closure, and a loop of one's own that accumulates."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from samfamily import SAM, LookSAM
from samfamily_torch import SharpnessAware
from tests.trainers.by_hand import distance, sam_step, same, weights

RHO = 0.1


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """accelerate keeps its precision in a singleton."""
    forget()
    yield
    forget()


def forget() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def model(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def data(dtype: torch.dtype = torch.float64) -> Any:
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True).sin()), batch_size=4)


class Loop:
    """A loop of one's own, as in docs/trainers.md, stopped and gone on with at will."""

    def __init__(
        self, variant: Any = None, *, window: int = 1, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any
    ) -> None:
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=window, **options)
        net = model(dtype, seed)
        base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        self.sharpness_aware = SharpnessAware(base, variant or SAM(rho=RHO), model=net)
        schedule = torch.optim.lr_scheduler.ExponentialLR(self.sharpness_aware, 0.9)
        self.model, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(
            net, self.sharpness_aware, data(dtype), schedule
        )

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.model(x), y)

    def with_closures(self) -> None:
        for x, y in self.loader:

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                self.optimizer.zero_grad()
                loss = self.loss(x, y)
                self.accelerator.backward(loss)
                return loss

            self.optimizer.step(closure)
            self.scheduler.step()

    def accumulating(self, clip: float | None = None) -> None:
        window: list[Any] = []
        for batch in self.loader:
            with self.accelerator.accumulate(self.model):
                window.append(batch)
                self.accelerator.backward(self.loss(*batch))
                if self.accelerator.sync_gradients:
                    with self.sharpness_aware.perturbed():
                        for again in window:
                            self.accelerator.backward(self.loss(*again))
                    if clip is not None:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
                    window.clear()
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()


def by_hand(window: int = 1, clip: float | None = None, rho: float = RHO) -> list[Tensor]:
    net = model()
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(base, 0.9)
    batches = list(data())
    limit = None if clip is None else partial(torch.nn.utils.clip_grad_norm_, max_norm=clip)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(net(x), y) / window

    for i in range(0, len(batches), window):
        sam_step(base, [partial(loss, *batch) for batch in batches[i : i + window]], rho, limit)
        schedule.step()
    return weights(net)


def test_a_prepared_optimizer_with_a_closure() -> None:
    """Which accelerate passes on; kills a wrapper that steps once a pass, or not at all."""
    loop = Loop()
    loop.with_closures()
    assert loop.optimizer.optimizer is loop.sharpness_aware
    assert loop.optimizer.param_groups is loop.sharpness_aware.base.param_groups
    assert distance(weights(loop.model), by_hand()) < 1e-13
    assert distance(weights(loop.model), by_hand(rho=1e-9)) > 1e-3
    assert loop.scheduler.get_last_lr()[0] == pytest.approx(0.1 * 0.9**6)


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_batches_share_one_perturbation(window: int, clip: float | None) -> None:
    loop = Loop(window=window)
    loop.accumulating(clip)
    assert distance(weights(loop.model), by_hand(window, clip)) < 1e-13
    assert distance(weights(loop.model), by_hand(window, None if clip else 0.05)) > 1e-3
    assert int(loop.sharpness_aware.info.gradient_evaluations) == 2


def test_bfloat16() -> None:
    narrow = Loop(dtype=torch.float32, mixed_precision="bf16")
    narrow.with_closures()
    net = model(torch.float32)
    optimizer = SharpnessAware(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), SAM(rho=RHO), model=net)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def closure(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x)
        loss = nn.functional.mse_loss(out.float(), y)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    for batch in data(torch.float32):
        optimizer.step(closure, batch=batch)
        schedule.step()
    assert same(weights(narrow.model), weights(net))
    assert distance(weights(narrow.model), [w.float() for w in by_hand()]) > 1e-5  # it was bfloat16


@pytest.mark.parametrize("variant", [SAM(rho=RHO), LookSAM(rho=RHO, k=4)], ids=lambda v: v.name)
def test_resume_is_bitwise(variant: Any, tmp_path: Path) -> None:
    through = Loop(variant)
    through.with_closures()
    through.accelerator.save_state(str(tmp_path))
    saved = torch.load(tmp_path / "optimizer.bin", weights_only=True)
    assert saved["param_groups"][0]["samfamily"]["recipe"]["variant"] == variant.name
    through.with_closures()
    resumed, forgetful = Loop(variant, seed=1), Loop(variant, seed=1)
    resumed.accelerator.load_state(str(tmp_path))
    resumed.with_closures()
    assert same(weights(resumed.model), weights(through.model))
    forgetful.accelerator.load_state(str(tmp_path))
    forgetful.sharpness_aware.base.state.clear()  # the momentum
    forgetful.with_closures()
    assert not same(weights(forgetful.model), weights(through.model))


def test_step_without_a_closure_says_what_is_missing() -> None:
    loop = Loop()
    x, y = next(iter(loop.loader))
    loop.accelerator.backward(loop.loss(x, y))
    with pytest.raises(RuntimeError, match="there is nothing to step on: pass a closure"):
        loop.optimizer.step()
