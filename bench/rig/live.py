"""The bytes that are in use while code runs, as torch's own CPU allocator reports them."""

from collections.abc import Callable, Iterable

import torch
from torch.profiler import ProfilerActivity, profile


def live_peak(work: Callable[[], object]) -> int:
    """The most bytes that `work` had allocated at once, beyond what was there before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    now = peak = 0
    for _, size in sorted(_allocations(tree), key=lambda one: one[0]):
        now += size
        peak = max(peak, now)
    return peak


def _allocations(nodes: Iterable[torch._C._profiler._ProfilerEvent]) -> Iterable[tuple[int, int]]:
    """(time, bytes) of each allocation; negative where it is freed."""
    for node in nodes:
        if isinstance(node.extra_fields, torch._C._profiler._ExtraFields_Allocation):
            yield node.start_time_ns, node.extra_fields.alloc_size
        yield from _allocations(node.children)
