"""PiSSA against PEFT and the exact decomposition, and what the base must not lose."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.toy import toy_decoder
from xiaozao.errors import UsageError
from xiaozao.models.blocks import distance, run
from xiaozao.models.layers.bases import Base
from xiaozao.models.layers.linear import FrozenLinear, adapt, adapters, matching, without_adapters
from xiaozao.models.layers.pissa import PissaLinear, principal


def fresh(layer: nn.Linear, rank: int = 3, alpha: float = 6.0) -> PissaLinear:
    return PissaLinear(layer, rank, alpha, torch.Generator().manual_seed(0))


def test_the_start_is_that_of_peft() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 9)
    ours, weight = fresh(linear), linear.weight.detach().clone()
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["0"], init_lora_weights="pissa")
    peft: Any = get_peft_model(nn.Sequential(linear), config)
    theirs = peft.base_model.model[0]
    a, b = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
    torch.testing.assert_close(ours.lora_b @ ours.lora_a, b @ a)
    torch.testing.assert_close(ours.lora_a.norm(dim=1), a.norm(dim=1))
    torch.testing.assert_close(ours.base.dense(torch.float32), theirs.base_layer.weight)
    torch.testing.assert_close(ours.base.dense(torch.float32) + 2.0 * ours.lora_b @ ours.lora_a, weight)


def test_the_fast_decomposition_finds_the_principal_part() -> None:
    torch.manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(300, 150)).Q, torch.linalg.qr(torch.randn(200, 150)).Q
    values = torch.arange(1, 151) ** -0.5  # falls as slowly as those of real weights
    weight = (left * values) @ right.t()
    a, b = principal(weight, 8, torch.Generator().manual_seed(0))
    best = (left[:, :8] * values[:8]) @ right[:, :8].t()
    assert distance(b @ a, best) < 0.05
    assert float((weight - b @ a).norm() / (weight - best).norm()) < 1.001
    again = principal(weight, 8, torch.Generator().manual_seed(0))
    assert torch.equal(a, again[0]) and torch.equal(b, again[1])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_at_the_start_and_switched_off_it_answers_as_the_base(dtype: torch.dtype, bound: float) -> None:
    plain, tuned = toy_decoder(lora=None), toy_decoder(lora=None)
    nn.Module.to(plain.model, dtype), nn.Module.to(tuned.model, dtype)
    adapt(tuned.model, matching(tuned.model, tuned.head.linear, ("all-linear",)), 4, 8.0, 0, PissaLinear)
    ids = torch.arange(20)
    with torch.no_grad():
        base, first = run(plain, [ids]), run(tuned, [ids])
        assert distance(first.float(), base.float()) < bound
        for layer in adapters(tuned.model).values():
            layer.lora_a.mul_(1.5)
        assert distance(run(tuned, [ids]).float(), base.float()) > 10 * bound
        with without_adapters(tuned.model):
            assert torch.equal(run(tuned, [ids]), first)


def test_what_is_saved_is_a_lora_of_twice_the_rank_for_the_original_weight() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 9, bias=False)
    weight, layer = linear.weight.detach().clone(), fresh(linear)
    nn.init.normal_(layer.lora_a), nn.init.normal_(layer.lora_b)
    saved = layer.saved()
    assert saved["lora_A.weight"].shape == (6, 12) and saved["lora_B.weight"].shape == (9, 6)
    whole = weight + layer.scale * saved["lora_B.weight"] @ saved["lora_A.weight"]
    x = torch.randn(4, 12)
    torch.testing.assert_close(x @ whole.t(), layer(x).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.merged_weight("w"), whole, rtol=1e-5, atol=1e-5)


def test_a_base_that_is_not_dense_and_a_rank_that_is_not_there_are_refused() -> None:
    class Elsewhere(Base):
        """A base that holds nothing of its own."""

        in_features, out_features, stored_dtype = 6, 4, torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("packed", torch.zeros(3, dtype=torch.uint8))

    with pytest.raises(UsageError, match="rank 5 out of a layer with 6 inputs and 4 outputs"):
        fresh(nn.Linear(6, 4), rank=5)
    with pytest.raises(UsageError, match="stored quantised"):
        PissaLinear(FrozenLinear(Elsewhere(), None), 2, 2.0, torch.Generator())
