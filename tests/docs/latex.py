r"""Formulas of the family page as programs: LaTeX over vectors is read, and evaluated with NumPy.

What is understood is what those formulas use: sums, products elementwise, fractions, powers, norms, inner products,
signs, the gradient of L, and hats, which normalise whatever is not epsilon.  Anything else is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TOKEN = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]|\d+(?:\.\d+)?|[{}()^_+\-=/|,]|\s+|\\[,;:!]")
SPACE = re.compile(r"\\[,;:!]|\\q?quad|\s+|\\odot")
CLOSES = {"}", ")", r"\rVert", r"\rangle", ",", "+", "-", "=", "/", "|", "^", "_"}


class UnknownError(Exception):
    """A symbol that has no value yet."""


@dataclass
class Reader:
    """Reads one expression and evaluates it on the way.

    Attributes:
        text: the expression.
        known: the values of symbols, by their LaTeX.
        gradient: what \\nabla L is.
    """

    text: str
    known: Mapping[str, Any]
    gradient: Callable[[Any], Any]
    tokens: list[str] = field(init=False)

    def __post_init__(self) -> None:
        found = TOKEN.findall(self.text)
        assert "".join(found) == self.text, f"not understood: {self.text!r}"
        self.tokens = [token for token in found if not SPACE.fullmatch(token)]

    def value(self) -> Any:
        """The value of the whole expression."""
        found = self.sum()
        assert not self.tokens, f"left over in {self.text!r}: {self.tokens}"
        return found

    @property
    def next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, token: str | None = None) -> str:
        assert token in {None, self.next}, f"{token!r} expected in {self.text!r}, and not {self.next!r}"
        return self.tokens.pop(0)

    def sum(self) -> Any:
        total = -self.product() if self.next == "-" and self.take() else self.product()
        while self.next in {"+", "-"}:
            total = total + self.product() if self.take() == "+" else total - self.product()
        return total

    def product(self) -> Any:
        found = self.factor()
        while self.next and (self.next not in CLOSES or self.next == "/"):
            if self.next == "/":
                self.take()
                found = found / self.factor()
            elif isinstance(found, Row):
                found = float(found.x @ self.product())
            else:
                found = found * self.factor()
        return found

    def factor(self) -> Any:
        found = self.atom()
        while self.next == "^":
            self.take()
            if self.next == r"\top":
                self.take()
                return Row(found)
            found = found ** self.group()
        return found

    def group(self) -> Any:
        if self.next == "{":
            self.take()
            found = self.sum()
            self.take("}")
            return found
        token = self.take()
        return float(token) if token[0].isdigit() else self.symbol(token)

    def atom(self) -> Any:
        token = self.take()
        if token[0].isdigit():
            return float(token)
        if token in {"(", "{"}:
            found = self.sum()
            self.take({"(": ")", "{": "}"}[token])
            return found
        if token == "|":
            found = abs(self.sum())
            self.take("|")
            return found
        if token == r"\lVert":
            return self.norm()
        if token == r"\langle":
            return self.inner()
        if token in {r"\frac", r"\tfrac"}:
            return self.group() / self.group()
        if token == r"\sqrt":
            return self.group() ** 0.5
        if token == r"\mathrm":
            return self.function()
        if token == r"\nabla":
            self.take("L")
            return self.gradient(self.atom())
        if token == r"\hat":
            braced = self.next == "{" and self.take()
            name = self.take()
            if braced:
                self.take("}")
            if name == r"\epsilon":
                return self.symbol(r"\hat\epsilon")
            x = self.symbol(name)
            return x / np.linalg.norm(x)
        return self.symbol(token)

    def norm(self) -> Any:
        x, order = self.sum(), 2.0
        self.take(r"\rVert")
        if self.next == "_":
            self.take()
            order = self.group()
        return float(np.linalg.norm(x, order))

    def inner(self) -> Any:
        x = self.sum()
        self.take(",")
        y = self.sum()
        self.take(r"\rangle")
        return float(np.dot(x, y))

    def function(self) -> Any:
        self.take("{")
        name = ""
        while self.next != "}":
            name += self.take()
        self.take("}")
        order = self.group() if self.next == "_" and self.take() else 2.0
        x = self.inner() if self.next == r"\langle" and self.take() else self.atom()
        q = order / (order - 1)
        return {
            "sign": lambda: np.sign(x),
            "size": lambda: abs(x),
            "lmo": lambda: np.sign(x) * abs(x) ** (q - 1) / np.linalg.norm(x, q) ** (q - 1),
        }[name]()

    def symbol(self, name: str) -> Any:
        if self.next == "_":
            self.take()
            parts = [self.take()]
            if parts == ["{"]:
                while parts[-1] != "}":
                    parts.append(self.take())
                parts = parts[1:-1]
            name += "_" + "".join(parts)
        if name not in self.known:
            raise UnknownError(name)
        return self.known[name]


@dataclass
class Row:
    """A row vector."""

    x: Any


DEFINITIONS = (("g", r"\nabla L(w)"), ("h", r"\nabla L(w + \hat\epsilon)"), ("h_t", r"\nabla L(w + \hat\epsilon_t)"))
"""What the page says before the first row."""
USUAL = (r"\hat\epsilon", r"\rho \hat g")
"""The perturbation, where a formula has none: SAM's in the Euclidean ball."""


def equations(formula: str) -> list[tuple[str, str]]:
    r"""Left and right sides, parted as on the page; what says something in words is left out, and so is \(\sim\)."""
    found = []
    for part in re.split(r",?\s*\\qquad|,?\s*\\quad|,\\;", formula):
        left, equal, right = part.replace(r"\leftarrow", "=").partition("=")
        left = re.sub(r"\s+|\\[,;]|[{}]", "", left)
        if equal and r"\text" not in right:
            signs = "+-" if r"\pm" in left else "+"
            found += [(left.replace(r"\pm", sign), right.replace(r"\pm", sign).strip()) for sign in signs]
    return found


def solve(formula: str, known: Mapping[str, Any], gradient: Callable[[Any], Any]) -> dict[str, Any]:
    """The symbols that a formula defines, each found as soon as all that it is made of is known."""
    left = [*equations(formula), *DEFINITIONS]
    if not any(name.startswith(USUAL[0]) for name, _ in left):
        left.append(USUAL)
    found = dict(known)
    while True:
        waiting = []
        for name, right in left:
            try:
                value = Reader(right, found, gradient).value()
            except UnknownError:
                waiting.append((name, right))
                continue
            if "+" in name and not name.startswith(("h_", "d_")):  # no definition: a condition on what is known
                assert np.isclose(Reader(name.replace("tfrac1", "frac{1}"), found, gradient).value(), value)
            found[name] = value
        if len(waiting) == len(left):
            return found
        left = waiting
