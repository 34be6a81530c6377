"""Chooses the matrices of a model that are streamed from disk: nearly all of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from xiaozao.errors import UnsupportedModel
from xiaozao.hub.folder import weight_files
from xiaozao.hub.tensorfile import read_header
from xiaozao.models.layers.linear import Plain, is_plain, is_router
from xiaozao.models.loading.mapped import Mapped
from xiaozao.models.loading.whileloading import check_share

ROWS = 1024  # of two matrices that are compared at a time


@dataclass(frozen=True)
class Chosen:
    """The modules of a model that are streamed, by name. `tied`: the head is the embedding's matrix."""

    layers: Mapping[str, Plain]
    embedding: str | None
    head: str | None
    tied: bool

    @property
    def names(self) -> list[str]:
        """The names of all modules whose weights are streamed; a tied head has no weight of its own."""
        ends = [self.embedding, None if self.tied else self.head]
        return [*self.layers, *(one for one in ends if one is not None)]


def choose(model: PreTrainedModel) -> Chosen:
    """The linear layers but routers; embedding and head where they are plain ones.

    Raises UnsupportedModel where those layers are the smaller part of the weights.
    """
    kept = HfQuantizer.get_modules_to_not_convert(model, None, list(model._keep_in_fp32_modules or ()))
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {one: name for name, one in model.named_modules()}
    layers = {
        name: one
        for name, one in model.named_modules()
        if is_plain(one) and one is not head and not is_router(name) and should_convert_module(name, kept)
    }
    check_share(model, layers, "stream=disk")
    plain = type(embedding).forward is nn.Embedding.forward
    tied = head is not None and embedding is not None and head.weight is embedding.weight
    tied = tied or bool(model.all_tied_weights_keys)
    whole = head is not None and is_plain(head) and (plain or not tied)
    return Chosen(layers, names[embedding] if plain else None, names[head] if whole else None, tied)


def kept_as_stored(model: PreTrainedModel) -> Callable[[str], bool]:
    """A function that says of a name whether transformers loads the tensor unchanged: not renamed, not converted."""
    mapping = get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    state = model.state_dict()

    def kept(name: str) -> bool:
        renamed = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        return name in state and renamed == (name, None)

    return kept


def check_ties(folder: Path, model: PreTrainedModel) -> None:
    """Raise UnsupportedModel where the config says that head and embedding are one matrix, and the files have two.

    transformers then trains two, but a matrix on disk is found by its name.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or embedding is None or not choose(model).tied:
        return
    names = {one: f"{name}.weight" for name, one in model.named_modules()}
    headers = {name: (path, one) for path in weight_files(folder) for name, one in read_header(path).items()}
    ends = [headers.get(names[one]) for one in (embedding, head)]
    first, second = (None if one is None else Mapped.of(*one) for one in ends)
    if first is None or second is None:
        return
    rows = min(first.shape[0], second.shape[0])
    same = first.shape == second.shape and all(
        torch.equal(first.rows(at, min(at + ROWS, rows)), second.rows(at, min(at + ROWS, rows)))
        for at in range(0, rows, ROWS)
    )
    if not same:
        raise UnsupportedModel("two_ends", model=type(model).__name__, names=", ".join((names[embedding], names[head])))


def block_of(name: str) -> int:
    """The number of the block that a layer of this name belongs to; 0 for one outside of them."""
    match = re.search(r"\.(\d+)\.", f".{name}.")
    return int(match[1]) if match else 0
