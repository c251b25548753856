"""The examples for trainers and for JAX's libraries, each run for a few steps where the test runs."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path

import jax
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: nothing is asked of the hub

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["lightning", "huggingface", "optax", "equinox", "nnx"]
FEW = ["--epochs=2", "--steps=3", "--rho=0.5"]
LINE = re.compile(r"^epoch \d+: loss (\S+), test error (\S+) %$", re.MULTILINE)
Printed = tuple[list[tuple[float, float]], str]
"""Loss and test error of each epoch, and the last line."""

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:optax.global_norm is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def quick_to_compile() -> Iterator[None]:
    optimised = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", optimised)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    def printed(name: str, *arguments: str) -> Printed:
        script = EXAMPLES / f"train_{name}.py"
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        torch.manual_seed(0)  # the order of the Trainer's batches
        runpy.run_path(str(script), run_name="__main__")
        text = capsys.readouterr().out
        return [(float(loss), float(error)) for loss, error in LINE.findall(text)], text.splitlines()[-1]

    return printed


@pytest.mark.parametrize("name", NAMES)
def test_an_example_trains_with_sam(name: str, printed: Callable[..., Printed]) -> None:
    epochs, last = printed(name, *FEW)
    assert len(epochs) == 2
    assert last.startswith("6 steps")
    assert all(isfinite(loss) and 0 < loss < 5 and 0 <= error <= 100 for loss, error in epochs)
    without, _ = printed(name, *FEW[:2], "--rho=0")  # negative control: no perturbation
    assert [loss for loss, _ in without] != [loss for loss, _ in epochs]


@pytest.mark.parametrize("name", ["lightning", "huggingface"])
def test_micro_batches_make_one_step(name: str, printed: Callable[..., Printed]) -> None:
    whole, last = printed(name, *FEW, "--batch=64")
    parts, last_of_parts = printed(name, *FEW, "--batch=32", "--accumulate=2")
    assert last == last_of_parts == "6 steps"
    assert [x for x, _ in parts] == pytest.approx([x for x, _ in whole], abs=1.01e-4)  # a unit of the last digit
    apart, _ = printed(name, *FEW, "--batch=32")  # negative control
    assert [x for x, _ in apart] != pytest.approx([x for x, _ in whole], abs=1.01e-4)


def test_optax_prints_what_a_called_gradient_does(printed: Callable[..., Printed]) -> None:
    epochs, _ = printed("optax", *FEW)
    called, _ = printed("jax", *FEW, "--m=64")
    assert [x for x, _ in epochs] == pytest.approx([x for x, _ in called], abs=1.01e-4)
    other, _ = printed("jax", *FEW, "--m=8")  # negative control: another m
    assert [x for x, _ in other] != pytest.approx([x for x, _ in called], abs=1.01e-4)


def test_dropout_draws_one_mask_a_step(printed: Callable[..., Printed]) -> None:
    _, last = printed("nnx", *FEW)
    assert last == "6 steps, dropout drew 6 masks"


def test_examples_are_short() -> None:
    assert all(len((EXAMPLES / f"train_{name}.py").read_text().splitlines()) < 80 for name in NAMES)
