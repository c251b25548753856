"""Lightning's automatic optimisation, with the real Trainer."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from samfamily import GSAM, MSAM, SAM, LookSAM
from samfamily_torch import SharpnessAware
from samfamily_torch.lightning import SharpnessAwareMixin
from tests.trainers.by_hand import distance, sam_step, same, weights

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]

RHO = 0.1
Base = Callable[[Any], torch.optim.Optimizer]
SGD: Base = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Net(pl.LightningModule):
    """What a user has: it knows nothing of the mixin."""

    def __init__(
        self,
        variant: Any = None,
        *,
        base: Base = SGD,
        dtype: torch.dtype = torch.float64,
        middle: nn.Module | None = None,
        gamma: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), middle or nn.Tanh(), nn.Linear(8, 1)).to(dtype)
        self.variant, self.base, self.gamma = variant or SAM(rho=RHO), base, gamma
        self.passes = 0
        self.outputs: list[float] = []

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.passes += 1
        loss = self.loss(*batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        optimizer = SharpnessAware(self.base(self.parameters()), self.variant, model=self)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.gamma)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(float(self.trainer.callback_metrics["loss_step"]))


class SharpnessAwareNet(SharpnessAwareMixin, Net):
    """The same, with the mixin."""


def batches(count: int = 6, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 5, 4, generator=generator, dtype=dtype)
    return [(u, u.sum(1, keepdim=True).sin()) for u in x]


def loader(data: Sequence[Any]) -> Any:
    dataset: Any = data
    return DataLoader(dataset, batch_size=None)  # they are batches already


def trainer(**options: Any) -> Any:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**(defaults | options))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def fitted(net: Net, data: Sequence[Any] | None = None, **options: Any) -> tuple[list[Tensor], Any]:
    fit = trainer(**options)
    fit.fit(net, loader(batches() if data is None else data))
    return weights(net), fit


def by_hand(
    data: Sequence[Any], window: int = 1, clip: Any = None, rho: float = RHO, gamma: float = 1.0
) -> list[Tensor]:
    net = Net()
    base = SGD(net.parameters())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(base, gamma)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return net.loss(x, y) / window

    for i in range(0, len(data), window):
        sam_step(base, [partial(loss, *batch) for batch in data[i : i + window]], rho, clip)
        scheduler.step()
    return weights(net)


@pytest.mark.parametrize("kind", [Net, SharpnessAwareNet])
def test_a_fit_is_the_loop_written_by_hand(kind: type[Net]) -> None:
    walked, fit = fitted(kind(gamma=0.8), max_epochs=2)
    assert distance(walked, by_hand(batches() * 2, gamma=0.8)) < 1e-13
    assert fit.global_step == 12
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.8**12)
    assert fit.lightning_module.passes == 24


def test_the_loop_written_by_hand_is_not_sgd() -> None:
    """Negative control of all that compares with it."""
    assert distance(by_hand(batches()), by_hand(batches(), rho=1e-9)) > 1e-3


@pytest.mark.parametrize("kind", [Net, SharpnessAwareNet])
def test_max_steps_counts_steps_and_not_passes(kind: type[Net]) -> None:
    """Kills a step that advances `global_step` once a pass, or never."""
    walked, fit = fitted(kind(), max_epochs=-1, max_steps=4)
    assert fit.global_step == 4
    assert distance(walked, by_hand(batches()[:4])) < 1e-13


@pytest.mark.parametrize("kind", [Net, SharpnessAwareNet])
def test_bfloat16(kind: type[Net]) -> None:
    data = batches(dtype=torch.float32)
    walked, _ = fitted(kind(dtype=torch.float32), data, precision="bf16-mixed")
    net = Net(dtype=torch.float32)
    optimizer: Any = net.configure_optimizers()["optimizer"]

    def closure(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = net.loss(x, y)
        loss.backward()
        return loss

    for batch in data:
        optimizer.step(closure, batch=batch)
    assert same(walked, weights(net))
    assert not same(walked, fitted(kind(dtype=torch.float32), data)[0])  # it was bfloat16


# ----------------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize(("window", "steps"), [(2, 3), (4, 2)])
def test_accumulated_batches_share_one_perturbation(window: int, steps: int) -> None:
    """Six batches: the last window of four has two, which Lightning divides by four all the same."""
    walked, fit = fitted(SharpnessAwareNet(), accumulate_grad_batches=window)
    assert distance(walked, by_hand(batches(), window)) < 1e-13
    assert fit.global_step == steps
    assert fit.lightning_module.passes == 2 * 6
    assert not fit.lightning_module._window  # nothing is kept longer than it is needed


def test_without_the_mixin_accumulation_would_lose_batches() -> None:
    """Why there is a mixin; and the negative control of the test above."""
    with pytest.warns(UserWarning, match="in Lightning: SharpnessAwareMixin"):
        walked, _ = fitted(Net(), accumulate_grad_batches=2)
    assert distance(walked, by_hand(batches(), 2)) > 1e-3


@pytest.mark.parametrize(
    ("variant", "passes"),
    [
        (SAM(rho=RHO, steps=2), 18),
        (GSAM(rho=RHO), 12),
        (LookSAM(rho=RHO, k=2), 6 + 2 * 2),
        (MSAM(rho=RHO), 6 + 3),  # never at w: what the micro-batches left there is of no use
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_accumulation_with_any_row(variant: Any, passes: int) -> None:
    net = SharpnessAwareNet(variant)
    walked, fit = fitted(net, accumulate_grad_batches=2)
    other = Net(variant)
    optimizer: Any = other.configure_optimizers()["optimizer"]

    def closure(*pair: tuple[Tensor, Tensor]) -> Tensor:
        optimizer.zero_grad()
        loss = sum((other.loss(*batch) / 2 for batch in pair), torch.tensor(0.0))
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    data, loss = batches(), torch.tensor(0.0)
    for i in range(0, 6, 2):
        loss = optimizer.step(closure, batch=data[i : i + 2])
    assert distance(walked, weights(other)) < 1e-13
    assert net.passes == passes
    told = fit.optimizers[0].info
    assert float(told.loss) == pytest.approx(float(loss), rel=1e-12)
    assert float(told.perturbed_loss) == pytest.approx(float(optimizer.info.perturbed_loss), rel=1e-12)


def test_a_fit_that_was_cut_off_leaves_nothing_to_the_next() -> None:
    net = SharpnessAwareNet()
    with pytest.raises(ConnectionError, match="went away"):
        fitted(net, Torn(batches()), accumulate_grad_batches=4)
    torch.manual_seed(0)
    with torch.no_grad():
        for p, w in zip(net.parameters(), Net().parameters(), strict=True):
            p.copy_(w)
    assert same(fitted(net, accumulate_grad_batches=2)[0], fitted(SharpnessAwareNet(), accumulate_grad_batches=2)[0])


class Torn(list[Any]):
    def __getitem__(self, i: Any) -> Any:
        if i == 3:
            raise ConnectionError("the data went away")
        return super().__getitem__(i)


class Masks(nn.Module):
    """Dropout that remembers its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(nn.functional.dropout(torch.ones_like(x)))
        return x * self.seen[-1]


