"""The adapted linear layer against plain autograd, and what merging and switching off must leave unchanged."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_decoder
from xiaozao.errors import NotFound, UsageError
from xiaozao.models.bases import DenseBase
from xiaozao.models.blocks import run
from xiaozao.models.linear import (
    AdaptedLinear,
    Adapter,
    adapt,
    adapters,
    lora_linear,
    matching,
    merge,
    without_adapters,
)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_backward_passes_gradcheck_in_float64() -> None:
    torch.manual_seed(0)
    x, a, b = drawn(2, 3, 5), drawn(2, 5), drawn(4, 2)
    weight, bias = drawn(4, 5).detach(), drawn(4).detach()
    assert torch.autograd.gradcheck(
        lambda x, a, b: lora_linear(x, DenseBase(weight), bias, Adapter(a, b, 0.7)), (x, a, b)
    )


def test_forward_and_gradients_equal_the_formula() -> None:
    torch.manual_seed(0)
    x, a, b, weight = drawn(7, 6), drawn(3, 6), drawn(5, 3), drawn(5, 6).detach()
    mine = torch.autograd.grad((lora_linear(x, DenseBase(weight), None, Adapter(a, b, 2.0)) ** 3).sum(), (x, a, b))
    plain = torch.autograd.grad(((F.linear(x, weight) + 2.0 * (x @ a.t()) @ b.t()) ** 3).sum(), (x, a, b))
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_changes_no_bit(dtype: torch.dtype) -> None:
    base = nn.Linear(16, 8).to(dtype)
    x = torch.randn(5, 16).to(dtype)
    expected = base(x)
    layer = AdaptedLinear(base, rank=4, alpha=8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), expected)


def test_without_adapters_the_base_model_answers_bit_for_bit() -> None:
    plain, tuned = toy_decoder(lora=None), toy_decoder(lora=4)
    for layer in adapters(tuned.model).values():
        nn.init.normal_(layer.lora_b)
    ids = torch.arange(20)
    with torch.no_grad(), without_adapters(tuned.model):
        assert torch.equal(run(tuned, [ids]), run(plain, [ids]))
    with torch.no_grad():
        assert not torch.equal(run(tuned, [ids]), run(plain, [ids]))


def test_merged_equals_adapted_and_merging_twice_is_refused() -> None:
    decoder = toy_decoder()
    for layer in adapters(decoder.model).values():
        nn.init.normal_(layer.lora_b, std=0.1)
    ids = torch.arange(20)
    with torch.no_grad():
        before = decoder.head.logits(run(decoder, [ids]))
        merge(decoder.model)
        after = decoder.head.logits(run(decoder, [ids]))
    assert (after - before).abs().max() < 1e-4
    with pytest.raises(UsageError, match="no adapter left"):
        merge(decoder.model)


def test_all_linear_leaves_the_head_out_and_an_unknown_target_is_an_error() -> None:
    decoder = toy_decoder(lora=None, tie_word_embeddings=False)
    names = matching(decoder.model, decoder.head.linear, ("all-linear",))
    assert len(names) == 14 and not any("lm_head" in name for name in names)
    assert len(matching(decoder.model, decoder.head.linear, ("q_proj", "v_proj"))) == 4
    with pytest.raises(UsageError, match="no linear layer is called q_porj.*q_proj"):
        matching(decoder.model, decoder.head.linear, ("q_porj",))
    with pytest.raises(NotFound):
        adapt(decoder.model, [], 4, 8, 0)
