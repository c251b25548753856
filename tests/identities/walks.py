"""Losses on two leaves with exact gradients, and walks of plain gradient descent that follow a variant over them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from samfamily import Leaf, Variant, reference

LR = 0.1
Loss = Callable[[list[Any]], tuple[float, list[Any]]]
LEAVES = [Leaf("first.weight", normalisation=True), Leaf("second.weight", normalisation=False)]


def split(flat: Any) -> list[Any]:
    return [flat[:6].reshape(2, 3), flat[6:]]


def join(leaves: Any) -> Any:
    return np.concatenate([np.asarray(x).ravel() for x in leaves])


def affine(seed: int) -> Loss:
    c = np.random.default_rng(seed).normal(size=10)
    return lambda w: (float(np.real(c @ join(w))), split(c + 0 * join(w)))


def flat_loss(seed: int) -> Loss:
    return lambda w: (1.0, split(0 * join(w)))


def quadratic(seed: int, eigenvalues: Any = None) -> Loss:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(10, 10)))
    H = q * (rng.uniform(-1, 2, 10) if eigenvalues is None else eigenvalues) @ q.T
    b = rng.normal(size=10)
    return lambda w: (float(np.real(0.5 * join(w) @ H @ join(w) + b @ join(w))), split(H @ join(w) + b))


def smooth(seed: int) -> Loss:
    """A softened maximum of affine functions, and a little curvature: analytic, convex, not quadratic."""
    A = np.random.default_rng(seed).normal(size=(7, 10))

    def loss(w: list[Any]) -> tuple[float, list[Any]]:
        x = join(w)
        z = np.exp(A @ x)
        return float(np.real(np.log(z.sum()) + 0.05 * x @ x)), split(A.T @ (z / z.sum()) + 0.1 * x)

    return loss


def start(seed: int) -> list[Any]:
    return split(np.random.default_rng(seed + 1000).normal(size=10))


class Walk(NamedTuple):
    """What a walk left behind: for each step the gradient followed and the points asked about, and the last weights."""

    gradients: list[Any]
    asked: list[list[Any]]
    w: Any
    states: list[Any]


def walk(variant: Variant, loss: Loss, seed: int = 0, steps: int = 6, momentum: float = 0.0) -> Walk:
    w, velocity = start(seed), [np.zeros((2, 3)), np.zeros(4)]
    points: list[Any] = []

    def recorded(w: list[Any]) -> tuple[float, list[Any]]:
        if not np.iscomplexobj(w[0]):
            points.append(join(w))
        return loss(w)

    sa = reference.sharpness_aware(recorded, variant, LEAVES)
    state, gradients, asked, states = sa.init(w), [], [], []
    for _ in range(steps):
        points.clear()
        _, step = sa.evaluate(w, state)
        state = step.state
        gradients.append(join(step.gradient.collapse()))
        asked.append(list(points))
        states.append(state)
        velocity = [momentum * v + g for v, g in zip(velocity, step.gradient.collapse(), strict=True)]
        w = [x - LR * v for x, v in zip(w, velocity, strict=True)]
        if step.addend is not None:
            w = [x - LR * a for x, a in zip(w, step.addend.collapse(), strict=True)]
    return Walk(gradients, asked, join(w), states)


def far(a: Any, b: Any) -> float:
    """Return the relative distance of two vectors."""
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / (np.linalg.norm(np.asarray(b)) + 1e-300))
