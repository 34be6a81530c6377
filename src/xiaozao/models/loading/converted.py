"""A folder of matrices in fewer bits (or in the form that transformers makes of them), written once and then mapped.

    CACHE/streams/Llama-2-7b-3f0c...-nf4/
        00000.safetensors ...     one file for each matrix: `weight`, or codes with what belongs to them
        model.safetensors         what stays resident
        stream.json               which file is which module's, and in which form
        manifest.json             written last: a folder without it is made anew

The name holds a hash of the model's weights, so another model never meets this one's matrices. A matrix is read,
converted, written and forgotten before the next is read.
"""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer

from xiaozao.errors import ArtefactError
from xiaozao.hub.folder import WEIGHTS, tensors
from xiaozao.hub.hashes import weights_hash
from xiaozao.hub.tensorfile import read_header
from xiaozao.models.artefacts.checkpoint import staged_folder
from xiaozao.models.artefacts.disk import DISK
from xiaozao.models.artefacts.manifest import read_manifest, read_mapping
from xiaozao.models.layers.quantize import BASES
from xiaozao.models.loading.architecture import whole
from xiaozao.models.loading.choice import choose
from xiaozao.models.loading.mapped import DTYPES, Mapped
from xiaozao.models.loading.stream import Int8, Matrix, Nf4, Plain
from xiaozao.models.loading.whileloading import BYTES, WhileLoading, WhileLoadingConfig, check_all_there, stored

METHOD = "xiaozao-streamfolder"
INDEX, SCHEMA = "stream.json", 1


def streamed_folder(
    folder: Path, kind: type[PreTrainedModel], config: PreTrainedConfig, base: str, cache: Path
) -> Path:
    """The folder of a model's matrices stored as `base`, made now where it is not there.

    Raises UnsupportedModel, EnvironmentProblem.
    """
    target = cache / name_of(folder, base)
    if not is_there(target):
        stored_as = stored_type(folder)
        needed = sum(one.count for one in tensors(folder).values()) * BYTES.get(base, stored_as.itemsize)
        with staged_folder(target, int(needed)) as staging:
            _write(folder, kind, config, WritingConfig(base, staging), stored_as)
    return target


def name_of(folder: Path, base: str) -> str:
    """How the folder of a model's matrices is called: the hash is that of the model's weights."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-.")[:60] or "model"
    return f"{name}-{weights_hash(folder)[:16]}-{base}"


def is_there(folder: Path) -> bool:
    """Whether a folder is whole, by names and sizes: hashing it at each start would take longer than a step."""
    try:
        listed = read_manifest(folder)
    except ArtefactError:
        return False
    return all((folder / name).is_file() and (folder / name).stat().st_size == one.size for name, one in listed.items())


def read_folder(folder: Path) -> dict[str, Matrix]:
    """The places of the matrices on disk, by the name of their module. Raises ArtefactError."""
    entries = read_mapping(folder / INDEX)["matrices"]
    return {name: _matrix(folder, entry) for name, entry in entries.items()}


def write_matrix(
    folder: Path, number: int, form: str, parts: Mapping[str, Tensor], shape: torch.Size
) -> dict[str, Any]:
    """Write the file of one matrix; returns its entry in the index."""
    file = f"{number:05d}.safetensors"
    DISK.write_tensors(folder / file, parts)
    return {"file": file, "form": form, "shape": list(shape)}


def write_index(folder: Path, entries: Mapping[str, Mapping[str, Any]], resident: Mapping[str, Tensor]) -> None:
    """Write the index of the matrices' files, and the weights that stay resident."""
    DISK.write_tensors(folder / WEIGHTS, resident)
    DISK.write_bytes(folder / INDEX, json.dumps({"schema": SCHEMA, "matrices": entries}).encode())


def matrix_of(form: str, parts: Mapping[str, Mapped], shape: tuple[int, ...]) -> Matrix:
    """A matrix (out, in) from what lies on disk of it. form: "plain", "int8" or "nf4"."""
    if form == "int8":
        return Int8(parts["codes"], parts["absmax"])
    if form == "nf4":
        return Nf4(parts["codes"], parts["absmax"], parts["scales"], parts["offset"], shape)
    return Plain(parts["weight"])


def stored_type(folder: Path) -> torch.dtype:
    """The type of most of a model's numbers."""
    counts: dict[str, int] = {}
    for tensor in tensors(folder).values():
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.count
    return DTYPES.get(max(counts, key=lambda kind: counts[kind]), torch.float32)


def _matrix(folder: Path, entry: Mapping[str, Any]) -> Matrix:
    path = folder / entry["file"]
    parts = {name: Mapped.of(path, one) for name, one in read_header(path).items()}
    return matrix_of(entry["form"], parts, tuple(entry["shape"]))


def _write(
    folder: Path, kind: type[PreTrainedModel], config: PreTrainedConfig, writing: "WritingConfig", dtype: torch.dtype
) -> None:
    """Let transformers load the model, and write each matrix when its turn comes."""
    with ExitStack() as stack:
        read: Any = kind.from_pretrained(
            None, config=config, state_dict=stored(folder, stack), dtype=dtype, attn_implementation="eager",
            output_loading_info=True, ignore_mismatched_sizes=True,
            quantization_config=writing,
        )  # fmt: skip
        model = whole(folder, read)
    # Of what was written an empty tensor is left, also under the name of a tied head.
    kept = {name: one.clone() for name, one in model.state_dict().items() if one.numel()}
    write_index(writing.folder, writing.entries, kept)


@register_quantization_config(METHOD)
class WritingConfig(WhileLoadingConfig):
    """The configuration for `from_pretrained`: the form of the matrices and where to write them."""

    def __init__(self, base: str, folder: Path) -> None:
        super().__init__(base)
        self.quant_method = cast(Any, METHOD)
        self.folder = folder
        self.entries: dict[str, dict[str, Any]] = {}

    def __deepcopy__(self, _: object) -> "WritingConfig":
        return self  # transformers copies the model's config; what was written is to be found here


@register_quantizer(METHOD)
class Writing(WhileLoading):
    """The quantiser that transformers asks which tensors to convert: all that are streamed. It writes them to disk."""

    quantization_config: WritingConfig

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        chosen = choose(model)
        self.quantised = set(chosen.layers)
        self.taken = {name: model.get_submodule(name) for name in chosen.names}

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        check_all_there(self.taken, self.quantization_config.entries)
        HfQuantizer.remove_quantization_config(self, model)

    def keep(self, name: str, weight: Tensor) -> None:
        """Write one matrix."""
        writing = self.quantization_config
        kind = BASES.get(writing.base) if name in self.quantised else None
        form = writing.base if kind else "plain"
        parts = kind(weight).state_dict() if kind else {"weight": weight}
        writing.entries[name] = write_matrix(writing.folder, len(writing.entries), form, parts, weight.shape)
