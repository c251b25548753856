"""`python -m benchmarks full`: networks of the right size, two steps of every config alike in both frameworks."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.full import EXAMPLES, augmentation, batches, folders, models_jax, models_torch, synthetic
from benchmarks.full.autoaugment import OPERATIONS, PAIRS
from benchmarks.full.config import Config, available, load
from benchmarks.full.folders import Held
from benchmarks.full.run import trainer

WEIGHTS = {"cifar10-wrn-28-10": 36_479_194, "cifar100-wrn-28-10": 36_536_884, "imagenet-resnet-50": 25_557_032}
ONE, STEPS = (0, 1), 2
RENAMED = {"weight": "scale", "running_mean": "mean", "running_var": "var"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several gain nothing on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(config: Config, place: Path) -> list[folders.Images]:
    form, classes = config.data["format"], config.data["classes"]
    return [folders.read(place, form, classes, train=part) for part in (True, False)]


def as_linen(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return PyTorch's weights and statistics under linen's names and in its layout."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tensor in state.items():
        x, dimensions = tensor.numpy().copy(), tensor.ndim
        *path, last = name.replace("blocks.", "blocks_").replace("ons.", "ons_").replace("norms.", "norms_").split(".")
        if last == "num_batches_tracked":
            continue
        node = tree["batch_stats" if last.startswith("running") else "params"]
        for part in path:
            node = node.setdefault(part, {})
        layout = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[dimensions]
        node["kernel" if dimensions > 1 else RENAMED.get(last, last)] = x.transpose(layout)
    return tree


def distance(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.sum((np.asarray(x) - np.asarray(y)) ** 2) for x, y in pairs)) ** 0.5


# --- The networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", available())
def test_the_network_has_the_papers_size_in_both_frameworks(name: str) -> None:
    config = load(name)
    assert config.plan.parameters == WEIGHTS[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in models_torch.Network(config.plan).parameters()) == WEIGHTS[name]
    image = jax.ShapeDtypeStruct((1, config.data["size"], config.data["size"], 3), jnp.float32)
    network = models_jax.Network(config.plan)
    shapes: Any = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == WEIGHTS[name]


def test_every_config_has_a_size_to_check() -> None:
    assert set(available()) == set(WEIGHTS)


@pytest.mark.parametrize("name", available())
def test_two_steps_of_both_frameworks_are_the_same(name: str, tmp_path: Path) -> None:
    """From the same weights, on the same made-up images, with shards, clipping, decay and batch statistics."""
    config = load(name, smoke=True)
    train, test = data(config, synthetic.write(tmp_path, config, EXAMPLES))
    here: Any = trainer("torch", config, tmp_path / "torch", "cpu", None)
    there: Any = trainer("jax", config, tmp_path / "jax", "cpu", 2)
    start = as_linen(here.network.state_dict())
    kept = start["params"], start["batch_stats"], *there.kept[2:]
    there.kept = jax.tree.map(lambda x, old: jax.device_put(x, old.sharding), kept, there.kept)
    for step, batch in enumerate(islice(batches.epoch(train, config, 0, 0, ONE, 1), STEPS)):
        losses = [float(model.step(batch, config.learning_rate(step, 100))) for model in (here, there)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    end = as_linen(here.network.state_dict())["params"]
    apart, moved = distance(there.kept[0], end), distance(end, start["params"])
    assert 0 < apart < 1e-3 * moved
    statistics = as_linen(here.network.state_dict())["batch_stats"], start["batch_stats"]
    if (
        name != "imagenet-resnet-50"
    ):  # whose last images have one pixel, where PyTorch's variances are larger by a third
        assert distance(there.kept[1], statistics[0]) < 0.1 * distance(*statistics)
    for model in (here, there):
        assert 0 <= model.wrong(batches.test(test, config, ONE, 1)) <= len(test.labels)
    if name == "cifar10-wrn-28-10":
        there.done = STEPS
        there.save()
        again: Any = trainer("jax", config, tmp_path / "jax", "cpu", 2)
        assert again.done == STEPS
        assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), again.kept, there.kept))
        again.close()
    there.close()


# --- The command ------------------------------------------------------------------------------------------------------


def test_a_run_that_is_resumed_ends_where_one_that_is_not_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["full", "cifar10-wrn-28-10", "--smoke", "--augmentation", "cutout", "--device", "cpu"]
    for out, stops in (("whole", "3"), ("parts", "1"), ("parts", "3")):
        assert main([*command, "--steps", stops, "--out", str(tmp_path / out)]) == 0
    said = capsys.readouterr().out
    assert "goes on after step 1" in said
    assert said.count("test error") == 5  # after the first epoch of two steps, and at each end
    whole, parts = (torch.load(tmp_path / out / "checkpoint.pt", weights_only=True) for out in ("whole", "parts"))
    assert whole["done"] == parts["done"] == 3
    assert all(torch.equal(x, parts["network"][name]) for name, x in whole["network"].items())
    with pytest.raises(SystemExit, match="another folder"):
        main([*command, "--method", "sgd", "--out", str(tmp_path / "parts")])


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    command = ["full", "cifar10-wrn-28-10", "--smoke", "--device", "cpu", "--steps", "2", "--out"]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "benchmarks"]
    subprocess.run([*launch, *command, str(tmp_path / "two")], check=True, timeout=240, env=paths)
    assert main([*command, str(tmp_path / "one")]) == 0
    one, two = (torch.load(tmp_path / out / "checkpoint.pt", weights_only=True)["network"] for out in ("one", "two"))
    for name, x in one.items():
        if x.is_floating_point():  # one process's statistics see shards one after the other
            assert float((x - two[name]).norm()) <= (0.05 if "running" in name else 1e-5) * float(x.norm()), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["cifar11", "--smoke"], "cifar10-wrn-28-10"),
        (["cifar10-wrn-28-10"], "--data-dir is missing"),
        (["cifar10-wrn-28-10", "--data-dir", "/nowhere"], "neither cifar-10"),
        (["imagenet-resnet-50", "--smoke", "--augmentation", "cutout"], "inception"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(options: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["full", *options])


def test_sgd_takes_one_gradient_a_step_and_sam_two() -> None:
    sam, sgd = (load("cifar10-wrn-28-10", method).variant for method in ("sam", "sgd"))
    assert (sam.gradients_per_step, sgd.gradients_per_step) == pytest.approx((2, 1))
    assert sam.m == sgd.m == 32


def test_the_learning_rate_falls_to_zero() -> None:
    config = load("imagenet-resnet-50", "sgd", epochs=400)
    assert [config.learning_rate(step, 100) for step in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0])
    assert config.published == 22.3


# --- The images -------------------------------------------------------------------------------------------------------


def images(count: int = 12) -> Held:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return Held(pixels, np.arange(count) % 4)


def test_pickles_are_read_in_their_own_layout(tmp_path: Path) -> None:
    config = load("cifar100-wrn-28-10", smoke=True)
    place = synthetic.write(tmp_path, config, 10) / "cifar-100-python"
    train, _ = data(config, place)
    raw = pickle.loads((place / "train").read_bytes())[b"data"]
    assert train[3][5, 7, 2] == raw[3, 2 * 1024 + 5 * 32 + 7]
    assert train.labels.tolist() == list(range(10))


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("called",)

    config = load("cifar10-wrn-28-10", smoke=True)
    place = synthetic.write(tmp_path, config, 10)
    (place / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="print"):
        data(config, place)


def test_batches_are_the_same_for_any_threads_parts_and_starts() -> None:
    config = load("cifar10-wrn-28-10", augmentation="autoaugment", smoke=True)
    config.training["batch"] = 4  # type: ignore[index]
    whole = list(batches.epoch(images(), config, 1, 0, ONE, 1))
    assert sorted(np.concatenate([labels for _, labels in whole])) == sorted(images().labels)
    parts = [list(batches.epoch(images(), config, 1, 1, (i, 2), 3)) for i in range(2)]
    for (expected, labels), *found in zip(whole[1:], *parts, strict=True):
        assert np.array_equal(expected, np.concatenate([x for x, _ in found]))
        assert np.array_equal(labels, np.concatenate([y for _, y in found]))
    other, _ = next(batches.epoch(images(), config, 2, 0, ONE, 1))
    assert not np.array_equal(other, whole[0][0])


def test_every_test_image_falls_to_one_process() -> None:
    config = load("cifar10-wrn-28-10", smoke=True)
    found = [labels for part in range(2) for _, labels in batches.test(images(11), config, (part, 2), 1)]
    assert sorted(np.concatenate(found)) == sorted(images(11).labels)


def test_every_operation_of_the_policy_changes_an_image_and_none_its_shape() -> None:
    image = images()[0] // 2 + 20
    used = {name for pair in PAIRS for name, _, _ in pair}
    assert used == set(OPERATIONS)
    assert len(PAIRS) == 25
    from PIL import Image

    for name in used:
        changed = np.asarray(OPERATIONS[name](Image.fromarray(image), 0.8, 1))
        assert changed.shape == image.shape
        assert not np.array_equal(changed, image), name


def test_cutout_is_one_square_for_the_batch_and_basic_has_none() -> None:
    for kind, cut in (("cutout", True), ("basic", False)):
        config = load("cifar10-wrn-28-10", augmentation=kind)
        found = augmentation.cut_out(np.ones((2, 32, 32, 3), np.float32), config, np.random.default_rng(1))
        assert bool((found == 0).any()) is cut
        assert np.array_equal(found[0], found[1])


def test_a_test_image_of_any_size_is_cut_to_the_networks() -> None:
    config = load("imagenet-resnet-50")
    assert augmentation.tested_on(np.zeros((300, 500, 3), np.uint8), config).shape == (224, 224, 3)
    assert augmentation.trained_on(np.zeros((20, 500, 3), np.uint8), config, np.random.default_rng(0)).shape[0] == 224
