"""Write docs/the-family.md from samfamily.family: `make docs`.

The text comes from each row's docstring, the costs from the variant, and the copies at the perturbed point are counted on
PyTorch, as tests/torch/test_memory.py does again.
"""

from __future__ import annotations

import ast
import gc
import inspect
import re
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from samfamily import FAMILY, Variant

PAGE = Path(__file__).with_name("the-family.md")

HEAD = """\
# The family

Every row is stated once, in [`samfamily/family.py`](../samfamily/family.py), and runs on NumPy, PyTorch and JAX. Throughout,
$g = \\nabla L(w)$ is the gradient at the weights, $\\hat g = g/\\lVert g\\rVert$, $\\hat\\epsilon$ the perturbation and
$h = \\nabla L(w + \\hat\\epsilon)$ the gradient at the perturbed point; *gradient* is what the base optimizer receives. Any row
takes another ball, `row.within(Ball(p=..., metric=...))`, in the place of its own: a row whose point is its ball (ASAM, FisherSAM,
SAMON, SSAM, SSAMD, ESAM) loses that, and `second_order` is for p = 2 alone. Any row can be sharded, `row.sharded(m)`, but
SSAMD, whose masks have no mean over shards. What the arguments of a row are, the [reference](reference/samfamily.md) says.

*Gradients* counts gradients of the whole batch per step, with the defaults, on average over many steps (AESAM: at most).
*Kept* counts the parameter copies that the row remembers from step to step; *at the point* those that are alive on PyTorch at
the perturbed point besides weights and gradient, kept ones included. A row with a *state* remembers something, if only the number
of the step: in JAX it goes through `sharpness_aware`, whose state you hand on. This page is made by `make docs`.

## Which one?

Begin with SAM, [its rho](which-rho.md) chosen beside `rho = 0`. [Claim l](results/claims/l.md) (`python -m benchmarks paper l`) trains every row on
a small CNN and MNIST-1D, at equal gradient evaluations, with four values of one setting each: SGD's learning rate, every row's rho at the rate that
suits SGD on clean labels. With clean labels none lay below SGD, 4.2 ± 0.7 % test error. With 40 % of the labels replaced SGD had 26.8 ± 3.6 %
(rate 0.4, the last tried), and the paired intervals of six of 25 rows lay below it: FriendlySAM 19.8 ± 1.9, SSAMD 20.8 ± 1.7, RSAM 21.1 ± 3.4,
EigenSAM 21.9 ± 1.4, USAM 22.0 ± 2.3, GSAM 22.8 ± 1.6; SAM's 22.9 ± 2.3 was not told apart. Of so many comparisons some succeed by luck: a run before,
which took sums in another order and was otherwise the same, had FriendlySAM, GSAM and SAM. The rows of one gradient a step are cheaper, and stop early:
with 50 epochs, half of SAM's cost, RandomSmoothing had 22.2 ± 3.6 and OptSAM 24.9 ± 1.3 where SGD had 26.1 ± 9.2; twice the epochs made both
worse. LookSAM at its default alpha of 0.7 failed with every seed, MSAM with some. A cheap row is worth a try where two gradients are too many, beside
the base optimizer for the same time; on one small task nothing more is shown. A small m helped with noisy labels as well: m = 4 lay below the
whole batch ([claim d](results/claims/d.md)), and, with twenty seeds, below Mixup on MNIST-1D, though not on digits ([claim c](results/claims/c.md)).

## The table
"""