class Augmented(list[Any]):
    """Data that draws random numbers too, between the micro-batches."""

    def __getitem__(self, i: Any) -> Any:
        x, y = super().__getitem__(i)
        return x + 0.1 * torch.randn_like(x), y


def test_dropout_masks_are_those_of_the_first_pass_for_each_micro_batch() -> None:
    masks = Masks()
    fitted(SharpnessAwareNet(middle=masks), Augmented(batches()), accumulate_grad_batches=3)
    first, second = masks.seen[:6], masks.seen[6:]
    assert same(first[:3], first[3:])
    assert same(second[:3], second[3:])
    assert not same(first[:1], first[1:2])
    assert not same(first[:3], second[:3])


def test_batch_norm_sees_every_micro_batch_once() -> None:
    norms = [nn.BatchNorm1d(8), nn.BatchNorm1d(8)]
    for norm, rho in zip(norms, (RHO, 0.0), strict=True):
        net = SharpnessAwareNet(SAM(rho=rho), middle=norm, base=partial(torch.optim.SGD, lr=0.0))
        fitted(net, accumulate_grad_batches=3)
    assert norms[0].num_batches_tracked == 6
    assert norms[0].running_mean is not None
    assert norms[1].running_mean is not None
    assert torch.equal(norms[0].running_mean, norms[1].running_mean)


