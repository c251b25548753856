"""Train a small convolutional network on MNIST-1D with SAM, m examples to a perturbation.

In two processes, of one machine or of two, each with its part of every batch. All know where the first one is, how many
there are, and which one they are, 0 or 1:

    export JAX_COORDINATOR_ADDRESS=127.0.0.1:8476 PROCESSES=2
    PROCESS=0 python examples/train_jax_processes.py --m 16 --epochs 5 &
    PROCESS=1 python examples/train_jax_processes.py --m 16 --epochs 5

The batch lies on all devices that there are, and m means the same on any number of them.
"""

import argparse
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.data import epochs, load
from benchmarks.network import initial_weights
from benchmarks.network_jax import cross_entropy, logits
from samfamily_jax import SAM, value_and_grad


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="stop each epoch after so many steps")
    parser.add_argument("--batch", type=int, default=64, help="examples to a step, over all devices")
    parser.add_argument("--m", type=int, default=16, help="examples to a perturbation")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()
    jax.distributed.initialize(num_processes=int(os.environ["PROCESSES"]), process_id=int(os.environ["PROCESS"]))

    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    everywhere, spread = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    data = load("mnist1d")
    tx = optax.sgd(options.lr, momentum=0.9)
    vg = value_and_grad(cross_entropy, SAM(rho=options.rho).sharded(options.m), mesh=mesh, axis_name="data")

    @jax.jit
    def step(weights: Any, opt_state: Any, batch: Any) -> Any:
        loss, gradients = vg(weights, batch)
        updates, opt_state = tx.update(gradients, opt_state)
        return optax.apply_updates(weights, updates), opt_state, loss

    @jax.jit
    def test_error(weights: Any, inputs: Any, labels: Any) -> Any:
        return jnp.mean(jnp.argmax(logits(weights, inputs), axis=1) != labels)

    weights = jax.device_put(initial_weights(data.inputs.shape[1], seed=0), everywhere)
    opt_state = jax.device_put(tx.init(weights), everywhere)
    order: Iterator[Any] = islice(epochs(len(data.labels), options.batch, seed=0), options.epochs)
    order = (batches.reshape(len(batches), jax.process_count(), -1)[:, jax.process_index()] for batches in order)
    for epoch, batches in enumerate(order, start=1):
        losses = []
        for chosen in batches[: options.steps]:
            batch = jax.make_array_from_process_local_data(spread, (data.inputs[chosen], data.labels[chosen]))
            weights, opt_state, loss = step(weights, opt_state, batch)
            losses.append(loss)
        error = test_error(weights, data.evaluation_inputs, data.evaluation_labels)
        print(f"epoch {epoch}: loss {sum(map(float, losses)) / len(losses):.4f}, test error {100 * error:.1f} %")
    print(f"norm of the weights {jax.jit(optax.global_norm)(weights):.4f}")


if __name__ == "__main__":
    main()