USE = {
    "SAM": "First. Everything else is compared with it. `p=inf` moves all weights alike; `steps` climbs further into the maximum.",
    "USAM": "In theory, and where the normalisation disturbs: near a minimum the perturbation vanishes with the gradient.",
    "ASAM": "Where layers differ in scale or a network could be rescaled; its rho is in units of the weights.",
    "FisherSAM": "Where the gradient's entries differ by orders of magnitude; nearly SAM where they do not.",
    "SAMON": "With normalisation layers in the network. It saves no memory here: leaves that do not move are copied too.",
    "SSAM": "To study which weights matter. It saves no time on dense hardware.",
    "SSAMD": "As `SSAM`, with a mask that follows training.",
    "ESAM": "To study sparsity by tensor; the paper's saving is the half that chooses examples, which stays out.",
    "GSAM": "For large models and long schedules, where SAM's perturbed loss is low and the gap is not.",
    "GNP": "To choose between the base optimizer (alpha = 0) and SAM (alpha = 1).",
    "WSAM": "To weigh sharpness against the loss, apart from momentum and weight decay where it is decoupled. "
    "In JAX's `value_and_grad` and `sharpness_aware` it needs `decoupled=False`; the optax bridge takes it as it is.",
    "StableSAM": "Where SAM needs a smaller learning rate than the base optimizer to be stable.",
    "LookSAM": "To pay a fifth of SAM's overhead. Try alpha = 0.3 first: at 0.7, its authors' for large batches, two small networks "
    "trained badly ([claim a](results/claims/a.md)).",
    "PeriodicSAM": "The control of `LookSAM`: the same cost without a memory.",
    "SSSAM": "To pay for SAM in part, at steps that no period fixes.",
    "AESAM": "To climb where it seems to matter. Its cost is known only afterwards.",
    "FriendlySAM": "Where the batch's own noise should be climbed against, and not the gradient of the whole loss.",
    "VaSSO": "With small batches, whose gradients point every which way.",
    "MSAM": "At one gradient a step, and one more copy of the momentum; its rho is larger than SAM's, and has to be tuned.",
    "OptSAM": "At the cost of the base optimizer, without momentum.",
    "AsyncSAM": "Where two devices can each take a gradient at the same time.",
    "SAMPa": "As `AsyncSAM`, with a gradient computed ahead; `lr` must be the base optimizer's.",
    "CRSAM": "To penalise curvature itself, for a third gradient.",
    "RSAM": "To smooth the loss first, where SAM's direction is noisy.",
    "RandomSmoothing": "As the control of every experiment: does the adversary matter, or does any noise do?",
    "EigenSAM": "To study whether the gradient points towards the sharpest direction, and what happens when it does.",
}
"""When to take a row, in a line."""

OUT = """\
## What stays out, and why

| | reason |
|---|---|
| SAF, MESA | a penalty on the trajectory of outputs; no perturbation of the weights |
| FedSAM, FedGMT and other federated forms | a protocol between clients, not a step |
| AdaSAM, SASSHA, LightSAM's descent, SAM with Polyak steps | they change the base optimizer: compose a row with one |
| bSAM | its optimizer consumes the gradient at a noisy point and a variance of its own; it is not a base optimizer round a row |
| GAM | four gradients, the last nested in the third; its authors' code and paper differ in the weights |
| Lookbehind | steps of the base optimizer inside the ascent |
| SALA | a training protocol in two phases; not verified |
| ESAM's data half, K-SAM, RW-SAM | they choose examples by their own losses, which a closure that returns one loss does not tell |
| Functional SAM | it needs the Jacobian of the model's outputs with their cotangent frozen; a closure returns a loss and not outputs |
| Focal-SAM | two different losses in one step |
| ZSharp, GCSAM, LE-SAM, X-SAM, LightSAM's ascent | read in third parties' words only; each would be one member of one axis |
"""


class Row(NamedTuple):
    """What a row's docstring says."""

    title: str
    formula: str
    text: str
    reduces: str


def read(row: Callable[..., Variant]) -> Row:
    """Return the parts of a row's docstring."""
    doc = re.split(r"\n\n(?:Args|Returns|Raises|Example):\n", inspect.getdoc(row) or "")[0]
    match = re.fullmatch(r"(.+?)\n\n\$\$ (.+?) \$\$\n\n(.+?)\n\n(Reduces .+)", doc, re.DOTALL)
    if match is None:
        raise ValueError(f"{row.__name__}'s docstring is not: one line, $$ formula $$, reference, 'Reduces to ...'")
    title, formula, text, reduces = (" ".join(part.split()) for part in match.groups())
    return Row(title, formula, re.sub(r"\\\((.+?)\\\)", r"$\1$", text), reduces)


