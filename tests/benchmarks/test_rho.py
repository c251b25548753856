"""`python -m benchmarks rho`: the radius that is best is found, with few steps, and what is said of it is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.rho_search import Search
from samfamily import ESAM, MSAM, SAM, Variant


def radius(variant: Variant) -> float:
    rho: Any = variant.radius.rho
    return float(rho)


GRID = [0.05 * 2.0**k for k in range(-4, 5)]


def valley(best: float, noise: float = 0.0, scale: float = 0.1) -> Callable[[Variant, int, int], float]:
    """A score that is lowest at this radius: a parabola over its logarithm, with the same noise for all of a seed."""

    def train(variant: Variant, steps: int, seed: int) -> float:
        rho = radius(variant)
        luck = np.random.default_rng([seed, round(1e6 * rho)]).normal()
        return scale * abs(math.log2(max(rho, 1e-3) / best)) ** 2 + 1 / steps + noise * luck

    return train


def searched(train: Any, steps: int = 900, seeds: int = 3) -> Search:
    return Search(train, SAM, steps, seeds)(GRID)


@pytest.mark.parametrize("best", [GRID[2], GRID[4], GRID[7]])
def test_the_best_radius_is_found(best: float) -> None:
    assert searched(valley(best)).best == best


@pytest.mark.parametrize("best", [GRID[0] / 2, GRID[-1] * 4])
def test_a_best_radius_outside_of_the_grid_is_gone_after(best: float) -> None:
    assert searched(valley(best)).best == best


def test_it_stops_early() -> None:
    """Nine radii for a ninth, four for a third with two seeds, two to the end with three; the base at both lengths."""
    calls: list[tuple[float, int, int]] = []

    def train(variant: Variant, steps: int, seed: int) -> float:
        calls.append((radius(variant), steps, seed))
        return valley(GRID[4])(variant, steps, seed)

    search = searched(train)
    assert search.trained == sum(steps for _, steps, _ in calls) == 9 * 100 + 4 * 2 * 300 + 3 * (3 * 900 + 1800)
    assert len(set(calls)) == len(calls)  # nothing is done twice
    assert search.trained < 0.6 * 3 * (len(GRID) * 900 + 900 + 1800)


def test_a_gain_is_told_and_noise_is_not() -> None:
    told = " ".join(searched(valley(GRID[4], noise=0.01)).advice())
    assert "Take rho = 0.05" in told
    assert "lower than without" in told
    flat = " ".join(searched(valley(GRID[4], noise=1.0, scale=1e-6)).advice())
    assert "may be chance" in flat
    assert "Not told apart from" in flat


def test_no_radius_is_recommended_where_none_helps() -> None:
    """The base optimizer scores better than every radius, for every seed."""

    def train(variant: Variant, steps: int, seed: int) -> float:
        return 0.1 + 0.001 * seed if radius(variant) == 0 else 0.5 + valley(GRID[4], noise=0.001)(variant, steps, seed)

    assert searched(train).advice()[0].startswith("Take rho = 0: the best radius, 0.05, scores higher")


@pytest.mark.parametrize("best_length", [900, 1800])
def test_radii_are_compared_with_the_better_of_as_many_steps_and_as_many_gradients(best_length: int) -> None:
    def train(variant: Variant, steps: int, seed: int) -> float:
        if radius(variant) > 0:
            return 0.5 + 0.001 * seed + valley(GRID[4])(variant, steps, seed)
        return (0.1 if steps == best_length else 0.9) + 0.001 * seed

    search = searched(train)
    assert search.length(0.0) == best_length
    assert "Take rho = 0" in search.advice()[0]
    assert {steps for rho, steps in search.trials if rho == 0} == {900, 1800}


def test_a_row_of_one_gradient_a_step_is_compared_at_one_length() -> None:
    assert Search(lambda *_: 1.0, MSAM, 9, 1)([0.3]).base_lengths == (9,)


def test_a_radius_is_recommended_where_the_base_optimizer_diverges() -> None:
    def train(variant: Variant, steps: int, seed: int) -> float:
        return math.inf if radius(variant) == 0 else valley(GRID[4])(variant, steps, seed)

    assert "without it training diverges" in searched(train).advice()[0]


def test_a_radius_is_the_rows_own() -> None:
    """ESAM goes rho / beta far where it goes at all."""
    seen = {}

    def train(variant: Variant, steps: int, seed: int) -> float:
        seen[radius(variant)] = variant
        return 1.0

    Search(train, ESAM, 9, 1)([0.05])
    assert ESAM(rho=0.05) in seen.values()


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(SystemExit, match="8 steps leave nothing to stop early from: give at least 9"):
        main(["rho", "examples.tune_rho:torch", "--steps", "8"])


def test_radii_that_diverge_are_dropped() -> None:
    def train(variant: Variant, steps: int, seed: int) -> float:
        return math.nan if radius(variant) > 0.1 else valley(GRID[4])(variant, steps, seed)

    assert searched(train).best == GRID[4]
    assert "diverged" in searched(lambda *_: math.nan).advice()[0]


def test_a_radius_that_diverges_late_is_not_called_as_good() -> None:
    def train(variant: Variant, steps: int, seed: int) -> float:
        late = steps == 900 and radius(variant) not in {0.0, GRID[4]}
        return math.inf if late else valley(GRID[4], noise=0.001)(variant, steps, seed)

    assert len(searched(train).finished) == 3
    assert "Not told apart" not in " ".join(searched(train).advice())


def test_signals_are_passed_on() -> None:
    def train(variant: Variant, steps: int, seed: int) -> dict[str, float]:
        return {"score": valley(GRID[4])(variant, steps, seed), "effective": 0.4, "gap": 0.5}

    told = " ".join(searched(train).advice())
    assert "Rounding leaves 40%" in told
    assert "misses 50%" in told
    quiet = " ".join(searched(valley(GRID[4])).advice())
    assert "Rounding" not in quiet
    assert "misses" not in quiet


@pytest.mark.parametrize(("told", "complaint"), [({"loss": 1.0}, "without 'score'"), (None, "must return a number")])
def test_what_is_no_score_is_refused(told: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        searched(lambda *_: told)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("examples.tune_rho", "is not MODULE:FUNCTION"),
        ("no_such_module:f", "no module 'no_such_module'"),
        ("examples.tune_rho:g", "no function 'g'"),
    ],
)
def test_a_wrong_name_is_explained(name: str, complaint: str) -> None:
    with pytest.raises(SystemExit, match=complaint):
        main(["rho", name])


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_examples_are_searched(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--steps", "9", "--seeds", "2", "--radii", "0.1", "0.2"]
    assert main(["rho", f"examples.tune_rho:{backend}", *options]) == 0
    out = capsys.readouterr().out
    assert "| 0.1 | 9 | 2 |" in out
    assert "Take rho = " in out
