"""The few operations on a disk that we use, each as one method, and the errors for a disk that fails.

They stand in one class so that a test can record them, reorder them as a power cut would, and let the k-th one fail.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from xiaozao.errors import EnvironmentProblem

# Some file systems (network, FUSE) cannot sync and say so; that is no reason to lose a run. ENOSPC and EIO are.
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM}
CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Disk:
    """The real disk. A write is only certain after sync_file, a name only after sync_folder of its parent."""

    def free_bytes(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def write_bytes(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def write_tensors(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Tensors on the CPU are written from where they lie; those of a GPU are copied first, a file's worth."""
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})

    def write_pieces(
        self, path: Path, described: Mapping[str, torch.Tensor], pieces: Callable[[str], Iterable[torch.Tensor]]
    ) -> None:
        """The same file, of tensors that are never in memory as a whole; the library's own writer looks at all at once.

        described: shapes and types, in order. pieces: asked for each tensor when its turn comes, which follows in flat
        pieces, each of them written before the next is asked for.
        """
        entries, end = {}, 0
        for name, tensor in described.items():
            start, end = end, end + tensor.nbytes
            entries[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        head = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
        head += b" " * (-len(head) % 8)
        with path.open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for name in described:
                for piece in pieces(name):
                    file.write(piece.detach().reshape(-1).view(torch.uint8).numpy().data)

    def sync_file(self, path: Path) -> None:
        with path.open("r+b") as file:  # Windows syncs only what is open for writing
            _sync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        if os.name == "nt":  # a folder cannot be opened there; NTFS journals names by itself
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a folder and what is in it, or a file; nothing to do is fine."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


DISK = Disk()


@contextmanager
def disk_errors(path: Path, disk: Disk, needed: int) -> Iterator[None]:
    """Turn an OSError of a write below `path` into an EnvironmentProblem with the numbers."""
    try:
        yield
    except OSError as error:
        raise _problem(path, disk, needed, error.errno or 0, str(error)) from error
    except SafetensorError as error:  # its writer passes the system's error on as text only
        match = re.search(r"os error (\d+)", str(error))
        if match is None:
            raise
        raise _problem(path, disk, needed, _posix(int(match[1])), str(error)) from error


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def _problem(path: Path, disk: Disk, needed: int, number: int, detail: str) -> EnvironmentProblem:
    if number in FULL:
        return EnvironmentProblem("disk_space", path=path, needed=needed, free=_free(path, disk))
    if number in FORBIDDEN:
        return EnvironmentProblem("not_writable", path=path, detail=os.strerror(number))
    return EnvironmentProblem("disk_failed", path=path, detail=detail)


def _free(path: Path, disk: Disk) -> int:
    """Free space where `path` is or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return disk.free_bytes(path)


def _posix(number: int) -> int:
    """Windows numbers its errors otherwise: ERROR_DISK_FULL, ERROR_HANDLE_DISK_FULL, ERROR_ACCESS_DENIED."""
    return {112: errno.ENOSPC, 39: errno.ENOSPC, 5: errno.EACCES}.get(number, number) if os.name == "nt" else number
