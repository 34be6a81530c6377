"""DoRA against PEFT and against its formula, and what the magnitude must leave unchanged."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.toy import toy_decoder
from xiaozao.models.blocks import run
from xiaozao.models.layers.bases import DenseBase
from xiaozao.models.layers.dora import Direction, DoraLinear, dora_linear
from xiaozao.models.layers.linear import AdaptedLinear, Adapter, adapt, adapters, matching, without_adapters


class Two(nn.Module):
    """Two linear layers, one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 9), nn.Linear(9, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.two(torch.tanh(self.one(x)))
        return out


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("biased", [True, False])
def test_forward_and_gradients_equal_the_formula_with_the_norm_as_a_constant(biased: bool) -> None:
    torch.manual_seed(0)
    x, a, b, m, weight = drawn(2, 7, 6), drawn(3, 6), drawn(5, 3), drawn(5), drawn(5, 6).detach()
    bias = drawn(5).detach() if biased else None
    direction = Direction(DenseBase(weight), weight.square().sum(1), 0.7)
    mine = dora_linear(x, bias, direction, Adapter(a, b, 0.7), m)
    gain = m / (weight + 0.7 * b @ a).detach().norm(dim=1)
    plain = gain * (F.linear(x, weight) + 0.7 * (x @ a.t()) @ b.t()) + (0 if bias is None else bias)
    torch.testing.assert_close(mine, plain, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad((mine**3).sum(), (x, a, b, m))
    theirs = torch.autograd.grad((plain**3).sum(), (x, a, b, m))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_loss_and_gradients_are_those_of_peft() -> None:
    torch.manual_seed(0)
    ours = Two()
    theirs = Two()
    theirs.load_state_dict(ours.state_dict())
    layers = adapt(ours, ["one", "two"], 2, 4.0, seed=0, kind=DoraLinear)
    peft: Any = get_peft_model(theirs, LoraConfig(r=2, lora_alpha=4, target_modules=["one", "two"], use_dora=True))
    with torch.no_grad():
        for name, layer in layers.items():
            assert isinstance(layer, DoraLinear)
            other = peft.get_submodule(f"base_model.model.{name}")
            nn.init.normal_(layer.lora_b, std=0.3)
            layer.magnitude.mul_(1.1)
            other.lora_A["default"].weight.copy_(layer.lora_a)
            other.lora_B["default"].weight.copy_(layer.lora_b)
            other.lora_magnitude_vector["default"].weight.copy_(layer.magnitude)
    x = torch.randn(11, 6)
    torch.testing.assert_close(ours(x), peft(x), rtol=1e-5, atol=1e-6)
    (ours(x) ** 2).sum().backward()
    (peft(x) ** 2).sum().backward()
    for name, layer in layers.items():
        other = peft.get_submodule(f"base_model.model.{name}")
        for mine, reference in (
            (layer.lora_a, other.lora_A["default"].weight),
            (layer.lora_b, other.lora_B["default"].weight),
            (layer.magnitude, other.lora_magnitude_vector["default"].weight),
        ):
            torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_fresh_adapter_changes_no_bit(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    base = nn.Linear(16, 8, bias=bias).to(dtype)
    x = torch.randn(5, 16).to(dtype)
    expected = base(x)
    layer = DoraLinear(base, rank=4, alpha=8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), expected)


def test_in_bf16_a_small_gain_is_not_lost() -> None:
    """bf16 has no number between 1 and 1.0078: a gain of 1.003 in it would be no gain at all."""
    torch.manual_seed(0)
    layer = DoraLinear(nn.Linear(64, 32, bias=False).bfloat16(), 2, 2.0, torch.Generator().manual_seed(0))
    x = torch.randn(400, 64).bfloat16()
    before = layer(x).float()
    with torch.no_grad():
        layer.magnitude.mul_(1.003)
    assert float((layer(x).float().norm() / before.norm()).detach()) == pytest.approx(1.003, abs=3e-4)


def test_switched_off_it_is_the_base_and_it_is_not_fusable() -> None:
    plain, tuned = toy_decoder(lora=None), toy_decoder(lora=None)
    adapt(tuned.model, matching(tuned.model, tuned.head.linear, ("all-linear",)), 2, 4.0, 0, DoraLinear)
    for layer in adapters(tuned.model).values():
        nn.init.normal_(layer.lora_b)
        assert not layer.fusable and not isinstance(layer, AdaptedLinear)
    ids = torch.arange(20)
    with torch.no_grad():
        assert not torch.equal(run(tuned, [ids]), run(plain, [ids]))
        with without_adapters(tuned.model):
            assert torch.equal(run(tuned, [ids]), run(plain, [ids]))


def test_the_merged_weight_has_the_learned_magnitudes() -> None:
    layer = DoraLinear(nn.Linear(6, 4, bias=False), 2, 4.0, torch.Generator().manual_seed(0))
    nn.init.normal_(layer.lora_b)
    nn.init.uniform_(layer.magnitude, 0.5, 2.0)
    merged = layer.merged_weight("w")
    torch.testing.assert_close(merged.norm(dim=1), layer.magnitude.detach())
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer(x).detach(), x @ merged.t(), rtol=1e-5, atol=1e-5)
