# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # PyTorch in five minutes
#
# In a clone of the repository after `make setup`, whose `.venv/bin/python` runs this. (`pip install '.[torch]'` installs the library alone;
# the data come from `benchmarks`, which is in the clone.) A model, data, and a loop of yours: here a small
# network on [MNIST-1D](https://arxiv.org/abs/2011.14439), 4,000 signals of 40 numbers in ten classes.

# %%
import torch
from torch.nn.functional import cross_entropy

from benchmarks.data import load
from samfamily import pictures, slices
from samfamily_torch import SAM, Landscape, SharpnessAware

x, y, test_x, test_y = map(torch.from_numpy, vars(load("mnist1d")).values())


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(40, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )


# %% [markdown]
# ## One line and a closure
#
# `SharpnessAware` wraps the optimizer that you have. A step needs the loss twice, so it takes a closure, as `torch.optim.LBFGS` does.


# %%
def train(model, variant, epochs=40, batch=128):
    base = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4)
    optimizer = SharpnessAware(base, variant)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, epochs)

    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(batch):

            def closure():
                optimizer.zero_grad()
                loss = cross_entropy(model(x[chosen]), y[chosen])
                loss.backward()
                return loss

            loss = optimizer.step(closure)  # the loss at w, before the step
        schedule.step()
    error = (model(test_x).argmax(1) != test_y).double().mean()
    print(f"rho = {optimizer.param_groups[0]['rho']}: last training loss {loss:.3f}, test error {error:.1%}")
    return optimizer.info  # of the last step


# %%
sgd, sam = network(), network()
train(sgd, SAM(rho=0.0))  # a ball of no size: plain SGD
info = train(sam, SAM(rho=0.4))

# %% [markdown]
# (One run of each is an example and no evidence; `python -m benchmarks paper a` has the evidence.) `info` says what the adversary
# did in the last step: the radius, how far it went, and the loss that it found.

# %%
print(info)

# %% [markdown]
# ## Look
#
# The training loss along the gradient, where SAM climbs, and along a random direction, at both solutions. The shaded band is SAM's ball.

# %%
distances = torch.linspace(-1, 1, 41).tolist()


def look(model):
    landscape = Landscape(lambda x, y: cross_entropy(model(x), y), model, (x, y))
    directions = {"the gradient": landscape.gradient()[1], "random": slices.filter_normalised(landscape.w, seed=0)}
    return {name: slices.along(landscape, d / d.norm(2), distances) for name, d in directions.items()}


pictures.compare(distances, {"SGD": look(sgd), "SAM": look(sam)}, rho=0.4)

# %% [markdown]
# ## From here
#
# - Which variant? [The family](../the-family.md) has a row for each, with its formula and its cost. They are all called alike:
#   `SharpnessAware(base, ASAM(rho=0.5))`.
# - `SAM(rho=0.05).sharded(16)` lets 16 examples share a perturbation, whatever the number of devices: [m-sharpness](../m-sharpness.md). The closure
#   then takes the batch: `optimizer.step(closure, batch=(x, y))`.
# - Which rho? 0.4 is what held-out data chose for this network; most want less: [which rho?](../which-rho.md).
# - Lightning, the Hugging Face `Trainer`, `torch.compile`: [trainers and loops](../trainers.md).
# - Mixed precision with a `GradScaler`, clipping, accumulation, checkpoints; what happens to batch norm, dropout and NaN:
#   [robustness](../robustness.md).
