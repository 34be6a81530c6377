"""Packed samples do not see each other, in every family that is tried here, and our logits are the model's own."""

from typing import Any

import pytest
import torch

from tests.toy import toy_decoder
from xiaozao.errors import UnsupportedModel
from xiaozao.models.attention import implementation
from xiaozao.models.blocks import run
from xiaozao.models.families import check

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "cohere": {"logit_scale": 0.25},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "olmo2": {},
    "phi3": {},
    "gpt_neox": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_alone_and_logits_are_the_models_own(family: str) -> None:
    decoder = toy_decoder(kind=family, lora=None, **FAMILIES[family])
    decoder.model.eval()
    ids = torch.randint(3, 250, (31,), generator=torch.Generator().manual_seed(1))
    parts = [ids[:12], ids[12:17], ids[17:]]
    with torch.no_grad():
        packed = decoder.head.logits(run(decoder, parts)).split([12, 5, 14])
        for part, ours in zip(parts, packed, strict=True):
            with implementation(decoder.model, "eager"):
                own = decoder.model(input_ids=part[None], use_cache=False).logits[0]
            torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-4)
    assert check(decoder).packing


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


def test_a_model_whose_logits_are_not_ours_is_refused() -> None:
    decoder = toy_decoder(lora=None)
    linear = decoder.head.linear

    class Louder(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    louder = Louder(linear.in_features, linear.out_features, bias=False)
    louder.weight = linear.weight
    decoder.model.set_output_embeddings(louder)
    with pytest.raises(UnsupportedModel, match="differ from the model's own by"):
        check(decoder)
