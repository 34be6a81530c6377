"""The header of a GGUF file, read and checked before any library sees the file. No tensor is read.

    GGUF | version | counts | pairs: key, type, value ... | tensors: name, dims, type, offset ... | padding | data

Every count and length is compared with the bytes that are left, so that a damaged file costs neither time nor memory.
"""

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from xiaozao.errors import ArtefactError, Problem
from xiaozao.hub.jsonfile import open_regular

HEADER_LIMIT = 256 * 2**20
STRING_LIMIT = 16 * 2**20  # the longest chat templates have some 100 kB
KEY_LIMIT, NAME_LIMIT, KEEP = 65535, 256, 1024
TENSORS_LIMIT, PAIRS_LIMIT = 200_000, 20_000  # the largest known files have some thousand, and a hundred
STRINGS_LIMIT = 4_000_000  # the largest vocabularies have 300,000 tokens and as many merges
STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
UINT32 = 4


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: its dimensions (the fastest first), type, and bytes of data from `offset` on."""

    name: str
    dims: tuple[int, ...]
    kind: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """The contents of the header: short values by key, and the tensors."""

    values: dict[str, Any]
    tensors: tuple[GgufTensor, ...] = field(repr=False)

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(math.prod(tensor.dims) for tensor in self.tensors)


class _Wrong(Exception):
    """A problem found while reading; becomes an ArtefactError that names the file."""

    def __init__(self, key: str, /, **params: object) -> None:
        super().__init__(key)
        self.problem = Problem(key, params)


class _Reader:
    """Reads forward, never beyond the end of the file or the size limit of a header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.left = min(self.size, HEADER_LIMIT)
        self.strings = STRINGS_LIMIT

    @property
    def position(self) -> int:
        return min(self.size, HEADER_LIMIT) - self.left

    def take(self, count: int) -> bytes:
        self._spend(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        self._spend(count)
        self._file.seek(count, os.SEEK_CUR)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self, limit: int) -> bytes:
        length = self.number("<Q")
        if length > limit:
            raise _Wrong("gguf_string", length=length, limit=limit)
        return self.take(length)

    def count(self, least: int) -> int:
        """Read a count of items that take at least `least` bytes each."""
        count: int = self.number("<Q")
        if count * least > self.left:
            raise _Wrong("gguf_count", count=count, needed=count * least, left=self.left)
        return count

    def _spend(self, count: int) -> None:
        if count > self.left:
            raise _Wrong("gguf_ends", needed=count, left=self.left, position=self.position)
        self.left -= count


def read_gguf(path: Path) -> GgufHeader:
    """The checked header. Raises ArtefactError naming the file and what is wrong in it."""
    with open_regular(path) as file:
        try:
            return _header(_Reader(file))
        except _Wrong as wrong:
            raise ArtefactError("artefact_damaged", [wrong.problem], path=path) from None


def _header(reader: _Reader) -> GgufHeader:
    magic = reader.take(4)
    version = reader.number("<I")
    if magic != b"GGUF" or version not in (2, 3):
        raise _Wrong("gguf_magic", magic=repr(magic), version=version)
    tensors, pairs = reader.count(8 + 4 + 8 + 4 + 8), reader.count(8 + 1 + 4 + 1)
    for what, count, limit in (("tensors", tensors, TENSORS_LIMIT), ("pairs", pairs, PAIRS_LIMIT)):
        if count > limit:
            raise _Wrong(f"gguf_{what}", count=count, limit=limit)
    values: dict[str, Any] = {}
    for _ in range(pairs):
        key = _text(reader.string(KEY_LIMIT))
        if not key or key in values:
            raise _Wrong("gguf_key", key=repr(key))
        values[key] = _value(reader, key)
    alignment = values.get("general.alignment", 32)
    if alignment > 2**16 or alignment < 8 or alignment & (alignment - 1):
        raise _Wrong("gguf_alignment", alignment=alignment)
    if not tensors:
        raise _Wrong("gguf_no_tensors")
    described = tuple(_tensor(reader, alignment) for _ in range(tensors))
    start = -(-reader.position // alignment) * alignment
    _check_places(described, reader.size - start)
    kept = {key: value for key, value in values.items() if value is not None}
    return GgufHeader(kept, described)


def _value(reader: _Reader, key: str) -> Any:
    """A value that may be of use later; None for arrays and for long strings."""
    kind = reader.number("<I")
    if key == "general.alignment" and kind != UINT32:
        raise _Wrong("gguf_type", key=key, kind=kind)
    if kind in SCALARS:
        return reader.number(SCALARS[kind])
    if kind == STRING:
        text = reader.string(STRING_LIMIT)
        return _text(text) if len(text) <= KEEP else None
    if kind == ARRAY:
        _skip_array(reader, key)
        return None
    raise _Wrong("gguf_type", key=key, kind=kind)


def _skip_array(reader: _Reader, key: str) -> None:
    kind = reader.number("<I")
    if kind in SCALARS:
        size = struct.calcsize(SCALARS[kind])
        reader.skip(reader.count(size) * size)
    elif kind == STRING:
        count = reader.count(8)
        reader.strings -= count
        if reader.strings < 0:
            raise _Wrong("gguf_count", count=count, needed=count, left=STRINGS_LIMIT)
        for _ in range(count):
            reader.string(STRING_LIMIT)
    else:  # also an array of arrays: the format allows it, nothing writes it
        raise _Wrong("gguf_type", key=key, kind=kind)


def _tensor(reader: _Reader, alignment: int) -> GgufTensor:
    name = _text(reader.string(NAME_LIMIT))
    n_dims = reader.number("<I")
    if not 1 <= n_dims <= 4:
        raise _Wrong("gguf_dims", name=name, dims=n_dims)
    dims = tuple(reader.number("<Q") for _ in range(n_dims))
    kind, offset = reader.number("<I"), reader.number("<Q")
    try:
        kind = GGMLQuantizationType(kind)
    except ValueError:
        raise _Wrong("gguf_type", key=name, kind=kind) from None
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if not name or 0 in dims or math.prod(dims) >= 2**62 or dims[0] % block or offset % alignment:
        raise _Wrong("gguf_tensor", name=name, dims=list(dims), offset=offset)
    return GgufTensor(name, dims, kind.name, offset, math.prod(dims) // block * block_bytes)


def _check_places(tensors: tuple[GgufTensor, ...], available: int) -> None:
    names: set[str] = set()
    end = 0
    for tensor in sorted(tensors, key=lambda one: one.offset):
        if tensor.name in names:
            raise _Wrong("gguf_key", key=repr(tensor.name))
        names.add(tensor.name)
        if tensor.offset < end:
            raise _Wrong("tensor_offset", name=tensor.name, start=tensor.offset, expected=end)
        end = tensor.offset + tensor.bytes
        if end > available:
            raise _Wrong("gguf_data", name=tensor.name, end=end, available=available)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _Wrong("gguf_text", text=repr(data[:40])) from None
