"""`python -m benchmarks curvature`: what it measures, what it says of it, and what it writes."""

import argparse
import csv
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t as student

from benchmarks import curvature, curvature_measures, curvature_page
from benchmarks.__main__ import main
from benchmarks.cells import Cell, Recipe, Result
from benchmarks.curvature_measures import QUANTITIES, Effort, Measured, landscape, measure, pooled
from benchmarks.interval import Interval
from benchmarks.network import initial_weights
from benchmarks.pool import ThisProcess
from samfamily.curvature import Density

EFFORT = Effort(examples=60, order=8, draws=2)


def start(backend: str, seed: int = 0) -> Result:
    """The weights before training, as if they were a result."""
    cell = Cell(Recipe(data="digits"), backend, 0.0, "sgd", 0.0, seed)
    return Result(cell, (1.0,), (0.5,), initial_weights(64, seed), 0.0)


@pytest.fixture(scope="module")
def both() -> list[Measured]:
    """The same weights, measured by both backends."""
    return [measure((start(backend), EFFORT)) for backend in ("torch", "jax")]


def test_both_backends_measure_the_same(both: list[Measured]) -> None:
    ours, theirs = both
    assert list(ours.numbers) == list(QUANTITIES)
    for name, value in ours.numbers.items():
        assert value == pytest.approx(theirs.numbers[name], rel=1e-2, abs=1e-3), name
    for key, line in ours.along.items():
        sign = 1 if np.sum(line * theirs.along[key]) > np.sum(line * theirs.along[key][..., ::-1]) else -1
        np.testing.assert_allclose(line, theirs.along[key][..., ::sign], rtol=1e-2)  # an eigenvector has no sign
    np.testing.assert_allclose(ours.filters, theirs.filters, rtol=1e-3)
    assert not np.allclose(ours.filters, theirs.filters[:, ::-1], rtol=1e-3)  # negative control: t for -t


def test_the_numbers_are_those_of_the_hessian(both: list[Measured]) -> None:
    """Kills the mutants that take another eigenvalue for the fifth, or the ratio upside down."""
    numbers = both[0].numbers
    w = landscape(start("torch"), 60).w
    assert numbers["ratio"] == pytest.approx(numbers["lambda_max"] / numbers["lambda_5"])
    assert numbers["lambda_max"] > numbers["lambda_5"] > 0 > numbers["lambda_min"]
    assert numbers["frobenius"] > numbers["lambda_max"]
    assert numbers["frobenius"] < math.sqrt(w.size) * numbers["lambda_max"]
    assert numbers["error"] == 50.0
    middle = len(curvature_measures.DISTANCES) // 2
    for line in both[0].along.values():
        np.testing.assert_allclose(line[..., middle], numbers["loss"], rtol=1e-6)


def test_a_part_of_the_examples_is_another_loss() -> None:
    assert landscape(start("torch"), 60).loss() == pytest.approx(landscape(start("jax"), 60).loss(), rel=1e-5)
    assert landscape(start("torch"), 60).loss() != pytest.approx(landscape(start("torch"), None).loss(), rel=1e-5)


def test_the_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0]
    low, high = student.interval(0.95, 2, loc=np.mean(values), scale=np.std(values, ddof=1) / math.sqrt(3))
    found = Interval.of(values)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.reach > 1.5 * 1.96 * np.std(values, ddof=1) / math.sqrt(3)  # negative control: not the normal one
    assert str(Interval.of([1.0])) == "1"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([-1.0, -1.1, -0.9], "falls"),
        ([1.0, 1.1, 0.9], "rises"),
        ([-1.0, 1.1, -0.9], "cannot be told"),
        ([-1.0], "one seed cannot tell"),
    ],
)
def test_a_difference_within_its_interval_is_not_called_one(values: list[float], verdict: str) -> None:
    assert Interval.of(values).verdict == verdict


def test_pooling_keeps_every_draw() -> None:
    one = Density((np.array([0.0]),), (np.array([1.0]),), 3)
    two = Density((np.array([2.0]),) * 2, (np.array([1.0]),) * 2, 5)
    found = pooled([one, two])
    assert (len(found.nodes), found.products, found.range) == (3, 8, (0.0, 2.0))
    assert found.cumulative(np.array(1.0))[0] == pytest.approx(1 / 3)


def made_up(method: str, seed: int, value: float, like: Measured) -> Measured:
    cell = replace(like.cell, method=method, seed=seed, rho=0.05 if method == "sam" else 0.0)
    return replace(like, cell=cell, numbers=dict.fromkeys(QUANTITIES, value))


def test_the_table_pairs_by_seed(both: list[Measured]) -> None:
    """Kills the mutant that pairs in the order of arrival: seeds differ by far more than the methods do."""
    found = [made_up("sgd", seed, 10.0 * seed + 1.0, both[0]) for seed in range(3)]
    found += [made_up("sam", seed, 10.0 * seed + 0.9 + 0.01 * seed, both[0]) for seed in (2, 0, 1)]
    rows = curvature_page.table(found)
    assert [row[0] for row in rows] == [quantity.words for quantity in QUANTITIES.values()]
    assert {row[4] for row in rows} == {"falls"}
    assert [row[5] for row in rows if row[5]] == ["24 → 1.0", "11.4 → 2.6"]
    assert curvature_page.finding(rows).startswith("With SAM instead of SGD: falls: training loss, ")


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a run of one epoch and one seed on the digits, in this process."""
    out = tmp_path_factory.mktemp("curvature")
    arguments = argparse.Namespace(
        data="digits", backend="torch", noise=0.0, seeds=1, epochs=1, examples=60, workers=1, out=out
    )
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as small:
        for module in (curvature_measures, curvature_page):
            small.setattr(module, "DISTANCES", np.linspace(-0.2, 0.2, 3))
            small.setattr(module, "FILTERS", np.linspace(-0.5, 0.5, 3))
        curvature.make(arguments, ThisProcess(), Console(file=output, width=80))
    return out, output.getvalue()


def test_the_page_stands_alone_and_has_the_table_and_three_pictures(tiny_run: tuple[Path, str]) -> None:
    page = (tiny_run[0] / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert len(set(re.findall(r'<svg role="img" aria-label="([^"]+)"', page))) == page.count("<svg") == 3
    for quantity in QUANTITIES.values():
        assert f"<td>{quantity.words}</td>" in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert "python -m benchmarks curvature --data digits --backend torch --noise 0.0 --seeds 1 --epochs 1" in page
    assert "one seed cannot tell" in page


def test_the_numbers_can_be_read_by_a_program(tiny_run: tuple[Path, str]) -> None:
    with (tiny_run[0] / "curvature.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["method"], row["rho"]) for row in rows) == [("sam", "0.05"), ("sgd", "0.0")]
    assert all(float(row[name]) == float(row[name]) for row in rows for name in QUANTITIES)
    assert {path.name for path in tiny_run[0].iterdir()} == {
        "index.html", "curvature.csv", "curvature.md", "spectrum.png", "slices.png", "filters.png",
    }  # fmt: skip


def test_the_terminal_shows_the_table_of_the_file(tiny_run: tuple[Path, str]) -> None:
    out, output = tiny_run
    table = (out / "curvature.md").read_text(encoding="utf-8")
    assert table in output
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_noise_without_a_tuned_radius_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["curvature", "--noise", "0.3"])
    assert "choose from 0.0, 0.4" in capsys.readouterr().err


def test_too_few_examples_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(SystemExit, match="5 examples do not fill a shard of 16: give that or more"):
        main(["curvature", "--examples", "5"])
