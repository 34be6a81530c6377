"""The bytes that are in use while code runs, as torch's own CPU allocator reports them."""

from collections.abc import Callable, Iterable

import torch
from torch.profiler import ProfilerActivity, profile

# Operations whose kernel takes memory of its own and gives it back before it ends: packed operands, sums in fp32. How
# much depends on the instructions of the processor (on one with AMX 0.3 MB for a product that took 0.1 MB on another,
# on one with AVX-512 alone twice the result), so that it is no part of what a step's tensors take.
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear"}

Event = torch._C._profiler._ProfilerEvent


def live_peak(work: Callable[[], object]) -> int:
    """The most bytes that the tensors of `work` took at once, beyond what was there before it.

    What the kernel of a product takes only while it runs is left out; see PRODUCTS.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    now = peak = 0
    for _, size in sorted(_allocations(tree), key=lambda pair: pair[0]):
        now += size
        peak = max(peak, now)
    return peak


def _allocations(nodes: Iterable[Event], scratch: frozenset[int] = frozenset()) -> Iterable[tuple[int, int]]:
    """(time, bytes) of each allocation of a tensor; negative where it is freed."""
    for node in nodes:
        fields = node.extra_fields
        if isinstance(fields, torch._C._profiler._ExtraFields_Allocation):
            if node.id not in scratch:
                yield node.start_time_ns, fields.alloc_size
        else:
            yield from _allocations(node.children, _scratch(node.children) if node.name in PRODUCTS else frozenset())


def _scratch(nodes: Iterable[Event]) -> frozenset[int]:
    """The allocations, and their ends, that begin and end directly inside one operation."""
    taken: dict[int, int] = {}
    inside: set[int] = set()
    for node in sorted(nodes, key=lambda node: node.start_time_ns):
        fields = node.extra_fields
        if not isinstance(fields, torch._C._profiler._ExtraFields_Allocation):
            continue
        if fields.alloc_size > 0:
            taken[fields.ptr] = node.id
        elif fields.ptr in taken:
            inside |= {taken.pop(fields.ptr), node.id}
    return frozenset(inside)
