"""Steps on the meta device, where reading a number is an error.  On an accelerator: `test_cuda.py`."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samfamily_torch import FAMILY, SharpnessAware

CHOOSES_BY_VALUE = {"AESAM": "its climb depends on the gradient's length"}


def steps(device: str, variant: Any, count: int = 2) -> tuple[nn.Module, SharpnessAware]:
    torch.manual_seed(0)
    with torch.device(device):
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4, 1))
        x, y = torch.randn(8, 3), torch.randn(8, 1)
    optimizer = SharpnessAware(torch.optim.AdamW(model.parameters(), lr=0.1), variant, model)

    def closure(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(count):
        optimizer.step(closure, batch=(x, y))
    return model, optimizer


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in CHOOSES_BY_VALUE])
def test_a_step_on_meta_reads_no_number(name: str) -> None:
    model, optimizer = steps("meta", FAMILY[name]())
    shapes = [p.shape for p in model.parameters()]
    assert shapes == [p.shape for p in steps("cpu", FAMILY[name]())[0].parameters()]
    assert all(p.device.type == "meta" for p in model.parameters())
    assert optimizer.info.dual_norm.shape == ()


def test_reading_a_number_on_meta_is_an_error() -> None:
    """Negative control: what the test above rules out."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.ones((), device="meta") > 0)
