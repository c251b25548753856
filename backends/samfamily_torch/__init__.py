"""samfamily for PyTorch: `SharpnessAware` makes any torch.optim.Optimizer follow a variant.

Every row of `samfamily.FAMILY` can be imported from here too.
"""

from samfamily import family
from samfamily.family import *  # noqa: F403  every row, without a second list of them
from samfamily.inner import InnerGap
from samfamily.program import StepInfo
from samfamily_torch.inner import inner_gap
from samfamily_torch.landscape import Landscape
from samfamily_torch.optimizer import SharpnessAware
from samfamily_torch.space import TorchSpace

__all__ = ["InnerGap", "Landscape", "SharpnessAware", "StepInfo", "TorchSpace", "inner_gap"]
__all__ += family.__all__
