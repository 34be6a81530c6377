"""Weights that stay on disk and are brought to the device a tile of a matrix at a time.

    file -> page cache        the next block, ahead of time, by a thread        (counts as nobody's memory)
         -> tile              some rows of one matrix in the compute dtype      TILE weights at most
         -> product           and the tile is gone

With a frozen base a step visits each block twice: forward, then again when backward computes it anew and goes through
it. What is resident are adapters, norms, biases and one tile, whatever the size of the model. The same holds for the
embedding, of which only the rows of the tokens at hand are looked at, and for the head.

A matrix smaller than a tile is multiplied as a resident one is, bit for bit. In larger ones a tile has a multiple of
ROWS rows: at such places MKL splits its own sums, so that the bits stay the same there too; with another library a
gradient may differ by the rounding of its sum.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xiaozao.models.layers.bases import Base
from xiaozao.models.layers.quantize import BLOCK, from_int8, from_nf4, nf4_blocks
from xiaozao.models.loading.mapped import Mapped

TILE = 12 << 20  # weights; in fp32 50 MB, which is above what glibc would keep when it is freed
ROWS = 384


class Matrix(Protocol):
    """A matrix (out, in) on disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def parts(self) -> Sequence[Mapped]:
        """What lies on disk of it."""

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Some of its rows, on the CPU, in `dtype`."""


@dataclass(frozen=True)
class Plain:
    """Stored as it is, in the file's own type."""

    weight: Mapped

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def parts(self) -> Sequence[Mapped]:
        return (self.weight,)

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        return self.weight.rows(first, last).to(dtype)


@dataclass(frozen=True)
class Int8:
    """An int8 weight matrix in a mapped file, in the layout of Int8Base (models/layers/quantize.py)."""

    codes: Mapped
    absmax: Mapped

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def parts(self) -> Sequence[Mapped]:
        return self.codes, self.absmax

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        return from_int8(self.codes.rows(first, last), self.absmax.rows(first, last), dtype)


@dataclass(frozen=True)
class Nf4:
    """An nf4 weight matrix in a mapped file, in the layout of Nf4Base (models/layers/quantize.py)."""

    codes: Mapped
    absmax: Mapped
    scales: Mapped
    offset: Mapped
    shape: tuple[int, ...]

    @property
    def parts(self) -> Sequence[Mapped]:
        return self.codes, self.absmax, self.scales, self.offset

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        start, end = first * self.shape[1], last * self.shape[1]
        before = start % BLOCK  # a block of weights may begin in another row
        start, end = start - before, -(-end // BLOCK) * BLOCK
        blocks = nf4_blocks(self.absmax.whole(), self.scales.whole(), self.offset.whole())
        total = self.shape[0] * self.shape[1]
        end = min(end, total + total % 2)
        codes = self.codes.rows(start // 2, end // 2)
        flat = from_nf4(codes, blocks[start // BLOCK : -(-end // BLOCK)], (1, end - start), dtype).view(-1)
        return flat[before : before + (last - first) * self.shape[1]].view(last - first, self.shape[1])


class Aheadable(Protocol):
    """A part of a file."""

    def read_ahead(self) -> None:
        """Bring it into the page cache."""


class ReadAhead:
    """Reads the next block into the page cache while the present one computes.

    The order of visits says which is next.
    """

    def __init__(self, blocks: Mapping[int, Sequence[Aheadable]]) -> None:
        self.blocks, self.at, self.step = blocks, -1, 1
        self.lock = threading.Lock()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    def visit(self, block: int) -> None:
        """To be told that a matrix of this block is needed now. Backward visits the blocks in reverse order."""
        with self.lock:
            if block == self.at:
                return
            self.step = 1 if block > self.at else -1
            self.at = block
        for part in self.blocks[block + self.step]:
            self.thread.submit(part.read_ahead)


class StreamedBase(Base):
    """A frozen matrix on disk."""

    def __init__(self, matrix: Matrix, stored_dtype: torch.dtype, device: torch.device, block: int) -> None:
        super().__init__()
        self.matrix, self.stored_dtype, self.block, self.place = matrix, stored_dtype, block, device
        self.out_features, self.in_features = matrix.shape
        self.ahead: ReadAhead | None = None

    @property
    def device(self) -> torch.device:
        return self.place

    def product(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        tiles = self.tiles()
        if len(tiles) == 1:
            return F.linear(rows, self.tile(tiles[0], rows.dtype), bias)
        out = rows.new_empty(len(rows), self.out_features)
        for tile in tiles:
            weight = self.tile(tile, rows.dtype).t()
            if bias is None:
                torch.mm(rows, weight, out=out[:, tile])
            else:
                torch.addmm(bias[tile], rows, weight, out=out[:, tile])
            del weight  # or it would live beside the next one
        return out

    def product_back(self, grad: Tensor, into: Tensor | None) -> Tensor:
        for tile in self.tiles():
            weight = self.tile(tile, grad.dtype)
            part = grad[:, tile]
            into = part @ weight if into is None else into.addmm_(part, weight)
            del weight
        assert into is not None
        return into

    def dense(self, dtype: torch.dtype) -> Tensor:
        whole = torch.empty(self.matrix.shape, dtype=dtype, device=self.place)
        for tile in self.tiles():
            whole[tile] = self.tile(tile, dtype)
        return whole

    def tiles(self) -> list[slice]:
        """The ranges of rows of the tiles, in order."""
        size = TILE // self.in_features
        size = max(ROWS, size - size % ROWS)
        count = self.out_features
        if count * self.in_features <= TILE:
            return [slice(0, count)]
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def tile(self, place: slice, dtype: torch.dtype) -> Tensor:
        """These rows in `dtype`, where they are computed with."""
        if self.ahead is not None:
            self.ahead.visit(self.block)
        return self.matrix.rows(place.start, place.stop, dtype).to(self.place)


class StreamedEmbedding(nn.Module):
    """An embedding on disk: only the rows of the tokens at hand are read."""

    def __init__(self, base: StreamedBase, table: Mapped, dtype: torch.dtype) -> None:
        super().__init__()
        self.base, self.table, self.dtype = base, table, dtype
        self.num_embeddings, self.embedding_dim = table.shape

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids.cpu(), self.table.whole()).to(self.base.place, self.dtype)


def is_streamed(model: nn.Module) -> bool:
    """Whether weights of a model lie on disk."""
    return any(isinstance(one, StreamedBase) for one in model.modules())


def streamed_bases(model: nn.Module) -> Iterator[StreamedBase]:
    """The matrices of a model that lie on disk, each once."""
    return (one for one in model.modules() if isinstance(one, StreamedBase))


def read_ahead(model: nn.Module) -> None:
    """Let a model's matrices be read into the page cache ahead of use, block by block."""
    blocks: dict[int, list[Mapped]] = defaultdict(list)  # before the first and behind the last there is nothing
    for base in streamed_bases(model):
        blocks[base.block].extend(base.matrix.parts)
    ahead = ReadAhead(blocks)
    for base in streamed_bases(model):
        base.ahead = ahead
