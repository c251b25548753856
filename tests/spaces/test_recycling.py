"""TorchSpace keeps at most one tree of spare memory, and only what was handed to it with `recycle`."""

import torch

from samfamily import Vec
from samfamily_torch import TorchSpace

X = (torch.tensor([1.0, 2.0]), torch.tensor(3.0))
Y = (torch.tensor([10.0, 20.0]), torch.tensor(30.0))


def addresses(leaves: tuple[torch.Tensor, ...]) -> set[int]:
    return {x.data_ptr() for x in leaves}


def test_nothing_is_reused_that_was_not_handed_back() -> None:
    space = TorchSpace(2)
    sums = [space.axpby(1.0, X, 1.0, Y) for _ in range(4)]
    everything = [*sums, X, Y]
    assert len(set.union(*map(addresses, everything))) == 2 * len(everything)


def test_what_was_handed_back_becomes_the_next_sum_and_only_that() -> None:
    space = TorchSpace(2)
    first = space.axpby(1.0, X, 1.0, Y)
    space.recycle(first)
    second, third = space.axpby(2.0, X, 1.0, Y), space.axpby(3.0, X, 1.0, Y)
    assert addresses(second) == addresses(first)
    assert not addresses(third) & addresses(second)
    torch.testing.assert_close(second, (torch.tensor([12.0, 24.0]), torch.tensor(36.0)), rtol=0, atol=0)
    torch.testing.assert_close(third, (torch.tensor([13.0, 26.0]), torch.tensor(39.0)), rtol=0, atol=0)


def test_no_other_operation_takes_spare_memory() -> None:
    space = TorchSpace(2)
    spare = space.axpby(1.0, X, 1.0, Y)
    space.recycle(spare)
    for leaves in (space.scale(2.0, X), space.multiply(X, Y), tuple(space.sign(x) for x in X)):
        assert not addresses(leaves) & addresses(spare)
    assert float(space.norm(X, 2) + space.inner(X, Y)) > 0
    torch.testing.assert_close(spare, (torch.tensor([11.0, 22.0]), torch.tensor(33.0)), rtol=0, atol=0)


def test_spares_of_two_spaces_do_not_mix() -> None:
    one, other = TorchSpace(2), TorchSpace(2)
    spare = one.axpby(1.0, X, 1.0, Y)
    one.recycle(spare)
    assert not addresses(other.axpby(1.0, X, 1.0, Y)) & addresses(spare)


def test_the_points_of_a_program_never_lie_in_memory_that_a_vec_still_reads() -> None:
    """w, the gradients and the perturbation are read again after a point is handed back."""
    space = TorchSpace(2)
    w, g = Vec(space, Y), Vec(space, X)
    before = [x.clone() for x in (*X, *Y)]
    epsilon = 0.5 * (g / g.norm(2))
    for _ in range(3):
        point = (w + epsilon).collapse()
        space.recycle(point)
        assert not addresses(point) & (addresses(X) | addresses(Y))
    for x, old in zip((*X, *Y), before, strict=True):
        assert torch.equal(x, old)


def test_handed_back_memory_is_overwritten() -> None:
    """Negative control: these tests would see memory that is handed out while it is read."""
    space = TorchSpace(2)
    first = space.axpby(1.0, X, 1.0, Y)
    kept = [x.clone() for x in first]
    space.recycle(first)
    space.axpby(2.0, X, 1.0, Y)
    assert not all(torch.equal(x, old) for x, old in zip(first, kept, strict=True))
