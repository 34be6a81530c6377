"""A model in memory -> a folder that transformers, vLLM and converters read: safetensors, config, tokenizer."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from xiaozao.data.namedtemplates import OWN
from xiaozao.hub.folder import WEIGHTS
from xiaozao.hub.spellings import both_spellings
from xiaozao.models.artefacts.disk import DISK
from xiaozao.models.chatfiles import CONFIG, write_chat_files
from xiaozao.models.layers.attention import implementation
from xiaozao.models.layers.rounding import rounded, rounded_pieces
from xiaozao.models.loading.paged import store_of
from xiaozao.models.loading.trainstore import PagedStore


def write_model(
    model: PreTrainedModel,
    target: Path,
    source: Path,
    dtype: torch.dtype,
    keeps: bool = True,
    thinking: bool | None = None,
    template: str = OWN,
) -> None:
    """Write weights in `dtype`, config, and what makes the model talk, from the folder it was trained with.

    source: the model's own folder, or that of the adapter, with tokenizer and template (chatfiles.py).

    The model itself becomes what is written: fp32 weights are rounded at random (layers/rounding.py), so that what was
    learned in steps smaller than the distance of two bf16 numbers is not lost.
    keeps: False leaves a model whose weights lie on disk as it is, for a rehearsal. It must not be so for another one.
    thinking, template: see write_chat_files.
    `target` must exist, best as a staging folder (artefacts/checkpoint.py), because this is not atomic by itself.
    """
    store = store_of(model)
    if store is None:
        _describe(model.config, dtype)
        for name, parameter in model.named_parameters():
            parameter.data = rounded(parameter.data, dtype, name)
        written = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in written and buffer.is_floating_point():  # what is not written (rotary frequencies) stays exact
                buffer.data = buffer.data.to(dtype)
        with implementation(model, "eager"):  # our packed attention is registered in this process alone
            model.save_pretrained(target)
    else:
        _write_paged(model, target, dtype, store, keeps)
    values = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    values = both_spellings(values, type(model.config).attribute_map)
    (target / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_chat_files(target, source, thinking, template)


def _describe(config: PreTrainedConfig, dtype: torch.dtype) -> None:
    config.dtype = dtype
    config._name_or_path = ""  # a path of the user's machine has no place in a file he may publish


def _write_paged(model: PreTrainedModel, target: Path, dtype: torch.dtype, store: PagedStore, keeps: bool) -> None:
    """The same, with a piece of one matrix at a time in memory."""
    config = copy.deepcopy(model.config)  # the model goes on with its own, after a rehearsal
    _describe(config, dtype)
    config._attn_implementation = "eager"
    config.architectures = [type(model).__name__]
    config.save_pretrained(target)
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(target)
    own = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    names = [name for name in model.state_dict() if name not in model.all_tied_weights_keys]
    kinds = {name: dtype if own[name].is_floating_point() else own[name].dtype for name in names}
    described = {name: torch.empty(own[name].shape, dtype=kinds[name], device="meta") for name in names}

    def pieces(name: str) -> Iterator[Tensor]:
        """A tensor as it is written, in pieces; if `keeps`, the model's own tensor takes these values."""
        tensor = own[name].detach().reshape(-1)
        kept = None
        if keeps and tensor.dtype != kinds[name]:
            away = store.of(tensor) is not None
            kept = store.empty(f"written.{name}", described[name]) if away else torch.empty(tensor.shape, dtype=dtype)
            kept = kept.view(-1)
        for start, piece in rounded_pieces(tensor, kinds[name], name):
            place = slice(start, start + piece.numel())
            if kept is not None:
                kept[place] = piece
                store.leave([kept[place]])
            yield piece
            store.leave([tensor[place]])
        if kept is not None:
            own[name].data = kept.view(own[name].shape)

    DISK.write_pieces(target / WEIGHTS, described, pieces)
