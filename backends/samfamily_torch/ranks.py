"""The processes that train one model together, each with its part of the global batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from samfamily.division import Division, division
from samfamily.program import State, each
from samfamily.space import Vec
from samfamily.variant import Variant
from samfamily_torch.buckets import Buckets
from samfamily_torch.foreach import whole
from samfamily_torch.live import LiveParameters
from samfamily_torch.run import Outcome
from samfamily_torch.wrappers import group_of, wrapper

T = TypeVar("T")


class Ranks:
    """The processes among which a wrapper spreads a model; one alone where there is none.

    Where the whole global batch shares a perturbation, the wrapper averages every gradient as it always does.  Where m
    examples do, a rank's passes are its own, a gradient is averaged over those that work on one shard, and what the
    step makes of it over all.

    Args:
        model: the model of the optimizer.
        parameters: the optimizer's parameters.

    Attributes:
        size: how many there are.
    """

    size: int

    def __init__(self, model: torch.nn.Module | None, parameters: Sequence[Tensor]) -> None:
        self._of = model, parameters
        self._wrapper = wrapper(model, parameters)
        everyone = self._wrapper.group
        self.size = 1 if everyone is None else distributed.get_world_size(everyone)
        self._groups: dict[int, Any] = {self.size: everyone}
        self._early = True  # until a closure on any rank changes gradients after its backward pass

    def __getstate__(self) -> Any:
        """Return what the rest follows from: process groups cannot be copied."""
        return self._of

    def __setstate__(self, of: Any) -> None:
        """Find the processes again."""
        self.__init__(*of)  # type: ignore[misc]

    def division(self, m: int | None, examples: int) -> Division:
        """Return who shares a perturbation; see `samfamily.division`.

        Args:
            m: examples to a perturbation.
            examples: how many this rank has.

        Returns:
            The division.

        Raises:
            ValueError: `m` does not divide the global batch, or the ranks have batches of different lengths.
            RuntimeError: nobody knows which processes share the batch, or how the parameters are spread over them.
        """
        if m is None:
            return division(m, examples, self.size)
        others = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        if self.size == 1 and others > 1:
            raise RuntimeError(
                f"m = {m} with {others} processes, and the optimizer was not told how they share the model: pass "
                "SharpnessAware(..., model=DistributedDataParallel(model))"
            )
        self._check_lengths(examples)
        return division(m, examples, self.size)

    def own(self, divided: Division, variant: Variant) -> bool:
        """Return whether this rank's passes are its own, and not averaged by the wrapper as they are made.

        So they are where ranks perturb by themselves, and where products with the Hessian are asked for, which no
        wrapper averages.

        Args:
            divided: who shares a perturbation.
            variant: what asks.

        Returns:
            Whether they are.

        Raises:
            RuntimeError: they would have to be, and cannot.
        """
        products = variant.hessian_vector_products_per_step > 0
        own = divided.group < self.size or (products and self.size > 1)
        if own and (why := self._wrapper.why_together):
            what = f"{variant.name} with Hessian-vector products" if products else f"m = {variant.m}"
            raise RuntimeError(f"{what} with parameters that are spread over {self.size} processes, and {why}")
        return own

    def apart(self, live: LiveParameters, state: State) -> AbstractContextManager[tuple[LiveParameters, State]]:
        """Return a context that holds what to run on: weights of this rank's own."""
        return self._wrapper.apart(live, state)

    def buckets(self, variant: Variant, divided: Division, here: LiveParameters) -> Buckets | None:
        """Return what sends the result while it is made; None where the ranks send it once all is there.

        So they do where they share a shard: they average among themselves in a step, and not all might do that and send
        the result in the same order.
        """
        if not (variant.gradient_returned and self._early and divided.group == 1 < self.size):
            return None
        send = partial(distributed.all_reduce, group=self._group(self.size), async_op=True)
        return Buckets(here.parameters, self._wrapper.capacity, self.size, send)

    def agreed(
        self, outcome: Outcome, here: LiveParameters, live: LiveParameters, buckets: Buckets | None = None
    ) -> Outcome:
        """Return what the ranks' outcomes come to, which each has made by itself.

        Args:
            outcome: this rank's.
            here: the weights that it was made on.
            live: the optimizer's parameters, which receive a gradient if they did on any rank.
            buckets: what has sent some of the result already.

        Returns:
            The mean.
        """
        shares = torch.tensor(here.received, dtype=torch.float64)
        if buckets is None:
            outcome, shares = self.mean((outcome, shares))
        else:
            made = outcome.step.gradient
            gradient = buckets.mean(made)
            outcome, shares, changed = self.mean((_with(outcome, None), shares, float(buckets.changed)))
            self._early = not changed > 0
            outcome = _with(outcome, gradient if self._early else self.mean(made))
        # Where this rank has every gradient, nothing needs to be read.
        live.received = here.received if all(here.received) else (shares > 0).tolist()
        return self._wrapper.home(outcome, live)

    def told(self, outcome: Outcome) -> Outcome:
        """Return an outcome whose gradient the wrapper has averaged, so that only numbers differ, with their mean."""
        loss, perturbed_loss, finite = self.mean((outcome.loss, outcome.perturbed_loss, outcome.finite))
        return outcome._replace(loss=loss, perturbed_loss=perturbed_loss, finite=finite)

    def mean(self, item: T, among: int | None = None) -> T:
        """Return the mean over ranks of Vecs and scalars in tuples, in one all-reduce for each dtype.

        Args:
            item: of the same structure on every rank.
            among: over how many ranks that follow one another; all, where None.

        Returns:
            The mean.
        """
        among = self.size if among is None else among
        if among == 1:
            return item
        found: dict[torch.dtype, list[Tensor]] = {}

        def find(x: Any) -> None:
            for u in self._tensors(x):
                found.setdefault(u.dtype, []).append(u)

        each(find, item)
        means = {}
        for dtype, parts in sorted(found.items(), key=lambda entry: str(entry[0])):
            total = torch.cat([u.reshape(-1) for u in parts])
            distributed.all_reduce(total, group=self._group(among))
            split = (total / among).split([u.numel() for u in parts])
            means[dtype] = iter([x.reshape(u.shape) for x, u in zip(split, parts, strict=True)])

        def filled(x: Any) -> Any:
            entries = [next(means[u.dtype]) for u in self._tensors(x)]
            return Vec(x.space, tuple(entries)) if isinstance(x, Vec) else entries[0]

        return cast("T", each(filled, item))

    def _tensors(self, x: Any) -> list[Tensor]:
        if isinstance(x, Vec):
            return [u.contiguous() for u in x.collapse()]
        return [torch.as_tensor(whole(x), dtype=torch.float64, device=self._wrapper.device)]

    def _group(self, among: int) -> Any:
        """Return the process group of this rank and its neighbours."""
        if among not in self._groups:
            ranks = distributed.get_process_group_ranks(self._groups[self.size])
            first = ranks.index(distributed.get_rank()) // among * among
            self._groups[among] = group_of(ranks[first : first + among])
        return self._groups[among]

    def _check_lengths(self, examples: int) -> None:
        """Raise where the ranks' batches differ in length, which mean and mean square tell.

        Before the first pass, so that all raise: who went on would wait in it for those who stopped.
        """
        if self.size == 1:
            return
        mean, square = self.mean(torch.tensor([examples, examples**2], dtype=torch.float64)).tolist()
        if square != mean**2:
            raise ValueError(
                f"this process has {examples} examples where the mean is {mean:g}: with an m every process must have "
                "as many (drop or pad the last, smaller batch)"
            )


def _with(outcome: Outcome, gradient: Any) -> Outcome:
    return outcome._replace(step=outcome.step._replace(gradient=gradient))
