"""The Trainer of transformers, the real one, on a tiny model that is made on the spot."""

import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from samfamily import GSAM, SAM, LookSAM
from samfamily_torch import SharpnessAware
from samfamily_torch.huggingface import SharpnessAwareMixin
from tests.trainers.by_hand import distance, sam_step, same, weights

RHO = 0.05
STEPS = 4


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.ERROR)
    yield
    transformers.logging.set_verbosity(level)


class Counting(transformers.Trainer):
    """What a user has: a subclass of the Trainer that knows nothing of the mixin."""

    passes = 0

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.passes += 1
        return super().compute_loss(*args, **kwargs)


class SharpnessAwareTrainer(SharpnessAwareMixin, Counting):
    """The same, with the mixin."""


def model(dtype: torch.dtype = torch.float64, dropout: float = 0.0, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=12, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
    )  # fmt: skip
    net: Any = transformers.GPT2LMHeadModel(config)
    return net.to(dtype)


def examples(count: int = 24) -> list[dict[str, Tensor]]:
    """Sequences of which the loss counts fewer and fewer tokens, so that micro-batches weigh differently."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 12, (count, 8), generator=generator)
    labels = tokens.clone()
    for i in range(count):
        labels[i, : 1 + i % 6] = -100
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]


def arguments(folder: Path, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "use_cpu": True,
        "per_device_train_batch_size": 3,
        "max_steps": STEPS,
        "train_sampling_strategy": "sequential",
        "learning_rate": 1e-2,
        "optim": "adamw_torch",
        "adam_epsilon": 1e-3,  # the default divides what is all but zero by its own size, rounding errors too
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
        "max_grad_norm": 0.0,
    }
    return transformers.TrainingArguments(output_dir=str(folder), **(defaults | options))


@pytest.fixture
def fit(tmp_path: Path) -> Any:
    def fit(variant: Any = None, net: Any = None, kind: type[Any] = SharpnessAwareTrainer, **options: Any) -> Any:
        resume = options.pop("resume_from_checkpoint", None)
        own = {"variant": variant or SAM(rho=RHO)} if issubclass(kind, SharpnessAwareMixin) else {}
        trainer = kind(model=net or model(), args=arguments(tmp_path, **options), train_dataset=examples(), **own)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return fit


def by_hand(
    folder: Path, window: int = 1, clip: float | None = None, rho: float = RHO
) -> tuple[list[Tensor], list[float]]:
    """Return the weights after a loop of one's own with the Trainer's optimizer and schedule, and its losses."""
    net = model()
    trainer: Any = transformers.Trainer(model=net, args=arguments(folder))
    trainer.create_optimizer_and_scheduler(STEPS)
    base, scheduler = trainer.optimizer, trainer.lr_scheduler
    data, losses = examples(), []
    limit = None if clip is None else partial(torch.nn.utils.clip_grad_norm_, max_norm=clip)
    for step in range(STEPS):
        micro = [stack(data[i : i + 3]) for i in range(3 * window * step, 3 * window * (step + 1), 3)]
        tokens = sum(int((b["labels"][:, 1:] != -100).sum()) for b in micro)

        def loss(batch: Any, tokens: int = tokens) -> Tensor:
            logits = net(input_ids=batch["input_ids"]).logits[:, :-1]
            return (
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
                )
                / tokens
            )

        losses.append(float(sam_step(base, [partial(loss, b) for b in micro], rho, limit)))
        scheduler.step()
    return weights(net), losses


def stack(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def logged(trainer: Any, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("window", [1, 2])
def test_a_run_is_the_loop_written_by_hand(fit: Any, tmp_path: Path, window: int) -> None:
    """Whose micro-batches weigh by their tokens.  Kills one perturbation for each, and one of the last alone."""
    trainer = fit(gradient_accumulation_steps=window)
    expected, losses = by_hand(tmp_path, window)
    assert distance(weights(trainer.model), expected) < 1e-7
    assert logged(trainer, "loss") == pytest.approx(losses, rel=1e-6)
    assert trainer.passes == 2 * window * STEPS
    assert trainer.state.global_step == STEPS
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0


def test_the_loop_written_by_hand_is_not_the_base_optimizer_alone(fit: Any, tmp_path: Path) -> None:
    """Negative control; and the plain Trainer is what rho = 0 gives."""
    plain = weights(fit(kind=Counting).model)
    assert distance(plain, by_hand(tmp_path, rho=1e-12)[0]) < 1e-7
    assert distance(plain, by_hand(tmp_path)[0]) > 1e-4
    assert same(plain, weights(fit(SAM(rho=0.0)).model))


@pytest.mark.parametrize("window", [1, 2])
def test_bfloat16(fit: Any, window: int) -> None:
    trainer = fit(net=model(torch.float32), bf16=True, gradient_accumulation_steps=window)
    narrow = weights(trainer.model)
    wide = weights(fit(net=model(torch.float32), gradient_accumulation_steps=window).model)
    plain = weights(fit(net=model(torch.float32), kind=Counting, bf16=True, gradient_accumulation_steps=window).model)
    assert 0 < distance(narrow, wide) < 0.3 * distance(plain, wide)
    assert trainer.model.lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize("window", [1, 2])
def test_clipping(fit: Any, tmp_path: Path, window: int) -> None:
    limit = 0.05
    trainer = fit(max_grad_norm=limit, gradient_accumulation_steps=window)
    assert distance(weights(trainer.model), by_hand(tmp_path, window, limit)[0]) < 1e-7
    assert distance(weights(trainer.model), by_hand(tmp_path, window)[0]) > 1e-4  # it was in force
    assert min(logged(trainer, "grad_norm")) > limit  # the norm before


class Watch(transformers.TrainerCallback):
    """Remembers the norm of what the base optimizer stepped with."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["optimizer"].optimizer.base.register_step_post_hook(self.look)

    def look(self, base: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad for group in base.param_groups for p in group["params"] if p.grad is not None]
        self.norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))


