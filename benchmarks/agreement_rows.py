"""The rows that both frameworks walk: every row of the family as its constructor makes it, and some options."""

from dataclasses import dataclass, replace
from math import inf

from benchmarks.agreement_task import LR
from benchmarks.methods import SHARD
from samfamily import ASAM, FAMILY, GSAM, SAM, WSAM, Adaptive, Ball, LookSAM, SAMPa, Variant, filterwise, layerwise
from samfamily.ascent import Gradient

RHO, CHANGE = 0.05, 1e-6


@dataclass(frozen=True)
class Row:
    """What is walked.

    Attributes:
        variant: in PyTorch.
        other: in JAX, if it is not the same one.
        option: whether it is more than a row of the family with its defaults.
    """

    variant: Variant
    other: Variant | None = None
    option: bool = False


OPTIONS = {
    "SAM, p = 1": SAM(rho=RHO, p=1),
    "SAM, p = 1.5": SAM(rho=RHO, p=1.5),
    "SAM, p = inf": SAM(rho=0.005, p=inf),
    "SAM, 3 climbs": SAM(rho=RHO, steps=3),
    "SAM, second order": SAM(rho=RHO, second_order=True),
    "SAM, rho by schedule": SAM(rho=lambda step: RHO * step / (step + 10)),
    f"SAM, m = {SHARD}": SAM(rho=RHO).sharded(SHARD),
    "ASAM, filterwise": ASAM(size=filterwise, rho=0.1),
    "ASAM, layerwise": ASAM(size=layerwise, rho=0.1),
    f"GSAM, m = {SHARD}": GSAM().sharded(SHARD),
    "GSAM, of the loss": GSAM(minimize_fp=False),
    "WSAM, coupled": WSAM(decoupled=False),
    "GSAM in ASAM's ball, p = 3": GSAM().within(Ball(3, Adaptive())),
    "LookSAM, 2 climbs, p = inf": replace(LookSAM(rho=0.005), ascent=Gradient(2), ball=Ball(inf)),
}
CONTROL = f"control: SAM, rho in JAX larger by {CHANGE:g} of it"
"""Two paths that do differ, to show that the comparison would see it."""

ROWS = {
    **{name: Row(SAMPa(lr=LR) if name == "SAMPa" else make()) for name, make in FAMILY.items()},
    **{name: Row(variant, option=True) for name, variant in OPTIONS.items()},
    CONTROL: Row(SAM(rho=RHO), SAM(rho=RHO * (1 + CHANGE)), option=True),
}
QUICK = ("SAM", "ASAM", "GSAM", "LookSAM", "WSAM", "VaSSO", CONTROL)
