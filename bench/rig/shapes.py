"""Models of two shapes with random weights, with the tokenizer of another: for what needs no sense."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bench.rig.environments import cache_folder

SHAPES: dict[str, dict[str, object]] = {
    "wide": {"hidden_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 16, "num_key_value_heads": 16,
             "head_dim": 64, "intermediate_size": 2816, "tie_word_embeddings": False},
    "deep": {"hidden_size": 512, "num_hidden_layers": 40, "num_attention_heads": 8, "num_key_value_heads": 2,
             "head_dim": 64, "intermediate_size": 1408, "tie_word_embeddings": True},
}  # fmt: skip


def shaped_model(shape: str, like: Path) -> Path:
    """The folder of a model of that shape; everything but its numbers is that of `like`."""
    folder = cache_folder() / "shapes" / shape
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        values = {**json.loads((like / "config.json").read_text(encoding="utf-8")), **SHAPES[shape]}
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
        for file in like.glob("token*"):
            shutil.copy(file, folder)
        for file in like.glob("*.jinja"):
            shutil.copy(file, folder)
    return folder.absolute()
