"""`python -m benchmarks exact`: its checks pass, can fail, and are told in tables that Markdown can read."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import exact, exact_figures, inner_gaps, trust_regions
from benchmarks.inner_gaps import Measured
from samfamily import InnerGap
from samfamily.exact import maximize_quadratic


def failures(results: list[trust_regions.Checked]) -> set[str]:
    return {name for name, value, tolerance in trust_regions.worst(results) if value > tolerance}


def test_the_checks_pass_on_every_kind_of_case() -> None:
    results = trust_regions.check_all(range(30))
    assert {result.kind for result in results} == set(trust_regions.KINDS)
    assert not failures(results)


def test_a_solver_that_stops_at_the_first_order_step_fails_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""

    def lazy(g: Any, H: Any, rho: float) -> Any:
        found = maximize_quadratic(g, H, rho)
        e = rho * g / np.linalg.norm(g)
        image = e @ H if not callable(H) else H(e)
        return replace(found, epsilon=e, value=float(g @ e + 0.5 * e @ image))

    monkeypatch.setattr(trust_regions, "maximize_quadratic", lazy)
    assert failures(trust_regions.check_all(range(0, 30, 5))) >= {"residual", "duality", "climbed"}


def test_the_slopes_and_constants_are_the_theorys() -> None:
    found = exact.slopes()
    assert abs(found["direction slope"] - 1) <= 0.05
    assert abs(found["gap slope"] - 3) <= 0.1
    assert found["direction constant"] == pytest.approx(1, abs=0.01)
    assert found["gap constant"] == pytest.approx(1, abs=0.01)


def test_tables_and_figures() -> None:
    gap = InnerGap(0.1, 2.0, 1.0, 1.0, 2.0, 3.0, 4.0, False, 0.5, False, 0.1, 9)
    measured = [
        Measured(stage, backend, replace(gap, rho=rho))
        for stage in inner_gaps.STAGES
        for backend in ("torch", "jax")
        for rho in inner_gaps.RADII
    ]
    tables = [
        exact.cases_table(trust_regions.check_all(range(2))),
        exact.slopes_table(exact.slopes()),
        exact.gaps_table(measured),
    ]
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| 3 | 50.0% (x = 1.5) |" in tables[2]
    assert exact_figures.orders(exact.slopes()).axes
    assert exact_figures.attained(measured).axes


def test_a_network_is_measured_alike_by_both_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_gaps, "RADII", (0.05,))
    monkeypatch.setattr(inner_gaps, "EXAMPLES", 16)
    stage, weights = next(inner_gaps.stages(training=1))
    (torch_,), (jax_,) = (inner_gaps.measure((stage, weights, backend)) for backend in ("torch", "jax"))
    assert torch_.found.ratio == pytest.approx(jax_.found.ratio, rel=1e-9)
    assert 0.9 < torch_.found.ratio <= 1
