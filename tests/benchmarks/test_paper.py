"""The work of `python -m benchmarks paper`: keys, resumption, networks, instruments, treatments and tuning."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.data import Dataset, load
from benchmarks.network import initial_weights
from benchmarks.network_jax import logits
from benchmarks.paper import train_jax, train_torch, training
from benchmarks.paper.claims import CLAIMS
from benchmarks.paper.contest import at_budget
from benchmarks.paper.execution import COMPILING, estimate, estimates, ordered, plan
from benchmarks.paper.keys import key
from benchmarks.paper.lab import best
from benchmarks.paper.measure import Climb, Measurement, MSharpness, Spectrum, TheoremTwo, UpdateCosine
from benchmarks.paper.networks import NETWORKS
from benchmarks.paper.store import Found, Store
from benchmarks.paper.task import OPTIMIZERS, Task, trainer
from benchmarks.paper.training import Training, learning_rates, one_hot, row
from benchmarks.paper.treatments import Mentor, MentorMix, Mixup, Plain, Smoothing
from samfamily import SAM
from tests.benchmarks.tiny_paper import CLAIM, LAB, TINY, carried_out, contents

# ------------------------------------------------------------------------------------------------- keys and storage


def test_a_key_changes_with_every_field() -> None:
    parent = dataclasses.replace(TINY, seed=7)
    changed = {
        "backend": "jax", "seed": 1, "network": "cnn", "optimizer": "Lion", "noise": 0.2, "row": row("SAM", rho=0.1),
        "treatment": Mixup(0.2), "classes": (0, 5), "labels_from": parent, "weights_from": parent, "snapshots": (1,),
    }  # fmt: skip
    assert changed.keys() == {field.name for field in dataclasses.fields(Training)} - {"recipe"}
    recipe = {"data": "mnist1d", "epochs": 2, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.8,
              "weight_decay": 0.0, "validation": True}  # fmt: skip
    assert recipe.keys() == {field.name for field in dataclasses.fields(TINY.recipe)}
    rows = [row("SAM", rho=0.1), row("SAM", rho=0.2), row("SAM", m=4, rho=0.1), row("ASAM", rho=0.1)]
    works: list[Any] = [TINY, *(TINY.but(**{name: value}) for name, value in (changed | recipe).items())]
    works += [TINY.but(row=one) for one in rows[1:]] + [TINY.but(treatment=Mentor(0.5))]
    works += [Measurement(TINY, Spectrum()), Measurement(TINY, Spectrum(), 1)]
    works += [Measurement(TINY, Spectrum(4)), Measurement(TINY, MSharpness((1,), 0.1))]
    assert len({key(work) for work in works}) == len(works)


def test_what_is_stored_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def cut(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(np, "savez", cut)
        with pytest.raises(KeyboardInterrupt):
            store.save(TINY, {"evaluation": np.zeros(2)})
    assert TINY not in store
    assert list(tmp_path.glob("*/*.unfinished"))
    store.sweep()
    assert not list(tmp_path.glob("*/*.unfinished"))
    store.save(TINY, {"evaluation": np.arange(2.0)})
    np.testing.assert_array_equal(store.load(TINY)["evaluation"], [0, 1])


def test_finished_work_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = carried_out(tmp_path)
    assert "100 %, 0 s left" in said.splitlines()[-1]

    def never(*_: Any) -> Found:
        raise AssertionError

    monkeypatch.setattr(training, "run", never)
    found, said = carried_out(tmp_path)
    assert len(said.splitlines()) == 1
    assert found[0][0].name == "SGD"


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_numbers(tmp_path: Path) -> None:
    folder, moments = tmp_path / "killed", iter((0.0, 0.05, 0.2))
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from tests.benchmarks.tiny_paper import carried_out; carried_out(Path(sys.argv[1]))"
    )
    status = -signal.SIGKILL
    while status:
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(folder)], env=environment())
        moment = next(moments, None)
        if moment is not None:
            count = len(contents(folder))
            while len(contents(folder)) == count and process.poll() is None:
                time.sleep(0.002)
            time.sleep(moment)
            process.kill()
        status = process.wait(60)
        assert status in (0, -signal.SIGKILL)
    carried_out(tmp_path / "whole")
    killed, whole = contents(folder), contents(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    for name, arrays in whole.items():
        assert killed[name].keys() == arrays.keys()
        for what, array in arrays.items():
            assert array.tobytes() == killed[name][what].tobytes(), (name, what)


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def test_the_plan_is_known_before_anything_is_done_and_each_piece_is_there_once(tmp_path: Path) -> None:
    works = plan([CLAIM], LAB, Store(tmp_path))
    assert len(works) == len(set(works))
    assert all(works.index(needed) < works.index(work) for work in works for needed in work.needs)
    for letters in (["a"], ["a", "g"]):
        found = plan([CLAIMS[letter] for letter in letters], LAB, Store(tmp_path))
        assert len({key(work) for work in found}) == len(found)


def test_one_of_each_kind_is_done_before_all_others_and_of_them_the_costliest_first() -> None:
    short, long, larger = TINY, TINY.but(epochs=3), TINY.but(row=row("SAM", rho=0.1))
    works: list[Any] = [
        short,
        larger,
        TINY.but(row=row("SAM", rho=0.2), epochs=2),
        long,
        Measurement(short, Spectrum()),
    ]
    found = ordered(works)
    assert len({work.kind for work in works}) == len({work.kind for work in found[:3]}) == 3
    assert sorted(map(key, found)) == sorted(map(key, works))
    for part in (found[:3], found[3:]):
        assert [estimate(work) for work in part] == sorted(map(estimate, part), reverse=True)
    assert estimates(works) == pytest.approx(sum(map(estimate, works)) + 3 * COMPILING)


def test_a_kind_is_what_compiles_to_the_same() -> None:
    sam = TINY.but(row=row("SAM", rho=0.1))
    same = [sam.but(row=row("SAM", rho=0.2)), sam.but(learning_rate=0.3), sam.but(seed=3), sam.but(epochs=9)]
    rows = [None, row("SAM", rho=0.1, p=1.0), row("SAM", rho=0.1, m=4)]
    changes: dict[str, Any] = {"network": "cnn", "batch_size": 32, "data": "mnist1d", "optimizer": "Lion",
                               "validation": True, "treatment": Mentor(0.5), "backend": "jax"}  # fmt: skip
    other = [sam.but(row=one) for one in rows] + [sam.but(**{name: value}) for name, value in changes.items()]
    assert {one.kind for one in same} == {sam.kind}
    assert len({sam.kind, *(one.kind for one in other)}) == 1 + len(other)


# ------------------------------------------------------------------------------------------------ networks, trainers


@pytest.mark.parametrize(
    ("network", "length", "optimizer"),
    [("cnn", 64, "SGD"), ("mlp", 64, "SGD"), ("transformer", 40, "SGD"), ("mlp", 40, "AdamW"), ("mlp", 40, "Lion")],
)
def test_frameworks_agree_on_outputs_and_on_training(network: str, length: int, optimizer: str) -> None:
    draw = np.random.default_rng(0)
    weights = [draw.normal(0, 0.2, shape).astype(np.float32) for shape in NETWORKS[network].shapes(length)]
    inputs = draw.normal(size=(2, 8, length)).astype(np.float32)
    targets = one_hot(draw.integers(0, 10, size=(2, 8)))
    rates = np.array([0.1, 0.05] if optimizer == "SGD" else [0.01, 0.005], dtype=np.float32)
    variant = SAM(rho=0.1).sharded(4) if network == "mlp" else None
    models = [trainer(backend, Task(network, weights, variant, 0.9, 1e-1, optimizer)) for backend in ("torch", "jax")]
    ours, theirs = (model.outputs(inputs[0]) for model in models)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    losses = [model.run(inputs, targets, rates) for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*(model.weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_base_optimizers_are_told_apart() -> None:
    """What the agreement of two frameworks cannot see: that a name is passed on at all."""
    draw = np.random.default_rng(0)
    weights = training.initial_weights(TINY, 64)
    inputs, rates = draw.normal(size=(1, 8, 64)).astype(np.float32), np.array([0.01], dtype=np.float32)
    targets, found = one_hot(draw.integers(0, 10, size=(1, 8))), {}
    for optimizer in OPTIMIZERS:
        model = trainer("jax", Task("mlp", weights, None, 0.9, 0.0, optimizer))
        model.run(inputs, targets, rates)
        found[optimizer] = np.concatenate([(a - b).ravel() for a, b in zip(model.weights(), weights, strict=True)])
    moved = {name: abs(change[change != 0]) for name, change in found.items()}
    np.testing.assert_allclose(moved["Lion"], 0.01, atol=1e-6)  # a sign, times the rate
    assert np.ptp(moved["SGD"]) > 1e-3
    assert np.median(moved["AdamW"]) == pytest.approx(0.01, rel=1e-2)  # of each weight's own scale


def test_the_convolutional_network_is_the_reports() -> None:
    weights, inputs = initial_weights(40, 1), load("mnist1d").inputs[:4]
    ours = NETWORKS["cnn"].logits(train_torch.OPS, [torch.tensor(w) for w in weights], torch.tensor(inputs))
    np.testing.assert_allclose(ours, logits([jnp.asarray(w) for w in weights], jnp.asarray(inputs)), atol=1e-6)
    drawn = training.initial_weights(Training("torch", 1), 40)
    assert all(np.array_equal(a, b) for a, b in zip(weights, drawn, strict=True))


@pytest.mark.parametrize("loss", ["cross-entropy", "miss"])
def test_both_backends_measure_the_same_loss(loss: str) -> None:
    weights, data = initial_weights(40, 0), load("mnist1d")
    shown = data.inputs[:32], one_hot(data.labels[:32])
    found = [module.landscape("cnn", loss, weights, *shown).loss() for module in (train_torch, train_jax)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(
    ("instrument", "figure"),
    [
        (Spectrum(2, 64, 6), "values"),
        (MSharpness((16, 64), 0.1, 64), "rises"),
        (Climb(row("SAM", rho=0.1, steps=2), 128), "rise"),
        (UpdateCosine(0.01, 128), "cosine"),
        (TheoremTwo(0.1), "value"),
    ],
)
def test_an_instrument_looks_at_the_weights_after_an_epoch(instrument: Any, figure: str, tmp_path: Path) -> None:
    store, trained = Store(tmp_path), TINY.but(epochs=2, snapshots=(1,))
    store.save(trained, trained.run(store))
    early, late = (Measurement(trained, instrument, epoch).run(store)[figure] for epoch in (1, None))
    assert np.all(np.isfinite(early))
    assert np.any(early != late)


# ------------------------------------------------------------------------------------------------------- treatments


def batch() -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    return draw.normal(size=(6, 3)).astype(np.float32), one_hot(np.arange(6))


def none(*_: Any) -> Any:
    raise AssertionError("no loss is needed")


def test_mixup_blends_examples_and_targets_in_one_proportion() -> None:
    x, y = batch()
    found, random = Mixup(0.5)(x, y, np.random.default_rng(3), none, None), np.random.default_rng(3)
    share, other = random.beta(0.5, 0.5), random.permutation(6)
    np.testing.assert_allclose(found.inputs, share * x + (1 - share) * x[other], rtol=1e-5)
    np.testing.assert_allclose(found.targets, share * y + (1 - share) * y[other], rtol=1e-5, atol=1e-7)


def test_smoothing_gives_a_share_to_all_classes() -> None:
    x, y = batch()
    found = Smoothing(0.1)(x, y, np.random.default_rng(0), none, None)
    np.testing.assert_allclose(found.targets, 0.9 * y + 0.01, rtol=1e-6)
    assert found.inputs is x


def test_a_mentor_leaves_out_what_lies_above_a_moving_percentile() -> None:
    x, y = batch()
    losses = np.arange(6, dtype=np.float32)
    first = Mentor(0.5)(x, y, np.random.default_rng(0), lambda *_: losses, None)
    np.testing.assert_array_equal(first.targets, y * (losses <= 2.5)[:, None])
    then = Mentor(0.5, keep=0.8)(x, y, np.random.default_rng(0), lambda *_: losses + 10, first.memory)
    assert then.memory == pytest.approx(0.8 * 2.5 + 0.2 * 12.5)


def test_mentormix_draws_partners_by_trust_and_weighs_the_more_trusted_more() -> None:
    x, y = batch()
    looks = iter([np.array([0, 0, 0, 9, 9, 9], dtype=np.float32), np.array([0, 9, 0, 0, 0, 0], dtype=np.float32)])
    found = MentorMix(0.5)(x, y, np.random.default_rng(5), lambda *_: next(looks), None)
    trusted = np.array([1, 1, 1, 0, 0, 0])
    odds, random = np.exp(trusted) / np.exp(trusted).sum(), np.random.default_rng(5)
    other, drawn = random.choice(6, size=6, p=odds), random.beta(1, 1, size=6)
    share = np.where(trusted, np.maximum(drawn, 1 - drawn), np.minimum(drawn, 1 - drawn))[:, None]
    np.testing.assert_allclose(found.inputs, share * x + (1 - share) * x[other], rtol=1e-5)
    kept = np.array([1, 0, 1, 1, 1, 1])[:, None]  # what has a high loss after the blend is left out
    np.testing.assert_allclose(found.targets, kept * (share * y + (1 - share) * y[other]), rtol=1e-5, atol=1e-7)


def test_what_a_treatment_draws_is_a_function_of_seed_and_step() -> None:
    draws: list[float] = []

    @dataclasses.dataclass(frozen=True)
    class Listening(Plain):
        def __call__(self, inputs: Any, targets: Any, random: Any, losses: Any, memory: Any) -> Any:
            draws.append(random.random())
            return super().__call__(inputs, targets, random, losses, memory)

    TINY.but(treatment=Listening()).run(Store(Path()))
    expected = [np.random.default_rng([0, training.TREATMENT_STREAM, step]).random() for step in range(len(draws))]
    assert draws == expected
    assert len(draws) == TINY.steps_per_epoch


# ----------------------------------------------------------------------------------------- cost, budgets and tuning


def test_evaluations_count_passes_products_and_the_teacher() -> None:
    steps = TINY.steps_per_epoch
    sam = TINY.but(row=row("SAM", rho=0.1))
    assert (TINY.evaluations, sam.evaluations) == (steps, 2 * steps)
    assert sam.but(labels_from=sam).evaluations == 4 * steps
    assert TINY.but(treatment=MentorMix(0.5)).evaluations == pytest.approx(steps * (1 + 2 / 3))
    assert TINY.but(row=row("SAM", rho=0.1, second_order=True)).evaluations_per_step == 4


def test_equal_budgets_are_equal() -> None:
    base = TINY.but(epochs=60)
    for one in (base, base.but(row=row("SAM", rho=0.1)), base.but(row=row("SAM", rho=0.1, steps=5)),
                base.but(labels_from=base), base.but(row=row("LookSAM", rho=0.1))):  # fmt: skip
        equal = at_budget(one, 120)
        assert equal.evaluations == pytest.approx(120 * base.steps_per_epoch, rel=0.03)
        assert equal.labels_from is None or equal.labels_from.recipe.epochs == equal.recipe.epochs


def test_fine_tuning_starts_from_all_but_the_last_layer(tmp_path: Path) -> None:
    store, before = Store(tmp_path), TINY.but(classes=(0, 5))
    store.save(before, before.run(store))
    resting = TINY.but(weights_from=before, classes=(5, 10), learning_rate=0.0)
    *kept, weight, bias = training.final_weights(resting.run(store))
    *first, old, _ = training.final_weights(store.load(before))
    assert all(np.array_equal(a, b) for a, b in zip(kept, first, strict=True))
    for one, other in zip((weight, bias), training.initial_weights(resting, 64)[-2:], strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.any(weight != old)


def test_the_rate_falls_along_a_cosine() -> None:
    rates = learning_rates(TINY.but(epochs=4, learning_rate=0.2))
    assert rates[0] == pytest.approx(0.2)
    assert rates[len(rates) // 2] == pytest.approx(0.1)
    assert 0 < rates[-1] < 0.01


def test_tuning_never_sees_test_data(monkeypatch: pytest.MonkeyPatch) -> None:
    first = TINY.but(row=row("SAM", rho=0.1))
    retaught, tuned = first.but(labels_from=first), first.but(weights_from=TINY.but(classes=(0, 5)))
    asking = best(LAB, [retaught, tuned])
    wanted: list[Training] = list(next(asking))  # type: ignore[arg-type]
    for work in [*wanted, *(needed for one in wanted for needed in one.needs)]:
        assert work.recipe.validation

    def guarded(name: str) -> Dataset:
        data = load.__wrapped__("digits")
        nothing = np.full_like(data.evaluation_inputs, np.nan)
        return Dataset(data.inputs, data.labels, nothing, data.evaluation_labels)

    monkeypatch.setattr(training, "load", guarded)
    training._only.cache_clear()
    try:
        found = TINY.but(validation=True).run(Store(Path()))
        held = TINY.but(validation=True).dataset()
    finally:
        training._only.cache_clear()
    assert np.isfinite(found["evaluation"]).all()
    assert np.isfinite(held.evaluation_inputs).all()
