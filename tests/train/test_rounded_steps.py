"""bf16 weights that are rounded at random go where fp32 weights go."""

import pytest
import torch
from torch import Tensor, nn

from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS

RATE, STEPS = 1e-5, 100


def walk(optimizer: str, dtype: torch.dtype, decay: float = 0.0, still: bool = False) -> Tensor:
    """How far each of many weights of a usual size has gone in fp32 after a hundred steps at a small rate."""
    draw = torch.Generator().manual_seed(0)
    start = (torch.randn(100, 500, generator=draw) * 0.02).bfloat16()
    trend = torch.randn(100, 500, generator=draw)
    weight = nn.Parameter(start.to(dtype, copy=True))
    ours = OPTIMIZERS[optimizer]({"w": weight}, Options(decay))
    for step in range(STEPS):
        ours.begin(step)
        noise = torch.randn(100, 500, generator=draw)
        weight.grad = (torch.zeros_like(trend) if still else 3 * trend.sign() + noise).to(dtype)
        ours.step(RATE)
    return weight.detach().float() - start.float()


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "adamw8bit"])
def test_bf16_weights_go_as_far_as_fp32_weights_and_as_many_of_them(optimizer: str) -> None:
    exact, rounded = walk(optimizer, torch.float32), walk(optimizer, torch.bfloat16)
    assert float((rounded != 0).float().mean()) == pytest.approx(float((exact != 0).float().mean()), rel=0.1)
    assert float(rounded.abs().mean()) == pytest.approx(float(exact.abs().mean()), rel=0.1)
    along = float((rounded * exact).sum() / exact.square().sum())
    assert along == pytest.approx(1.0, abs=0.02)  # and where to


def test_rounded_to_the_nearest_they_would_stand_still() -> None:
    """What the noise is for: the same hundred steps with torch's own AdamW on bf16 weights."""
    start = (torch.randn(100, 500, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    weight = nn.Parameter(start.clone())
    theirs = torch.optim.AdamW([weight], lr=RATE, weight_decay=0.0)
    for _ in range(STEPS):
        weight.grad = torch.ones_like(weight)
        theirs.step()
    assert float((weight.detach() != start).float().mean()) < 0.5


def test_weight_decay_acts_on_bf16_weights() -> None:
    """A hundred steps that each shrink by one part in a million: below what bf16 can say of any single weight."""
    start = walk("adamw", torch.float32, still=True)
    assert float(start.abs().max()) == 0.0  # without decay a zero gradient moves nothing
    draw = (torch.randn(100, 500, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16().float()
    for dtype in (torch.float32, torch.bfloat16):
        moved = walk("adamw", dtype, decay=0.1, still=True)
        shrunk = -float((moved * draw.sign()).sum() / draw.abs().sum())
        assert shrunk == pytest.approx(RATE * 0.1 * STEPS, rel=0.1)
