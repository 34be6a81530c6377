"""A model in memory -> a folder that transformers, vLLM and converters read: safetensors, config, tokenizer."""

import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

from xiaozao.models.rounding import rounded

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip


def write_model(model: PreTrainedModel, target: Path, source: Path, dtype: torch.dtype) -> None:
    """Write weights in `dtype` and config; tokenizer and chat template are copied from the model's own folder.

    The model itself becomes what is written: fp32 weights are rounded at random (models/rounding.py), so that what was
    learned in steps smaller than the distance of two bf16 numbers is not lost.
    `target` must exist, best as a staging folder (models/checkpoint.py), because this is not atomic by itself.
    """
    model.config.dtype = dtype
    model.config._name_or_path = ""  # a path of the user's machine has no place in a file he may publish
    model.set_attn_implementation("eager")  # our packed attention is registered in this process alone
    for name, parameter in model.named_parameters():
        parameter.data = rounded(parameter.data, dtype, name)
    written = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in written and buffer.is_floating_point():  # what is not written (rotary frequencies) stays exact
            buffer.data = buffer.data.to(dtype)
    model.save_pretrained(target)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
