"""SGD with momentum under ten rows, written out by hand in NumPy: what `test_state_machine.py` holds the optimizer to.

Nothing here comes from samfamily.  The trainable leaves are one flat vector, a row is a few lines of arithmetic on it,
and the loss's gradient is written down, not differentiated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from math import isfinite, nan
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Leaves: TypeAlias = dict[str, Array]

SHAPES: dict[str, tuple[int, ...]] = {"a": (3,), "b": (), "u": (2,), "c": (2, 1), "d": ()}
"""`b` and `d` are 0-d; `u` is hardly ever used; `c` and `d` are at first not the optimizer's."""
SIZES = {name: int(np.prod(shape, dtype=int)) for name, shape in SHAPES.items()}
ENDS = {name: sum(list(SIZES.values())[: i + 1]) for i, name in enumerate(SIZES)}
FEATURES = {name: slice(ENDS[name] - SIZES[name], ENDS[name]) for name in SHAPES}

_rng = np.random.default_rng(7)
START: Leaves = {name: np.asarray(_rng.normal(size=shape)) for name, shape in SHAPES.items()}
BATCHES = [(0.5 * _rng.normal(size=(4, sum(SIZES.values()))), _rng.normal(size=4)) for _ in range(3)]

MOMENTUM, DECAY, GAMMA = 0.9, 0.01, 0.9
"""Of the base optimizer, of its weights, and of the scheduler."""


def loss_and_gradients(leaves: Leaves, x: Array, y: Array, used: frozenset[str]) -> tuple[float, Leaves]:
    r"""Return \(\lvert Xw - y\rvert^2 / 2n + \sum_i (\sin w_i + w_i^2 / 10)\) over the used leaves, and gradients."""
    error = sum((x[:, FEATURES[name]] @ leaves[name].ravel() for name in sorted(used)), -y)
    regular = sum(float(np.sum(np.sin(leaves[name]) + 0.1 * leaves[name] ** 2)) for name in used)
    gradients = {
        name: (x[:, FEATURES[name]].T @ error / len(y)).reshape(SHAPES[name])
        + np.cos(leaves[name])
        + 0.2 * leaves[name]
        for name in used
    }
    return float(0.5 * np.mean(error**2)) + regular, gradients


class Pass(NamedTuple):
    """One call of the closure, or one backward in a manual loop.

    Attributes:
        used: the leaves that the loss is made of; the others get no gradient.
        fault: what goes wrong: the closure raises, before its backward or after, or the loss, or one entry of the last
            gradient there is, is `value`.
        value: inf, -inf or NaN.
    """

    used: frozenset[str]
    fault: Literal["", "raises before", "raises after", "loss", "gradient"] = ""
    value: float = nan


class NotFiniteError(Exception):
    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss = loss


class NoGradientError(Exception):
    pass


class Wanted(NamedTuple):
    """What becomes of a step: whether it is taken, the loss that it returns, or what it raises."""

    taken: bool
    loss: float = nan
    raises: type[BaseException] | None = None


# ------------------------------------------------------------------------------------------------------------ the rows


class Taken(NamedTuple):
    """What a row makes of a step: the last two are the row's memory, and what WSAM takes off after the base's step."""

    gradient: Array
    dual_norm: float
    radius: float
    memory: Array
    addend: Array | None = None


Gradient: TypeAlias = Callable[[Array], Array]
"""From a point to the gradient there, or an exception."""
Rule: TypeAlias = Callable[[int, Array, Array, Array, Gradient], Taken]
"""From the step's number, the weights, each one's rho, the memory and the gradient to what is made of them."""


def unit(v: Array) -> Array:
    n = np.linalg.norm(v)
    return v / n if n > 0 else 0 * v


def length(v: Array) -> float:
    return float(np.linalg.norm(v))


