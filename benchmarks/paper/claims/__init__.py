"""The claims, one module each."""

from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import (
    beats_sgd,
    fine_tuning,
    frontier,
    inner_steps,
    label_noise,
    longer,
    norms,
    second_order,
    sensitivity,
    sharding,
    spectrum,
    theorem,
)

CLAIMS: dict[str, Claim] = {
    claim.letter: claim
    for claim in (
        beats_sgd.CLAIM,
        longer.CLAIM,
        label_noise.CLAIM,
        sharding.CLAIM,
        spectrum.CLAIM,
        second_order.CLAIM,
        norms.CLAIM,
        inner_steps.CLAIM,
        sensitivity.CLAIM,
        theorem.CLAIM,
        fine_tuning.CLAIM,
        frontier.CLAIM,
    )
}
USUAL = [letter for letter in CLAIMS if letter != frontier.CLAIM.letter]
"""All but the frontier, which takes longer than the rest together."""
