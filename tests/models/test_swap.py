"""Which modules are taken over, and that the model answers and learns as before."""

import pytest
import torch
from torch import nn

from tests.toy import toy_decoder
from xiaozao.models.blocks import Decoder, distance, run
from xiaozao.models.layers.linear import adapters, merge, without_adapters
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable
from xiaozao.spec.parts import MethodSpec


def learned(kind: str = "llama", lora: int | None = 4, **changes: object) -> Decoder:
    """A toy whose adapters are not zero any more."""
    decoder = toy_decoder(0, kind, lora, **changes)
    for layer in adapters(decoder.model).values():
        torch.nn.init.normal_(layer.lora_b, std=0.1)
    return decoder


def states(decoder: Decoder) -> torch.Tensor:
    return run(decoder, [torch.arange(3, 14), torch.arange(40, 47)])


def gradients(decoder: Decoder) -> dict[str, torch.Tensor]:
    decoder.model.zero_grad()
    found = states(decoder)  # under a drawn gradient: that of a sum of squares is nothing but noise behind a norm
    found.backward(torch.randn(found.shape, generator=torch.Generator().manual_seed(1)))
    return {name: one.grad.clone() for name, one in decoder.trainable().items() if one.grad is not None}


@pytest.mark.parametrize(("kind", "norms"), [("llama", 5), ("qwen3", 9), ("gemma2", 9)])
def test_a_fused_model_answers_and_learns_as_before(kind: str, norms: int) -> None:
    decoder = learned(kind, head_dim=8)
    before, slopes = states(decoder).detach(), gradients(decoder)
    counts = fuse(decoder)
    assert counts["norm"] == norms
    assert distance(states(decoder).detach(), before) < 1e-5
    after = gradients(decoder)
    assert after.keys() == slopes.keys() and len(after) == 28
    assert all(distance(after[name], slopes[name]) < 1e-4 for name in slopes)


def test_norms_that_learn_beside_a_model_in_bf16_are_fused_too() -> None:
    """They hold fp32 masters, and what comes out of them is cast back."""
    decoder = toy_decoder(lora=None)
    nn.Module.to(decoder.model, torch.bfloat16)
    frozen = fuse(decoder)["norm"]
    decoder = toy_decoder(lora=None)
    nn.Module.to(decoder.model, torch.bfloat16)
    make_trainable(decoder, MethodSpec(rank=4, alpha=8.0, also=("norms",)), seed=0)
    assert fuse(decoder)["norm"] == frozen > 0


def test_what_computes_something_else_keeps_its_own_forward() -> None:
    assert fuse(learned(hidden_act="gelu"))["mlp"] == 0  # a gate, but not SiLU
    assert fuse(learned("phi", lora=None)) == {"norm": 0, "mlp": 0}  # layer norms, an MLP without a gate


def test_base_weights_that_learn_are_left_alone() -> None:
    decoder = toy_decoder(lora=None)
    assert fuse(decoder) == {"norm": 5, "mlp": 0}
    states(decoder).sum().backward()
    assert all(one.grad is not None for name, one in decoder.trainable().items())


def test_adapters_switch_off_and_merge_behind_a_fused_layer() -> None:
    decoder = learned()
    with without_adapters(decoder.model):
        base = states(decoder).detach()
    tuned = states(decoder).detach()
    fuse(decoder)
    with without_adapters(decoder.model):
        assert distance(states(decoder).detach(), base) < 1e-5
    merge(decoder.model)
    assert distance(states(decoder).detach(), tuned) < 1e-4


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "mistral"])
def test_masters_under_autocast_have_the_gradients_of_fp32_but_for_rounding(kind: str) -> None:
    decoder = toy_decoder(0, kind, lora=None, head_dim=8, sliding_window=5)
    fuse(decoder)
    exact = gradients(decoder)
    with torch.autocast("cpu", torch.bfloat16):
        decoder.model.zero_grad()
        found = states(decoder)
    found.float().backward(torch.randn(found.shape, generator=torch.Generator().manual_seed(1)))
    rounded = {name: one.grad for name, one in decoder.trainable().items() if one.grad is not None}
    assert rounded.keys() == exact.keys()
    assert all(distance(rounded[name], exact[name]) < 0.1 for name in exact)
