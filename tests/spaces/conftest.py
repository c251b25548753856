"""Every test here that takes a `framework` runs on all of them."""

from collections.abc import Iterator

import pytest

from tests.spaces_under_test import FRAMEWORKS, Framework


@pytest.fixture(scope="module", params=FRAMEWORKS, ids=lambda framework: framework.name)
def framework(request: pytest.FixtureRequest) -> Iterator[Framework]:
    with request.param.mode():
        yield request.param
