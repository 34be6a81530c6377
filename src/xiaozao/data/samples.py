"""Samples on disk: flat arrays that are mapped, not loaded, so that a data set may be larger than the memory.

ids.npy      int32   all tokens, sample after sample
targets.npy  uint8   1 where the token is to be predicted
offsets.npy  int64   where sample i begins; one more than there are samples
lines.npy    int64   the line of the file that it came from
"""

import array
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from xiaozao.data.tokens import Encoded

FILES = {"ids": np.int32, "targets": np.uint8, "offsets": np.int64, "lines": np.int64}
HEADER = 128  # bytes; numpy pads the header so that the shape can be written afterwards


@dataclass(frozen=True)
class Samples:
    """Encoded samples, read where they lie. ids int32 [tokens], targets uint8 [tokens], offsets [n + 1], lines [n]."""

    ids: NDArray[np.int32]
    targets: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lines: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path) -> "Samples":
        """The samples in a folder. Raises ValueError or OSError where a file is missing, cut or of another kind."""
        found = {}
        for name, kind in FILES.items():
            found[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if found[name].dtype != kind or found[name].ndim != 1:
                raise ValueError(f"{name}.npy")
        ends = len(found["ids"]), len(found["targets"]), int(found["offsets"][-1])
        if len(set(ends)) != 1 or len(found["offsets"]) != len(found["lines"]) + 1:
            raise ValueError("offsets.npy")
        return cls(found["ids"], found["targets"], found["offsets"], found["lines"])

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample."""
        return np.diff(self.offsets)

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def target_tokens(self) -> int:
        """How many tokens carry loss."""
        return int(np.count_nonzero(self.targets))

    @property
    def longest(self) -> int:
        return int(self.lengths.max(initial=0))

    def sample(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """ids and targets of sample `index`."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.ids[start:end], self.targets[start:end].astype(np.bool_)


class SamplesWriter:
    """Writes samples one by one; tokens go to disk at once, only offsets and lines wait in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files = {name: (folder / f"{name}.npy").open("wb") for name in ("ids", "targets")}
        for name, file in self._files.items():
            _write_header(file, name, 0)
        self._offsets, self._lines = array.array("q", [0]), array.array("q")

    def add(self, sample: Encoded, line: int) -> None:
        self._files["ids"].write(sample.ids.astype(np.int32).tobytes())
        self._files["targets"].write(sample.targets.astype(np.uint8).tobytes())
        self._offsets.append(self._offsets[-1] + len(sample.ids))
        self._lines.append(line)

    def __len__(self) -> int:
        return len(self._lines)

    def close(self) -> None:
        """Write the headers, now that the lengths are known, and the small arrays."""
        for name, file in self._files.items():
            file.seek(0)
            _write_header(file, name, self._offsets[-1])
            file.close()
        np.save(self._folder / "offsets.npy", np.array(self._offsets, dtype=np.int64))
        np.save(self._folder / "lines.npy", np.array(self._lines, dtype=np.int64))


def _write_header(file: IO[bytes], name: str, length: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(FILES[name])), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
    if file.tell() != HEADER:
        raise AssertionError(f"numpy wrote a header of {file.tell()} bytes: {json.dumps(str(header))}")
