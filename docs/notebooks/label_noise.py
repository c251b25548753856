# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Label noise
#
# Wrong labels are where SAM is known to help most. Two spirals, 300 points, of whose labels a growing share is wrong; plain SGD and SAM with
# four radii; five seeds of each, with new weights and new data.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from samfamily_jax import SAM, sharpness_aware


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



# %% [markdown]
# The radius is an argument of the compiled program, so all radii, shares and seeds share one: `with_rho` takes a traced number.


# %%
def train(rho, key, x, y, test_x, test_y, steps=300):
    params, tx = network(key), optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9)
    sa = sharpness_aware(loss_fn, SAM().with_rho(rho))

    def step(carry, _):
        params, opt_state, state = carry
        (_, grads), state = sa.value_and_grad(params, state, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), None

    (params, *_), _ = jax.lax.scan(step, (params, tx.init(params), sa.init(params)), length=steps)
    return jnp.mean(logits(params, test_x).argmax(1) != test_y)


radii, shares, seeds = [0.0, 0.05, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3, 0.4], range(5)
run, errors = jax.jit(train), np.zeros((len(radii), len(shares), len(seeds)))
for j, share in enumerate(shares):
    for k in seeds:
        random = np.random.default_rng(k)
        data = *spirals(300, random, share), *spirals(2000, random)
        for i, rho in enumerate(radii):
            errors[i, j, k] = run(rho, jax.random.key(k), *data)

# %%
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for rho, found, colour in zip(radii, errors, plt.cm.viridis(np.linspace(0, 0.9, len(radii))), strict=True):
    name = f"SAM, rho = {rho}" if rho else "SGD"
    spread = found.std(1, ddof=1) / np.sqrt(len(seeds))
    ax.errorbar(shares, found.mean(1), spread, color=colour, label=name, capsize=2)
ax.set(xlabel="share of training labels that are wrong", ylabel="test error, clean labels", title="SGD and SAM under label noise")
ax.legend()
plt.show()

# %% [markdown]
# Bars are one standard error over the five seeds. The claims of the paper, with tuned radii and intervals on other data, are measured by
# `python -m benchmarks paper c`.
