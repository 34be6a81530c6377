"""A model in memory -> a folder that transformers, vLLM and converters read: safetensors, config, tokenizer."""

import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from xiaozao.hub.folder import WEIGHTS
from xiaozao.hub.spellings import both_spellings
from xiaozao.models.artefacts.disk import DISK
from xiaozao.models.chatfiles import CONFIG, write_chat_files
from xiaozao.models.layers.rounding import rounded
from xiaozao.models.loading.paged import store_of
from xiaozao.models.loading.trainstore import PagedStore


def write_model(model: PreTrainedModel, target: Path, source: Path, dtype: torch.dtype) -> None:
    """Write weights in `dtype`, config, and what makes the model talk, from the folder it was trained with.

    source: the model's own folder, or that of the adapter, with tokenizer and template (chatfiles.py).

    The model itself becomes what is written: fp32 weights are rounded at random (layers/rounding.py), so that what was
    learned in steps smaller than the distance of two bf16 numbers is not lost.
    `target` must exist, best as a staging folder (artefacts/checkpoint.py), because this is not atomic by itself.
    """
    model.config.dtype = dtype
    model.config._name_or_path = ""  # a path of the user's machine has no place in a file he may publish
    model.set_attn_implementation("eager")  # our packed attention is registered in this process alone
    store = store_of(model)
    if store is None:
        for name, parameter in model.named_parameters():
            parameter.data = rounded(parameter.data, dtype, name)
        written = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in written and buffer.is_floating_point():  # what is not written (rotary frequencies) stays exact
                buffer.data = buffer.data.to(dtype)
        model.save_pretrained(target)
    else:
        _write_paged(model, target, dtype, store)
    values = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    values = both_spellings(values, type(model.config).attribute_map)
    (target / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_chat_files(target, source)


def _write_paged(model: PreTrainedModel, target: Path, dtype: torch.dtype, store: PagedStore) -> None:
    """The same, with one matrix at a time in memory."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(target)
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(target)
    own = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    names = [name for name in model.state_dict() if name not in model.all_tied_weights_keys]
    kinds = {name: dtype if own[name].is_floating_point() else own[name].dtype for name in names}
    described = {name: torch.empty(own[name].shape, dtype=kinds[name], device="meta") for name in names}

    def take(name: str) -> Tensor:
        """A tensor as it is written, which is what the model has from then on."""
        tensor = own[name]
        if tensor.dtype == kinds[name]:
            return tensor
        away, short = store.of(tensor) is not None, rounded(tensor.detach(), dtype, name)
        tensor.data = store.put(f"written.{name}", short) if away else short
        return tensor

    DISK.write_one_by_one(target / WEIGHTS, described, take, lambda name: store.leave([own[name]]))
