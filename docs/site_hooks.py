"""What the site does to pages beyond its tools: formulas become MathML, and links that leave docs/ become text.

A browser draws MathML by itself: no script, nothing to load, and a formula can be copied and read aloud.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([\(\[])(.*?)\\[\)\]]</\1>', re.DOTALL)
BELOW = re.compile(r"(\\(?:max|min|sup|inf|operatorname\*\{\w+\}))_")
"""What has its condition below it where a formula has a line of its own."""
LEAVES = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!docs/)[^)]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page without links to files that the site does not have; those of the docs' own folders stay."""
    depth = page.file.src_uri.count("/")
    outside = "../" * (depth + 1)
    return LEAVES.sub(lambda link: link[1] if f"({outside}" in link[0] else link[0], markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Return the page with every formula as MathML."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    formula, display = html.unescape(found[3]).strip(), found[2] == "["
    if display:
        formula = BELOW.sub(r"\1\\limits_", formula)
    return convert(formula, display="block" if display else "inline")
