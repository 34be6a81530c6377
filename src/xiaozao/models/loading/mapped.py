"""Tensors that are memory-mapped from a file on demand and unmapped when no reference to them is left.

A mapping lives as long as the tensor that uses it. So on every system no page stays in the resident set by accident,
and none has to be released by hand. The data stays in the system's page cache, which does not count as ours.
"""

import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from xiaozao.hub.jsonfile import open_regular
from xiaozao.hub.tensorfile import StoredTensor

DTYPES = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64, "U8": torch.uint8,
    "I8": torch.int8,
}  # fmt: skip
PIECE = 1 << 20  # bytes read at a time where the system takes no advice


@dataclass(frozen=True)
class Mapped:
    """A tensor in a safetensors file whose header was checked."""

    path: Path
    start: int  # in the file
    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, stored: StoredTensor) -> "Mapped":
        """The mapped tensor for an entry of a header. Raises KeyError for a dtype that is never streamed."""
        return cls(path, stored.start, DTYPES[stored.dtype], stored.shape)

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, first: int, last: int) -> Tensor:
        """Some rows of it, in the file's own type. Not to be written to."""
        width = math.prod(self.shape[1:])
        count, start = (last - first) * width, self.start + first * width * self.dtype.itemsize
        if count == 0:
            return torch.empty((last - first, *self.shape[1:]), dtype=self.dtype)
        begin = start - start % mmap.ALLOCATIONGRANULARITY
        with open_regular(self.path) as file:
            # Copy on write, because torch warns of memory that could not be written to; nobody does.
            pages = mmap.mmap(
                file.fileno(), start - begin + count * self.dtype.itemsize, access=mmap.ACCESS_COPY, offset=begin
            )
        flat = torch.frombuffer(pages, dtype=self.dtype, count=count, offset=start - begin)
        return flat.view(last - first, *self.shape[1:])

    def whole(self) -> Tensor:
        """All of it. Only the pages that are looked at are read."""
        return self.rows(0, self.shape[0]) if self.shape else self._number()

    def read_ahead(self) -> None:
        """Bring it into the page cache; nothing of it enters this process's memory."""
        with open_regular(self.path) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), self.start, self.bytes, os.POSIX_FADV_WILLNEED)
                return
            file.seek(self.start)
            left = self.bytes
            while left > 0 and (read := len(file.read(min(PIECE, left)))):
                left -= read

    def _number(self) -> Tensor:
        return Mapped(self.path, self.start, self.dtype, (1,)).rows(0, 1)[0]
