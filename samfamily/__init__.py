"""samfamily: the family of sharpness-aware minimisation, every variant stated once.

Imports no deep-learning framework.  Run a variant with `samfamily_torch`, `samfamily_jax` or `samfamily.reference`.
"""

from samfamily import exact, family, reference
from samfamily.ball import Ball
from samfamily.family import *  # noqa: F403  every row, without a second list of them
from samfamily.inner import InnerGap
from samfamily.metric import (
    Adaptive,
    Identity,
    biases,
    elementwise,
    filterwise,
    layerwise,
    normalisations,
)
from samfamily.program import HessianVector, State, Step, StepInfo
from samfamily.radius import Tied
from samfamily.recipe import Recipe
from samfamily.space import Leaf, Space, Vec
from samfamily.variant import Variant

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "Ball",
    "HessianVector",
    "Identity",
    "InnerGap",
    "Leaf",
    "Recipe",
    "Space",
    "State",
    "Step",
    "StepInfo",
    "Tied",
    "Variant",
    "Vec",
    "biases",
    "elementwise",
    "exact",
    "filterwise",
    "layerwise",
    "normalisations",
    "reference",
]
__all__ += family.__all__
