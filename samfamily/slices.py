r"""Slices of a landscape: the loss along directions through the weights, which is what a picture of it shows.

A landscape does not move the weights that it looks from, so nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from samfamily.krylov import random
from samfamily.landscape import Landscape
from samfamily.metric import filterwise
from samfamily.space import Array, Leaf, Vec


def along(landscape: Landscape, direction: Vec, distances: Iterable[float]) -> Array:
    r"""Return the loss on a line through the weights, \(L(w + t\,d)\) for each t.

    Directions worth a look: the gradient, in which SAM climbs, `g / g.norm(2)` with `g = landscape.gradient()[1]`; the
    eigenvectors of `samfamily.curvature.eigenvalues`; and random ones, `filter_normalised(landscape.w)`.  Costs a loss
    for each distance, and one vector of the weights' size.

    Args:
        landscape: the loss, at the weights w.
        direction: d, whose length is the unit of the distances.
        distances: the t; at 0 the weights are looked at as they stand.

    Returns:
        The losses, shape (number of distances,), float64.

    Example:
        >>> from samfamily.reference import Landscape
        >>> landscape = Landscape(lambda w: (float(np.sum(w[0] ** 2)), [2 * w[0]]), [np.array([3.0, 4.0])])
        >>> loss, g = landscape.gradient()
        >>> along(landscape, g / g.norm(2), [-5.0, 0.0, 1.0])
        array([ 0., 25., 36.])
    """
    return np.array([_loss(landscape, (t, direction)) for t in distances])


def plane(landscape: Landscape, first: Vec, second: Vec, distances: Iterable[float]) -> Array:
    r"""Return the loss on a plane through the weights, \(L(w + s\,a + t\,b)\) for each pair of distances.

    Args:
        landscape: the loss, at the weights w.
        first: a, along which the columns lie.
        second: b, along which the rows lie.
        distances: the s, and the t, k of them.

    Returns:
        The losses, shape (k, k), float64: a row for each t.

    Example:
        >>> from samfamily.reference import Landscape
        >>> landscape = Landscape(lambda w: (float(w[0] + 10 * w[1]), [np.ones(()), np.ones(())]), [np.zeros(())] * 2)
        >>> a, b = (Vec(landscape.w.space, (np.array(x), np.array(1 - x))) for x in (1.0, 0.0))
        >>> plane(landscape, a, b, [0.0, 1.0])
        array([[ 0.,  1.],
               [10., 11.]])
    """
    distances = list(distances)
    return np.array([[_loss(landscape, (s, first), (t, second)) for s in distances] for t in distances])


def filter_normalised(w: Vec, seed: int = 0) -> Vec:
    r"""Return a random direction whose every filter has the norm of the weights' filter.

    For each filter \(w_{lj}\), a slice along the filter axis of a leaf (see `samfamily.filterwise`), and normal noise z

    $$ d_{lj} = \frac{\lVert w_{lj}\rVert_2}{\lVert z_{lj}\rVert_2}\, z_{lj} , $$

    so that networks that compute the same with filters of other lengths have the same slice (Li et al., arXiv
    1712.09913).  As there, d is 0 in leaves with fewer than two axes (biases, scales) and in those of normalisation
    layers.  The noise is `samfamily.noise`: a seed gives the same direction in both frameworks.

    Args:
        w: the weights, such as `landscape.w`.
        seed: of the direction.

    Returns:
        The direction, of the weights' shapes; at distance 1 along it every filter has moved by its own length.

    Raises:
        ValueError: no leaf has filters.

    Example:
        >>> from samfamily.reference import vec
        >>> d = filter_normalised(vec([np.array([[3.0, 4.0], [0.0, 2.0]]), np.ones(2)]))
        >>> np.linalg.norm(d.leaves[0], axis=1), d.leaves[1]
        (array([5., 2.]), array([0., 0.]))
    """
    if not any(_has_filters(leaf, x) for leaf, x in zip(w.space.leaves, w.leaves, strict=True)):
        raise ValueError(
            "no leaf of the weights has filters, since none outside of normalisation layers has two axes: give the "
            "weights as matrices, or slice along the gradient or an eigenvector"
        )
    drawn, weights = random(w, seed, 0), w.collapse()
    leaves = zip(w.space.leaves, drawn.leaves, weights, strict=True)
    return Vec(w.space, tuple(_resized(leaf, z, x) if _has_filters(leaf, x) else 0 * x for leaf, z, x in leaves))


def _has_filters(leaf: Leaf, x: Array) -> bool:
    return x.ndim > 1 and not leaf.normalisation


def _resized(leaf: Leaf, z: Array, x: Array) -> Array:
    return z * (filterwise(leaf, x) / filterwise(leaf, z))


def _loss(landscape: Landscape, *moves: tuple[float, Vec]) -> float:
    point = landscape.w
    for distance, direction in moves:
        if distance:
            point = point + float(distance) * direction
    return landscape.loss(point)
