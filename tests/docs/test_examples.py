"""Every Python block of the README and the docs runs, in order, as a reader would run it."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^ *```(\w+)", re.MULTILINE)


def run(page: Path) -> int:
    """Run a page's blocks in one namespace; return how many there were."""
    namespace: dict[str, object] = {"__name__": "__page__"}
    text = page.read_text()
    for block in BLOCK.finditer(text):
        lines_before = text[: block.start("code")].count("\n")
        source = "\n" * lines_before + textwrap.dedent(block["code"])  # errors name the page's own line
        exec(compile(source, str(page), "exec"), namespace)
    return len(BLOCK.findall(text))


WITH_BLOCKS = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path) -> None:
    assert run(page) > 0


def test_pages_without_an_example_are_known() -> None:
    """Pages of results, and what is prose or made elsewhere; kills the mutant that renames a page's fences."""
    bare = {str(page.relative_to(ROOT)) for page in PAGES if page not in WITH_BLOCKS}
    assert {page for page in bare if not page.startswith(("docs/results/", "docs/reference/"))} == WITHOUT


def test_the_readme_has_an_example_for_each_framework() -> None:
    blocks = [block["code"] for block in BLOCK.finditer((ROOT / "README.md").read_text())]
    assert any("samfamily_torch" in block for block in blocks)
    assert any("samfamily_jax" in block for block in blocks)


@pytest.mark.parametrize("indent", ["", "    "])
def test_a_broken_example_is_seen(tmp_path: Path, indent: str) -> None:
    """Negative control: a block that raises fails, also within a tab."""
    page = tmp_path / "page.md"
    page.write_text(f"Text\n\n{indent}```python\n{indent}assert 1 + 1 == 3\n{indent}```\n")
    with pytest.raises(AssertionError):
        run(page)


WITHOUT = {f"docs/{page}.md" for page in ("architecture", "full-scale", "testing", "the-family", "ways-in/index")}
NOT_RUN = {
    ("the-family.md", "py"),  # the code of the rows, held to family.py by the test of that page
    ("testing.md", "diff"),  # faulty programs
    # of libraries that are not installed here; the pages say so, and run what those compute
    ("keras.md", "text"),
    ("samsunglabs-asam.md", "text"),
}


def test_no_code_escapes_under_another_name() -> None:
    named = {(page.name, name) for page in PAGES for name in FENCE.findall(page.read_text())}
    assert {(page, name) for page, name in named if name != "python"} == NOT_RUN
    for page in PAGES:
        assert page.read_text().count("```python") == len(BLOCK.findall(page.read_text())), page


def test_links_within_the_repository_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
