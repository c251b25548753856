"""The formulas on the family page, read as LaTeX and evaluated, are what the rows do on random vectors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from samfamily import FAMILY, Leaf, State
from samfamily.reference import sharpness_aware
from tests.docs.latex import equations, solve
from tests.scripts import script

THE_FAMILY = script("the_family")

GRADIENT = r"\textgradient"
"""How the left side of the last equation is called once its braces are gone."""
SIZE, STEPS, ETA = 6, 5, 0.05
RANDOM = np.random.default_rng(0)
A, B = 0.3 * RANDOM.normal(size=(2, SIZE, SIZE))
B *= 0.3
WORDS = {
    "rho": r"\rho", "alpha": r"\alpha", "beta": r"\beta", "gamma": r"\gamma", "eta": r"\eta", "theta": r"\theta",
    "mu": r"\mu", "sigma": r"\sigma", "lmbda": r"\lambda", "lr": r"\eta", "p": "p",
}  # fmt: skip
"""Keywords by their symbols."""
CHOICE = re.compile(
    r"(\\text\{gradient\} = .+?) \\text\{ (?:where|with).*?\\qquad (.+?) \\text\{ (?:elsewhere|otherwise)\}"
)
REUSE = re.compile(r".*?: (\\text\{gradient\}.*?); \\qquad \\text\{else: gradient\} = (.*)")
MEMORY: dict[str, tuple[str, Callable[[State], Any]]] = {
    "LookSAM": ("v", lambda s: s.descent.v),
    "FriendlySAM": ("m_t-1", lambda s: s.ascent.mean),
    "VaSSO": ("d_t-1", lambda s: s.ascent.mean),
    "MSAM": ("v", lambda s: s.descent.v),
    "OptSAM": ("h_t-1", lambda s: s.descent.v),
    "AsyncSAM": ("g_t-1", lambda s: s.ascent.gradient),
    "SAMPa": ("d_t", lambda s: s.descent[0]),
    "EigenSAM": ("v", lambda s: s.ascent.v),
}
"""What a row remembers: its symbol before a step, and where the state has it."""
AFTER = {"LookSAM": "v", "FriendlySAM": "m_t", "VaSSO": "d_t", "MSAM": "v", "SAMPa": "d_t+1"}
"""The symbol of the same after a step, where the formula says what it becomes."""
MASKS: dict[str, Callable[[Any, State], Any]] = {
    "SSAM": lambda g, _: g**2 >= np.sort(g**2)[-SIZE // 2],
    "SSAMD": lambda _, after: leaf(after.ball.mask),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "SAM": {"p": 3.0},
    "ASAM": {"p": 4.0},
    "SAMON": {"p": 3.0},
    "WSAM": {"decoupled": False},
    "SSAM": {"every": 1},
    "LookSAM": {"k": 2},
    "PeriodicSAM": {"k": 2},
}


def gradient(w: Any) -> Any:
    """Of |sin(A w)|^2 / 2 + |B w|^4 / 4."""
    z = B @ w
    return A.T @ (np.sin(A @ w) * np.cos(A @ w)) + B.T @ z * (z @ z)


def formula(name: str) -> str:
    text: str = THE_FAMILY.read(FAMILY[name]).formula
    return text


def chosen(text: str, climbed: bool) -> str:
    """A formula with two cases, cut down to the one that a step was in."""
    if found := CHOICE.fullmatch(text):
        return found[1] if climbed else rf"\text{{gradient}} = {found[2]}"
    if found := REUSE.fullmatch(text):
        return found[1] if climbed else rf"\text{{gradient}} = {found[2]}"
    return text


def leaf(x: Any) -> Any:
    """The one leaf of a Vec."""
    return x.collapse()[0]


def distance(x: Any, y: Any) -> float:
    """Relative to the larger."""
    return float(np.linalg.norm(x - y)) / max(float(np.linalg.norm(x)), float(np.linalg.norm(y)), 1e-30)


def worst(name: str, formula_of_row: str) -> float:
    """The largest relative distance of what a formula says from what its row does, over some steps."""
    options = {**{k: v.default for k, v in inspect.signature(FAMILY[name]).parameters.items()}, **OPTIONS.get(name, {})}
    variant = FAMILY[name](**options)
    constants = {WORDS[k]: float(v) for k, v in options.items() if k in WORDS and isinstance(v, int | float)}
    p = constants.setdefault("p", 2.0)
    points: list[Any] = []

    def loss(w: Any) -> tuple[float, list[Any]]:
        if not np.iscomplexobj(w[0]):
            points.append(w[0])
        return 0.0, [gradient(w[0])]

    sa = sharpness_aware(loss, variant, [Leaf("norm.weight", normalisation=True)])
    w, distances = np.random.default_rng(1).normal(size=SIZE), []
    state = sa.init([w])
    for step in range(STEPS):
        points.clear()
        ((_, [found]), after), before = sa.value_and_grad([w], state), state
        far = points[-1] - w
        known = {**constants, "w": w, "q": p / (p - 1), "n": np.ones(SIZE), "T": 1.0, "z": far}
        known[r"\delta"] = points[0] - w
        if name in MEMORY:
            symbol, place = MEMORY[name]
            known[symbol] = leaf(place(after if name == "EigenSAM" else before))
        if name in MASKS:
            known["M"] = MASKS[name](gradient(w), after)
        left_out = name == "ESAM" and not np.any(far)  # its one tensor, by its coin
        if step and not left_out:  # a memory that is empty has no direction
            text = chosen(formula_of_row, climbed=len(points) == 2)
            said = solve(text.replace(r"\mathbb 1_{\text{norm}}", "n"), known, gradient)
            distances.append(distance(said[GRADIENT], found))
            if AFTER.get(name) in {left for left, _ in equations(text)}:
                distances.append(distance(said[AFTER[name]], leaf(MEMORY[name][1](after))))
        w, state = w - ETA * found, after
    assert len(distances) >= 2
    return max(distances)


@pytest.mark.parametrize("name", FAMILY)
def test_the_formula_is_what_the_row_does(name: str) -> None:
    assert worst(name, formula(name)) < 1e-12


def test_a_wrong_condition_is_seen() -> None:
    """Negative control: the exponents of SAM's formula are held to be dual."""
    with pytest.raises(AssertionError):
        worst("SAM", formula("SAM").replace(r"\tfrac1q = 1", r"\tfrac1q = 2"))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("SAM", "{q-1}}, ", "{q}}, "),
        ("ASAM", r"T_w\,\mathrm{sign}", r"\mathrm{sign}"),
        ("FisherSAM", "1 + ", "2 + "),
        ("SAMON", r"T\,\mathrm", r"\mathrm"),
        ("GSAM", r"h - \alpha", r"h + \alpha"),
        ("GNP", r"(1-\alpha)\,g", r"\alpha\,g"),
        ("WSAM", r"a\,h", r"\gamma\,h"),
        ("StableSAM", r"\frac{\lVert g\rVert}{\lVert h\rVert}", r"\frac{\lVert h\rVert}{\lVert g\rVert}"),
        ("LookSAM", r"\alpha\,\lVert g\rVert", r"\alpha"),
        ("FriendlySAM", r"g - \sigma", r"g + \sigma"),
        ("VaSSO", r"\theta\,g", r"(1-\theta)\,g"),
        ("MSAM", r"= -\rho", r"= \rho"),
        ("MSAM", r"\mu\,v + h", r"\mu\,v + g"),
        ("OptSAM", r"\rho\,\frac", r"-\rho\,\frac"),
        ("SAMPa", r"w - \eta", r"w + \eta"),
        ("CRSAM", "- 2g", "- g"),
        ("RSAM", r"L(w + \delta + ", "L(w + "),
        ("EigenSAM", r"\hat g + \alpha", r"\hat g - \alpha"),
    ],
)
def test_a_wrong_formula_is_seen(name: str, right: str, wrong: str) -> None:
    """Negative control: one slip in a formula, such as papers print."""
    text = formula(name)
    assert right in text
    assert worst(name, text.replace(right, wrong)) > 1e-3
