"""Adapters on disk in PEFT's format, so that PEFT, vLLM and llama.cpp read them.

adapter_model.safetensors: base_model.model.<layer>.lora_A.weight (rank, in), .lora_B.weight (out, rank).
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from xiaozao.errors import ArtefactError, NotFound
from xiaozao.models.linear import AdaptedLinear, adapt, adapters

PREFIX = "base_model.model."
WEIGHTS = "adapter_model"
CONFIG = "adapter_config"


def adapter_tensors(layers: dict[str, AdaptedLinear]) -> dict[str, Tensor]:
    """The adapter's tensors under PEFT's names."""
    named = {}
    for name, layer in layers.items():
        named[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_a.detach()
        named[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_b.detach()
    return named


def adapter_config(layers: dict[str, AdaptedLinear], base: str) -> dict[str, object]:
    """PEFT's description of the adapter. `base` is the model's id, never a path of the user's machine."""
    one = next(iter(layers.values()))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": one.rank,
        "lora_alpha": one.scale * one.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(layers),
    }


def attach(model: nn.Module, folder: Path) -> dict[str, AdaptedLinear]:
    """Put the adapter in `folder` onto a model. Raises ArtefactError where names or shapes do not match."""
    config, tensors = _read(folder)
    layers = adapt(model, list(config["target_modules"]), config["r"], config["lora_alpha"], seed=0)
    wanted = {name: tuple(tensor.shape) for name, tensor in adapter_tensors(layers).items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ArtefactError("adapter_shapes", folder=folder, count=len(wrong), first=wrong[0])
    with torch.no_grad():
        for name, layer in adapters(model).items():
            layer.lora_a.copy_(tensors[f"{PREFIX}{name}.lora_A.weight"])
            layer.lora_b.copy_(tensors[f"{PREFIX}{name}.lora_B.weight"])
    return layers


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    paths = folder / f"{CONFIG}.json", folder / f"{WEIGHTS}.safetensors"
    if not all(path.is_file() for path in paths):
        raise NotFound("adapter", folder=folder)
    try:
        config = json.loads(paths[0].read_text(encoding="utf-8"))
        return config, load_file(paths[1])
    except (ValueError, OSError, SafetensorError) as error:
        raise ArtefactError("adapter_unreadable", folder=folder, detail=error) from None
