"""`python -m benchmarks report`: its data, its two networks and its page."""

import argparse
import io
import random
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import figures, landscape, report, report_spectra, train
from benchmarks.__main__ import main
from benchmarks.cells import Cell, Recipe, plan
from benchmarks.curvature_measures import Effort
from benchmarks.data import BATCH_STREAM, CLASSES, Dataset, epochs, generator, load, replace_labels
from benchmarks.landscape import ascent_direction, filter_normalised
from benchmarks.methods import METHODS, NOISE_LEVELS
from benchmarks.network import initial_weights, shapes
from benchmarks.network_jax import convolution, logits
from benchmarks.network_torch import Convolution, Network
from benchmarks.pool import ThisProcess
from benchmarks.report import make
from benchmarks.summary import Estimate, labels, verdict
from benchmarks.train import objective, trainer
from tests.browser import chromium, complaints


@pytest.mark.parametrize(("name", "train", "test", "length"), [("mnist1d", 4000, 1000, 40), ("digits", 1437, 360, 64)])
def test_data_have_the_documented_shapes_and_are_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch, name: str, train: int, test: int, length: int
) -> None:
    """Also when one process made them and another found them in a file."""
    data = load(name)
    monkeypatch.delenv("SAMFAMILY_DATA")
    again = load.__wrapped__(name)
    assert data.inputs.shape == (train, length)
    assert data.evaluation_inputs.shape == (test, length)
    assert data.inputs.dtype == np.float32
    assert set(data.labels) == set(data.evaluation_labels) == set(range(CLASSES))
    for ours, theirs in zip(vars(data).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_loading_leaves_the_global_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMFAMILY_DATA")
    random.seed(5)
    expected = random.Random(5).random()
    load.__wrapped__("mnist1d")
    assert random.random() == expected


def test_what_is_kept_is_found_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMFAMILY_DATA", str(tmp_path))
    load.__wrapped__("digits")
    assert [path.name for path in tmp_path.iterdir()] == ["digits.npz"]
    monkeypatch.setattr("benchmarks.data._digits", None)  # nobody makes them again
    assert load.__wrapped__("digits").inputs.shape == (1437, 64)


def test_replacing_forty_percent_of_the_labels_makes_thirty_six_percent_wrong() -> None:
    labels = np.arange(100_000) % CLASSES
    wrong = np.mean(replace_labels(labels, 0.4, generator(0, 0)) != labels)
    assert wrong == pytest.approx(0.36, abs=0.005)


def test_noise_differs_between_seeds_and_never_touches_test_labels() -> None:
    clean = load("mnist1d")
    noisy = [clean.with_noise(0.4, seed) for seed in range(2)]
    assert np.any(noisy[0].labels != noisy[1].labels)
    for data in noisy:
        assert data.evaluation_labels is clean.evaluation_labels
        assert data.inputs is clean.inputs
    np.testing.assert_array_equal(clean.with_noise(0.0, 0).labels, clean.labels)


def test_validation_data_come_from_the_training_data_alone() -> None:
    signals = np.arange(13, dtype=np.float32)
    data = Dataset(signals[:10], np.arange(10), signals[10:], np.arange(3)).validation(0.2)
    assert [*data.inputs, *data.evaluation_inputs] == list(range(10))
    assert len(data.evaluation_inputs) == 2


def test_batches_are_full_distinct_and_the_same_for_one_seed() -> None:
    first, second = (epochs(1000, 128, seed=3) for _ in range(2))
    batches = next(first)
    assert batches.shape == (7, 128)
    assert len(set(batches.flat)) == 7 * 128
    np.testing.assert_array_equal(batches, next(second))
    assert np.any(next(first) != batches)
    np.testing.assert_array_equal(batches.flat, generator(3, BATCH_STREAM).permutation(1000)[: 7 * 128])


def test_too_few_examples_for_a_batch_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"5 examples do not fill one batch of 8"):
        next(epochs(5, 8, seed=0))


