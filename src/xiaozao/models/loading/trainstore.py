"""Writable tensors in a file: weights and optimizer states of full training that are larger than memory.

    file  ->  page cache           the system's to keep or to write back; counts as nobody's memory
          ->  resident set         from the moment a tensor is looked at until `leave` is told of it

One file holds them all, mapped once and shared, so that what is written to a tensor is in the file. The file has no
name: when the process ends, however it ends, the space is free again. What has to survive are checkpoints.

    | weight of layer 0 | weight of layer 1 | ... | first moment of layer 0 | ...       each begins on a page
"""

import errno
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from xiaozao.errors import EnvironmentProblem
from xiaozao.models.artefacts.disk import DISK, Disk, disk_errors

PIECE = 1 << 22  # elements copied at a time
PAGE = mmap.PAGESIZE
SUPPORTED = sys.platform == "linux"  # elsewhere pages that were written to do not leave when they are told to


@dataclass(frozen=True)
class Region:
    """Where a tensor lies in the file: bytes."""

    pages: mmap.mmap
    start: int
    size: int

    def leave(self) -> None:
        """Remove these tensors from the resident set.

        Their data stays in the page cache and is read again when used.
        """
        self.pages.madvise(mmap.MADV_DONTNEED, self.start, self.size)

    def read_ahead(self) -> None:
        """Read a tensor into the page cache before it is needed."""
        self.pages.madvise(mmap.MADV_WILLNEED, self.start, self.size)


class PagedStore:
    """The file, and the tensors in it by name.

    `capacity` bounds what may be put there; the file is sparse, so what is not used takes no space. `needed` is what
    will be used at least. Raises EnvironmentProblem where the disk has no room for that, or the system is not Linux;
    and later where it has none for one more tensor, since a page that cannot be written would end the process.
    """

    def __init__(self, folder: Path, capacity: int, needed: int, disk: Disk = DISK) -> None:
        if not SUPPORTED:
            raise EnvironmentProblem("paged_system", system=sys.platform)
        free = disk.free_bytes(folder)
        if free < needed:
            raise EnvironmentProblem("disk_space", path=folder, needed=needed, free=free)
        self.folder, self.disk = folder, disk
        with disk_errors(folder, disk, needed), tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(max(PAGE, capacity))
            self.pages, self.file = mmap.mmap(file.fileno(), 0), os.dup(file.fileno())
        weakref.finalize(self, os.close, self.file)
        self.base = torch.frombuffer(self.pages, dtype=torch.uint8, count=1).data_ptr()
        self.places: dict[str, tuple[int, int]] = {}  # start and bytes
        self.end = 0

    def __deepcopy__(self, _: object) -> "PagedStore":
        return self  # transformers copies whatever it is handed with a config; the file is one

    def put(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of the same values that lies in the file, in the place that this name has."""
        own, _ = self._own(name, tensor)
        flat = tensor.detach().reshape(-1)
        for start in range(0, own.numel(), PIECE):
            piece = own.view(-1)[start : start + PIECE]
            piece.copy_(flat[start : start + PIECE])
            self.leave([piece])
        return own

    def empty(self, name: str, like: Tensor) -> Tensor:
        """A tensor of a shape and type, in the place that this name has; what is in it is whatever was there."""
        return self._own(name, like)[0]

    def zeros(self, name: str, like: Tensor) -> Tensor:
        """Zeros of a shape and type, in the place that this name has; nothing is written where nothing ever was."""
        own, fresh = self._own(name, like)
        for start in range(0, 0 if fresh else own.numel(), PIECE):
            piece = own.view(-1)[start : start + PIECE].zero_()
            self.leave([piece])
        return own

    def of(self, tensor: Tensor) -> Region | None:
        """The pages that a tensor, or a contiguous part of one, lies on, if it lies here."""
        start = tensor.data_ptr() - self.base
        if tensor.device.type != "cpu" or not 0 <= start < len(self.pages) or not tensor.numel():
            return None
        before = start % PAGE
        return Region(self.pages, start - before, before + tensor.nbytes)

    def leave(self, tensors: Iterable[Tensor]) -> None:
        """These were looked at for now; others than our own are not touched."""
        for tensor in tensors:
            if (region := self.of(tensor)) is not None:
                region.leave()

    def _own(self, name: str, like: Tensor) -> tuple[Tensor, bool]:
        """The tensor of a name, and whether nothing was ever written to it."""
        known = self.places.get(name)
        if known is None or known[1] != like.nbytes:
            if self.end + like.nbytes > len(self.pages):
                raise RuntimeError(f"{name}: {like.nbytes} bytes more than the {len(self.pages)} that were asked for")
            self._take_room(like.nbytes)
            self.places[name] = self.end, like.nbytes
            self.end += -(-like.nbytes // PAGE) * PAGE
        start, size = self.places[name]
        own = torch.frombuffer(self.pages, dtype=like.dtype, count=like.numel(), offset=start)
        return own.view(like.shape), known != (start, size)

    def _take_room(self, size: int) -> None:
        """Blocks of the disk for the next tensor."""
        if not size:
            return
        with disk_errors(self.folder, self.disk, size):
            try:
                os.posix_fallocate(self.file, self.end, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system without it
                    raise
