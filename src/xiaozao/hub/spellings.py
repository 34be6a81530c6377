"""Writes a model folder's JSON so that both transformers 4 and transformers 5 understand it.

transformers 5 keeps the settings of rotary positions in `rope_parameters`. transformers 4, and what is built on it,
reads `rope_theta`, `rope_scaling` and others. If those are absent, it silently takes defaults, which makes another
model. So both spellings are written, from the same numbers.

    "rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}       one set for all layers
    "rope_theta": 1000000.0, "rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 8.0}

    "rope_parameters": {"full_attention": {...}, "sliding_attention": {...}}                 one for each kind of layer
    "rope_theta", "rope_scaling": of full attention; "rope_local_base_freq": of sliding attention

A tokenizer's class is named as both know it, and what only the conversion of a file needed is left out.
"""

from collections.abc import Mapping
from typing import Any

FULL, SLIDING = "full_attention", "sliding_attention"
SCALE_FULL = ("gemma3", "olmo3")  # families where `rope_scaling` is that of full attention, to old readers and new
OUTSIDE = ("partial_rotary_factor", "rope_theta")  # these stand beside `rope_scaling`, not in it
PLAIN_CLASS = "PreTrainedTokenizerFast"
NEW_CLASSES = ("TokenizersBackend",)  # what transformers 5 calls it; transformers 4 refuses the name
# What a loader was told when it read the folder that this one was made from; no part of the tokenizer.
LOADING = (
    "backend", "gguf_file", "is_local", "local_files_only", "name_or_path", "trust_remote_code", "tokenizer_file",
    "_commit_hash", "_from_auto", "use_fast", "cache_dir", "force_download", "token", "revision", "subfolder",
)  # fmt: skip


def both_spellings(values: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The values of a config.json with the names of transformers 4 beside those of transformers 5, in every part.

    aliases: other name -> name in the file, of fields that the model's family once called otherwise.
    """
    known = {name: both_spellings(one) if isinstance(one, dict) else one for name, one in values.items()}
    if isinstance(values.get("rope_parameters"), dict):
        known |= _rotary(str(values.get("model_type", "")), values["rope_parameters"])
    if isinstance(known.get("dtype"), str):
        known["torch_dtype"] = known["dtype"]
    other = {alias: known[name] for alias, name in (aliases or {}).items() if name in known and alias not in known}
    return other | known


def plain_tokenizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a tokenizer_config.json with nothing in it that a reader of transformers 4 refuses."""
    plain = {name: value for name, value in settings.items() if name not in LOADING}
    if plain.get("tokenizer_class", NEW_CLASSES[0]) in NEW_CLASSES:  # unnamed, an adapter's would be looked for
        plain["tokenizer_class"] = PLAIN_CLASS
        # To transformers 4 this class also makes token types, which a decoder's generate() refuses.
        plain.setdefault("model_input_names", ["input_ids", "attention_mask"])
    extra = plain.get("extra_special_tokens")
    if isinstance(extra, list):  # transformers 4 expects names with their tokens there, and takes lists by another name
        del plain["extra_special_tokens"]
        plain["additional_special_tokens"] = extra
    return plain


def _rotary(kind: str, rope: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of rotary positions under the names of transformers 4."""
    sets = {name: one for name, one in rope.items() if isinstance(one, dict) and "rope_theta" in one}
    if not sets:
        return _one_set(kind, rope)
    whole = sets.get(FULL, next(iter(sets.values())))
    named = _one_set(kind, whole)
    if not kind.startswith(SCALE_FULL):  # transformers 5 would take it for the numbers of all layers
        del named["rope_scaling"]
    if any(one.get("partial_rotary_factor") != whole.get("partial_rotary_factor") for one in sets.values()):
        named.pop("partial_rotary_factor", None)  # and this one too
    if SLIDING in sets:
        named["rope_local_base_freq"] = sets[SLIDING]["rope_theta"]
        if kind.startswith("modernbert"):
            named |= {"global_rope_theta": whole["rope_theta"], "local_rope_theta": sets[SLIDING]["rope_theta"]}
    return named


def _one_set(kind: str, rope: Mapping[str, Any]) -> dict[str, Any]:
    """One set of rotary numbers: those that stand alone, and `rope_scaling`, null where nothing is scaled."""
    named: dict[str, Any] = {name: rope[name] for name in OUTSIDE if rope.get(name) is not None}
    if kind.startswith("gpt_neox") and "rope_theta" in rope:
        named |= {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope.get("partial_rotary_factor", 1.0)}
    scaling = {name: value for name, value in rope.items() if name not in OUTSIDE}
    way = scaling.get("rope_type", scaling.get("type", "default"))
    if way == "default" and scaling.keys() <= {"rope_type", "type"}:
        return named | {"rope_scaling": None}
    if way == "longrope":
        if "original_max_position_embeddings" in scaling:
            named["original_max_position_embeddings"] = scaling["original_max_position_embeddings"]
        if kind.startswith("phi3"):  # which refuses any other name there
            scaling = {name: scaling[name] for name in ("short_factor", "long_factor") if name in scaling}
            return named | {"rope_scaling": {"type": way, **scaling}}
    return named | {"rope_scaling": {**scaling, "rope_type": way, "type": way}}
