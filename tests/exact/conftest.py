"""Every test here that takes a `framework` runs on the adapters; NumPy is what all other tests run on."""

from collections.abc import Iterator

import pytest

from tests.spaces_under_test import JAX_X64, TORCH, Framework


@pytest.fixture(scope="module", params=[TORCH, JAX_X64], ids=lambda framework: framework.name)
def framework(request: pytest.FixtureRequest) -> Iterator[Framework]:
    with request.param.mode():
        yield request.param
