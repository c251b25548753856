"""What is compared: plain SGD, and the members of the family with the radius that each was tuned to.

The radii, one for each level of label noise, are the choice of `python -m benchmarks tune` on MNIST-1D: the lowest
error on validation data held out from the training data. The test data had no part in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import samfamily

NOISE_LEVELS = (0.0, 0.4)
SHARD = 32
ETA = 0.01


@dataclass(frozen=True)
class Method:
    """One way to train. `build(rho)` is the variant that the library runs; plain SGD has none."""

    name: str
    build: Callable[[float], samfamily.Variant] | None = None
    radii: Mapping[float, float] = field(default_factory=lambda: dict.fromkeys(NOISE_LEVELS, 0.0))
    epoch_factor: int = 1
    colour: str = "#7d8792"
    dashed: bool = False

    def gradients_per_step(self, rho: float) -> float:
        """Gradient evaluations, each over one batch, that a step takes."""
        return 1.0 if self.build is None else float(self.build(rho).gradients_per_step)


def _sam(rho: float) -> samfamily.Variant:
    return samfamily.SAM(rho=rho)


def _asam(rho: float) -> samfamily.Variant:
    return samfamily.ASAM(rho=rho, eta=ETA)


def _sharded(rho: float) -> samfamily.Variant:
    return samfamily.SAM(rho=rho).sharded(SHARD)


METHODS = {
    "sgd": Method("SGD"),
    "sgd-double": Method("SGD, twice the epochs", epoch_factor=2, dashed=True),
    "sam": Method("SAM", _sam, radii={0.0: 0.05, 0.4: 0.1}, colour="#e0632a"),
    "asam": Method("ASAM", _asam, radii={0.0: 0.25, 0.4: 0.25}, colour="#1d9c78"),
    "sam-sharded": Method(f"SAM, m = {SHARD}", _sharded, radii={0.0: 0.05, 0.4: 0.1}, colour="#5a7fe6"),
}
