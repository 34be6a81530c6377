"""The replay of the CUDA caching allocator against its rules: cases computed by hand, and what must always hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.errors import DoesNotFit
from xiaozao.plan.allocator import LARGE_SEGMENT, MIB, ROUND, SMALL_SEGMENT, Block, CachingAllocator


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),  # rounded to 512, from a segment of the small pool
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),  # the largest of the small pool
        (MIB + 1, MIB + 512, 20 * MIB),  # the smallest of the large one
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),  # a segment of its own
        (125 * MIB, 126 * MIB, 126 * MIB),  # rest of 1 MiB: not cut off
        (125 * MIB - 512, 125 * MIB - 512, 126 * MIB),  # of more: cut off
    ],
)
def test_one_block_takes_what_the_rules_say(size: int, allocated: int, reserved: int) -> None:
    allocator = CachingAllocator()
    allocator.allocate(size)
    assert (allocator.requested, allocator.allocated, allocator.reserved) == (size, allocated, reserved)


def test_the_smallest_free_block_that_suffices_is_taken() -> None:
    allocator = CachingAllocator()
    large, middle = allocator.allocate(40 * MIB), allocator.allocate(30 * MIB)
    allocator.free(large)
    allocator.free(middle)
    taken = allocator.allocate(28 * MIB)
    assert taken.address == middle.address
    assert allocator.reserved == 70 * MIB


def test_neighbours_merge_so_that_a_larger_block_fits() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]  # one segment of 20 MiB
    assert allocator.reserved == 20 * MIB
    for one in (blocks[1], blocks[3], blocks[2]):
        allocator.free(one)
    allocator.allocate(15 * MIB)
    assert allocator.reserved == 20 * MIB


def test_blocks_of_different_segments_do_not_merge() -> None:
    allocator = CachingAllocator()
    for one in [allocator.allocate(12 * MIB) for _ in range(2)]:
        allocator.free(one)
    allocator.allocate(24 * MIB)
    assert allocator.reserved == 48 * MIB


def test_at_the_limit_free_segments_go_back_first() -> None:
    allocator = CachingAllocator(limit=100 * MIB)
    allocator.free(allocator.allocate(60 * MIB))
    allocator.allocate(80 * MIB)
    assert allocator.reserved == 80 * MIB
    with pytest.raises(DoesNotFit, match="104857600"):
        allocator.allocate(40 * MIB)


def test_expandable_segments_have_no_holes_at_the_end() -> None:
    allocator = CachingAllocator(expandable=True)
    first = allocator.allocate(12 * MIB)
    allocator.free(first)
    allocator.allocate(24 * MIB)
    assert allocator.reserved == 40 * MIB  # pages of 20 MiB; without it 12 + 24 in two segments
    assert allocator.allocated == 24 * MIB


def test_a_peak_keeps_what_was_held_for_what() -> None:
    allocator = CachingAllocator(kinds=2)
    kept = allocator.allocate(512, 0)
    allocator.free(allocator.allocate(1024, 1))
    assert (allocator.held, allocator.held_at_peak) == ([512, 0], [512, 1024])
    allocator.recount(kept, 1)
    allocator.reset_peaks()
    assert (allocator.held_at_peak, allocator.peak_allocated) == ([0, 512], 512)


@st.composite
def _lives(draw: st.DrawFn) -> list[tuple[int, int]]:
    """(size, how many allocations later it is freed)"""
    sizes = st.one_of(st.integers(1, 4096), st.integers(MIB // 2, 3 * MIB), st.integers(9 * MIB, 70 * MIB))
    return draw(st.lists(st.tuples(sizes, st.integers(0, 12)), min_size=1, max_size=60))


@given(_lives(), st.booleans())
def test_what_is_reserved_covers_what_is_allocated_and_blocks_never_overlap(
    lives: list[tuple[int, int]], expandable: bool
) -> None:
    allocator = CachingAllocator(expandable=expandable)
    live: list[tuple[int, Block]] = []
    for step, (size, life) in enumerate(lives):
        for gone in [pair for pair in live if pair[0] <= step]:
            live.remove(gone)
            allocator.free(gone[1])
        live.append((step + life, allocator.allocate(size)))
        spans = sorted((block.address, block.address + block.size) for _, block in live)
        assert all(before[1] <= behind[0] for before, behind in zip(spans, spans[1:], strict=False))
        assert allocator.requested <= allocator.allocated <= allocator.reserved
        assert allocator.allocated == sum(block.size for _, block in live)
        slack = ROUND if expandable else MIB
        assert all(0 <= block.size - block.requested <= slack + ROUND for _, block in live)
    for _, block in live:
        allocator.free(block)
    allocator.empty_cache()
    rest = LARGE_SEGMENT + SMALL_SEGMENT if expandable else 0
    assert allocator.allocated == 0 and allocator.reserved <= rest