def test_what_is_clipped_is_what_the_base_optimizer_receives(tmp_path: Path) -> None:
    """Kills a clip of `.grad` between the passes and the step, which LookSAM's idle steps have emptied."""
    watch = Watch()
    trainer = SharpnessAwareTrainer(
        model=model(),
        args=arguments(tmp_path, max_grad_norm=0.05),
        train_dataset=examples(),
        variant=LookSAM(rho=RHO, k=2),
        callbacks=[watch],
    )
    trainer.train()
    assert watch.norms == pytest.approx([0.05] * STEPS, rel=1e-3)
    assert min(logged(trainer, "grad_norm")) > 0.05


@pytest.mark.parametrize(
    ("variant", "passes"),
    [(SAM(rho=RHO, steps=2), 3 * 8), (GSAM(rho=RHO), 2 * 8), (LookSAM(rho=RHO, k=2), 2 * 8 - 4)],
    ids=lambda x: getattr(x, "name", None),
)
def test_any_row(fit: Any, tmp_path: Path, variant: Any, passes: int) -> None:
    """Against `step(closure)` over the same two micro-batches."""
    trainer = fit(variant, gradient_accumulation_steps=2)
    net = model()
    plain: Any = transformers.Trainer(model=net, args=arguments(tmp_path))
    plain.create_optimizer_and_scheduler(STEPS)
    optimizer = SharpnessAware(plain.optimizer, variant, model=net)
    data = examples()
    for step in range(STEPS):
        micro = [stack(data[i : i + 3]) for i in (6 * step, 6 * step + 3)]
        tokens = sum(int((b["labels"][:, 1:] != -100).sum()) for b in micro)

        def closure(micro: Any = micro, tokens: int = tokens) -> Tensor:
            optimizer.zero_grad()
            loss = sum((net(**b, num_items_in_batch=tokens).loss for b in micro), torch.tensor(0.0))
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            return loss

        optimizer.step(closure)
        plain.lr_scheduler.step()
    assert distance(weights(trainer.model), weights(net)) < 1e-7
    assert trainer.passes == passes


def test_dropout_masks_are_those_of_the_first_sweep(fit: Any) -> None:
    """And the first sweeps' are those of a Trainer that makes no other."""

    def masks(**options: Any) -> list[Tensor]:
        net = model(dropout=0.3)
        seen: list[Tensor] = []
        net.transformer.drop.register_forward_hook(lambda _module, _inputs, out: seen.append(out == 0))
        fit(net=net, gradient_accumulation_steps=2, **options)
        return seen

    seen, plain = masks(), masks(kind=Counting)
    first = [mask for i in range(0, len(seen), 4) for mask in seen[i : i + 2]]
    second = [mask for i in range(0, len(seen), 4) for mask in seen[i + 2 : i + 4]]
    assert len(first) == 2 * STEPS
    assert same(first, second)
    assert same(first, plain)
    assert len({tuple(mask.flatten().tolist()) for mask in first}) == len(first)  # control


class Normed(torch.nn.Module):
    """Batch normalisation, in a model that is not of transformers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.BatchNorm1d(8)
        self.readout = torch.nn.Linear(8, 1)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        out = self.readout(self.norm(input_ids.float()))
        return {"loss": (out - labels[:, -1:]).square().mean()}


def test_batch_norm_sees_every_micro_batch_once(fit: Any) -> None:
    nets = [Normed(), Normed()]
    for net, rho in zip(nets, (RHO, 0.0), strict=True):
        fit(SAM(rho=rho), net=net, learning_rate=0.0, gradient_accumulation_steps=2)
    assert nets[0].norm.num_batches_tracked == 2 * STEPS
    assert nets[0].norm.running_mean is not None
    assert nets[1].norm.running_mean is not None
    assert torch.equal(nets[0].norm.running_mean, nets[1].norm.running_mean)


class Interrupt(transformers.TrainerCallback):
    """Breaks off in the middle of an accumulated batch."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


