"""Reads an adapter's folder and checks it against bounds and its own weights before anything is built. No torch.

adapter_config.json          rank, alpha, kinds; PEFT's format
adapter_model.safetensors    its header: the ranks that the weights really have
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.errors import ArtefactError, NotFound
from xiaozao.hub.jsonfile import number, read_object, shown, typed, wrong
from xiaozao.hub.tensorfile import StoredTensor, read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RANKS = (".lora_A.weight", ".lora_B.weight")  # (rank, in) and (out, rank)
RANK_LIMIT = 2**18  # as the largest hidden size: a rank above it adds nothing
ALPHA_LIMIT = 1e9
# What PEFT can also ask for and we do not compute; a file with one of these set is another function than we would run.
FOREIGN = (
    "rank_pattern", "alpha_pattern", "lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens",
    "trainable_token_indices", "layer_replication", "target_parameters", "arrow_config", "velora_config",
    "monteclora_config",
)  # fmt: skip
# Other starts (PiSSA, OLoRA, CorDA, LoftQ) change the base as well, and PEFT computes that change again when it loads.
HARMLESS_STARTS = ("gaussian", "eva", "orthogonal", "mica")
TYPES: Mapping[str, tuple[type, ...]] = {
    "peft_type": (str,), "bias": (str,), "use_rslora": (bool,), "use_dora": (bool,), "fan_in_fan_out": (bool,),
    "init_lora_weights": (bool, str), "target_modules": (str, list), "modules_to_save": (list,),
    "base_model_name_or_path": (str,), "task_type": (str,),
}  # fmt: skip


@dataclass(frozen=True)
class AdapterSettings:
    """The settings of a supported adapter. Its scale is alpha / rank, or alpha / sqrt(rank) with rsLoRA."""

    rank: int
    alpha: float
    rslora: bool
    dora: bool

    @property
    def plain_alpha(self) -> float:
        """The alpha of a plain LoRA with the same scale."""
        return self.alpha * (math.sqrt(self.rank) if self.rslora else 1)


def read_adapter_settings(folder: Path) -> AdapterSettings:
    """Raises NotFound without an adapter, ArtefactError naming file, field, value and what is allowed."""
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise NotFound("adapter", folder=folder)
    values = read_object(path)
    typed(path, values, TYPES)
    _check_kind(folder, values)
    rank = number(path, values, "r", 1, RANK_LIMIT)
    alpha = number(path, values, "lora_alpha", -ALPHA_LIMIT, ALPHA_LIMIT, whole=False)
    if alpha == 0:
        raise wrong(path, "field_range", field="lora_alpha", value=shown(alpha), low="> 0", high=ALPHA_LIMIT)
    _check_ranks(path, rank, read_header(folder / WEIGHTS))
    return AdapterSettings(rank, alpha, bool(values.get("use_rslora")), bool(values.get("use_dora")))


def _check_kind(folder: Path, values: Mapping[str, Any]) -> None:
    start = values.get("init_lora_weights")
    odd = [name for name in FOREIGN if values.get(name)]
    odd += ["bias"] if (values.get("bias") or "none") != "none" else []
    odd += ["peft_type"] if values.get("peft_type") != "LORA" else []
    odd += ["init_lora_weights"] if isinstance(start, str) and start not in HARMLESS_STARTS else []
    if odd:
        raise ArtefactError("adapter_kind", folder=folder, name=odd[0], value=shown(values.get(odd[0], ...)))


def _check_ranks(path: Path, rank: int, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise ArtefactError if the rank is not that of the weights: memory of a wrong size would be allocated."""
    ranks = [
        (name, tensor) for name, tensor in tensors.items() for ending in RANKS
        if name.endswith(ending) and len(tensor.shape) == 2
    ]  # fmt: skip
    if ranks and all(rank != tensor.shape[0 if name.endswith(RANKS[0]) else 1] for name, tensor in ranks):
        name, tensor = ranks[0]
        raise wrong(path, "adapter_rank", name=name, shape=list(tensor.shape), rank=rank)
