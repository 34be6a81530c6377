"""The header of a safetensors file, read and checked before any library sees the file. No tensor is read.

    8 bytes: length n of the header | n bytes: JSON {name: {dtype, shape, data_offsets: [start, end]}} | the tensors

The tensors must fill the rest of the file exactly, without gaps or overlaps, so that nothing hides between them and
no reader is ever asked for bytes beyond the end.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xiaozao.errors import ArtefactError
from xiaozao.hub.jsonfile import open_regular, strict_json, wrong

BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
HEADER_LIMIT = 8 * 2**20  # a shard of a very large model has 1 MB; a hundred would be there to fill our memory
TENSORS_LIMIT = 500_000  # of one file or one index; the largest known model has 207,000
MAGIC = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x89HDF\r\n": "HDF5", b"\x7fELF": "ELF", b"MZ": "EXE",
    b"\x1f\x8b": "gzip", b"GGUF": "GGUF",
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file: what the header says of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    start: int = 0  # where they begin in the file

    @property
    def count(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)


def kind_of(start: bytes) -> str | None:
    """What a file is by its first 512 bytes, where that is an archive, a pickle or a program."""
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[257:262] == b"ustar":
        return "tar"
    return "pickle" if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") else None


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name. Raises ArtefactError naming the file and what is wrong in it."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(512)
        kind = kind_of(start)
        if kind:
            raise ArtefactError("artefact_kind", path=path, kind=kind)
        length = int.from_bytes(start[:8], "little")
        if size < 10 or length > min(size - 8, HEADER_LIMIT) or start[8:9] != b"{":
            raise wrong(path, "header_length", length=length, size=size, limit=HEADER_LIMIT)
        file.seek(8)
        text = file.read(length)
    try:
        entries = strict_json(text)
    except ValueError as error:
        raise wrong(path, "header_json", detail=str(error)) from None
    if len(entries) > TENSORS_LIMIT:
        raise wrong(path, "tensors_many", count=len(entries), limit=TENSORS_LIMIT)
    entries.pop("__metadata__", None)
    return _checked(path, entries, size, 8 + length)


def _checked(path: Path, entries: dict[str, Any], size: int, begin: int) -> dict[str, StoredTensor]:
    """The entries of a file of `size` bytes whose tensors begin at `begin`."""
    available, spans = size - begin, []
    for name, entry in entries.items():
        tensor, start, end = _tensor(path, name, entry)
        spans.append((start, end, replace(tensor, start=begin + start)))
    expected = 0
    for start, end, tensor in sorted(spans, key=lambda span: span[:2]):
        if start != expected:
            raise wrong(path, "tensor_offset", name=tensor.name, start=start, expected=expected)
        expected = end
    if expected != available:
        raise wrong(path, "tensor_bytes", declared=expected, available=available)
    return {tensor.name: tensor for _, _, tensor in spans}


def _tensor(path: Path, name: str, entry: Any) -> tuple[StoredTensor, int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong(path, "tensor_entry", name=name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = _sizes(shape) and _sizes(offsets)
    if not isinstance(dtype, str) or dtype not in BITS or not numbers or len(offsets) != 2 or len(shape) > 16:
        raise wrong(path, "tensor_entry", name=name)
    bits, given = math.prod(shape) * BITS[dtype], offsets[1] - offsets[0]
    if bits != given * 8:
        raise wrong(path, "tensor_shape", name=name, shape=shape, dtype=dtype, expected=bits // 8, found=given)
    return StoredTensor(name, dtype, tuple(shape), given), offsets[0], offsets[1]


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
