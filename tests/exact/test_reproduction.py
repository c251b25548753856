"""A property that fails says so in a line that can be pasted into a test and fails there."""

import re

import pytest
from hypothesis import Phase, given, settings

from samfamily.exact import maximize_quadratic
from tests.exact import test_first_order, test_trust_region
from tests.strategies import Quadratic, quadratics


def test_a_failing_example_is_small_and_runs_again() -> None:
    """A law that is false from some radius on: what hypothesis prints is evaluated, and is false too."""

    def false_law(case: Quadratic) -> None:
        found = maximize_quadratic(case.g, case.H, case.rho)
        assert found.value <= 0.5 * case.rho

    profile = settings(database=None, derandomize=True, max_examples=200, phases=[Phase.generate, Phase.shrink])
    with pytest.raises(AssertionError) as info:
        profile(given(case=quadratics())(false_law))()
    (line,) = re.findall(r"case=(Quadratic\(.*?\)),\n\)", "\n".join(info.value.__notes__), re.DOTALL)
    again = eval(line, {"Quadratic": Quadratic})
    assert again.n == 1
    with pytest.raises(AssertionError):
        false_law(again)


def test_every_random_law_of_this_folder_takes_cases_that_print_like_this() -> None:
    for module in (test_first_order, test_trust_region):
        assert module.Quadratic is Quadratic
    assert eval(repr(test_trust_region.NEARLY_HARD), {"Quadratic": Quadratic}) == test_trust_region.NEARLY_HARD
