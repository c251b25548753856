# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # JAX in five minutes
#
# In a clone of the repository after `make setup`, whose `.venv/bin/python` runs this. (`pip install '.[jax]'` installs the library alone; the
# data come from `benchmarks`, which is in the clone.) Parameters, a loss, and a loop of yours: here a
# small network on [MNIST-1D](https://arxiv.org/abs/2011.14439), 4,000 signals of 40 numbers in ten classes.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.data import load
from samfamily import pictures, slices
from samfamily_jax import SAM, Landscape, sharpness_aware, value_and_grad

x, y, test_x, test_y = map(jnp.asarray, vars(load("mnist1d")).values())


def network(key):
    keys, sizes = jax.random.split(key, 3), [(40, 128), (128, 128), (128, 10)]
    return [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]


def logits(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def loss_fn(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


# %% [markdown]
# ## One line
#
# `value_and_grad(loss_fn, SAM(rho=...))` is called like `jax.value_and_grad(loss_fn)` and returns the loss at the parameters and the gradient that
# the optimizer should follow. Everything else stays: optax, `jit`, `scan`, donation.


# %%
def train(params, variant, epochs=40, batch=128):
    steps = len(x) // batch
    tx = optax.chain(
        optax.add_decayed_weights(5e-4), optax.sgd(optax.cosine_decay_schedule(0.2, epochs * steps), momentum=0.9)
    )
    vg = value_and_grad(loss_fn, variant)  # instead of jax.value_and_grad(loss_fn)

    def step(carry, chosen):
        params, opt_state = carry
        loss, grads = vg(params, x[chosen], y[chosen])
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def epoch(carry, key):
        order = jax.random.permutation(key, len(x))[: steps * batch]
        return jax.lax.scan(step, carry, order.reshape(steps, batch))

    keys = jax.random.split(jax.random.key(1), epochs)
    (params, _), losses = jax.jit(lambda carry: jax.lax.scan(epoch, carry, keys))((params, tx.init(params)))
    error = jnp.mean(logits(params, test_x).argmax(1) != test_y)
    print(f"last training loss {losses[-1].mean():.3f}, test error {error:.1%}")
    return params


# %%
start = network(jax.random.key(0))
sgd = train(start, SAM(rho=0.0))  # a ball of no size: plain SGD
sam = train(start, SAM(rho=0.4))

# %% [markdown]
# (One run of each is an example and no evidence; `python -m benchmarks paper a` has the evidence.)
#
# A row with memory, or a radius that follows a schedule, has a state: `sharpness_aware` gives the functions that carry it, and
# `info` says what the adversary did: the radius, how far it went, the loss that it found.

# %%
warm = SAM(rho=lambda step: 0.4 * jnp.minimum(1.0, (step + 1) / 100))
sa = sharpness_aware(loss_fn, warm)
state = sa.init(sam)
(loss, grads), state, info = jax.jit(sa.with_info)(sam, state, x[:128], y[:128])
print(info)

# %% [markdown]
# ## Look
#
# The training loss along the gradient, where SAM climbs, and along a random direction, at both solutions. The shaded band is SAM's ball.

# %%
distances = np.linspace(-1, 1, 41)


def look(params):
    landscape = Landscape(loss_fn, params, (x, y))
    directions = {"the gradient": landscape.gradient()[1], "random": slices.filter_normalised(landscape.w, seed=0)}
    return {name: slices.along(landscape, d / d.norm(2), distances) for name, d in directions.items()}


pictures.compare(distances, {"SGD": look(sgd), "SAM": look(sam)}, rho=0.4)

# %% [markdown]
# ## From here
#
# - Which variant? [The family](../the-family.md) has a row for each, with its formula and its cost.
# - `SAM(rho=0.05).sharded(16)` lets 16 examples share a perturbation, on one device or on a mesh: [m-sharpness](../m-sharpness.md). For a loss of
#   several arguments say which are the batch: `batch_argnums=(1, 2)`.
# - Which rho? 0.4 is what held-out data chose for this network; most want less: [which rho?](../which-rho.md).
# - optax chains and groups, flax linen and nnx, equinox, haiku, checkpoints: [trainers and loops](../trainers.md#jax).
# - What happens to batch statistics, random keys and NaN: [robustness](../robustness.md).
