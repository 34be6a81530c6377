"""Bounds on every size in a config.json (layers, heads, widths ...), checked before a model is built from it.

The bounds are a few times the sizes of the largest known models. The sizes are then compared with the weights: a file
of a thousand elements cannot hold a thousand layers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.hub.jsonfile import mistyped, number, typed, wrong

ENTRIES = 100_000  # of one object or array, such as the names of classes
PACKED = 64  # elements of a weight that one stored element may stand for: packed bits, a factorised embedding


@dataclass(frozen=True)
class Bound:
    """Fields whose names match hold whole numbers from low to high, or one such number for each layer."""

    names: re.Pattern[str]
    low: int
    high: int


def _bound(names: str, low: int, high: int) -> Bound:
    return Bound(re.compile(names), low, high)


# The first that matches counts. Null stands for absent.
SIZES = (
    _bound(r"vocab_size|(decoder|unpadded|text)_vocab_size|vocab_size_per_layer_input", 1, 2**22),
    _bound(r"num_hidden_layers|n_layers?|num_layers|num_blocks|(num_)?decoder_layers", 1, 1024),
    _bound(r"num_attention_heads|n_heads?|num_heads|num_decoder_attention_heads|decoder_attention_heads", 1, 2**14),
    _bound(r"num_key_value_heads|num_kv_heads|n_head_kv|num_query_groups", 1, 2**14),
    _bound(r"head_dim|d_head|dim_head|kv_channels|attention_head_size", 1, 2**15),
    _bound(r"hidden_size|n_embd|d_model|embedding_size|embedding_dim|emb_dim|word_embed_proj_dim", 1, 2**18),
    _bound(r"\w*intermediate_size|n_inner|\w*ffn_dim|ffn_hidden_size|d_inner|dim_ff|dff", 0, 2**22),
    _bound(r"(moe_)?num_experts|num_local_experts|n_routed_experts|num_experts_per_tok|moe_topk", 0, 2**16),
    _bound(r"num_labels", 0, ENTRIES),
)
# Fields of which no type is checked here; only a number that nothing has is refused.
OTHERS = (
    _bound(
        r"\w*(_id|_ids|_index|_token|position\w*|positions|length|_len|window\w*|seed|max_\w+|n_ctx)", -(2**63), 2**63
    ),
    _bound(r"\w*layers\w*|\w*blocks\w*|depth\w*", -1024, 2**12),
    _bound(r"\w*heads\w*", 0, 2**14),
    _bound(r"(num|n)_\w+", -1, 2**20),
    _bound(r"\w+", -(2**32), 2**32),
)
TYPES: dict[str, tuple[type, ...]] = {
    "model_type": (str,), "text_config": (dict,), "quantization_config": (dict,), "rope_scaling": (dict,),
    "rope_parameters": (dict,), "architectures": (list,), "id2label": (dict,), "label2id": (dict,),
    "layer_types": (list,),    "tie_word_embeddings": (bool,), "eos_token_id": (int, list), "bos_token_id": (int, list),
    "pad_token_id": (int,), "hidden_act": (str,), "torch_dtype": (str,), "dtype": (str, dict),
}  # fmt: skip


def check_sizes(path: Path, values: Mapping[str, Any]) -> None:
    """Raise ArtefactError for a field of config.json that is too large, too small or of the wrong type."""
    for prefix, part in _objects(values, ""):
        if len(part) > ENTRIES:
            raise wrong(path, "field_entries", field=prefix or ".", count=len(part), limit=ENTRIES)
        if isinstance(part, dict):
            _check_object(path, prefix, part)


def check_weights(path: Path, values: Mapping[str, Any], tensors: int, elements: int) -> None:
    """Raise ArtefactError if config.json needs more than `tensors` weights of `elements` elements in all."""
    inner = values.get("text_config")
    text = {**values, **inner} if isinstance(inner, dict) else dict(values)
    layers, vocabulary = _largest(text, SIZES[1]), _largest(text, SIZES[0])
    hidden, heads, head = _largest(text, SIZES[5]), _largest(text, SIZES[2]), _largest(text, SIZES[4])
    width = _largest(text, SIZES[6])
    if layers > tensors:
        raise wrong(path, "config_layers", layers=layers, tensors=tensors)
    for what, count in (
        ("vocab_size x hidden_size", vocabulary * hidden),
        ("hidden_size x intermediate_size", hidden * width),
        ("hidden_size x num_attention_heads x head_dim", hidden * heads * head),
    ):
        if count > PACKED * max(elements, 1):
            raise wrong(path, "config_weights", what=what, count=count, stored=elements)


def _check_object(path: Path, prefix: str, part: Mapping[str, Any]) -> None:
    typed(path, {f"{prefix}{key}": value for key, value in part.items()}, {f"{prefix}{k}": t for k, t in TYPES.items()})
    for key, value in part.items():
        name = f"{prefix}{key}"
        bound = next((one for one in SIZES if one.names.fullmatch(key)), None)
        if bound is not None and value is not None:
            _check_size(path, name, value, bound)
        elif isinstance(value, int | list):
            other = next((one for one in OTHERS if one.names.fullmatch(key)), OTHERS[-1])
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, int) and not other.low <= each <= other.high:
                    number(path, {name: each}, name, other.low, other.high)


def _check_size(path: Path, name: str, value: Any, bound: Bound) -> None:
    """One number, or one for each layer."""
    if not isinstance(value, list):
        number(path, {name: value}, name, bound.low, bound.high)
        return
    if not value or len(value) > SIZES[1].high:
        raise mistyped(path, name, value, (int,))
    for index, each in enumerate(value):
        number(path, {f"{name}[{index}]": each}, f"{name}[{index}]", min(bound.low, 0), bound.high)


def _objects(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """All objects and arrays in a value, itself first, with the place that each has: `text_config.`"""
    if isinstance(value, dict | list):
        yield prefix, value
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inner, dict | list):
                yield from _objects(inner, f"{prefix}{key}.")


def _largest(values: Mapping[str, Any], bound: Bound) -> int:
    """The largest number that fields of this kind hold; 0 where there is none."""
    held = [values[key] for key in values if bound.names.fullmatch(key)]
    numbers = [each for value in held for each in (value if isinstance(value, list) else [value])]
    return max((each for each in numbers if isinstance(each, int)), default=0)
