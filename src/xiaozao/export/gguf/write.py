"""A trained model -> one GGUF file, tensor by tensor."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_VERSION, MODEL_ARCH_NAMES, GGUFType
from gguf.constants import GGMLQuantizationType as Kind
from torch import Tensor
from transformers import PreTrainedConfig

from xiaozao.export.gguf.architectures import (
    Family,
    Names,
    add_numbers,
    family_of,
    laid_out,
    name_of_factors,
    rotary_factors,
)
from xiaozao.export.gguf.types import Model, check_available, file_type, kind_of, pieces, size_of
from xiaozao.export.gguf.vocabulary import add_vocabulary, read_vocabulary
from xiaozao.export.weights import EMBEDDING, HEAD, Weights
from xiaozao.hub.folder import read_config
from xiaozao.models.loading.architecture import architecture_of

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Written:
    """The file, its bytes, and the matrices that fell back to another type for their shape: name -> (asked, stored)."""

    path: Path
    bytes: int
    fallbacks: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Entry:
    """One tensor of the file: its GGUF name, shape and type, and where it comes from."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    source: str


def write_gguf(
    path: Path, talks: Path, weights: Weights, wanted: str, name: str,
    on_progress: Callable[[int, int], object] = lambda *_: None,
) -> Written:  # fmt: skip
    """Write the model as a GGUF file of the type `wanted` (types.py).

    talks: a folder with config.json, tokenizer, template and generation_config.json as they are to be used. One tensor
    at a time is in memory. Raises UnsupportedModel for a family, a tokenizer or a tensor that llama.cpp would not read
    as it was trained, UsageError for an unknown type, EnvironmentProblem where a type needs a package.
    """
    numbers = file_type(wanted)
    check_available(wanted)
    values = read_config(talks).values
    config = architecture_of(dict(values))
    family = family_of(config, str((values.get("architectures") or ["?"])[0]))
    factors = rotary_factors(config, family)
    entries, fallbacks = _entries(weights, config, family, wanted)
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[family.arch])
    writer.add_type(GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(numbers.number)
    add_numbers(writer, config, family)
    add_vocabulary(writer, talks, read_vocabulary(talks, config.vocab_size), _ends(talks))
    writer.add_quantization_version(GGML_QUANT_VERSION)
    if factors is not None:
        writer.add_tensor_info(name_of_factors(), tuple(factors.shape), np.dtype(np.float32), factors.nbytes, Kind.F32)
    for entry in entries:
        size = size_of(entry.kind, entry.shape)
        writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), size, entry.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors.numpy())
    for done, entry in enumerate(entries):
        on_progress(done, len(entries))
        tensor = laid_out(entry.source, weights.read(entry.source), config, family)
        writer.write_tensor_data(np.concatenate([piece.reshape(-1) for piece in pieces(tensor, entry.kind)]))
        del tensor
    writer.close()
    on_progress(len(entries), len(entries))
    return Written(path, path.stat().st_size, fallbacks)


def _entries(
    weights: Weights, config: PreTrainedConfig, family: Family, wanted: str
) -> tuple[list[Entry], dict[str, tuple[str, str]]]:
    """What the file holds, in the order of the model's files, and the matrices that fell back."""
    names = Names(family, config.num_hidden_layers)
    heads = config.num_attention_heads
    sources = list(_sources(weights, config))
    model = Model(
        blocks=config.num_hidden_layers, grouped=heads // (getattr(config, "num_key_value_heads", None) or heads),
        tied=HEAD not in dict(sources),
    )  # fmt: skip
    entries, fallbacks = [], {}
    for source, shape in sources:
        name = names.of(source)
        if name is None:
            continue
        kind, meant = kind_of(name, shape, wanted, model)
        if kind != meant:
            fallbacks[name] = (meant.name.lower(), kind.name.lower())
        entries.append(Entry(name, shape, kind, source))
    return entries, fallbacks


def _sources(weights: Weights, config: PreTrainedConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors that are written; a head that is the embedding once more is not."""
    for name in weights.names():
        if name != HEAD or not config.tie_word_embeddings or not _same(weights.read(name), weights.read(EMBEDDING)):
            yield name, weights.shape(name)


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and left.equal(right)


def _ends(talks: Path) -> tuple[int, ...]:
    """The ids that end an answer, the turn's own first."""
    given = json.loads((talks / GENERATION).read_text(encoding="utf-8")).get("eos_token_id")
    return tuple(given) if isinstance(given, list) else (given,)