def sam(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    h = grad(w + rho * unit(g)) if rho.any() else g
    return Taken(h, length(g), rho.max(), memory)


def sam_of_two_climbs(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    if not rho.any():
        return Taken(g, length(g), 0.0, memory)
    middle = grad(w + rho * unit(g))
    return Taken(grad(w + rho * unit(middle)), length(g), rho.max(), memory)


def usam(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    h = grad(w + rho * g) if rho.any() else g
    return Taken(h, length(g), rho.max() * length(g), memory)


def asam(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g, size = grad(w), np.abs(w) + 0.01
    h = grad(w + rho * size**2 * g / length(size * g)) if rho.any() else g
    return Taken(h, length(size * g), rho.max(), memory)


def gsam(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    if not rho.any():
        return Taken(g, length(g), 0.0, memory)
    h = grad(w + rho * unit(g))
    across = g - (g @ h) / (h @ h) * h
    return Taken(h - 0.4 * across, length(g), rho.max(), memory)


def wsam(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    h = grad(w + rho * unit(g)) if rho.any() else g
    return Taken(g, length(g), rho.max(), memory, 1.5 * (h - g))  # gamma = 0.6, and 0.6 / (1 - 0.6) = 1.5


def looksam(t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    if t % 3 or not rho.any():
        return Taken(g + 0.7 * length(g) * unit(memory), length(g), 0.0, memory)
    h = grad(w + rho * unit(g))
    across = h - (h @ g) / (g @ g) * g
    if length(across) < 1e-14 * length(h):  # g and h are parallel, as where one number alone has a gradient
        across = 0 * across
    return Taken(h, length(g), rho.max(), across)


def friendlysam(t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    g = grad(w)
    d, mean = (g, g) if t == 0 else (g - 0.7 * memory, 0.8 * memory + 0.2 * g)
    h = grad(w + rho * unit(d)) if rho.any() else g
    return Taken(h, length(d), rho.max(), mean)


def msam(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    h = grad(w - rho * unit(memory)) if rho.any() else grad(w)
    return Taken(h, length(memory), rho.max(), 0.9 * memory + h)


def sampa(_t: int, w: Array, rho: Array, memory: Array, grad: Gradient) -> Taken:
    h = grad(w + rho * unit(memory))
    ahead = grad(w - 0.05 * memory)
    return Taken(0.8 * h + 0.2 * ahead, length(memory), rho.max(), ahead)


@dataclass(frozen=True)
class Row:
    """A row by hand.

    Attributes:
        rule: its formula.
        rho: its radius.
        entries: how many gradients it asks for besides one at the weights, where it climbs.
        remembers: whether it has a memory.
    """

    rule: Rule
    rho: float
    entries: int = 1
    remembers: bool = False


ROWS = {
    "SAM": Row(sam, 0.1),
    "SAM of two climbs": Row(sam_of_two_climbs, 0.1, entries=2),
    "USAM": Row(usam, 0.1),
    "ASAM": Row(asam, 0.2),
    "GSAM": Row(gsam, 0.1),
    "WSAM": Row(wsam, 0.1),
    "LookSAM": Row(looksam, 0.1, remembers=True),
    "FriendlySAM": Row(friendlysam, 0.1, remembers=True),
    "MSAM": Row(msam, 0.1, remembers=True),
    "SAMPa": Row(sampa, 0.1, entries=2, remembers=True),
}


# ------------------------------------------------------------------------------------------------------- the optimizer


@dataclass
class Group:
    names: list[str]
    lr: float
    rho: float


@dataclass
class Plain:
    """An optimizer by hand, with all that it knows as plain numbers.

    Attributes:
        row: what it follows.
        m: examples to a perturbation, or None.
        raising: whether what is not finite raises.
        leaves: the weights, also those that are not its own.
        groups: the parameter groups.
        frozen: the leaves that need no gradient.
        buffers: the base optimizer's momentum; none for a leaf that was never stepped.
        memory: the row's, of the leaves that were trainable in the last step that was taken.
        t: steps taken.
        skipped: steps skipped.
        info: what the last step told; without what is not promised, as after loading.
        scale: a GradScaler's.
        growth: how many good steps it has seen since its scale changed.
        visited: the weights at every pass of the last step.
    """

    row: Row
    m: int | None
    raising: bool
    groups: list[Group]
    leaves: Leaves = field(default_factory=lambda: copy.deepcopy(START))
    frozen: set[str] = field(default_factory=set)
    buffers: Leaves = field(default_factory=dict)
    memory: Leaves = field(default_factory=dict)
    t: int = 0
    skipped: int = 0
    info: dict[str, float] = field(default_factory=dict)
    scale: float = 2.0**10
    growth: int = 0
    visited: list[Leaves] = field(default_factory=list)

    @property
    def trainable(self) -> list[str]:
        return [name for group in self.groups for name in group.names if name not in self.frozen]

    def flat(self, leaves: Leaves) -> Array:
        return np.concatenate([leaves[name].ravel() for name in self.trainable])

    @property
    def recalled(self) -> Array:
        """The memory, as far as the leaves were there in the last step; of new ones none."""
        return self.flat({name: self.memory.get(name, np.zeros(SHAPES[name])) for name in self.trainable})

    def cut(self, flat: Array) -> Leaves:
        names = self.trainable
        ends = np.cumsum([self.leaves[name].size for name in names])[:-1]
        return {name: part.reshape(SHAPES[name]) for name, part in zip(names, np.split(flat, ends), strict=True)}

    def step(self, batch: int, passes: Sequence[Pass], *, manual: bool, scaler: str = "none") -> Wanted:
        """Take a step, and say what becomes of it.

        Args:
            batch: which.
            passes: what its passes are like; one after another, and again from the first where there are more.
            manual: in a loop of one's own, that begins with a pass at w whether or not the row asks for it.
            scaler: "none", or a GradScaler that is "on" or "off".
        """
        self.visited = []
        x, y = BATCHES[batch]
        shards = [(x, y)] if self.m is None else [(x[i : i + self.m], y[i : i + self.m]) for i in range(0, 4, self.m)]
        calls, received = cycle(passes), set[str]()
        try:
            outcomes = [self._shard(*shard, calls, received, manual) for shard in shards]
        except NotFiniteError as error:
            if self.raising and scaler != "on":
                return Wanted(taken=False, raises=FloatingPointError)
            if manual and any("raises" in p.fault for p in passes[len(self.visited) : 1 + self.row.entries]):
                return Wanted(
                    taken=False, raises=ConnectionError
                )  # the user's loop goes on to the end, and fails there
            self.skipped += 1
            told = nan if manual else error.loss
            self.info = {"loss": told, "perturbed_loss": told, "radius": 0.0, "effective_radius": 0.0, "active": 0.0}
            self._rescale(scaler, 0.5)
            return Wanted(taken=False, loss=told)
        except NoGradientError:
            return Wanted(taken=False, raises=RuntimeError)
        except ConnectionError:
            return Wanted(taken=False, raises=ConnectionError)
        if manual and any("raises" in p.fault for p in passes[len(self.visited) : 1 + self.row.entries]):
            return Wanted(taken=False, raises=ConnectionError)
        self._take(outcomes, received, manual)
        self._rescale(scaler, 1.0)
        return Wanted(taken=True, loss=self.info["loss"])

    def _shard(
        self, x: Array, y: Array, calls: Iterator[Pass], received: set[str], manual: bool
    ) -> tuple[Taken, list[float]]:
        w = self.flat(self.leaves)
        rho = self.flat({name: np.full(SHAPES[name], group.rho) for group in self.groups for name in group.names})
        losses: list[float] = []

        def grad(point: Array) -> Array:
            if manual and not losses and point is not w:
                next(calls)  # the loop's gradient at w: nobody asked for it
                self.visited.append(self.leaves)
            here = next(calls)
            leaves = self.leaves | self.cut(point)
            self.visited.append(leaves)
            if "raises" in here.fault:
                raise ConnectionError
            loss, gradients = loss_and_gradients(leaves, x, y, here.used)
            got = [name for name in self.trainable if name in gradients]
            if not got:
                raise NoGradientError
            received.update(got)
            if here.fault == "loss" and not manual:
                loss = here.value
            if here.fault == "gradient" or (here.fault == "loss" and manual):
                gradients[got[-1]] = np.full(SHAPES[got[-1]], here.value)
            gradient = self.flat({name: gradients.get(name, np.zeros(SHAPES[name])) for name in self.trainable})
            losses.append(loss)
            if not isfinite(loss) or not np.isfinite(gradient).all():
                raise NotFiniteError(loss)
            return gradient

        return self.row.rule(self.t, w, rho, self.recalled, grad), losses

    def _take(self, outcomes: list[tuple[Taken, list[float]]], received: set[str], manual: bool) -> None:
        shards = [taken for taken, _ in outcomes]
        gradient = self.cut(sum((s.gradient for s in shards), np.zeros(())) / len(shards))
        addends = [s.addend for s in shards if s.addend is not None]
        addend = self.cut(sum(addends, np.zeros(())) / len(addends)) if addends else {}
        for group in self.groups:
            for name in group.names:
                if name in received:
                    w = self.leaves[name]
                    g = gradient[name] + DECAY * w
                    self.buffers[name] = MOMENTUM * self.buffers[name] + g if name in self.buffers else g
                    moved = w - group.lr * self.buffers[name]
                    self.leaves = self.leaves | {name: moved - group.lr * addend[name] if addend else moved}
        self.memory = self.cut(sum((s.memory for s in shards), np.zeros(())) / len(shards))
        self.t += 1
        radius = float(np.mean([s.radius for s in shards]))
        self.info = {
            "loss": nan if manual else float(np.mean([losses[0] for _, losses in outcomes])),
            "perturbed_loss": nan if manual else float(np.mean([losses[-1] for _, losses in outcomes])),
            "dual_norm": float(np.mean([s.dual_norm for s in shards])),
            "radius": radius,
            "effective_radius": radius,
            "active": float(radius > 0),
            "gradient_evaluations": float(np.mean([len(losses) for _, losses in outcomes])),
        }

    def _rescale(self, scaler: str, factor: float) -> None:
        """Do what `GradScaler(growth_interval=3).update()` does."""
        if scaler != "on":
            return
        self.growth = self.growth + 1 if factor == 1 else 0
        if self.growth == 3:
            factor, self.growth = 2.0, 0
        self.scale *= factor
