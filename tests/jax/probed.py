"""What the tests of reported traps share: probes of `python -m benchmarks faults --backend jax`, held or not."""

from functools import cache

from benchmarks.fault_table import Outcome, Probe
from benchmarks.faults_jax.libraries import Library, Opaque, Ours, Transparent

OURS, OPAQUE, TRANSPARENT = Ours(), Opaque(), Transparent()


@cache
def look(probe: Probe, library: Library) -> Outcome:
    """What a probe finds, looked for once: several tests ask."""
    return probe(library)


def holds(*probes: Probe) -> None:
    """Assert that this library passes."""
    for probe in probes:
        outcome = look(probe, OURS)
        assert outcome.ok is True, f"{probe.title}: {outcome.detail}"


def fails(probe: Probe, library: Library) -> str:
    """Assert that another library does not, so that the trap is one, and return what was found."""
    outcome = look(probe, library)
    assert outcome.ok is False, f"{probe.title}: {outcome.detail}"
    return outcome.detail
