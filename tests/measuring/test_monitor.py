"""What a monitor records is what the measures say, when it is due, at the cost that it states, on both frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from samfamily import SAM, Landscape, Monitor, curvature, sharpness, to_tensorboard
from samfamily.reference import Landscape as NumpyLandscape
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape as TorchLandscape
from samfamily_torch import SharpnessAware
from tests.measuring.networks import jax_loss, mlp, torch_loss

VARIANT = SAM(rho=0.1).sharded(8)


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def on_torch() -> tuple[torch.nn.Module, Landscape]:
    c = mlp()
    return c.module, TorchLandscape(torch_loss(c), c.module, (torch.from_numpy(c.x), torch.from_numpy(c.y)))


def on_jax() -> JaxLandscape:
    c = mlp()
    return JaxLandscape(jax_loss(c), [jnp.asarray(x) for x in c.leaves], (jnp.asarray(c.x), jnp.asarray(c.y)))


def test_a_record_is_what_the_measures_say() -> None:
    records: list[dict[str, float]] = []
    landscape = on_torch()[1]
    returned = Monitor(VARIANT, records.append, products=100)(0, landscape)
    assert records == [returned]
    values = curvature.eigenvalues(landscape, top=5).values
    climbed = sharpness.climb(landscape, VARIANT)
    expected = {
        "step": 0,
        "loss": climbed.loss,
        "lambda_max": values[0],
        "ratio": values[0] / values[4],
        "m_sharpness": sharpness.worst_case(landscape, VARIANT).value,
        "cosine": climbed.cosine,
        "effective_radius": 0.1,
    }
    assert {key: records[0][key] for key in expected} == pytest.approx(expected, rel=1e-3)


def test_both_frameworks_record_the_same() -> None:
    a, b = (Monitor(VARIANT, lambda _: None)(0, landscape) for landscape in (on_torch()[1], on_jax()))
    assert a == pytest.approx(b, rel=1e-8)


def test_it_measures_when_it_is_due_and_costs_what_it_says() -> None:
    monitor, landscape = Monitor(VARIANT, lambda _: None, every=3, products=12), on_torch()[1]
    steps = [step for step in range(8) if monitor(step, landscape) is not None]
    assert steps == [0, 3, 6]
    one = landscape.spent.gradients / 3, landscape.spent.products / 3
    assert one[0] == pytest.approx(2)
    assert 5 <= one[1] <= 12
    assert one[0] + 2.5 * one[1] <= monitor.cost == 2 + 2.5 * 12


def test_training_is_the_same_with_and_without() -> None:
    """A monitor that left a gradient, a moved weight or a drawn random number behind would change the run."""

    def trained(watch: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module, landscape = on_torch()
        monitor = Monitor(VARIANT, lambda _: None, every=2)
        optimizer = SharpnessAware(torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9), VARIANT)
        for step in range(4):

            def closure(x: Any, y: Any) -> Any:
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(torch.nn.functional.dropout(module(x), 0.1), y)
                loss.backward()
                return loss

            optimizer.step(closure, batch=next(iter(landscape.data)))
            if watch:
                monitor(step, landscape)
        return [p.detach().clone() for p in module.parameters()]

    assert all(map(torch.equal, trained(True), trained(False)))


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Yield a list that grows by one with everything that XLA compiles."""
    found: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_a_model_in_training_mode_is_looked_at_in_eval_and_left_as_it_was() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)).double()
    module[2].eval()  # a mode of its own
    x = torch.randn(16, 3, dtype=torch.float64)

    def loss(x: Any) -> Any:
        return (module(x) ** 2).mean()

    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"1 is a BatchNorm1d in training mode.*evaluating=True"):
        Monitor(VARIANT, print)(0, TorchLandscape(loss, module, (x,)))
    record = Monitor(VARIANT, lambda _: None)(0, TorchLandscape(loss, module, (x,), evaluating=True))
    assert [m.training for m in module] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.eval()
    assert record == Monitor(VARIANT, lambda _: None)(0, TorchLandscape(loss, module, (x,)))


def test_jax_looks_at_each_step_s_parameters_and_compiles_once() -> None:
    first = on_jax()
    monitor = Monitor(VARIANT, lambda _: None, every=1)
    with compilations() as some:
        before = monitor(0, first)
    moved = [x * 0.5 for x in first.w.collapse()]
    with compilations() as more:
        after = monitor(1, first.at(moved))
    assert some
    assert not more
    assert before is not None
    assert after is not None
    assert after["loss"] != before["loss"]
    with pytest.raises(ValueError, match="the parameters have the structure"):
        first.at({"w": jnp.ones(3)})


def test_a_small_model_has_no_fifth_eigenvalue() -> None:
    landscape = NumpyLandscape(lambda w: (0.5 * np.sum(w[0] ** 2), [w[0]]), [np.ones(3)])
    record = Monitor(SAM(rho=0.1), lambda _: None)(0, landscape)
    assert record is not None
    assert record["lambda_max"] == pytest.approx(1)
    assert np.isnan(record["ratio"])


def test_tensorboard_has_every_figure(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        record = Monitor(VARIANT, to_tensorboard(writer))(0, on_torch()[1])
    assert record is not None
    read = EventAccumulator(str(tmp_path)).Reload()
    assert {f"sharpness/{key}" for key in record if key != "step"} == set(read.Tags()["scalars"])
    assert read.Scalars("sharpness/lambda_max")[0].value == pytest.approx(record["lambda_max"], rel=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "why"),
    [
        (lambda: Monitor(VARIANT, print, every=0), ValueError, "every must be at least 1"),
        (lambda: Monitor(VARIANT, print, products=4), ValueError, "products = 4 cannot show the fifth eigenvalue"),
        (lambda: Monitor(cast("Any", "SAM"), print), TypeError, "variant must be a Variant, got 'SAM'"),
    ],
)
def test_what_cannot_be_monitored_says_so(make: Callable[[], Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        make()
