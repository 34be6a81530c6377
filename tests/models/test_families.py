"""Every family that is tried here trains on the model's own numbers; one that silently would not is refused.

The comparisons are those of bench/rig/families.py, which takes all model types through them; here are the families that
matter most, and one of each way in which attention, state or head can be unlike Llama's.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.rig.families import COMPARED, KINDS, checked, examine, segments
from bench.rig.families_page import BOUND, Finding, families_page
from tests.small import small_model
from tests.toy import toy_decoder
from xiaozao.errors import UnsupportedModel
from xiaozao.models.blocks import Decoder, distance, run
from xiaozao.models.families import check
from xiaozao.models.generate import can_be_cached
from xiaozao.models.layers import attention
from xiaozao.models.layers.attention import Asked
from xiaozao.models.layers.linear import adapt, matching

PACKED = (
    "cohere2", "deepseek_v3", "ernie4_5", "gemma2", "gemma3_text", "gemma4_text", "glm4", "gpt2", "gpt_neox",
    "gpt_oss", "granite", "hunyuan_v1_dense", "llama", "mistral", "mixtral", "olmo2", "phi", "phi3", "qwen2", "qwen3",
    "qwen3_moe", "seed_oss", "smollm3", "starcoder2",
)  # fmt: skip
PADDED = ("falcon", "falcon_h1", "lfm2", "qwen3_5_text")
OUTSIDE = ("gemma4_text",)  # layers that take an adapter lie outside the blocks too
STATIONS = ("samples", "loss", "gradients", "merged", "adapter gradients", "blocks", "recomputed", "answers")


@pytest.mark.parametrize("kind", [*PACKED, *PADDED])
def test_a_family_trains_on_the_models_own_numbers(kind: str) -> None:
    decoder = checked(kind)
    assert decoder.packing == ("packed" if kind in PACKED else "padded")
    gaps = {name: COMPARED[name](kind) for name in STATIONS if name != "blocks" or kind not in OUTSIDE}
    assert all(gap < BOUND for gap in gaps.values()), gaps


@pytest.mark.real
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "moe" in kind or "mamba" in kind])
def test_mixtures_and_state_spaces_are_right_or_refused(kind: str) -> None:
    assert examine(kind).way != "wrong"


@pytest.mark.parametrize("kind", ["batched", "sdpa", "eager"])
def test_another_sample_changes_nothing_at_all(kind: str) -> None:
    decoder = toy_decoder()
    decoder.attention.kind = kind
    decoder.model.eval()
    ids = torch.randint(3, 250, (40,), generator=torch.Generator().manual_seed(1))
    first, other, second = ids[:13], (ids[:13] + 7) % 250, ids[13:]
    with torch.no_grad():
        one = decoder.head.logits(run(decoder, [first, second]))[13:]
        two = decoder.head.logits(run(decoder, [other, second]))[13:]
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("kind", "less"),
    [
        ("mistral", {"window": None, "mask": None}),
        ("gpt_oss", {"sinks": None}),
        ("gemma2", {"softcap": None}),
        ("granite", {"scaling": 8.0}),
    ],
)
def test_what_a_model_asks_of_its_attention_matters(
    kind: str, less: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison would see it if any of it were dropped."""
    whole = attention.attend

    def careless(q: Tensor, k: Tensor, v: Tensor, asked: Asked, way: str = "sdpa") -> Tensor:
        return whole(q, k, v, replace(asked, **less), way)

    assert COMPARED["samples"](kind) < BOUND
    monkeypatch.setattr(attention, "attend", careless)
    assert COMPARED["samples"](kind) > BOUND


def test_state_that_crosses_samples_is_seen_and_trained_padded() -> None:
    decoder, parts = checked("lfm2"), segments("lfm2")
    with torch.no_grad():
        alone = run(decoder, parts)
        decoder.model.set_attn_implementation(decoder.attention.name)
        assert distance(run(replace(decoder, packing="packed"), parts), alone) > BOUND


