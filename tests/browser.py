"""A page in a real browser: what its console says, what did not come, and what cannot be seen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-quic",
]  # fmt: skip


def chromium() -> Iterator[Any]:
    """Yield a browser, for a fixture; skip where there is none."""
    if BROWSER is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield found
        found.close()


def complaints(browser: Any, address: str, width: int, scheme: str, picture: Path | None = None) -> list[str]:
    """Open a page and return what is wrong with it: what the console says, what did not come, what cannot be seen."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    found: list[str] = []
    inside = (address.rsplit("/", 1)[0] if address.startswith("file:") else "/".join(address.split("/")[:3]), "data:")

    def on_console(said: Any) -> None:
        if said.type in {"error", "warning"}:
            found.append(f"{said.type}: {said.text}")

    def on_request(request: Any) -> None:
        if not request.url.startswith((*inside, "blob:")):
            found.append(f"from outside: {request.url}")

    page.on("console", on_console)
    page.on("request", on_request)
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("requestfailed", lambda request: found.append(f"failed: {request.url}"))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    found += page.evaluate(UNSEEN)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(picture))
    context.close()
    return found


UNSEEN = r"""() => {
    const found = [];
    const lies = element => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
    const shown = element => element.closest('details:not([open]), .tabbed-block') === null;
    for (const formula of document.querySelectorAll('math'))
        if (shown(formula) && !lies(formula)) found.push('a formula cannot be seen: ' + formula.textContent);
    for (const error of document.querySelectorAll('merror, .arithmatex'))
        found.push('not typeset: ' + error.textContent);
    for (const image of document.querySelectorAll('img'))
        if (!image.complete || image.naturalWidth === 0)
            found.push('an image did not come: ' + image.src.slice(0, 100));
    const width = document.documentElement.scrollWidth;
    if (width > window.innerWidth + 1) found.push(`the page is ${width} wide in a window of ${window.innerWidth}`);
    return found;
}"""
