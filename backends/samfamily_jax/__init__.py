"""samfamily for JAX: `value_and_grad` and `sharpness_aware` follow a variant in any training loop.

Every row of `samfamily.FAMILY` can be imported from here too.
"""

from samfamily import family
from samfamily.family import *  # noqa: F403  every row, without a second list of them
from samfamily.inner import InnerGap
from samfamily.program import State, StepInfo
from samfamily_jax.batch import scanned, unrolled, vmapped
from samfamily_jax.inner import inner_gap
from samfamily_jax.landscape import Landscape
from samfamily_jax.space import JaxSpace
from samfamily_jax.transform import SharpnessAware, sharpness_aware, value_and_grad

__all__ = [
    "InnerGap",
    "JaxSpace",
    "Landscape",
    "SharpnessAware",
    "State",
    "StepInfo",
    "inner_gap",
    "scanned",
    "sharpness_aware",
    "unrolled",
    "value_and_grad",
    "vmapped",
]
__all__ += family.__all__
