"""Which type each tensor of a GGUF file is stored in, by llama.cpp's published rules, and its bytes in that type.

Norms, biases and all else with one dimension stay fp32. K-quants come in blocks of
256 numbers, the others in blocks of 32; a matrix whose rows are no multiple of that falls back as llama.cpp does:
q4_k -> q5_0, q5_k -> q5_1, q6_k -> q8_0, iq4_xs -> iq4_nl, and f16 where 32 does not fit either.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import quantize
from numpy.typing import NDArray
from torch import Tensor

from xiaozao.errors import EnvironmentProblem, UsageError

MANY = 1 << 22  # numbers that are turned at a time


@dataclass(frozen=True)
class FileType:
    """A type as one asks for it: its number in the file's header, and the type of most matrices."""

    number: LlamaFileType
    kind: Kind

    @property
    def bits(self) -> int:
        """Bits of one number, rounded up."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return -(-8 * size // block)


FILE_TYPES = {
    "f32": FileType(LlamaFileType.ALL_F32, Kind.F32),
    "f16": FileType(LlamaFileType.MOSTLY_F16, Kind.F16),
    "bf16": FileType(LlamaFileType.MOSTLY_BF16, Kind.BF16),
    "q8_0": FileType(LlamaFileType.MOSTLY_Q8_0, Kind.Q8_0),
    "q6_k": FileType(LlamaFileType.MOSTLY_Q6_K, Kind.Q6_K),
    "q5_k_m": FileType(LlamaFileType.MOSTLY_Q5_K_M, Kind.Q5_K),
    "q4_k_m": FileType(LlamaFileType.MOSTLY_Q4_K_M, Kind.Q4_K),
    "q4_0": FileType(LlamaFileType.MOSTLY_Q4_0, Kind.Q4_0),
    "iq4_xs": FileType(LlamaFileType.MOSTLY_IQ4_XS, Kind.IQ4_XS),
}
PLAIN = ("f32", "f16", "bf16", "q8_0")  # what needs no package beside gguf
WHOLE = (Kind.F32, Kind.F16, Kind.BF16)
FALLBACKS = {
    Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0, Kind.IQ4_XS: Kind.IQ4_NL,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What the rules look at beside a tensor's name: blocks, query heads for each key head, a tied head."""

    blocks: int
    grouped: int
    tied: bool


def file_type(name: str) -> FileType:
    """The type of this name. Raises UsageError with the names there are."""
    if name not in FILE_TYPES:
        raise UsageError("export_type", type=name, known=", ".join(FILE_TYPES))
    return FILE_TYPES[name]


def kind_of(name: str, shape: tuple[int, ...], wanted: str, model: Model) -> tuple[Kind, Kind]:
    """The type of a tensor (GGUF name, shape as torch has it), and the type before it fell back for its shape."""
    if len(shape) <= 1 or name.endswith("_norm.weight") or not name.endswith(".weight"):
        return Kind.F32, Kind.F32
    kind = file_type(wanted).kind
    if kind not in WHOLE and wanted != "q8_0":
        kind = _mixed(name, kind, wanted, model)
    return _fitting(kind, shape[-1]), kind


def _mixed(name: str, kind: Kind, wanted: str, model: Model) -> Kind:
    """llama.cpp's mixes: matrices that hurt most when they are rounded get more bits."""
    if name == "output.weight" or (name == "token_embd.weight" and model.tied):
        return Kind.Q6_K
    part, block = _part(name)
    if part == "attn_v":
        if wanted in ("q4_k_m", "q5_k_m") and _more_bits(block, model.blocks):
            kind = Kind.Q6_K
        if wanted == "iq4_xs" and model.grouped >= 4:
            kind = Kind.Q5_K
    if part == "ffn_down":
        if wanted in ("q4_k_m", "q5_k_m") and _more_bits(block, model.blocks):
            return Kind.Q6_K
        if wanted == "iq4_xs" and block < model.blocks // 8:
            return Kind.Q5_K
    return kind


def _part(name: str) -> tuple[str, int]:
    pieces = name.split(".")
    return (pieces[2], int(pieces[1])) if pieces[0] == "blk" else (pieces[0], 0)


def _more_bits(block: int, blocks: int) -> bool:
    """The first and the last eighth of the blocks, and every third between."""
    return block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2


def _fitting(kind: Kind, width: int) -> Kind:
    if width % GGML_QUANT_SIZES[kind][0]:
        kind = FALLBACKS.get(kind, kind)
    return Kind.F16 if width % GGML_QUANT_SIZES[kind][0] else kind


def size_of(kind: Kind, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor in a type."""
    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape, dtype=np.int64)) // block * size


def check_available(wanted: str) -> None:
    """Raises EnvironmentProblem where a type needs a package that is not installed."""
    if wanted not in PLAIN:
        _quantiser()


def pieces(tensor: Tensor, kind: Kind) -> Iterator[NDArray[np.uint8]]:
    """The bytes of a tensor in a type, some rows at a time, rounded as llama.cpp's reference rounds."""
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)
    step = max(1, MANY // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield _bytes(rows[start : start + step].float().contiguous(), kind)


def _bytes(rows: Tensor, kind: Kind) -> NDArray[np.uint8]:
    if kind == Kind.F32:
        return rows.numpy().view(np.uint8)
    if kind in (Kind.F16, Kind.BF16):
        return rows.to(torch.float16 if kind == Kind.F16 else torch.bfloat16).view(torch.uint8).numpy()
    if kind == Kind.Q8_0:
        return quantize(rows.numpy(), kind).view(np.uint8)
    coded: NDArray[np.uint8] = _quantiser().quantize_rows(rows.numpy(), kind)
    return coded


def _quantiser() -> Any:
    try:
        return importlib.import_module("libgguf")
    except ImportError as error:
        raise EnvironmentProblem("no_libgguf") from error
