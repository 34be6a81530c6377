"""Samples on disk: flat arrays that are mapped, not loaded, so that a data set may be larger than the memory.

ids.npy      int32   all tokens, sequence after sequence
targets.npy  uint8   1 where the token is to be predicted
offsets.npy  int64   where sequence i begins; one more than there are sequences
lines.npy    int64   the line of the file that sample i came from
liked.npy    uint8   only with verdicts: 1 where the answer of sample i is a good one

A sample is one sequence, or, where there are twice as many sequences as lines, a preference pair: the chosen answer to
sample i is sequence 2i, the rejected one 2i + 1.
"""

import array
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from xiaozao.data.rows import line_text
from xiaozao.data.tokens import Encoded

FILES = {"ids": np.int32, "targets": np.uint8, "offsets": np.int64, "lines": np.int64}
LIKED = "liked"
STRIDE = 0.382  # of all samples: how far away the answer stands that a prompt is crossed with
TRIES = 64  # answers looked at for one that is not the same
HEADER = 128  # bytes; numpy pads the header so that the shape can be written afterwards


@dataclass(frozen=True)
class Samples:
    """Encoded samples, memory-mapped from their files.

    ids int32 [tokens], targets uint8 [tokens], offsets [sequences + 1], lines [n], liked uint8 [n] or None.
    reference: log-probabilities of the sequences under the initial model, float32 [1, sequences], or [2, sequences]
    with those of the crossed sequences; None if they are computed on demand.
    """

    ids: NDArray[np.int32]
    targets: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lines: NDArray[np.int64]
    liked: NDArray[np.uint8] | None = None
    reference: NDArray[np.float32] | None = None

    @classmethod
    def open(cls, folder: Path) -> "Samples":
        """The samples in a folder. Raises ValueError or OSError where a file is missing, cut or of another kind."""
        arrays = {}
        for name, kind in FILES.items():
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if arrays[name].dtype != kind or arrays[name].ndim != 1:
                raise ValueError(f"{name}.npy")
        ends = len(arrays["ids"]), len(arrays["targets"]), int(arrays["offsets"][-1])
        sequences = len(arrays["offsets"]) - 1
        if len(set(ends)) != 1 or sequences not in (len(arrays["lines"]), 2 * len(arrays["lines"])):
            raise ValueError("offsets.npy")
        liked = None
        if (folder / f"{LIKED}.npy").exists():
            liked = np.load(folder / f"{LIKED}.npy", mmap_mode="r", allow_pickle=False)
            if liked.dtype != np.uint8 or liked.shape != arrays["lines"].shape:
                raise ValueError(f"{LIKED}.npy")
        return cls(arrays["ids"], arrays["targets"], arrays["offsets"], arrays["lines"], liked)

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, number: int) -> int | str:
        """The line of a sample in its file, as a person reads it: a number, or `2:7` in the second of several."""
        return line_text(int(self.lines[number]))

    @property
    def group(self) -> int:
        """Sequences per sample: 2 where samples are preference pairs."""
        return (len(self.offsets) - 1) // len(self.lines) if len(self.lines) else 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample, in a pair of both sequences together."""
        return np.diff(self.offsets[:: self.group])

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def target_tokens(self) -> int:
        """How many tokens carry loss."""
        return int(np.count_nonzero(self.targets))

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self.offsets).max(initial=0))

    def sequences(self, index: int) -> range:
        """The numbers of the sequences of sample `index`."""
        return range(index * self.group, (index + 1) * self.group)

    def crossed(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The prompt of sequence `index` with the answer to another one, always the same: what KTO's reference point
        is estimated on. It is no longer than the longer of the two, which both the plan and the model's positions have
        room for. There must be a partner."""
        other = self.partner(index)
        if other is None:
            raise ValueError(index)
        ids, targets = self.sample(index)
        other_ids, other_targets = self.sample(other)
        asked, answered = int(targets.argmax()), int(other_targets.argmax())
        kept = slice(max(len(ids), len(other_ids)))
        return (
            np.concatenate([ids[:asked], other_ids[answered:]])[kept],
            np.concatenate([targets[:asked], other_targets[answered:]])[kept],
        )

    def partner(self, index: int) -> int | None:
        """The sequence whose answer sequence `index` is crossed with; None where all that were looked at say the same,
        as they do where there is no other. Neighbours in a file often answer the same question, so the search begins
        far away."""
        count = len(self.offsets) - 1
        answer, first = self._answer(index), index + max(1, round(count * STRIDE))
        others = ((first + more) % count for more in range(min(TRIES, count)))
        return next((other for other in others if not np.array_equal(self._answer(other), answer)), None)

    def _answer(self, index: int) -> NDArray[np.int32]:
        ids, targets = self.sample(index)
        return ids[int(targets.argmax()) :]

    def sample(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """ids and targets of sequence `index`."""
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
        self._offsets, self._lines, self._liked = array.array("q", [0]), array.array("q"), array.array("B")

    def add(self, sequences: Sequence[Encoded], line: int, liked: bool | None = None) -> None:
        """One sample: a sequence, or the two of a pair."""
        for sequence in sequences:
            self._files["ids"].write(sequence.ids.astype(np.int32).tobytes())
            self._files["targets"].write(sequence.targets.astype(np.uint8).tobytes())
            self._offsets.append(self._offsets[-1] + len(sequence.ids))
        self._lines.append(line)
        if liked is not None:
            self._liked.append(liked)

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
        if self._liked:
            np.save(self._folder / f"{LIKED}.npy", np.array(self._liked, dtype=np.uint8))


def _write_header(file: IO[bytes], name: str, length: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(FILES[name])), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
    if file.tell() != HEADER:
        raise AssertionError(f"numpy wrote a header of {file.tell()} bytes: {json.dumps(str(header))}")
