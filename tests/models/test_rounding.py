"""Numbers rounded at random: to a neighbour, to themselves on average, and always the same."""

import pytest
import torch
from torch import Tensor

from xiaozao.models.layers.rounding import generator, round_into, rounded

CPU = torch.device("cpu")


def test_a_number_is_rounded_to_one_of_its_neighbours_and_to_itself_on_average() -> None:
    value = torch.tensor([0.02, -0.02, 1.0, 3e-40, 0.0, -7.3]).repeat_interleave(40_000)
    rounded = torch.empty(value.shape, dtype=torch.bfloat16)
    round_into(rounded, value.clone(), generator(0, 0, "w", CPU))
    nearest = value.bfloat16().float()
    gaps = (rounded.float() - value).view(6, -1)
    spacing = torch.maximum((value - nearest).abs(), value.abs() * 2**-7).view(6, -1) + 1e-40
    assert bool((gaps.abs() <= spacing).all())
    assert bool((gaps.mean(1).abs() <= spacing.mean(1) * 0.02).all())
    assert torch.equal(rounded.view(6, -1)[2].float(), torch.ones(40_000))  # what bf16 can say stays as it is
    assert torch.equal(rounded.view(6, -1)[4].float(), torch.zeros(40_000))


def test_the_noise_is_the_same_for_the_same_seed_step_and_name_alone() -> None:
    value = torch.randn(1001, generator=torch.Generator().manual_seed(0))

    def rounded(seed: int, step: int, name: str) -> Tensor:
        target = torch.empty(1001, dtype=torch.bfloat16)
        round_into(target, value.clone(), generator(seed, step, name, CPU))
        return target

    one = rounded(1, 2, "w")
    assert torch.equal(one, rounded(1, 2, "w"))
    assert not any(torch.equal(one, other) for other in (rounded(2, 2, "w"), rounded(1, 3, "w"), rounded(1, 2, "v")))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_was_learned_in_small_steps_is_still_there_in_the_shorter_kind(dtype: torch.dtype) -> None:
    """A weight that moved by a hundredth of the distance of two numbers: to the nearest, it would not have moved."""
    draw = torch.Generator().manual_seed(0)
    start = (torch.randn(300, 7000, generator=draw) * 0.02).to(dtype).float()  # more than one piece
    moved = start * (1 + torch.finfo(dtype).eps / 100)
    written = rounded(moved, dtype, "w")
    assert written.dtype == dtype and torch.equal(moved.to(dtype).float(), start)
    along = float(((written.float() - start) * start.sign()).sum() / (moved - start).abs().sum())
    assert along == pytest.approx(1.0, abs=0.05)
    assert torch.equal(written, rounded(moved, dtype, "w")) and not torch.equal(written, rounded(moved, dtype, "v"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_the_shorter_kind_can_say_is_not_touched(dtype: torch.dtype) -> None:
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    numbers = numbers[numbers.isfinite()]
    assert torch.equal(rounded(numbers.float(), dtype, "w"), numbers)
    assert torch.equal(rounded(numbers, torch.float32, "w"), numbers.float())
