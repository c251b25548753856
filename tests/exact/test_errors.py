"""Layer 2: what the exact maximum refuses, and what it says."""

from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from samfamily.exact import direction_bound, gap_bound, maximize, maximize_linear, maximize_quadratic

G, I2 = np.ones(2), np.eye(2)


def bowl(w: Any) -> tuple[float, Any]:
    return float(np.sum(w**2)), 2 * w


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "skew": (lambda: maximize_quadratic(G, np.array([[1.0, 1], [0, 1]]), 1.0), ValueError, r"symmetric.*\(H \+ H.T\)"),
    "nan hessian": (lambda: maximize_quadratic(G, nan * I2, 1.0), ValueError, r"hessian must be finite, got nan at"),
    "inf hessian": (lambda: maximize_quadratic(G, np.diag([1, inf]), 1.0), ValueError, r"finite, got inf at \[1, 1\]"),
    "nan gradient": (lambda: maximize_quadratic(nan * G, I2, 1.0), ValueError, r"gradient must be finite, got nan"),
    "hessian shape": (lambda: maximize_quadratic(G, np.eye(3), 1.0), ValueError, r"hessian must have shape \(2, 2\)"),
    "gradient shape": (lambda: maximize_quadratic(I2, I2, 1.0), ValueError, r"one vector, got shape \(2, 2\).*ravel"),
    "linear shape": (lambda: maximize_linear(np.float64(1), 1.0), ValueError, r"one vector, got shape \(\)"),
    "rho": (lambda: maximize_quadratic(G, I2, -1.0), ValueError, r"rho must be finite and at least 0, got -1.0"),
    "rho nan": (lambda: maximize_linear(G, nan), ValueError, r"rho must be finite"),
    "rho smooth": (lambda: maximize(bowl, G, -0.5), ValueError, r"rho must be finite and at least 0, got -0.5"),
    "p": (lambda: maximize_linear(G, 1.0, p=0.5), ValueError, r"p must be in \[1, inf\].*0.5"),
    "p smooth": (lambda: maximize(bowl, G, 1.0, p=0), ValueError, r"p must be in \[1, inf\]"),
    "p quadratic": (lambda: maximize_quadratic(G, I2, 1.0, p=3), ValueError, r"p = 1, 2 and inf, got p = 3.*maximize"),
    "function": (
        lambda: maximize_quadratic(G, lambda v: v, 1.0, p=1),
        TypeError,
        r"p = 1.* needs the Hessian as a matr",
    ),
    "skew function": (
        lambda: maximize_quadratic(np.ones(80), lambda v: np.roll(v, 1), 1.0),
        ValueError,
        r"hessian must be symmetric, got <y, Hx>",
    ),
    "function shape": (lambda: maximize_quadratic(G, lambda v: v[:1], 1.0), ValueError, r"H v must have shape \(2,\)"),
    "function nan": (lambda: maximize_quadratic(G, lambda v: v * nan, 1.0), ValueError, r"H v must be finite, got nan"),
    "products": (
        lambda: maximize_quadratic(G, lambda v: v, 1.0, products=0),
        ValueError,
        r"products must be at least 1",
    ),
    "not convex": (lambda: maximize_quadratic(G, -I2, 1.0, p=1), ValueError, r"convex.*eigenvalue -1: use maximize"),
    "too many": (
        lambda: maximize_quadratic(np.ones(30), np.eye(30), 1.0, p=inf),
        ValueError,
        r"n = 30 is more than the 20 .*: use maximize for a lower bound, and gap_bound for an upper one$",
    ),
    "metric shape": (lambda: maximize_linear(G, 1.0, metric=np.ones(3)), ValueError, r"metric must have shape \(2,\)"),
    "metric sign": (lambda: maximize_linear(G, 1.0, metric=-G), ValueError, r"metric must be at least 0, got -1.0"),
    "metric skew": (
        lambda: maximize_linear(G, 1.0, metric=np.array([[1.0, 2], [0, 1]])),
        ValueError,
        r"metric must be symmetric",
    ),
    "metric smooth": (lambda: maximize(bowl, G, 1.0, metric=np.ones(3)), ValueError, r"weights' shapes \[\(2,\)\]"),
    "metric sign smooth": (lambda: maximize(bowl, G, 1.0, metric=-G), ValueError, r"metric must be at least 0"),
    "gradient of the loss": (
        lambda: maximize(lambda w: (0.0, w[:1]), G, 1.0),
        ValueError,
        r"the gradient must have the",
    ),
    "loss": (lambda: maximize(lambda w: (nan, w), G, 0.5), ValueError, r"the loss is nan inside the ball.*0.5"),
    "beta": (lambda: maximize(bowl, G, 1.0, beta=-1.0), ValueError, r"beta must be finite and at least 0, got -1.0"),
    "iterations": (lambda: maximize(bowl, G, 1.0, iterations=0), ValueError, r"iterations must be at least 1"),
    "restarts": (lambda: maximize(bowl, G, 1.0, restarts=0), ValueError, r"restarts must be at least 1"),
    "bound beta": (lambda: gap_bound(-1, 1, 1), ValueError, r"beta must be"),
    "bound rho": (lambda: gap_bound(1, nan, 1), ValueError, r"rho must be"),
    "bound norm": (lambda: direction_bound(1, 1, -1), ValueError, r"gradient_norm must be"),
    "bound p": (lambda: direction_bound(1, 1, 1, p=0.5), ValueError, r"p must be in"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_error_names_what_was_wrong_and_what_to_do(name: str) -> None:
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call()


def test_a_matrix_that_is_symmetric_up_to_rounding_is_taken() -> None:
    """Negative control: the check is not one that no computed Hessian passes."""
    a = np.random.default_rng(0).normal(size=(30, 7))
    H = a.T @ a
    H[0, 1] *= 1 + 1e-13
    assert maximize_quadratic(np.ones(7), H, 1.0).certificate.exact
    assert maximize_quadratic(np.ones(7), a.T @ a, 1.0, p=1).certificate.exact
