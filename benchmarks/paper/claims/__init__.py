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
    transfer,
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
        transfer.CLAIM,
    )
}
USUAL = [letter for letter in CLAIMS if letter not in (frontier.CLAIM.letter, transfer.CLAIM.letter)]
"""The paper's own; the frontier takes about as long as all of these together."""
