"""`python -m benchmarks agreement`: its walks agree, it can see that they do not, and what it writes."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import agreement, agreement_jax, agreement_page, agreement_torch
from benchmarks.__main__ import main
from benchmarks.agreement import Work
from benchmarks.agreement_rows import CONTROL, QUICK, ROWS
from benchmarks.agreement_task import LIMIT, LIMITED, TASKS
from benchmarks.agreement_walked import Walked, faults, of_task
from samfamily import FAMILY, SAM

STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the pool: several threads gain nothing on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def walked() -> dict[str, Walked]:
    """A few steps of two rows and of the control, which walks two rows that differ."""
    rows = ("SAM", "WSAM", CONTROL)
    return {row: agreement.measure(Work(LIMITED, row, STEPS, optimised=False)) for row in rows}


def test_every_row_of_the_family_is_walked_with_its_defaults() -> None:
    assert {name for name, row in ROWS.items() if not row.option} == set(FAMILY)
    assert set(QUICK) <= set(ROWS)


def test_the_frameworks_agree(walked: dict[str, Walked]) -> None:
    assert walked["SAM"].largest <= LIMIT
    assert walked["WSAM"].largest <= LIMIT
    assert len(walked["SAM"].relative) == STEPS
    assert walked["SAM"].sizes[0] > 1


def test_another_rho_is_seen(walked: dict[str, Walked]) -> None:
    """Negative control."""
    assert walked[CONTROL].largest > LIMIT
    assert not faults(list(walked.values()))
    swapped = [replace(walked[CONTROL], row="SAM"), replace(walked["SAM"], row=CONTROL)]
    assert len(faults(swapped)) == 2


def test_a_path_that_diverges_is_a_fault() -> None:
    assert faults([Walked(LIMITED, "SAM", (0.0, float("nan")), (1.0, 1.0))])


def test_an_optimised_program_takes_the_same_path() -> None:
    task = TASKS[LIMITED]
    quick, optimised = (agreement_jax.path(task, SAM(), STEPS, optimised)[-1] for optimised in (False, True))
    assert np.linalg.norm(quick - optimised) <= LIMIT * np.linalg.norm(quick)


def test_the_convolutional_network_agrees_to_single_precision() -> None:
    task = TASKS["cnn-float32"]
    here, there = (module.path(task, SAM(), STEPS)[-1] for module in (agreement_torch, agreement_jax))
    assert here.dtype == there.dtype == np.float32
    assert 0 < np.linalg.norm(here - there) / np.linalg.norm(here) < 1e-5


def test_the_table_the_csv_and_the_picture_name_the_farthest(walked: dict[str, Walked], tmp_path: Path) -> None:
    found = list(walked.values())
    assert of_task(found, LIMITED)[0].row in agreement_page.summary(found)[0]
    assert len({line.count("|") for line in agreement_page.table(found).splitlines()}) == 1
    agreement_page.distances(tmp_path / "found.csv", found)
    lines = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert len(lines) == STEPS * len(found)
    assert float(lines[0]["relative distance"]) == pytest.approx(walked["SAM"].relative[0], rel=1e-5, abs=1e-30)
    agreement_page.picture(found).savefig(tmp_path / "found.png")


def test_what_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["agreement", "--rows", "SOM"])
    assert "SOM" in capsys.readouterr().err
