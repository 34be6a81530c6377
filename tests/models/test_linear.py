"""The adapted linear layer against plain autograd, and what merging and switching off must leave unchanged."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_decoder
from xiaozao.errors import NotFound, UsageError
from xiaozao.models.blocks import run
from xiaozao.models.layers.bases import DenseBase
from xiaozao.models.layers.linear import (
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


@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("model.layers.1.mlp.up_proj", 1), ("mlp.up_proj", 2), ("*.mlp.*", 6), ("*layers.0.*_proj", 7),
        ("*.[qv]_proj", 4), (r"re:.*\.0\.self_attn\.(q|k)_proj", 2),
    ],
)  # fmt: skip
def test_targets_are_names_their_ends_globs_or_regular_expressions(target: str, count: int) -> None:
    decoder = toy_decoder(lora=None)
    found = matching(decoder.model, decoder.head.linear, (target,))
    assert len(found) == count
    assert found == matching(decoder.model, decoder.head.linear, (target, target))  # named twice, adapted once


@pytest.mark.parametrize("target", ["*.mpl.*", "re:q_proj", "lm_head", "embed_tokens", "up", "layers.0"])
def test_a_pattern_that_matches_no_linear_layer_is_an_error(target: str) -> None:
    decoder = toy_decoder(lora=None)
    with pytest.raises(UsageError, match="no linear layer is called"):
        matching(decoder.model, decoder.head.linear, ("q_proj", target))


def test_all_linear_leaves_routers_and_layers_that_compute_something_else_alone() -> None:
    class Router(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).topk(1).values

    names = {
        "mlp.router": Router(4, 2), "mlp.router.classifier": nn.Linear(4, 2), "mlp.gate.wg": nn.Linear(4, 2),
        "mlp.shared_expert_gate": nn.Linear(4, 1), "router_gate": nn.Linear(4, 2), "mlp.gate_proj": nn.Linear(4, 2),
        "per_layer_input_gate": nn.Linear(4, 2), "self_attn.q_proj": nn.Linear(4, 4), "odd": Router(4, 2),
    }  # fmt: skip
    model = nn.Module()
    for name, layer in names.items():
        *parents, last = name.split(".")
        place = model
        for parent in parents:
            if parent not in place._modules:
                place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.add_module(last, layer)
    assert set(matching(model, None, ("all-linear",))) == {"mlp.gate_proj", "per_layer_input_gate", "self_attn.q_proj"}
    assert matching(model, None, ("shared_expert_gate",)) == ["mlp.shared_expert_gate"]  # by name, it is adapted


def test_attention_and_shared_layers_of_a_mixture_of_experts_train_and_its_routers_do_not() -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
    decoder = toy_decoder(kind="qwen2_moe", lora=None, **experts, shared_expert_intermediate_size=16)
    names = matching(decoder.model, decoder.head.linear, ("all-linear",))
    assert {name.rpartition(".")[2] for name in names} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert not any(".experts." in name for name in names)  # one three-dimensional parameter
    adapt(decoder.model, names, 2, 4.0, 0)
    assert all("lora" in name for name in decoder.trainable())


def test_conv1d_of_gpt2_is_adapted_and_merged_in_its_own_layout() -> None:
    decoder = toy_decoder(kind="gpt2", lora=3, n_embd=32, n_layer=2, n_head=4)
    decoder.model.eval()
    assert len(adapters(decoder.model)) == 8
    for layer in adapters(decoder.model).values():
        nn.init.normal_(layer.lora_b, std=0.1)
    ids = torch.arange(20)
    with torch.no_grad():
        before = run(decoder, [ids])
        merge(decoder.model)
        assert (run(decoder, [ids]) - before).abs().max() < 1e-5
    assert decoder.model.get_parameter("transformer.h.0.mlp.c_fc.weight").shape == (32, 128)