# --------------------------------------------------------------------------------------------------------- clipping


def by_norm(parameters: list[Tensor]) -> None:
    torch.nn.utils.clip_grad_norm_(parameters, 0.05)


def by_value(parameters: list[Tensor]) -> None:
    torch.nn.utils.clip_grad_value_(parameters, 0.02)


@pytest.mark.parametrize(("algorithm", "limit", "clip"), [("norm", 0.05, by_norm), ("value", 0.02, by_value)])
@pytest.mark.parametrize("window", [1, 2])
def test_what_the_base_optimizer_receives_is_clipped(algorithm: str, limit: float, clip: Any, window: int) -> None:
    options: Any = {"gradient_clip_algorithm": algorithm, "gradient_clip_val": limit, "accumulate_grad_batches": window}
    walked, _ = fitted(SharpnessAwareNet(), **options)
    assert distance(walked, by_hand(batches(), window, clip)) < 1e-13
    assert distance(walked, by_hand(batches(), window)) > 1e-3  # it was in force


def test_without_the_mixin_every_pass_is_clipped() -> None:
    """By norm that is the same step of SAM; by value the adversary would go another way."""
    by_norm_alone, _ = fitted(Net(), gradient_clip_val=0.05)
    assert distance(by_norm_alone, by_hand(batches(), clip=by_norm)) < 1e-13
    by_value_alone, _ = fitted(Net(), gradient_clip_val=0.02, gradient_clip_algorithm="value")
    assert distance(by_value_alone, by_hand(batches(), clip=by_value)) > 1e-6


def test_a_resting_step_is_clipped_too() -> None:
    """Kills a clip of `.grad` between the passes and the step: LookSAM's idle steps make theirs later."""
    norms: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            norms.append(float(torch.cat([p.grad.flatten() for p in self.param_groups[0]["params"]]).norm()))
            return result

    fitted(SharpnessAwareNet(LookSAM(rho=RHO, k=2), base=partial(Watched, lr=0.1)), gradient_clip_val=0.05)
    assert norms == pytest.approx([0.05] * 6, rel=1e-4)


# ----------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("variant", [SAM(rho=RHO), LookSAM(rho=RHO, k=5)], ids=lambda v: v.name)
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}], ids=str)
def test_resume_is_bitwise(variant: Any, options: dict[str, Any], tmp_path: Path) -> None:
    dtype = torch.float32
    make = partial(SharpnessAwareNet, variant, base=partial(torch.optim.Adam, lr=0.01), dtype=dtype, gamma=0.9)
    data = batches(dtype=dtype)
    through, _ = fitted(make(), data, max_epochs=2, **options)
    _, half = fitted(make(), data, **options)
    half.save_checkpoint(tmp_path / "half.ckpt")
    torch.load(tmp_path / "half.ckpt", weights_only=True)

    def resumed(**fit: Any) -> list[Tensor]:
        net, rest = make(seed=1), trainer(max_epochs=2, **options)
        net.load_state_dict(half.lightning_module.state_dict())
        rest.fit(net, loader(data), **fit)
        assert rest.global_step == (6 if options.get("accumulate_grad_batches") else 12) or not fit
        return weights(net)

    assert same(resumed(ckpt_path=tmp_path / "half.ckpt"), through)
    assert not same(resumed(), through)  # the weights alone are not enough


# ------------------------------------------------------------------------------------------------------ what is told


