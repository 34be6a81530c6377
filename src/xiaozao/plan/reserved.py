"""Replays the tape of a run's steps in a model of the GPU's caching allocator: memory in use and held. No torch.

The cache never gives back by itself, and what it cannot reuse for a request of another size it asks for anew: so it
holds more than is in use, and a device is full of what it holds.
"""

from collections.abc import Iterable

from xiaozao.plan.allocator import WORKSPACE, Block, CachingAllocator
from xiaozao.plan.attention_memory import Bucket, buckets, transients
from xiaozao.spec.plan import Reserved, RowSizes
from xiaozao.spec.tape import Attends, Event, Given, Taken


def reserved(tape: Iterable[Event], attention: str, wide: int) -> Reserved:
    """The peaks of memory in use and memory held. wide: bytes of a number in the compute dtype."""
    allocator, held = CachingAllocator(), dict[int, Block]()
    allocator.allocate(WORKSPACE)
    groups: list[Bucket] = []
    for event in tape:
        match event:
            case Taken(number, size):
                held[number] = allocator.allocate(size)
            case Given(number):
                allocator.free(held.pop(number))
            case Attends(kind, heads):
                size = transients(attention, [heads], groups, wide)[kind == "backward"]
                if size:
                    allocator.free(allocator.allocate(size))
            case RowSizes(lengths):
                groups = buckets(lengths)
    return Reserved(allocator.peak_allocated, allocator.peak_reserved)
