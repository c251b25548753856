"""m examples that share a perturbation."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fault_table import Outcome, fault
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import BATCHES, SGD, agree, fit, network, one_step, sam

M = 2


@fault(
    "`m` examples share one perturbation: the step is the mean over an explicit loop",
    "google-research/sam#8, davda54/sam#3, davda54/sam#62",
)
def shards_equal_a_loop(library: Library) -> Outcome:
    """The paper's m was the number of examples on an accelerator."""
    x, y = BATCHES[0]
    found = one_step(library, library.sharded(fit, SGD, RHO, M), network(), x, y)
    parts = [sam(fit, network(), (x[i : i + M], y[i : i + M])) for i in range(0, len(x), M)]
    return agree(found, jax.tree.map(lambda *w: np.mean(w, axis=0), *parts))


@fault("Shards on a CPU put no convolution into a loop", "jax-ml/jax#12868")
def no_convolution_in_a_loop(library: Library) -> Outcome:
    """A convolution inside a `while` runs without XLA's fast kernels there: 16 s instead of 3 ms."""
    loops = _compiled(library).count(" while(")
    return Outcome(not loops, f"{loops} loops in the compiled step")


@fault("Shards make no grouped convolution", "openxla/xla#47945, jax-ml/jax#20683")
def no_grouped_convolution(library: Library) -> Outcome:
    """Weights of their own for every shard, under `vmap`, become groups, which several devices then replicate."""
    text = _compiled(library)
    groups = text.count("feature_group_count=") + text.count("batch_group_count=")
    count = text.count(" convolution(") + text.count('custom_call_target="__onednn$convolution"')
    return Outcome(not groups, f"{groups} grouped of {count} convolutions")


@functools.cache
def _compiled(library: Library) -> str:
    """One step of a small convolutional model, two shards, as XLA compiled it."""
    kernels = {"first": np.ones((4, 1, 3, 3), np.float32), "second": np.ones((4, 4, 3, 3), np.float32)}

    def loss(params: PyTree, x: Any, y: Any) -> jax.Array:
        for name in ("first", "second"):
            x = jnp.tanh(jax.lax.conv(x, params[name], (1, 1), "SAME"))
        return jnp.mean((jnp.mean(x, axis=(1, 2, 3)) - y) ** 2)

    trainer = library.sharded(loss, SGD, RHO, M)
    x, y = np.ones((4, 1, 6, 6), np.float32), np.ones(4, np.float32)
    return str(jax.jit(trainer.call).lower(kernels, trainer.init(kernels), x, y).compile().as_text())