def test_the_log_is_of_the_pass_at_w() -> None:
    net = SharpnessAwareNet()
    _, fit = fitted(net)
    other = Net()
    base = SGD(other.parameters())
    expected = [float(sam_step(base, [partial(other.loss, *batch)], RHO)) for batch in batches()]
    assert net.outputs == pytest.approx(expected, rel=1e-6)
    assert float(fit.callback_metrics["loss_epoch"]) == pytest.approx(sum(expected) / 6, rel=1e-6)
    plain = Net()
    fitted(plain)
    assert min(a - b for a, b in zip(plain.outputs, expected, strict=True)) > 1e-6  # the perturbed losses


def test_micro_batches_log_once() -> None:
    net = SharpnessAwareNet(base=partial(torch.optim.SGD, lr=0.0))
    fitted(net, accumulate_grad_batches=3)
    expected = [float(net.loss(*batch).detach()) for batch in batches()]
    assert net.outputs == pytest.approx(expected, rel=1e-6)
    assert float(net.trainer.callback_metrics["loss_epoch"]) == pytest.approx(sum(expected) / 6, rel=1e-6)


# ---------------------------------------------------------------------------------------------- manual optimisation


class Manual(Net):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(*batch)
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        pass


class SharpnessAwareManual(SharpnessAwareMixin, Manual):
    """The mixin stays out of it."""


@pytest.mark.parametrize("kind", [Manual, SharpnessAwareManual])
def test_manual_optimisation_with_a_closure(kind: type[Manual]) -> None:
    walked, fit = fitted(kind(), max_epochs=-1, max_steps=4)
    assert fit.global_step == 4
    assert distance(walked, by_hand(batches()[:4])) < 1e-13
    assert not getattr(fit.lightning_module, "_window", ())


class Wrapped(Manual):
    """The context manager through Lightning's wrapper, whose step() passes a closure that does nothing."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        self.manual_backward(self.loss(*batch))
        with self.taken(optimizer).perturbed():
            self.manual_backward(self.loss(*batch))
        optimizer.step()

    def taken(self, optimizer: Any) -> Any:
        return optimizer


class HalfWrapped(Wrapped):
    def taken(self, optimizer: Any) -> Any:
        return optimizer.optimizer


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [(Wrapped, TypeError, "the closure returned None"), (HalfWrapped, RuntimeError, "a manual step is in progress")],
)
def test_a_manual_step_through_lightnings_wrapper_is_an_error(kind: type[Wrapped], error: Any, says: str) -> None:
    """And leaves the weights where they were: other libraries leave them perturbed."""
    net = kind()
    before = weights(net)
    with pytest.raises(error, match=says):
        fitted(net)
    assert same(weights(net), before)


# ----------------------------------------------------------------------------------------------------------- errors


class Plain(SharpnessAwareMixin, Net):
    def configure_optimizers(self) -> Any:
        return SGD(self.parameters())


def test_another_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"returned SGD, .* return SharpnessAware\("):
        fitted(Plain())


def fp16() -> Any:
    from pytorch_lightning.plugins.precision import MixedPrecision

    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


@pytest.mark.parametrize(("kind", "says"), [(SharpnessAwareNet, "use 'bf16-mixed'"), (Net, r"step\(closure")])
def test_float16_is_refused(kind: type[Net], says: str) -> None:
    net = kind(dtype=torch.float32)
    before = weights(net)
    with pytest.raises(RuntimeError, match=says):
        fitted(net, batches(dtype=torch.float32), plugins=[fp16()])
    assert same(weights(net), before)


@pytest.mark.parametrize("kind", [Net, SharpnessAwareNet])
def test_shards_are_refused(kind: type[Net]) -> None:
    with pytest.raises(ValueError, match="m = 2 shards the batch"):
        fitted(kind(SAM(rho=RHO).sharded(2)))


def test_a_training_step_beside_the_mixin_is_refused() -> None:
    """It would hide the mixin's, and all micro-batches but the last would be lost."""
    with pytest.raises(TypeError, match="class Both\\(SharpnessAwareMixin, Module\\)"):

        class Both(SharpnessAwareMixin, pl.LightningModule):
            def training_step(self, batch: Any, batch_idx: int) -> Any:
                return None

    assert SharpnessAwareNet.training_step is SharpnessAwareMixin.training_step
