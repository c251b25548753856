"""Figures that pages quote from the claims: each stands on a page of results that the quoting page links to."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ELSEWHERE = "measuring-sharpness.md"
"""Quotes runs of `python -m benchmarks curvature`, which keeps no page of results."""
LINKING = [page for page in sorted(DOCS.glob("*.md")) if "(results/claims/" in page.read_text(encoding="utf-8")]
PAGES = [page for page in LINKING if page.name != ELSEWHERE]
MEASURED = re.compile(r"\d+\.\d ± \d+\.\d")
LINK = re.compile(r"\((results/claims/\w\.md)\)")


def unknown(text: str) -> list[str]:
    """What a page quotes with an interval and no page says that it links to."""
    linked = " ".join((DOCS / path).read_text(encoding="utf-8") for path in set(LINK.findall(text)))
    return [figure for figure in MEASURED.findall(text) if not re.search(rf"(?<!\d){re.escape(figure)}(?!\d)", linked)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_a_page_of_results_says(page: Path) -> None:
    assert not unknown(page.read_text(encoding="utf-8"))


def test_a_figure_that_was_changed_by_hand_is_found() -> None:
    text = (DOCS / "which-rho.md").read_text(encoding="utf-8")
    quoted = MEASURED.findall(text)
    assert len(quoted) > 20
    for figure in ("22.3 ± 2.2", quoted[0]):
        assert unknown(text.replace(figure, f"9{figure}", 1)) == [f"9{figure}"]
