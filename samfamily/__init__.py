"""samfamily: the family of sharpness-aware minimisation, every variant stated once.

Imports no deep-learning framework.  Run a variant with `samfamily_torch`, `samfamily_jax` or `samfamily.reference`.
"""

from samfamily import family, reference
from samfamily.ball import Adaptive, Ball, Identity, biases, elementwise, filterwise, layerwise
from samfamily.family import *  # noqa: F403  every row, without a second list of them
from samfamily.program import HessianVector, State, Step, StepInfo
from samfamily.space import Leaf, Space, Vec
from samfamily.variant import Variant

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "Ball",
    "HessianVector",
    "Identity",
    "Leaf",
    "Space",
    "State",
    "Step",
    "StepInfo",
    "Variant",
    "Vec",
    "biases",
    "elementwise",
    "filterwise",
    "layerwise",
    "reference",
]
__all__ += family.__all__