@pytest.mark.parametrize("length", [40, 64])
def test_both_networks_give_the_same_logits(length: int) -> None:
    weights = initial_weights(length, seed=1)
    inputs = np.random.default_rng(0).normal(size=(6, length)).astype(np.float32)
    with torch.no_grad():
        ours = Network(length, weights)(torch.from_numpy(inputs)).numpy()
    theirs = logits([jnp.asarray(weight) for weight in weights], jnp.asarray(inputs))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("length", [10, 19])
def test_the_convolution_is_the_frameworks_own(width: int, length: int) -> None:
    draw = np.random.default_rng(0)
    signal, kernel, bias = (draw.normal(size=s).astype(np.float32) for s in ((2, length, 3), (4, 3, width), (4,)))
    layer = Convolution(4, 3, width)
    layer.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias)})
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(signal).transpose(1, 2), torch.from_numpy(kernel), torch.from_numpy(bias), stride=2, padding=1
    ).transpose(1, 2)
    np.testing.assert_allclose(layer(torch.from_numpy(signal)).detach(), expected, atol=1e-5)
    np.testing.assert_allclose(convolution(*map(jnp.asarray, (signal, kernel, bias))), expected, atol=1e-5)


def test_initial_weights_have_torch_layout_and_depend_on_the_seed() -> None:
    assert shapes(40)[-2:] == [(10, 125), (10,)]
    assert [weight.shape for weight in initial_weights(40, 0)] == shapes(40)
    assert np.any(initial_weights(40, 0)[0] != initial_weights(40, 1)[0])