def test_a_run_that_was_cut_off_leaves_nothing_to_the_next(fit: Any, tmp_path: Path) -> None:
    net, interrupt = model(), Interrupt()
    trainer = SharpnessAwareTrainer(
        model=net,
        args=arguments(tmp_path, gradient_accumulation_steps=2),
        train_dataset=examples(),
        variant=SAM(rho=RHO),
        callbacks=[interrupt],
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert same(weights(net), weights(model()))
    trainer.remove_callback(interrupt)
    trainer.train()
    assert same(weights(net), weights(fit(gradient_accumulation_steps=2).model))


@pytest.mark.parametrize("variant", [SAM(rho=RHO), LookSAM(rho=RHO, k=3)], ids=lambda v: v.name)
@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "bf16": True}], ids=str)
def test_resume_is_bitwise(fit: Any, tmp_path: Path, variant: Any, options: dict[str, Any]) -> None:
    make = partial(model, torch.float32, dropout=0.1)
    options = options | {"save_strategy": "steps", "save_steps": 2}
    through = weights(fit(variant, make(), **options).model)
    folder = tmp_path / "checkpoint-2"
    saved = torch.load(folder / "optimizer.pt", weights_only=True)
    assert saved["param_groups"][0]["samfamily"]["recipe"]["variant"] == variant.name
    trainer = fit(variant, make(seed=1), **options, resume_from_checkpoint=str(folder))
    assert same(weights(trainer.model), through)
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 2
    (folder / "optimizer.pt").unlink()
    assert not same(weights(fit(variant, make(seed=1), **options, resume_from_checkpoint=str(folder)).model), through)


def test_an_optimizer_of_ones_own(fit: Any, tmp_path: Path) -> None:
    net = model()
    optimizer = SharpnessAware(torch.optim.SGD(net.parameters(), lr=0.1), SAM(rho=RHO), model=net)
    trainer = SharpnessAwareTrainer(
        model=net,
        args=arguments(tmp_path, lr_scheduler_type="constant"),
        train_dataset=examples(),
        optimizers=(optimizer, None),
    )
    trainer.train()
    prepared: Any = trainer.optimizer
    assert prepared.optimizer is optimizer
    assert int(optimizer.info.gradient_evaluations) == 2
    other = fit(SAM(rho=RHO), optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", weight_decay=0.0)
    assert distance(weights(net), weights(other.model)) < 1e-7  # the Trainer groups its parameters


def test_training_again_goes_on_from_where_it_was(fit: Any) -> None:
    """The Trainer keeps its optimizer: it is not wrapped twice, and clips once."""
    trainer = fit(max_grad_norm=0.05)
    wrapped = trainer.optimizer.optimizer
    trainer.train()
    assert trainer.optimizer.optimizer is wrapped
    assert isinstance(wrapped, SharpnessAware)
    assert len(wrapped.base._optimizer_step_pre_hooks) == 1
    assert not isinstance(wrapped.base, SharpnessAware)
    assert min(logged(trainer, "grad_norm")) > 0.05


@pytest.mark.parametrize(
    "variant", [SAM(rho=RHO).sharded(1), SAM(rho=RHO, second_order=True)], ids=["m", "second_order"]
)
def test_what_needs_a_closure_is_refused(fit: Any, variant: Any) -> None:
    with pytest.raises(ValueError, match=r"needs step\(closure\), and the Trainer has no closure"):
        fit(variant)


def test_a_plain_optimizer_is_refused(tmp_path: Path) -> None:
    trainer = SharpnessAwareTrainer(model=model(), args=arguments(tmp_path), train_dataset=examples())
    with pytest.raises(TypeError, match="is AdamW, and no variant was given"):
        trainer.train()


def test_float16_is_refused(tmp_path: Path) -> None:
    trainer = SharpnessAwareTrainer(
        model=model(), args=arguments(tmp_path), train_dataset=examples(), variant=SAM(rho=RHO)
    )
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")  # as on a GPU
    with pytest.raises(ValueError, match="use bf16=True"):
        trainer.train()


def test_the_plain_trainer_says_what_is_missing(tmp_path: Path) -> None:
    """A SharpnessAware without the mixin."""
    net = model()
    optimizer = SharpnessAware(torch.optim.SGD(net.parameters(), lr=0.1), SAM(rho=RHO))
    trainer = transformers.Trainer(
        model=net, args=arguments(tmp_path), train_dataset=examples(), optimizers=(optimizer, None)
    )
    with pytest.raises(RuntimeError, match="there is nothing to step on: pass a closure"):
        trainer.train()
