"""Schedules as closed forms, AdamW against the paper's formula, clipping over everything at once."""

import math

import pytest
import torch
from torch import nn

from xiaozao.train.optim import AdamW, clip, gradient_norm, learning_rate, warmup_steps


@pytest.mark.parametrize("steps", [1, 2, 10, 37, 100])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 5, 1000])
def test_warmup_rises_to_the_peak_and_never_takes_the_whole_run(steps: int, share: float) -> None:
    warmup = warmup_steps(share, steps)
    assert 0 <= warmup < steps
    rates = [learning_rate(step, steps, warmup, 2e-4, "constant") for step in range(steps)]
    assert rates[warmup:] == [2e-4] * (steps - warmup)
    assert rates[:warmup] == sorted(rates[:warmup]) and all(rate > 0 for rate in rates)


def test_cosine_and_linear_fall_from_the_peak_towards_zero_by_their_closed_forms() -> None:
    for step in range(5, 25):
        progress = (step - 5) / 20
        assert learning_rate(step, 25, 5, 1.0, "cosine") == pytest.approx((1 + math.cos(math.pi * progress)) / 2)
        assert learning_rate(step, 25, 5, 1.0, "linear") == pytest.approx(1 - progress)
    assert [learning_rate(step, 25, 5, 1.0, "linear") for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_adamw_is_the_formula_in_float64() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    expected, first, second = weight.detach().clone(), torch.zeros(3, 2), torch.zeros(3, 2)
    optimizer = AdamW({"w": weight}, weight_decay=0.1)
    for step in range(1, 6):
        grad = torch.randn(3, 2, dtype=torch.float64)
        weight.grad = grad.clone()
        optimizer.step(0.01)
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        expected = expected * (1 - 0.01 * 0.1)
        expected = expected - 0.01 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-10, atol=1e-12)
    assert weight.grad is None


def test_moments_survive_saving_and_loading_by_name() -> None:
    torch.manual_seed(0)
    one, two = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(2))
    optimizer = AdamW({"one": one, "two": two}, 0.0)
    for parameter in (one, two):
        parameter.grad = torch.randn_like(parameter)
    optimizer.step(0.1)
    again = AdamW({"two": two, "one": one}, 0.0)  # another order: names decide
    again.load(optimizer.state())
    for name, value in optimizer.state().items():
        assert torch.equal(again.state()[name], value)


def test_clipping_looks_at_all_gradients_together() -> None:
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, two.grad = torch.tensor([3.0]), torch.tensor([4.0])
    norm = gradient_norm([one, two])
    assert float(norm) == pytest.approx(5.0)
    clip([one, two], norm, 1.0)
    assert float(gradient_norm([one, two])) == pytest.approx(1.0)
    clip([one, two], gradient_norm([one, two]), 10.0)
    assert float(one.grad) == pytest.approx(0.6)
