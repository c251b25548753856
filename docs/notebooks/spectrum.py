# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # The spectrum, before and after
#
# The Hessian's eigenvalues say along how many directions the loss is curved, and how much: at the start, after SGD, and after SAM.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from samfamily import curvature, pictures
from samfamily_jax import SAM, Landscape, value_and_grad


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
x, y = spirals(300, random, wrong=0.2)


def train(params, variant, steps=400):
    tx, vg = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9), value_and_grad(loss_fn, variant)

    def step(carry, _):
        params, opt_state = carry
        _, grads = vg(params, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[0][0])((params, tx.init(params)))


# %%
start = network(jax.random.key(0))
solutions = {"start": start, "SGD": train(start, SAM(rho=0.0)), "SAM": train(start, SAM(rho=0.1))}
spectra, first = {}, None
for name, params in solutions.items():
    landscape = first.at(params) if first else Landscape(loss_fn, params, (x, y))  # .at: compiled already
    first = first or landscape
    pairs = curvature.eigenvalues(landscape, top=5, bottom=1)
    spectra[name] = curvature.density(landscape, order=40, draws=4, known=pairs)
    top, ratio, lowest = pairs.values[0], pairs.values[0] / pairs.values[4], pairs.values[-1]
    print(f"{name:5}  largest {top:7.3f}   largest / fifth {ratio:5.2f}   smallest {lowest:7.3f}   {landscape.spent.products:.0f} products")

# %%
pictures.spectrum(spectra)
plt.show()

# %% [markdown]
# The band is one standard error over the random directions of the estimate; the triangles are the largest eigenvalues. How each number is found, what
# it costs, and what to beware of: [measuring sharpness](../measuring-sharpness.md).
