"""The site, built as `make docs` builds it and looked at in a browser: nothing is missing or comes from outside."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samfamily import FAMILY
from tests.browser import chromium, complaints

ROOT = Path(__file__).parents[2]
SHOWN = {
    "index.html": "start",
    "the-family.html": "family",
    "notebooks/two_dimensions.html": "two-dimensions",
    "measuring-sharpness.html": "measuring",
    "reference/torch.html": "reference",
    "idea.html": "idea",
    "results/claims.html": "claims",
}
WINDOWS = [(1280, "light"), (420, "dark")]
KEEP = ROOT / "docs/assets/site" if os.environ.get("SAMFAMILY_SCREENSHOTS") else None
"""Where screenshots go; elsewhere than into the repository unless asked for."""


def build(config: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """Build a site, as strictly as `make docs` does."""
    options = ["--strict", "--config-file", str(config), "--site-dir", str(into)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])}
    for name in ("MPLBACKEND", "XLA_FLAGS"):  # a notebook's are its own
        env.pop(name, None)
    command = [sys.executable, "-m", "mkdocs", "build", *options]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


@pytest.mark.parametrize("page", SHOWN)
@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_a_page_can_be_read(browser: Any, address: str, tmp_path: Path, page: str, width: int, scheme: str) -> None:
    picture = (KEEP or tmp_path) / f"{SHOWN[page]}-{scheme}.png"
    assert complaints(browser, f"{address}/{page}", width, scheme, picture) == []


def test_formulas_and_pictures_are_there(site: Path) -> None:
    """What `complaints` looks at must not be missing altogether."""
    assert (site / "the-family.html").read_text().count("<math") > len(FAMILY)
    assert (site / "notebooks/two_dimensions.html").read_text().count("<img") >= 2


def test_the_reference_has_what_a_class_inherits(site: Path) -> None:
    page = (site / "reference/torch.html").read_text()
    for name in ("step", "first_step", "second_step", "perturbed", "state_dict", "load_state_dict"):
        assert f'id="samfamily_torch.optimizer.SharpnessAware.{name}"' in page
    assert "SharpnessAware.register_step_post_hook" not in page  # it is PyTorch's


def test_a_tab_shows_the_other_framework(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    torch, jax = (page.locator(".tabbed-block", has_text=name) for name in ("SharpnessAware", "value_and_grad"))
    assert torch.is_visible()
    assert not jax.is_visible()
    page.locator(".tabbed-labels label", has_text="JAX").click()
    jax.wait_for(state="visible")
    assert not torch.is_visible()
    page.close()


def test_a_search_leads_to_the_row(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/index.html")
    page.locator(".md-search__input").fill("GSAM")
    page.locator(".md-search-result__link[href*='the-family.html#gsam']").first.click()
    page.wait_for_url("**/the-family.html*#gsam")
    assert page.locator("#gsam").is_visible()
    page.close()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>undefined_function()</script>", "undefined_function"),
        ('<img src="nowhere.png">', "an image did not come"),
        ('<img src="http://127.0.0.1:9/picture.png">', "from outside"),
        ('<span class="arithmatex">\\(x\\)</span>', "not typeset"),
        ('<math style="display: none"><mi>x</mi></math>', "cannot be seen"),
        ('<div style="width: 3000px">wide</div>', "wide in a window"),
    ],
)
def test_what_is_wrong_is_seen(browser: Any, tmp_path: Path, body: str, complaint: str) -> None:
    """Negative control: a page with one fault each."""
    (tmp_path / "page.html").write_text(f"<!doctype html><title>t</title>{body}")
    assert any(complaint in found for found in complaints(browser, (tmp_path / "page.html").as_uri(), 420, "light"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[nowhere](nowhere.md)", "nowhere.md"),
        ("[no such place](#there)", "#there"),
        ("::: samfamily.no_such_name", "no_such_name"),
    ],
)
def test_a_broken_page_fails_the_build(tmp_path: Path, text: str, complaint: str) -> None:
    """Negative control: the settings of the site, on a page of one fault."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Page\n\n{text}\n")
    settings = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[0]
    settings = settings.replace("docs_dir: docs", f"docs_dir: {tmp_path}/docs")
    for name in ("docs/site_hooks.py", "docs/site_docstrings.py"):
        settings = settings.replace(f"[{name}]", f"[{ROOT / name}]")
    (tmp_path / "mkdocs.yml").write_text(settings.replace("paths: [., backends]", f"paths: [{ROOT}, {ROOT}/backends]"))
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode != 0
    assert complaint in built.stderr
