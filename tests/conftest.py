"""What every test shares."""

import gc
import os
from tempfile import TemporaryDirectory

# For JAX, before anybody imports it: eight CPU devices, so that what is shared between devices is tested on any
# machine; and machine code that is made quickly, since most of what a test compiles runs once.  The HLO is the same.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
    ]
)
# There is a process that tests for each core, and threads that wait for a core cost it time.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
# Examples and benchmarks in processes of their own find what the first of them has generated.
if "SAMFAMILY_DATA" not in os.environ:
    _DATA = TemporaryDirectory()  # as long as the process that begins the others
    os.environ["SAMFAMILY_DATA"] = _DATA.name

from hypothesis import HealthCheck, Phase, settings

# How many examples a property is tried on. No deadlines: the first example of a property pays for its compilation.
settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    derandomize=True,  # a change passes or fails by its own doing, not by the draw
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # measures the machine
)
settings.register_profile("thorough", max_examples=6000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "mutants",  # one failure is enough, and the smallest is of no interest
    settings.get_profile("ci"),
    max_examples=20,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_finish() -> None:
    """Leave what importing both frameworks made, millions of objects, out of every later search for garbage."""
    gc.collect()
    gc.freeze()
