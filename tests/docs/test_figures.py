"""Figures that pages quote from the claims: each stands on a page of results that the quoting page links to."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ELSEWHERE = {"measuring-sharpness.md", "scaling.md"}
"""These are pages of results themselves, of `python -m benchmarks curvature` and `scaling`."""
LINKING = [page for page in sorted(DOCS.glob("*.md")) if "(results/claims/" in page.read_text(encoding="utf-8")]
PAGES = [page for page in LINKING if page.name not in ELSEWHERE]
LINK = re.compile(r"\((results/claims/\w\.md)\)")
ERROR = re.compile(r"(?<![\d.])(\d+\.\d) ± (\d+\.\d)")
DIFFERENCE = re.compile(r"(?<![\d.])(-?\d[\d.]*) \((-?\d[\d.]*) to (-?\d[\d.]*)\)")
"""In points; pages of results give three digits, and others one after the point."""
ROUNDED = 0.0501


def figures(text: str) -> list[tuple[float, ...]]:
    """The errors and differences on a page, each with its interval."""
    return [tuple(map(float, found)) for pattern in (ERROR, DIFFERENCE) for found in pattern.findall(text)]


def unknown(text: str) -> list[tuple[float, ...]]:
    """What a page quotes and no page says that it links to."""
    linked = [x for path in set(LINK.findall(text)) for x in figures((DOCS / path).read_text(encoding="utf-8"))]
    return [x for x in figures(text) if not any(close(x, y) for y in linked)]


def close(x: tuple[float, ...], y: tuple[float, ...]) -> bool:
    """Whether two figures are the same, rounded."""
    return len(x) == len(y) and all(abs(a - b) <= ROUNDED for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_a_page_of_results_says(page: Path) -> None:
    assert unknown(page.read_text(encoding="utf-8")) == []


def test_a_figure_that_was_changed_by_hand_is_found() -> None:
    text = (DOCS / "which-rho.md").read_text(encoding="utf-8")
    assert len(figures(text)) > 25
    for pattern in (ERROR, DIFFERENCE):
        for found in pattern.finditer(text):
            changed = text[: found.start(1)] + "999.9" + text[found.end(1) :]
            assert len(unknown(changed)) == 1
