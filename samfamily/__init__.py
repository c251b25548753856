"""samfamily: the family of sharpness-aware minimisation, every variant stated once.

Imports no deep-learning framework.  Run a variant with `samfamily_torch`, `samfamily_jax` or `samfamily.reference`.
"""

from samfamily import bound, curvature, exact, family, pictures, reference, sharpness, slices
from samfamily.ball import Ball
from samfamily.family import *  # noqa: F403  every row, without a second list of them
from samfamily.inner import InnerGap
from samfamily.landscape import Composed, Landscape
from samfamily.metric import (
    Adaptive,
    Identity,
    biases,
    elementwise,
    filterwise,
    layerwise,
    normalisations,
)
from samfamily.monitor import Monitor, to_tensorboard
from samfamily.program import GaussNewtonVector, HessianVector, State, Step, StepInfo
from samfamily.radius import Tied
from samfamily.recipe import Recipe
from samfamily.space import Leaf, Space, Vec
from samfamily.variant import Variant

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "Ball",
    "Composed",
    "GaussNewtonVector",
    "HessianVector",
    "Identity",
    "InnerGap",
    "Landscape",
    "Leaf",
    "Monitor",
    "Recipe",
    "Space",
    "State",
    "Step",
    "StepInfo",
    "Tied",
    "Variant",
    "Vec",
    "biases",
    "bound",
    "curvature",
    "elementwise",
    "exact",
    "filterwise",
    "layerwise",
    "normalisations",
    "pictures",
    "reference",
    "sharpness",
    "slices",
    "to_tensorboard",
]
__all__ += family.__all__
