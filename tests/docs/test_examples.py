"""Every Python block of the README and the docs runs, in order, as a reader would run it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(page: Path) -> int:
    """Run a page's blocks in one namespace; return how many there were."""
    namespace: dict[str, object] = {"__name__": "__page__"}
    text = page.read_text()
    for block in BLOCK.finditer(text):
        lines_before = text[: block.start(1)].count("\n")
        code = compile("\n" * lines_before + block[1], str(page), "exec")  # errors name the page's own line
        exec(code, namespace)
    return len(BLOCK.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path) -> None:
    run(page)


def test_the_readme_has_an_example_for_each_framework() -> None:
    text = (ROOT / "README.md").read_text()
    blocks = BLOCK.findall(text)
    assert any("samfamily_torch" in block for block in blocks)
    assert any("samfamily_jax" in block for block in blocks)


def test_a_broken_example_is_seen(tmp_path: Path) -> None:
    """Negative control: a block that raises fails."""
    page = tmp_path / "page.md"
    page.write_text("Text\n\n```python\nassert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError):
        run(page)


def test_links_within_the_repository_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
