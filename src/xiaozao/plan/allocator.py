"""What PyTorch's CUDA caching allocator does with a list of allocations and frees. Plain Python, no GPU.

    request      -> rounded up to 512 bytes
    <= 1 MiB     -> small pool, cut from segments of 2 MiB
    1 .. 10 MiB  -> large pool, cut from segments of 20 MiB
    >= 10 MiB    -> large pool, a segment of its own, rounded up to 2 MiB

A request takes the smallest free block that is large enough. What is left of it is cut off when it is at least 512
bytes (small pool) or more than 1 MiB (large pool); else it stays attached and counts as allocated: the slack. A freed
block merges with free neighbours of its segment. At the limit, segments that are wholly free go back, and the request
is tried again. With expandable segments each pool is one segment that grows, cut as finely as the small pool.

Rules: c10/cuda/CUDACachingAllocator.cpp, unchanged from torch 1.11 to 2.14; expandable segments since 2.1.
"""

from bisect import bisect_left, insort

from xiaozao.errors import DoesNotFit

MIB = 1 << 20
ROUND = 512
SMALL = MIB  # requests up to here are of the small pool
SMALL_SEGMENT, LARGE_SEGMENT, SEGMENT_ROUND = 2 * MIB, 20 * MIB, 2 * MIB
OWN_SEGMENT = 10 * MIB  # from here a request gets a segment of its own
WORKSPACE = (8 << 20) + (128 << 10)  # that cuBLAS takes with its first product, :4096:2:16:8; 32 MiB from Hopper on


class Block:
    """A piece of a segment, in use or free; its neighbours are those of the same segment."""

    __slots__ = ("address", "before", "behind", "free", "kind", "requested", "size", "small")

    def __init__(self, address: int, size: int, small: bool) -> None:
        self.address, self.size, self.small = address, size, small
        self.before: Block | None = None
        self.behind: Block | None = None
        self.free, self.requested, self.kind = True, 0, 0


class CachingAllocator:
    """Counts allocated, requested and reserved bytes and their peaks since `reset_peaks`.

    `kind` numbers what a block is held for; `held` are the allocated bytes by kind, `held_at_peak` those at the peak.
    """

    def __init__(self, limit: int | None = None, expandable: bool = False, kinds: int = 1) -> None:
        self.limit, self.expandable = limit, expandable
        self.allocated = self.requested = self.reserved = 0
        self.peak_allocated = self.peak_requested = self.peak_reserved = 0
        self.held = [0] * kinds
        self.held_at_peak = list(self.held)
        self._free: dict[bool, list[tuple[int, int, Block]]] = {True: [], False: []}  # small? -> by size, then address
        self._tail: dict[bool, Block] = {}  # of an expandable segment
        self._end = 0  # of the addresses given so far

    def allocate(self, requested: int, kind: int = 0) -> Block:
        """A block of at least `requested` bytes. Raises DoesNotFit where the limit leaves no room."""
        size = max(ROUND, -(-requested // ROUND) * ROUND)
        small = size <= SMALL
        block = self._best_fit(size, small) or self._new_segment(size, small)
        rest = block.size - size
        if rest >= ROUND if small or self.expandable else rest > SMALL:
            self._split(block, size)
        block.free, block.requested, block.kind = False, requested, kind
        self.allocated += block.size
        self.requested += requested
        self.held[kind] += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
            self.held_at_peak = self.held.copy()
        if self.requested > self.peak_requested:
            self.peak_requested = self.requested
        return block

    def free(self, block: Block) -> None:
        """Take a block back, merged with its free neighbours."""
        self.allocated -= block.size
        self.requested -= block.requested
        self.held[block.kind] -= block.size
        for neighbour in (block.before, block.behind):
            if neighbour is not None and neighbour.free:
                self._remove(neighbour)
                self._absorb(block, neighbour)
        block.free = True
        insort(self._free[block.small], (block.size, block.address, block))

    def recount(self, block: Block, kind: int) -> None:
        """The block is now held for something else."""
        self.held[block.kind] -= block.size
        self.held[kind] += block.size
        block.kind = kind

    def empty_cache(self) -> None:
        """Give back every segment that is wholly free, and the free end of an expandable one."""
        for small, blocks in self._free.items():
            for size, address, block in list(blocks):
                if self.expandable:
                    self._shrink(block)
                elif block.before is None and block.behind is None:
                    self._free[small].remove((size, address, block))
                    self.reserved -= size

    def reset_peaks(self) -> None:
        """Peaks start from now."""
        self.peak_allocated, self.peak_requested, self.peak_reserved = self.allocated, self.requested, self.reserved
        self.held_at_peak = self.held.copy()

    def _best_fit(self, size: int, small: bool) -> Block | None:
        blocks = self._free[small]
        place = bisect_left(blocks, (size, -1))
        return blocks.pop(place)[2] if place < len(blocks) else None

    def _new_segment(self, size: int, small: bool) -> Block:
        if self.expandable:
            return self._grow(size, small)
        segment = SMALL_SEGMENT if small else LARGE_SEGMENT if size < OWN_SEGMENT else _up(size, SEGMENT_ROUND)
        self._reserve(segment)
        block = Block(self._end, segment, small)
        self._end += segment
        return block

    def _grow(self, size: int, small: bool) -> Block:
        page = SMALL_SEGMENT if small else LARGE_SEGMENT
        tail = self._tail.get(small)
        room = tail.size if tail is not None and tail.free else 0
        self._reserve(_up(size - room, page))
        tail = self._tail.get(small)  # the cache may have been emptied
        room = tail.size if tail is not None and tail.free else 0
        added = _up(size - room, page)
        if tail is not None and tail.free:
            self._remove(tail)
            tail.size += added
            return tail
        # Each pool has its own range of addresses, wide enough for any device.
        block = Block(tail.address + tail.size if tail else (0 if small else 1 << 50), added, small)
        if tail is not None:
            tail.behind, block.before = block, tail
        self._tail[small] = block
        return block

    def _shrink(self, block: Block) -> None:
        page = SMALL_SEGMENT if block.small else LARGE_SEGMENT
        if self._tail.get(block.small) is block:
            gone = block.size // page * page
            self._remove(block)
            self.reserved -= gone
            block.size -= gone
            if block.size:
                insort(self._free[block.small], (block.size, block.address, block))
            elif block.before is not None:
                block.before.behind, self._tail[block.small] = None, block.before
            else:
                del self._tail[block.small]

    def _reserve(self, size: int) -> None:
        if self.limit is not None and self.reserved + size > self.limit:
            self.empty_cache()
            if self.reserved + size > self.limit:
                raise DoesNotFit("allocator_limit", asked=self.reserved + size, limit=self.limit)
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, block.small)
        rest.before, rest.behind = block, block.behind
        if block.behind is not None:
            block.behind.before = rest
        block.behind, block.size = rest, size
        if self._tail.get(block.small) is block:
            self._tail[block.small] = rest
        insort(self._free[block.small], (rest.size, rest.address, rest))

    def _absorb(self, block: Block, neighbour: Block) -> None:
        if neighbour is block.before:
            block.address, block.before = neighbour.address, neighbour.before
            if block.before is not None:
                block.before.behind = block
        else:
            block.behind = neighbour.behind
            if block.behind is not None:
                block.behind.before = block
        block.size += neighbour.size
        if self._tail.get(block.small) is neighbour:
            self._tail[block.small] = block

    def _remove(self, block: Block) -> None:
        blocks = self._free[block.small]
        del blocks[bisect_left(blocks, (block.size, block.address))]


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
