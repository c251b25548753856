# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # m, seen
#
# With `variant.sharded(m)` each m examples have a perturbation of their own, and the step takes the mean of their gradients. The smaller m, the
# further each climbs against *its* examples. Here: what training with m does, and how the loss rises with the m that it is measured with.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

from benchmarks.data import load
from samfamily import sharpness
from samfamily_jax import SAM, Landscape, sharpness_aware, vmapped

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


# %%
def train(variant, epochs=20, batch=128):
    params, steps = network(jax.random.key(0)), len(x) // batch
    tx = optax.sgd(optax.cosine_decay_schedule(0.2, epochs * steps), momentum=0.9)
    sa = sharpness_aware(loss_fn, variant, batch_argnums=(1, 2), shards=vmapped)

    def step(carry, chosen):
        params, opt_state, state = carry
        (_, grads), state = sa.value_and_grad(params, state, x[chosen], y[chosen])
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), None

    def epoch(carry, key):
        order = jax.random.permutation(key, len(x))[: steps * batch]
        return jax.lax.scan(step, carry, order.reshape(steps, batch))

    keys = jax.random.split(jax.random.key(1), epochs)
    return jax.jit(lambda carry: jax.lax.scan(epoch, carry, keys)[0][0])((params, tx.init(params), sa.init(params)))


solutions = {"SGD": train(SAM(rho=0.0).sharded(128))}
solutions |= {f"SAM, m = {m}": train(SAM(rho=0.2).sharded(m)) for m in (8, 32, 128)}

# %%
sizes = [8, 32, 128, 512]
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, params in solutions.items():
    landscape = Landscape(loss_fn, params, (x[:512], y[:512]))
    rises = [sharpness.worst_case(landscape, SAM(rho=0.2).sharded(m)).value for m in sizes]
    error = jnp.mean(logits(params, test_x).argmax(1) != test_y)
    ax.plot(sizes, rises, "o-", label=f"{name}: test error {error:.1%}")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="m of the measurement",
    ylabel="m-sharpness, rho = 0.2",
    title="The rise of the loss, by m",
)
ax.set_xticks(sizes, [str(m) for m in sizes])
ax.legend(title="trained with")
plt.show()

# %% [markdown]
# One line is one solution: the smaller m, the higher it reads, since each shard is climbed against alone. (One seed of each is an example and no
# evidence; `python -m benchmarks paper d` has the evidence.)
#
# What is the same on one device, on eight, and in several processes is *this* m, and not the number of devices: [m-sharpness](../m-sharpness.md).