@pytest.mark.parametrize("method", METHODS)
def test_both_backends_take_the_same_steps(method: str) -> None:
    rho = METHODS[method].radii[0.4]
    cells = [Cell(Recipe(epochs=1), backend, 0.4, method, rho, seed=0) for backend in ("torch", "jax")]
    batches = next(epochs(4000, 128, seed=0))[:3]
    trainers = [trainer(cell) for cell in cells]
    losses = [model.run_epoch(batches) for model in trainers]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(trainers[0].weights(), trainers[1].weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_plan_has_every_cell_once_and_counts_gradients() -> None:
    cells = plan(Recipe(epochs=2), ("torch", "jax"), METHODS, range(3))
    assert len(set(cells)) == len(cells) == 2 * len(NOISE_LEVELS) * len(METHODS) * 3
    counts = {cell.method: cell.gradient_evaluations for cell in cells}
    assert counts == {"sgd": 62, "sgd-double": 124, "sam": 124, "asam": 124, "sam-sharded": 124}


def test_the_ascent_direction_is_the_normalised_gradient() -> None:
    data, weights = load("digits"), initial_weights(64, 0)
    function = objective("torch", data.inputs, data.labels)
    direction = np.concatenate([array.ravel() for array in ascent_direction(function, weights)])
    gradient = np.concatenate([array.ravel() for array in function.value_and_grad(weights)[1]])
    np.testing.assert_allclose(direction, gradient / np.linalg.norm(gradient), atol=1e-12)


def test_filter_normalised_directions_have_the_norms_of_the_filters() -> None:
    weights = initial_weights(40, 0)
    for weight, direction in zip(weights, filter_normalised(weights, np.random.default_rng(0)), strict=True):
        if weight.ndim == 1:
            assert not direction.any()
        else:
            norms = [np.linalg.norm(array.reshape(len(array), -1), axis=1) for array in (weight, direction)]
            np.testing.assert_allclose(norms[0], norms[1], rtol=1e-6)


def test_a_difference_within_its_spread_is_not_called_an_improvement() -> None:
    assert verdict(Estimate.of([-0.02, -0.03, -0.02]), "9 %", "7 %", "here").startswith(
        "lowers the test error from 9 %"
    )
    assert verdict(Estimate.of([0.02, 0.03, 0.02]), "7 %", "9 %", "here").startswith("raises")
    assert verdict(Estimate.of([-0.02, 0.03, -0.02]), "9 %", "9 %", "here").startswith("makes no difference")
    assert verdict(Estimate.of([-0.02]), "9 %", "7 %", "here").endswith("in the one seed tried")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seeds", "0"), ("--epochs", "many"), ("--workers", "-1"), ("--data", "cifar"), ("--out", "FILE")],
)
def test_bad_values_are_named_with_a_remedy(
    option: str, value: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if value == "FILE":
        (tmp_path / "FILE").touch()
        value = str(tmp_path / "FILE")
    with pytest.raises(SystemExit) as stopped:
        main(["report", option, value])
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert value in message
    assert re.search("give|choose", message)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The page and the output of a run of one epoch and one seed on the digits, in this process."""
    arguments = argparse.Namespace(
        data="digits", backend="both", seeds=1, epochs=1, workers=1, quick=False, out=tmp_path_factory.mktemp("report")
    )
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as small:
        small.setattr(train, "TIMING_ROUNDS", 1)
        for module in (landscape, figures):
            small.setattr(module, "PLANE", np.linspace(-1, 1, 3))
            small.setattr(module, "DISTANCES", np.linspace(-0.5, 1, 4))
        for module in (report, report_spectra):
            small.setattr(module, "EFFORT", Effort(examples=50, order=6, draws=2))
        path = make(arguments, ThisProcess(), Console(file=output, width=80))
    return path.read_text(encoding="utf-8"), output.getvalue()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
def test_the_page_can_be_read_in_a_browser(tiny_run: tuple[str, str], tmp_path: Path, width: int, scheme: str) -> None:
    (tmp_path / "index.html").write_text(tiny_run[0], encoding="utf-8")
    for browser in chromium():
        assert complaints(browser, (tmp_path / "index.html").as_uri(), width, scheme) == []


def test_the_page_needs_nothing_from_outside(tiny_run: tuple[str, str]) -> None:
    page, _ = tiny_run
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "<script" not in page
    assert "<link" not in page


def test_the_page_has_every_method_and_every_figure_with_a_description(tiny_run: tuple[str, str]) -> None:
    page, _ = tiny_run
    for method in METHODS.values():
        assert page.count(f"<td>{method.name}</td>") == len(NOISE_LEVELS)
    figures = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(figures) == page.count("<svg") == 12
    assert len(set(figures)) == 12
    assert page.count("Solutions found by PyTorch.") == 2
    assert page.index("Test error, PyTorch") < page.index("Test error, JAX")
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_the_page_shows_the_spectra_of_sgd_and_sam(tiny_run: tuple[str, str]) -> None:
    page, _ = tiny_run
    section = page[page.index("<h2>The curvature of the solutions") : page.index("<h2>What was run")]
    for noise in NOISE_LEVELS:
        assert f"Hessian, SGD and SAM, {labels(noise)}." in section
    assert len(re.findall(r">SGD, largest [\d.]+<", section)) == len(re.findall(r">SAM, largest [\d.]+<", section)) == 2
    for method in ("sgd", "sam"):
        assert METHODS[method].colour in section
    assert METHODS["asam"].colour not in section  # negative control: whose spectrum is not there
    assert "seed 0, on the first 50 training examples" in section


def test_the_page_says_how_to_run_it_again(tiny_run: tuple[str, str]) -> None:
    page, _ = tiny_run
    assert "python -m benchmarks report --data digits --backend both --seeds 1 --epochs 1 --workers 1" in page
    for name in (f"torch {torch.__version__}", f"jax {jax.__version__}", f"numpy {np.__version__}"):
        assert name in page


def test_the_terminal_shows_a_line_for_each_cell_the_table_and_the_path(tiny_run: tuple[str, str]) -> None:
    _, output = tiny_run
    assert len(re.findall(r"^training \d+/20: ", output, re.MULTILINE)) == 20
    assert "SGD, 2x epochs" in output
    assert "index.html" in output
    assert max(map(len, output.splitlines()[24:40])) <= 80
