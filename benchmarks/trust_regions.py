"""Random quadratics in a Euclidean ball, solved exactly and held to what is not the solver: sampling and ascent."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from samfamily.exact import maximize_quadratic

KINDS = ("easy", "hard", "nearly hard", "concave", "singular")
SAMPLES, STARTS, STEPS = 10_000, 20, 100
LARGEST, CONDITION = 40, 1e8


@dataclass(frozen=True)
class Checked:
    """How one case came out; every figure is relative, and none should be above its tolerance.

    Attributes:
        kind: what makes the case what it is.
        residual: of the first condition of a global maximum, relative to |g| + |He|.
        indefinite: how far the second condition is violated, relative to |H|.
        outside: how far the point lies outside of the ball.
        duality: how far the value is from the one that the multiplier gives.
        sampled: how far the best of the samples is above the value.
        climbed: how far the best of projected gradient ascent is above the value.
        function: how far the value with H as a function is from the one with H as a matrix.
    """

    kind: str
    residual: float
    indefinite: float
    outside: float
    duality: float
    sampled: float
    climbed: float
    function: float


TOLERANCES = {
    "residual": 1e-10,
    "indefinite": 1e-10,
    "outside": 1e-10,
    "duality": 1e-8,
    "sampled": 1e-12,
    "climbed": 1e-12,
    "function": 1e-8,
}


def case(seed: int) -> tuple[str, Any, Any, float]:
    """Return a kind, g, H and rho: up to 40 unknowns, condition up to 1e8, scales from 1e-30 to 1e30."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    n = int(rng.integers(1, LARGEST + 1))
    eigenvalues = np.exp(rng.uniform(-np.log(CONDITION ** rng.uniform()), 0, n)) * rng.choice([-1, 1], n)
    leaning = rng.normal(size=n) * 10 ** rng.uniform(-3, 1)
    if kind == "concave":
        eigenvalues = -abs(eigenvalues)
    if kind == "singular":
        eigenvalues[rng.integers(n)] = 0.0
    top = np.argmax(eigenvalues)
    leaning[top] *= {"hard": 0.0, "nearly hard": 10 ** rng.uniform(-16, -2)}.get(kind, 1.0)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    H = (Q * eigenvalues) @ Q.T
    scale = rng.choice([1e-30, 1.0, 1.0, 1e30])
    return kind, scale * (Q @ leaning), scale * (H + H.T) / 2, float(10 ** rng.uniform(-3, 2))


def check(seed: int) -> Checked:
    """Solve one case and hold the solution to everything else."""
    kind, g, H, rho = case(seed)
    found = maximize_quadratic(g, H, rho)
    e, mu = found.epsilon, found.certificate.multiplier or 0.0
    image, norm = H @ e, float(np.linalg.norm(H, 2)) or 1.0
    size = float(np.linalg.norm(g) + np.linalg.norm(image)) or 1.0
    value = abs(found.value) or 1.0
    sphere = rho * directions(len(g))
    return Checked(
        kind=kind,
        residual=float(np.linalg.norm(mu * e - image - g)) / size,
        indefinite=max(0.0, -float(np.linalg.eigvalsh(mu * np.eye(len(g)) - H)[0])) / norm,
        outside=max(0.0, float(np.linalg.norm(e)) / rho - 1),
        duality=abs(found.certificate.upper - found.value) / value,
        sampled=max(0.0, float(np.max(values(g, H, sphere))) - found.value) / value,
        climbed=max(0.0, ascent(g, H, rho) - found.value) / value,
        function=abs(maximize_quadratic(g, lambda v: H @ v, rho).value - found.value) / value,
    )


def values(g: Any, H: Any, e: Any) -> Any:
    """Return the quadratic at every row."""
    return e @ g + 0.5 * np.sum((e @ H) * e, axis=1)


@functools.cache
def directions(n: int) -> Any:
    """Return the unit vectors that all cases of n unknowns are sampled at."""
    x = np.random.default_rng(n).normal(size=(SAMPLES, n))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def ascent(g: Any, H: Any, rho: float) -> float:
    """Return the best of projected gradient ascent from the centre and from random starts."""
    e = rho * directions(len(g))[:STARTS]
    e[0] = 0
    step = 1 / max(float(np.linalg.norm(H, 2)), float(np.linalg.norm(g)) / rho, 1e-300)
    for _ in range(STEPS):
        e = e + step * (g + e @ H)
        e = e * np.minimum(1, rho / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-300))
    return float(np.max(values(g, H, e)))


def check_all(seeds: range) -> list[Checked]:
    """Check a block of cases."""
    return [check(seed) for seed in seeds]


def worst(results: list[Checked]) -> Iterator[tuple[str, float, float]]:
    """Yield every figure's name, its largest value and its tolerance."""
    for name, tolerance in TOLERANCES.items():
        yield name, max(getattr(result, name) for result in results), tolerance
