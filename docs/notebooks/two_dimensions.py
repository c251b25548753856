# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # SAM in two dimensions
#
# A valley whose floor is level everywhere, with walls that are steep at both ends and gentle in the middle. Every point of the floor is a
# minimum, all equally low. We look at the ball, at the step that climbs in it, at the exact maximum, and at which minimum gradient
# descent and SAM find.

# %%
import matplotlib.pyplot as plt
import numpy as np

from samfamily import SAM
from samfamily.reference import value_and_grad


def loss_and_gradient(w):
    """The loss h(x) y^2 / 2 with walls h(x) = 0.3 + 2 x^2, and its gradient."""
    [(x, y)] = w
    wall = 0.3 + 2 * x**2
    return float(wall * y**2 / 2), [np.array([2 * x * y**2, wall * y])]


def loss(point):
    return loss_and_gradient([point])[0]


xs, ys = np.linspace(-2.2, 1.2, 171), np.linspace(-1.1, 1.3, 121)
surface = np.array([[loss((x, y)) for x in xs] for y in ys])


def draw(title):
    """The valley, in steps of the loss's root, so that its floor can be seen."""
    _, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    ax.contourf(xs, ys, np.sqrt(surface), 24, cmap="Blues_r")
    ax.set(aspect="equal", title=title, xlabel="x", ylabel="y")
    return ax


# %% [markdown]
# ## The ball, the climb, and the exact maximum
#
# At the weights $w$ the gradient $g$ points uphill. SAM's perturbation goes along it to the edge of the ball, $\hat\epsilon = \rho\, g / \lVert g\rVert$: that is
# the maximum of the loss's linear part. The maximum of the loss itself is found here by trying all directions.

# %%
rho, w = 0.5, np.array([-1.0, 0.25])
_, [g] = loss_and_gradient([w])
first_order = w + rho * g / np.linalg.norm(g)
turn = np.linspace(0, 2 * np.pi, 2000)
circle = w + rho * np.stack([np.cos(turn), np.sin(turn)], axis=1)
worst = max(circle, key=loss)

ax = draw(f"The ball of radius {rho} round w, and its highest points")
ax.plot(*circle.T, color="#e0632a", lw=1.5)
ax.annotate("", first_order, w, arrowprops={"arrowstyle": "->", "lw": 1.5})
for point, name, marker in ((w, "w", "o"), (first_order, "SAM's climb", "s"), (worst, "the exact maximum", "*")):
    ax.plot(
        *point, marker, color="black", ms=13 if marker == "*" else 7, label=f"{name}: loss {loss(point):.3f}", ls=""
    )
ax.legend(loc="upper right")
plt.show()

# %% [markdown]
# The climb is good and not perfect, since the loss bends inside the ball; [how good](../exact-maximum.md) can be known.
#
# ## Which minimum training finds
#
# The same start, the same learning rate, four radii. `samfamily.reference` is the executable definition of a step, in NumPy.

# %%
ends = {}
ax = draw("Where gradient descent and SAM end")
for radius, colour in ((0.0, "#333333"), (0.1, "#1d9c78"), (0.2, "#b8860b"), (0.4, "#e0632a")):
    step, at = value_and_grad(loss_and_gradient, SAM(rho=radius)), np.array([-1.6, 0.9])
    path = [at]
    for _ in range(600):
        _, [gradient] = step([at])
        at = at - 0.05 * gradient
        path.append(at)
    ends[radius] = at
    ax.plot(*np.array(path).T, color=colour, lw=1.3, label=f"SAM, rho = {radius}" if radius else "gradient descent")
    ax.plot(*at, "o", color=colour, ms=9, zorder=5)
ax.legend(loc="upper right")
plt.show()

# %%
for radius, (x, y) in ends.items():
    print(
        f"rho = {radius}: ends at x = {x:+.2f}, where the walls' curvature is {0.3 + 2 * x**2:.2f}; loss {loss((x, y)):.1e}"
    )

# %% [markdown]
# Gradient descent stops at the first minimum that it meets. SAM, whose ball reaches up both walls, feels how steep they are, and goes on along
# the floor to where they are gentle: the faster, the larger the ball. It does so although the loss on the floor is the same everywhere.
# That is what a neighbourhood of uniformly low loss means, and why the radius matters.
