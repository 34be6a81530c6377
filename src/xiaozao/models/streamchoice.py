"""Which matrices of a model are streamed: nearly all of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from xiaozao.models.linear import Plain, is_plain, is_router
from xiaozao.models.quantizer import check_share


@dataclass(frozen=True)
class Chosen:
    """The modules of a model that are streamed, by name. `tied`: the head is the embedding's matrix."""

    layers: Mapping[str, Plain]
    embedding: str | None
    head: str | None
    tied: bool

    @property
    def names(self) -> list[str]:
        """All whose weights are streamed; a tied head has none of its own."""
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


def block_of(name: str) -> int:
    """The number of the block that a layer of this name belongs to; 0 for one outside of them."""
    found = re.search(r"\.(\d+)\.", f".{name}.")
    return int(found[1]) if found else 0
