# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Label noise
#
# Wrong labels are where SAM is known to help most. MNIST-1D with a growing share of its training labels replaced at random; plain SGD and SAM with
# three radii; two seeds of each, with other weights, batches and wrong labels.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from benchmarks.data import load
from samfamily_jax import SAM, value_and_grad

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
# The radius is an argument of the compiled program, so all radii, shares and seeds share one: `with_rho` takes a traced number.


# %%
def train(rho, key, y, epochs=30, batch=128):
    params, steps = network(key), len(x) // batch
    tx = optax.sgd(optax.cosine_decay_schedule(0.2, epochs * steps), momentum=0.9)
    vg = value_and_grad(loss_fn, SAM().with_rho(rho))

    def step(carry, chosen):
        params, opt_state = carry
        _, grads = vg(params, x[chosen], y[chosen])
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    def epoch(carry, key):
        order = jax.random.permutation(key, len(x))[: steps * batch]
        return jax.lax.scan(step, carry, order.reshape(steps, batch))

    (params, _), _ = jax.lax.scan(epoch, (params, tx.init(params)), jax.random.split(key, epochs))
    return jnp.mean(logits(params, test_x).argmax(1) != test_y)


radii, shares, seeds = [0.0, 0.1, 0.2, 0.4], [0.0, 0.2, 0.4, 0.6], range(2)
run, errors = jax.jit(train), np.zeros((len(radii), len(shares), len(seeds)))
for j, share in enumerate(shares):
    for k in seeds:
        noisy = jnp.asarray(load("mnist1d").with_noise(share, seed=k).labels)
        for i, rho in enumerate(radii):
            errors[i, j, k] = run(rho, jax.random.key(k), noisy)

# %%
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for rho, found, colour in zip(radii, errors, ("#333333", "#1d9c78", "#b8860b", "#e0632a"), strict=True):
    ax.plot(shares, found.mean(1), color=colour, label=f"SAM, rho = {rho}" if rho else "SGD")
    ax.plot(shares, found, "o", ms=4, color=colour)
ax.set(xlabel="share of training labels that are replaced", ylabel="test error", title="SGD and SAM under label noise")
ax.legend()
plt.show()

# %% [markdown]
# Dots are seeds, lines their mean. With tuned radii, five seeds and intervals: `python -m benchmarks paper c`.
