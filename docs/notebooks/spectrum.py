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
import numpy as np
import optax

from samfamily import curvature, pictures
from samfamily_jax import SAM, Landscape, value_and_grad


def spirals(points, random, wrong):
    """Two spirals, one for each class, with this share of the labels turned round."""
    label = np.arange(points) % 2
    t = 3 * np.sqrt(random.uniform(size=points)) + 0.3
    angle = 2 * t + np.pi * label
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1) + 0.15 * random.normal(size=(points, 2))
    return x.astype(np.float32), np.where(random.uniform(size=points) < wrong, 1 - label, label)


x, y = spirals(300, np.random.default_rng(0), wrong=0.2)


def network(key):
    keys, sizes = jax.random.split(key, 3), [(2, 64), (64, 64), (64, 2)]
    return [(jax.random.normal(k, s) * (2 / s[0]) ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]


def loss_fn(params, x, y):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    logits = x @ params[-1][0] + params[-1][1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(params, variant, steps=400):
    tx = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9)
    vg = value_and_grad(loss_fn, variant)

    def step(carry, _):
        params, opt_state = carry
        _, grads = vg(params, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[0][0])((params, tx.init(params)))


# %%
start = network(jax.random.key(0))
solutions = {"start": start, "SGD": train(start, SAM(rho=0.0)), "SAM": train(start, SAM(rho=0.1))}
spectra, landscape = {}, Landscape(loss_fn, start, (x, y))
for name, params in solutions.items():
    here = landscape.at(params)  # compiled once for all
    pairs = curvature.eigenvalues(here, top=5, bottom=1)
    spectra[name] = curvature.density(here, order=40, draws=4, known=pairs)
    top, fifth, lowest = pairs.values[0], pairs.values[4], pairs.values[-1]
    print(
        f"{name:5}  loss {here.loss():.3f}   largest {top:6.2f}   largest / fifth {top / fifth:5.2f}   smallest {lowest:7.3f}"
    )

# %%
pictures.spectrum({name: spectra[name] for name in ("SGD", "SAM")})

# %% [markdown]
# The band is one standard error over the random directions of the estimate; the triangles are the largest eigenvalues. SAM's loss is the higher, and its solution
# the flatter all the same.
# How each number is found, what
# it costs, and what to beware of: [measuring sharpness](../measuring-sharpness.md).
