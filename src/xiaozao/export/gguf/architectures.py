"""What llama.cpp calls each family's parts, which numbers of its config it wants, and how it lays out its matrices.

Names of tensors come from the gguf package's own maps. Two layouts differ from transformers': Llama's query and key
matrices hold each rotary pair side by side, and Gemma's norms are written with the 1 that its code adds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gguf import GGUFWriter
from gguf.constants import MODEL_ARCH, MODEL_TENSOR, TENSOR_NAMES, RopeScalingType
from gguf.tensor_mapping import get_tensor_name_map
from torch import Tensor
from transformers import PreTrainedConfig

from xiaozao.errors import UnsupportedModel

ENDINGS = (".weight", ".bias")
UNUSED = ("rotary_emb.inv_freq", ".attention.masked_bias")
Add = Callable[[GGUFWriter, PreTrainedConfig], None]


@dataclass(frozen=True)
class Family:
    """A family of models. permuted: rotary pairs lie side by side; shifted: its norms add 1; more: its own numbers."""

    arch: MODEL_ARCH
    permuted: bool = False
    shifted: bool = False
    rotary: bool = False  # whether the width of rotary positions is written
    head_width: bool = True  # whether the config's head_dim counts
    more: Add | None = None


def _gemma2(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)


def _gemma3(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)


def _granite(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


FAMILIES = {
    "LlamaForCausalLM": Family(MODEL_ARCH.LLAMA, permuted=True, rotary=True),
    "MistralForCausalLM": Family(MODEL_ARCH.LLAMA, permuted=True, rotary=True),
    "SmolLM3ForCausalLM": Family(MODEL_ARCH.SMOLLM3, permuted=True, rotary=True),
    "GraniteForCausalLM": Family(MODEL_ARCH.GRANITE, permuted=True, rotary=True, head_width=False, more=_granite),
    "Qwen2ForCausalLM": Family(MODEL_ARCH.QWEN2),
    "Qwen3ForCausalLM": Family(MODEL_ARCH.QWEN3),
    "Gemma2ForCausalLM": Family(MODEL_ARCH.GEMMA2, shifted=True, more=_gemma2),
    "Gemma3ForCausalLM": Family(MODEL_ARCH.GEMMA3, shifted=True, more=_gemma3),
}


def family_of(config: PreTrainedConfig, kind: str) -> Family:
    """The family of a model class. Raises UnsupportedModel with the classes there are."""
    if kind not in FAMILIES:
        raise UnsupportedModel("export_family", kind=kind, known=", ".join(FAMILIES))
    scaled = _rope(config).get("rope_type", "default")
    if scaled not in ("default", "linear", "llama3", "yarn"):
        raise UnsupportedModel("export_rope", kind=kind, rope=scaled)
    return FAMILIES[kind]


def add_numbers(writer: GGUFWriter, config: PreTrainedConfig, family: Family) -> None:
    """Write what llama.cpp computes with: widths, heads, norms, positions, and the family's own numbers."""
    heads = config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    width = head_width(config, family)
    if family.head_width and getattr(config, "head_dim", None):
        writer.add_key_length(width)
        writer.add_value_length(width)
    if family.rotary:
        writer.add_rope_dimension_count(width)
    _add_positions(writer, config)
    if family.more:
        family.more(writer, config)


def head_width(config: PreTrainedConfig, family: Family) -> int:
    """Numbers of one attention head."""
    given = getattr(config, "head_dim", None) if family.head_width else None
    return int(given or config.hidden_size // config.num_attention_heads)


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    """How positions turn, for layers that see everything."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    full = rope.get("full_attention", rope)
    return dict(full) if isinstance(full, dict) else {}


def _add_positions(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    rope = _rope(config)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    sliding = (getattr(config, "rope_parameters", None) or {}).get("sliding_attention")
    if isinstance(sliding, dict) and "rope_theta" in sliding:
        writer.add_rope_freq_base_swa(sliding["rope_theta"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)


def rotary_factors(config: PreTrainedConfig, family: Family) -> Tensor | None:
    """Llama 3's factors (head / 2), by which slow rotations are slowed further; None for other models."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    width, original = head_width(config, family), rope["original_max_position_embeddings"]
    low, high = original / rope["low_freq_factor"], original / rope["high_freq_factor"]
    factors = []
    for place in range(0, width, 2):
        length = 2 * math.pi * rope["rope_theta"] ** (place / width)
        share = (original / length - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        middle = 1 / ((1 - share) / rope["factor"] + share)
        factors.append(1.0 if length < high else rope["factor"] if length > low else middle)
    return torch.tensor(factors)


@dataclass(frozen=True)
class Names:
    """transformers' names of tensors -> GGUF's, for one model. Raises UnsupportedModel for one that has none."""

    family: Family
    blocks: int

    def of(self, name: str) -> str | None:
        """The GGUF name of a tensor; None for one that is computed and not read."""
        if name.endswith(UNUSED):
            return None
        mapped = get_tensor_name_map(self.family.arch, self.blocks).get_name(name, try_suffixes=ENDINGS)
        if mapped is None:
            raise UnsupportedModel("export_tensor", name=name, kind=self.family.arch.name.lower())
        return mapped


def laid_out(name: str, tensor: Tensor, config: PreTrainedConfig, family: Family) -> Tensor:
    """A tensor as llama.cpp lays it out."""
    if family.shifted and name.endswith("norm.weight"):
        return tensor.float() + 1
    heads = config.num_attention_heads
    if family.permuted and ".q_proj." in name:
        return side_by_side(tensor, heads)
    if family.permuted and ".k_proj." in name:
        return side_by_side(tensor, getattr(config, "num_key_value_heads", None) or heads)
    return tensor


def side_by_side(tensor: Tensor, heads: int) -> Tensor:
    """(heads x (first halves, second halves), ...) -> each rotary pair side by side."""
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, half, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def name_of_factors() -> str:
    """The name of the tensor that rotary_factors becomes."""
    return TENSOR_NAMES[MODEL_TENSOR.ROPE_FREQS] + ".weight"
