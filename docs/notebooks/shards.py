# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # m, seen
#
# With `variant.sharded(m)` each m examples have a perturbation of their own, and the step takes the mean of their gradients. The smaller m, the
# further each climbs against *its* examples. Here: how the loss rises with m at one solution, and what training with m does.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from samfamily import sharpness
from samfamily_jax import SAM, Landscape, sharpness_aware, vmapped


def spirals(points, random, wrong=0.0):
    label = np.arange(points) % 2
    t = 3 * np.sqrt(random.uniform(size=points)) + 0.3
    angle = 2 * t + np.pi * label
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1) + 0.15 * random.normal(size=(points, 2))
    return x.astype(np.float32), np.where(random.uniform(size=points) < wrong, 1 - label, label)


def logits(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def loss_fn(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def network(key):
    keys, sizes = jax.random.split(key, 3), [(2, 64), (64, 64), (64, 2)]
    return [(jax.random.normal(k, s) * (2 / s[0]) ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]



random = np.random.default_rng(0)
(x, y), (test_x, test_y) = spirals(240, random, wrong=0.2), spirals(2000, random)
sizes = [5, 20, 60, 240]


def train(variant, key=0, steps=300):
    params, tx = network(jax.random.key(key)), optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9)
    sa = sharpness_aware(loss_fn, variant, batch_argnums=(1, 2), shards=vmapped)

    def step(carry, _):
        params, opt_state, state = carry
        (_, grads), state = sa.value_and_grad(params, state, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[0][0])
    return run((params, tx.init(params), sa.init(params)))


# %%
solutions = {"SGD": train(SAM(rho=0.0).sharded(len(x)))}
solutions |= {f"SAM, m = {m}": train(SAM(rho=0.1).sharded(m)) for m in sizes}
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, params in solutions.items():
    landscape = Landscape(loss_fn, params, (x, y))
    rises = [sharpness.worst_case(landscape, SAM(rho=0.1).sharded(m)).value for m in sizes]
    error = jnp.mean(logits(params, test_x).argmax(1) != test_y)
    ax.plot(sizes, rises, "o-", label=f"{name}: test error {error:.1%}")
ax.set(xscale="log", yscale="log", xlabel="m of the measurement", ylabel="m-sharpness at rho = 0.1", title="The rise of the loss, by m")
ax.set_xticks(sizes, [str(m) for m in sizes])
ax.legend(title="trained with")
plt.show()

# %% [markdown]
# One line is one solution: the smaller m, the higher it reads, since each shard is climbed against alone. Across the lines: training with a small m
# leaves less to climb at every m. One seed of each: an example, and no evidence; `python -m benchmarks paper d` has the evidence.
#
# What is the same on one device, on eight, and in several processes is *this* m, and not the number of devices: [m-sharpness](../m-sharpness.md).
