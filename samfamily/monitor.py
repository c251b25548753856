r"""Monitor: how sharp a loss is while it is being trained on, every so many steps."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any, TypeAlias

from samfamily import check
from samfamily.curvature import eigenvalues
from samfamily.landscape import Landscape, Product
from samfamily.program import HessianVector
from samfamily.sharpness import climb
from samfamily.variant import Variant

Record: TypeAlias = dict[str, float]
FIFTH = 5
PRODUCT = 2.5
"""What a product costs at most, in gradients; `python -m benchmarks curvature-cost` measures it."""


class Monitor:
    r"""Measures a landscape every so many steps of a training loop, and hands on a dict of numbers.

    | key | what it is |
    |---|---|
    | `step` | the step |
    | `loss` | \(L(w)\) of the landscape's data |
    | `lambda_max` | the largest eigenvalue of the Hessian |
    | `ratio` | \(\lambda_{\max} / \lambda_5\) |
    | `m_sharpness` | the mean rise of the loss where the variant's adversary goes, over shards of m |
    | `cosine` | of the gradients at w and where the adversary goes |
    | `effective_radius` | how far the adversary goes, once rounded |
    | `gradients`, `products` | what measuring these took, in passes over the landscape's data |

    One measurement costs `cost` gradients of the landscape's data, at most: choose a small part of the training data.

    Args:
        variant: whose adversary is looked at, such as the row that is trained with; `.sharded(m)` for m-sharpness.
        log: what to do with a record, such as `print`, `records.append` or `to_tensorboard(writer)`.
        every: steps from one measurement to the next; the first is at step 0.
        products: curvature products for a measurement of the eigenvalues, at least 5.
        of: which matrix, `HessianVector` or `GaussNewtonVector`.

    Raises:
        ValueError: `every` below 1, fewer products than 5.
        TypeError: `variant` is not a Variant.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> scales = np.array([9.0, 4.0, 3.0, 2.0, 1.5, 1.0])
        >>> loss = lambda w: (0.5 * np.sum(scales * w[0] ** 2), [scales * w[0]])
        >>> monitor = Monitor(SAM(rho=0.1), log=lambda record: print(round(record["lambda_max"] / record["ratio"], 3)))
        >>> monitor.cost
        77.0
        >>> landscape = Landscape(loss, [np.ones(6)])
        >>> for step in range(101):
        ...     _ = monitor(step, landscape)
        1.5
        1.5
    """

    def __init__(
        self,
        variant: Variant,
        log: Callable[[Record], Any],
        every: int = 100,
        products: int = 30,
        *,
        of: Product = HessianVector,
    ) -> None:
        if not isinstance(variant, Variant):
            raise TypeError(f"variant must be a Variant, got {variant!r}: pass a row such as SAM(rho=0.05).sharded(32)")
        check.positive_integer("every", every)
        check.positive_integer("products", products)
        if products < FIFTH:
            raise ValueError(f"products = {products} cannot show the fifth eigenvalue: allow {FIFTH} or more")
        self.variant, self.log, self.every, self.products, self.of = variant, log, every, products, of

    @property
    def cost(self) -> float:
        """Gradients of the landscape's data that one measurement costs at most, a product counted as 2.5."""
        return self.variant.gradients_per_step + PRODUCT * self.products

    def due(self, step: int) -> bool:
        """Tell whether this step is measured."""
        return step % self.every == 0

    def __call__(self, step: int, landscape: Landscape) -> Record | None:
        """Measure a landscape where it is due, log the record, and return it; None where it is not due.

        Args:
            step: the step of the training loop.
            landscape: the loss at the weights of this step.

        Returns:
            The record.

        Raises:
            ValueError: weights that are not finite, no data, m does not divide a batch.
        """
        if not self.due(step):
            return None
        before = landscape.spent.gradients, landscape.spent.products
        climbed = climb(landscape, self.variant)
        some = min(FIFTH, landscape.w.size)
        found = eigenvalues(landscape, some, of=self.of, products=self.products, tolerance=1e-2)
        top, fifth = float(found.values[0]), float(found.values[-1]) if some == FIFTH else nan
        record = {
            "step": step,
            "loss": climbed.loss,
            "lambda_max": top,
            "ratio": top / fifth if fifth else nan,
            "m_sharpness": climbed.rise,
            "cosine": climbed.cosine,
            "effective_radius": climbed.effective_radius,
            "gradients": landscape.spent.gradients - before[0],
            "products": landscape.spent.products - before[1],
        }
        self.log(record)
        return record


def to_tensorboard(writer: Any, prefix: str = "sharpness") -> Callable[[Record], None]:
    """Return a `log` for a `Monitor` that writes every figure as a scalar of TensorBoard.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or whatever else has its `add_scalar(tag, value, step)`; the
            extra `samfamily[tensorboard]` installs what that needs.
        prefix: what tags begin with.

    Returns:
        The function of a record.

    Example:
        >>> class Writer:
        ...     def add_scalar(self, tag, value, step):
        ...         print(tag, value, step)
        >>> to_tensorboard(Writer())({"step": 3, "cosine": 0.5})
        sharpness/cosine 0.5 3
    """

    def log(record: Record) -> None:
        for name, value in record.items():
            if name != "step":
                writer.add_scalar(f"{prefix}/{name}", value, int(record["step"]))

    return log
