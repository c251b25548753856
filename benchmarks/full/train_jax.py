"""Full scale in JAX: one process with all its devices, over which every batch is spread."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.full.batches import Batch
from benchmarks.full.config import Config
from benchmarks.full.models_jax import Network
from benchmarks.full.run import same_run
from benchmarks.walk_jax import QUICK
from samfamily.division import division
from samfamily_jax import sharpness_aware

AXES = "group", "inner"
"""Of the mesh: devices that perturb apart from each other, and those that share a perturbation."""


class Trainer:
    """A network in training; see `run`."""

    part = 0, 1

    def __init__(self, config: Config, place: Path, device: str | None, devices: int | None) -> None:
        self.config, self.done = config, 0
        self.network = Network(config.plan)
        chosen = jax.devices(device)[:devices]
        batch, m = config.training["batch"], config.training["m"]
        if batch % len(chosen):
            raise ValueError(f"{len(chosen)} devices do not divide the batch of {batch}: choose with --devices")
        group = division(m, batch // len(chosen), len(chosen)).group
        mesh = jax.sharding.Mesh(np.array(chosen).reshape(-1, group), AXES, axis_types=(AxisType.Auto,) * len(AXES))
        everywhere, self.spread = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXES))
        sa = sharpness_aware(self._loss, config.variant, has_aux=True, batch_argnums=(2, 3), mesh=mesh, axis_name=AXES)
        tx = transform(config)

        def start(key: jax.Array) -> Any:
            size = config.data["size"]
            variables = self.network.init(key, jnp.zeros((1, size, size, 3)), train=False)
            weights = variables["params"]
            return weights, variables["batch_stats"], tx.init(weights), sa.init(weights)

        def step(kept: Any, images: jax.Array, labels: jax.Array, learning_rate: jax.Array) -> Any:
            weights, statistics, momentum, state = kept
            ((loss, shards), gradients), state = sa.value_and_grad(weights, state, statistics, images, labels)
            statistics = jax.tree.map(lambda x: jnp.mean(x, 0), shards)
            updates, momentum = tx.update(gradients, momentum, weights)
            weights = jax.tree.map(lambda w, u: w - learning_rate * u, weights, updates)
            return (weights, statistics, momentum, state), loss

        def wrong(kept: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            logits: Any = self.network.apply({"params": kept[0], "batch_stats": kept[1]}, images, train=False)
            return jnp.sum((jnp.argmax(logits, 1) != labels) & (labels >= 0))

        quick = QUICK if config.smoke and chosen[0].platform == "cpu" else None
        self._step = jax.jit(step, donate_argnums=0, compiler_options=quick)
        self._wrong = jax.jit(wrong, compiler_options=quick)
        self.kept = jax.jit(start, out_shardings=everywhere, compiler_options=quick)(
            jax.random.key(config.training["seed"])
        )
        self.parameters = sum(x.size for x in jax.tree.leaves(self.kept[0]))
        self.manager = ocp.CheckpointManager(
            (place / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
        )
        if self.manager.latest_step() is not None:
            self._restore(place)

    def step(self, batch: Batch, learning_rate: float) -> jax.Array:
        """Take a step and return the loss before it."""
        self.kept, loss = self._step(self.kept, *self._moved(batch), learning_rate)
        return loss

    def wrong(self, found: Iterable[Batch]) -> int:
        """How many of these images the network gets wrong; a smaller batch is filled up with what has no label."""
        counts = []
        for images, labels in found:
            missing = self.config.training["batch"] - len(labels)
            filled = (
                np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
                np.pad(labels, (0, missing), constant_values=-1),
            )
            counts.append(self._wrong(self.kept, *self._moved(filled)))
        return int(sum(map(int, counts)))

    def save(self) -> None:
        """Keep weights, statistics, momentum, the variant's memory and how far it has come."""
        state = ocp.args.StandardSave(self._numbered())
        self.manager.save(
            self.done, args=ocp.args.Composite(state=state, config=ocp.args.JsonSave(self.config.plain()))
        )
        self.manager.wait_until_finished()

    def close(self) -> None:
        """Close what writes checkpoints."""
        self.manager.close()

    def _restore(self, place: Path) -> None:
        last = self.manager.latest_step()
        read = ocp.args.Composite(config=ocp.args.JsonRestore())
        same_run(self.manager.restore(last, args=read)["config"], self.config, place)
        read = ocp.args.Composite(state=ocp.args.StandardRestore(self._numbered()))
        found = self.manager.restore(last, args=read)["state"]
        leaves = [found[str(i)] for i in range(len(found))]
        self.kept, self.done = jax.tree.unflatten(jax.tree.structure(self.kept), leaves), int(last or 0)

    def _numbered(self) -> dict[str, Any]:
        return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(self.kept))}

    def _loss(self, weights: Any, statistics: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": weights, "batch_stats": statistics}
        logits, changed = self.network.apply(variables, images, train=True, mutable=["batch_stats"])
        smoothing, classes = self.config.training["label_smoothing"], self.config.data["classes"]
        target = optax.smooth_labels(jax.nn.one_hot(labels, classes), smoothing)
        return jnp.mean(optax.softmax_cross_entropy(logits, target)), changed["batch_stats"]

    def _moved(self, batch: Batch) -> Any:
        images, labels = batch
        return jax.device_put((images, labels.astype(np.int32)), self.spread)


def transform(config: Config) -> optax.GradientTransformation:
    """What `torch.optim.SGD` does after the gradient is clipped, but for the learning rate."""
    training = config.training
    return optax.chain(
        optax.clip_by_global_norm(training["clip"]),
        optax.add_decayed_weights(training["weight_decay"]),
        optax.trace(training["momentum"], nesterov=training["nesterov"]),
    )
