"""The tensors of a trained model, one at a time: those of its base's files, with what an adapter learned added to them.

    W                    a tensor without an adapter, as it is stored
    W + s B A (+ DoRA)   an adapted matrix, in fp32, made when it is asked for
    W'                   a module that was trained whole

Nothing but the tensor in hand is in memory, so a model of any size is exported in the memory of its largest matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from xiaozao.errors import ArtefactError
from xiaozao.hub.adapterfile import WEIGHTS as ADAPTER_WEIGHTS
from xiaozao.hub.adapterfile import AdapterSettings, read_adapter_settings
from xiaozao.hub.folder import check_loadable, read_config, weight_files
from xiaozao.hub.tensorfile import read_header
from xiaozao.models.adapter import PARTS, PREFIX
from xiaozao.models.layers.dora import DoraLinear
from xiaozao.models.layers.linear import AdaptedLinear, Adapter
from xiaozao.models.loading.mapped import Mapped

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Weights:
    """What is exported: places of stored tensors, and the parts of an adapter by the matrix that they change."""

    stored: dict[str, Mapped]
    settings: AdapterSettings | None = None
    parts: dict[str, dict[str, Mapped]] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.stored[name].shape

    def names(self) -> Iterator[str]:
        yield from self.stored

    def read(self, name: str) -> Tensor:
        """A tensor: fp32 where an adapter changed it, else in the type that it is stored in."""
        weight = self.stored[name].whole()
        if name not in self.parts:
            return weight
        assert self.settings is not None
        with torch.no_grad():
            layer = _layer(weight, self.settings, {part: place.whole() for part, place in self.parts[name].items()})
            return layer.whole(Adapter(layer.lora_a, layer.lora_b, layer.scale)).detach()


def open_weights(base: Path, adapter: Path | None = None) -> Weights:
    """The tensors of the model in `base` with an adapter on it.

    Raises ArtefactError for files that are not safe to read, and for an adapter of layers that the base's files do not
    hold under the same names.
    """
    check_loadable(base)
    stored = _places(weight_files(base))
    if adapter is None:
        return Weights(stored)
    settings = read_adapter_settings(adapter)
    parts: dict[str, dict[str, Mapped]] = {}
    learned: dict[str, Mapped] = {}
    for name, place in _places([adapter / ADAPTER_WEIGHTS]).items():
        plain = name.removeprefix(PREFIX)
        ending = next((part for part in PARTS if plain.endswith(part)), None)
        if ending is None:
            learned[plain] = place
        else:
            parts.setdefault(plain.removesuffix(ending) + ".weight", {})[ending.removeprefix(".")] = place
    strange = sorted(name for name in parts if name not in stored)
    if strange:
        raise ArtefactError("export_layer_names", folder=adapter, base=base, count=len(strange), first=strange[0])
    return Weights(_with_whole(base, stored, learned), settings, parts)


def _with_whole(base: Path, stored: dict[str, Mapped], learned: dict[str, Mapped]) -> dict[str, Mapped]:
    """The stored tensors, those of modules that were trained whole replaced.

    Where embedding and head were one matrix and are two now, the one that did not learn keeps the base's values.
    """
    tied = HEAD not in stored and bool(read_config(base).values.get("tie_word_embeddings", True))
    ends = {name: place for name, place in learned.items() if name in (EMBEDDING, HEAD)}
    rest = {name: place for name, place in learned.items() if name not in ends}
    if tied and ends and EMBEDDING in stored:
        both = {HEAD: stored[EMBEDDING], EMBEDDING: stored[EMBEDDING]} | ends
        still_tied = both[HEAD].whole().equal(both[EMBEDDING].whole())
        ends = {EMBEDDING: both[EMBEDDING]} if still_tied else both
    return {**stored, **rest, **ends}


def _places(files: list[Path]) -> dict[str, Mapped]:
    return {name: Mapped.of(path, entry) for path in files for name, entry in read_header(path).items()}


def _layer(weight: Tensor, settings: AdapterSettings, parts: dict[str, Tensor]) -> AdaptedLinear | DoraLinear:
    """One adapted layer, from its parts."""
    rows, columns = weight.shape
    linear = nn.Linear(columns, rows, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    kind = DoraLinear if settings.dora else AdaptedLinear
    layer = kind(linear, settings.rank, settings.plain_alpha, torch.Generator().manual_seed(0))
    layer.take(parts)
    return layer