def kept(variant: Variant) -> int:
    """Return how many Vecs the variant's state holds."""
    import numpy as np

    from samfamily import Leaf, Vec
    from samfamily.reference import NumpySpace

    def count(memory: Any) -> int:
        return 1 if isinstance(memory, Vec) else sum(map(count, memory)) if isinstance(memory, tuple) else 0

    return count(variant.init(Vec(NumpySpace([Leaf(normalisation=True)]), (np.ones(2),))))


@cache
def copies_at_the_point(variant: Variant) -> int:
    """Return the most parameter copies alive after a backward, besides weights and gradient, over seven steps."""
    import torch

    from samfamily_torch import SharpnessAware

    size = 64_000
    model = torch.nn.LayerNorm(size, bias=False)  # one leaf; a normalisation layer, for the row that asks
    x = torch.ones(1, size // 64)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.01), variant, model=model)
    most = 0

    def closure() -> torch.Tensor:
        nonlocal most
        optimizer.zero_grad()
        loss = ((model.weight.view(64, -1) * 1e-3).sum(0) @ x[0]) ** 2
        loss.backward()
        tensors = [t for t in gc.get_objects() if type(t) in (torch.Tensor, torch.nn.Parameter)]
        big = {t.data_ptr() for t in tensors if t.numel() == size and t.is_floating_point()}
        grad = model.weight.grad
        assert grad is not None
        most = max(most, len(big | {model.weight.data_ptr(), grad.data_ptr()}) - 2)
        return loss

    gc.freeze()  # what was there before is not looked through again and again
    for _ in range(7):
        optimizer.step(closure)
    gc.unfreeze()
    return most


def anchor(name: str) -> str:
    return f"[`{name}`](#{name.lower()})"


def number(x: float) -> str:
    return f"{x:g}"


def signature(row: Callable[..., Variant]) -> str:
    """Return how a row is called, with its defaults."""
    given = {p.name: getattr(p.default, "__name__", p.default) for p in inspect.signature(row).parameters.values()}
    return f"{row.__name__}({', '.join(f'{name}={default}' for name, default in given.items())})"


def code(row: Callable[..., Variant]) -> str:
    """Return what a row does: its statements, below its docstring, as they stand in the module."""
    source = inspect.getsource(row)
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    lines = source.splitlines()[function.body[1].lineno - 1 :]
    return textwrap.dedent("\n".join(lines)).rstrip()


def page() -> str:
    """Return the page's text."""
    table = ["| row | in one line | gradients | kept | at the point | state |", "|---|---|---|---|---|---|"]
    sections = []
    for name, row in FAMILY.items():
        variant, said = row(), read(row)
        products = variant.hessian_vector_products_per_step
        gradients = number(variant.gradients_per_step)
        besides = f" and {number(products)} Hessian-vector products" if products else ""
        cost = f"{gradients} gradient{'s' * (variant.gradients_per_step != 1)}{besides}"
        copies = copies_at_the_point(variant)
        state = "yes" if variant.stateful else ""
        counts = f"{gradients}{besides} | {kept(variant)} | {copies} | {state}"
        table.append(f"| {anchor(name)} | {said.title} | {counts} |")
        linked = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", said.text)
        told = f"**When:** {USE[name]} **Cost:** {cost} a step; {kept(variant)} kept, {copies} at the point."
        sections.append(
            f"## {name}\n\n{said.title}\n\n$$ {said.formula} $$\n\n{linked}\n\n*{said.reduces}*\n\n{told}\n\n"
            f"    {signature(row)}\n\n```py\n{code(row)}\n```\n"
        )
    return "\n".join([HEAD, *table, "", *sections, OUT])


if __name__ == "__main__":
    PAGE.write_text(page())