class Leaking(nn.Module):
    """An MLP that carries something over from one row of a batch to the next, and from one token to those behind it."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.own(states)
        return out + states.flatten(0, 1).cumsum(0).view_as(states)


class Looking(Leaking):
    """One that looks at all tokens."""

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.own(states)
        return out + states.mean(1, keepdim=True)


def with_mlp(kind: Callable[[nn.Module], nn.Module]) -> Decoder:
    decoder = toy_decoder(lora=None)
    block = decoder.model.get_submodule("model.layers.0")
    block.mlp = kind(block.get_submodule("mlp"))
    return decoder


def test_a_decoder_that_leaks_between_samples_in_every_way_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"llama: a sample that shares a row or a batch with another changes"):
        check(with_mlp(Leaking))


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"not a causal language model(?s:.*left to right)"):
        check(with_mlp(Looking))


def test_a_model_that_does_not_run_on_text_is_refused() -> None:
    decoder = toy_decoder(lora=None)

    def blind(*_: object, **__: object) -> None:
        raise ValueError("You have to specify pixel_values")

    decoder.model.forward = blind
    with pytest.raises(UnsupportedModel, match=r"llama does not run on text alone: You have to specify pixel_values"):
        check(decoder)


def test_a_model_whose_logits_are_not_ours_is_refused() -> None:
    decoder = toy_decoder(lora=None)
    own = decoder.model.forward

    def louder(*inputs: Any, **named: Any) -> Any:
        out = own(*inputs, **named)
        out.logits = out.logits**3
        return out

    decoder.model.forward = louder
    with pytest.raises(UnsupportedModel, match="differ from the model's own by"):
        check(decoder)


def test_a_head_that_does_more_is_found_by_its_numbers() -> None:
    decoder = toy_decoder(kind="granite", lora=None, logits_scaling=4.0)
    wrong = replace(decoder, head=replace(decoder.head, scale=1.0))
    assert check(wrong).head.scale == 0.25


@pytest.mark.parametrize("mode", [True, False])
def test_the_check_leaves_the_model_as_it_was(mode: bool) -> None:
    decoder = toy_decoder(lora=None)
    decoder.model.train(mode)
    before = {name: one.clone() for name, one in decoder.model.state_dict().items()}
    assert check(decoder).model.training is mode
    assert all(torch.equal(one, before[name]) for name, one in decoder.model.state_dict().items())


def test_a_model_whose_cache_takes_no_padding_is_read_without_one() -> None:
    assert can_be_cached(toy_decoder(lora=None))
    decoder = checked("openai-gpt")
    assert not can_be_cached(decoder)
    assert COMPARED["answers"]("openai-gpt") < BOUND


def test_experts_stay_frozen_and_attention_and_shared_layers_train() -> None:
    model: PreTrainedModel = small_model("qwen2_moe")
    head = model.get_output_embeddings()
    adapt(model, matching(model, head, ("all-linear",)), 2, 4.0, 0)
    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    assert any("self_attn" in name for name in learning) and any("shared_expert." in name for name in learning)
    assert not any(".experts" in name or ".gate." in name or "shared_expert_gate" in name for name in learning)


def test_the_page_counts_each_way_and_says_why() -> None:
    fine = dict.fromkeys(STATIONS, 1e-7)
    page = families_page(
        [
            Finding("llama", "packed", gaps=fine, version="5.0"),
            Finding("lfm2", "padded", gaps={**fine, "blocks": float("inf")}, cached=False, version="5.0"),
            Finding("bert", "refused", "bert: it looks ahead", version="5.0"),
        ]
    )
    assert "**transformers 5.0: 3 model types, 2 train** (1 packed, 1 padded, 1 refused)" in page
    assert "| lfm2 | padded | without a cache, no blocks |" in page and "| bert | refused | it looks ahead |" in page
