"""What may change between a checkpoint and its resumption, and what may not."""

import pytest

from samfamily import GSAM, SAM, Recipe


def test_a_recipe_is_plain_and_comes_back() -> None:
    recipe = Recipe.of(SAM().sharded(8), batch=64)
    assert recipe._asdict() == {"variant": "SAM", "m": 8, "batch": 64}
    recipe.check(recipe._asdict())


@pytest.mark.parametrize("batch", [64, 128, None])
def test_with_an_m_the_global_batch_may_change(batch: int | None) -> None:
    Recipe.of(SAM().sharded(8), batch).check({"variant": "SAM", "m": 8, "batch": 64})
    Recipe.of(SAM().sharded(8), 64).check({"variant": "SAM", "m": 8, "batch": batch})


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (Recipe.of(SAM().sharded(16), 64), r"written with m = 8, and this run has m = 16: use SAM\(...\).sharded\(8\)"),
        (Recipe.of(SAM(), 64), r"written with m = 8, and this run has no m: use SAM\(...\).sharded\(8\)"),
        (Recipe.of(GSAM().sharded(8), 64), r"written by SAM, and this run follows GSAM: use SAM\(...\)"),
    ],
)
def test_another_run_is_refused(now: Recipe, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        now.check({"variant": "SAM", "m": 8, "batch": 64})


def test_without_an_m_the_batch_is_the_m() -> None:
    saved = Recipe.of(SAM(), 64)._asdict()
    with pytest.raises(ValueError, match="written with 64 examples where this run has 128: use a global batch of 64"):
        Recipe.of(SAM(), 128).check(saved)
    with pytest.raises(ValueError, match=r"written with no m, and this run has m = 64: use SAM\(...\)"):
        Recipe.of(SAM().sharded(64), 64).check(saved)
    Recipe.of(SAM()).check(saved)  # nobody told how large the batch is
