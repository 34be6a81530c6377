"""Limits on memory and disk: a run that exceeds them gets an error in time, rather than being killed by the system.

    CPU, everywhere   a gauge of the resident set, which every block looks at before it computes (train/recover.py)
    CPU, Linux        and RLIMIT_DATA a little above it: one huge allocation fails cleanly, however large it is
    CUDA              the allocator's own limit, below the memory that is free on the card: the driver of Windows would
                      otherwise go on in the host's memory, at a small fraction of the speed and without a word
    disk              what the run will write, against what is free, before it starts

The limit is the budget that the user named; without one, what is free on this machine now, less a reserve. RLIMIT_DATA
counts the writable memory that is mapped, which grows with the resident set but does not always shrink with it: hence
the room above, and hence it is the second line and not the first; what the heap has given back of it is allowed anew.
Near it a thread that cannot be started ends the process (libgomp); the threads of a run start in its first pass, far
from it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from xiaozao.errors import EnvironmentProblem
from xiaozao.events import Event, Noticed
from xiaozao.hub.cached import folder_bytes
from xiaozao.machine.hardware import Hardware
from xiaozao.machine.resident import peak_rss, reset_peak, rss
from xiaozao.plan.disk_room import disk_need
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.train.recover import Gauge

RESERVE = 0.05  # of what is free: for the system, and for what others start meanwhile
ABOVE = 0.1  # of the limit: room for mapped memory that is not resident
LEAST = 1 << 27  # bytes that may be mapped beyond what is: below that, small things fail that nobody can repeat

Allow = Callable[[int], None]


@contextmanager
def limited(
    device: torch.device, budget: int | None, hardware: Hardware, plan: MemoryPlan, sharing: int = 1
) -> Iterator[Gauge]:
    """Hold this process to its memory; yields the gauge.

    budget: what the user named, or None. sharing: processes of this run on this machine's memory.
    """
    if device.type == "cuda":
        with _cuda(device, budget):
            yield Gauge(
                lambda: torch.cuda.max_memory_allocated(device), lambda: torch.cuda.memory_allocated(device),
                lambda: torch.cuda.reset_peak_memory_stats(device), None, plan.allocated,
            )  # fmt: skip
        return
    held = rss()
    within = held + round(hardware.memory_available * (1 - RESERVE)) // sharing
    limit = within if budget is None else min(budget, within)
    most = min(round(limit * (1 + ABOVE)), within)
    with _data() as allow:
        allow(most - held)
        yield Gauge(
            peak_rss, rss, reset_peak, limit, plan.peak_bytes, plan.keeps_below, lambda: allow(most - rss())
        )  # fmt: skip


@contextmanager
def _cuda(device: torch.device, budget: int | None) -> Iterator[None]:
    """The allocator's share of the card: what is free now and what it has, or the budget without the context's part."""
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device)
    most = reserved + round(free * (1 - RESERVE))
    if budget is not None:
        context = max(0, total - free - reserved)  # ours, and what other programs hold: neither is the allocator's
        most = min(most, max(reserved, budget - min(context, budget)))
    torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def check_disk(
    folder: RunFolder, plan: MemoryPlan, spec: RunSpec, steps: int, hardware: Hardware, emit: Callable[[Event], object]
) -> None:
    """Raises EnvironmentProblem if the disk cannot hold what the run writes; emits a notice if the space is tight."""
    need = disk_need(plan, spec.method, spec.train, steps, spec.paged)
    free = hardware.disk_free(folder.path) + folder_bytes(folder.checkpoints)  # those of before take their turn
    numbers = {"needed": need.most, "checkpoint": need.checkpoint, "free": free}
    told = {name: f"{count / 1e9:.2f}" for name, count in numbers.items()}
    if free < need.least:
        raise EnvironmentProblem(
            "disk_plan", needed=told["needed"], checkpoint=told["checkpoint"], free=told["free"], path=folder.path
        )
    if need.tight(free):
        emit(Noticed("disk_tight", told))


if sys.platform == "linux":
    import resource

    @contextmanager
    def _data() -> Iterator[Allow]:
        """Yields what lets writable memory grow by so many bytes; a stricter limit that stands already is kept."""
        before = resource.getrlimit(resource.RLIMIT_DATA)
        known = [one for one in before if one != resource.RLIM_INFINITY]

        def allow(more: int) -> None:
            limit = mapped() + max(more, LEAST)
            resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *known]), before[1]))

        try:
            yield allow
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)

    def counts_mapped() -> bool:
        """Whether somebody else limits what this process maps, so that what its heap keeps is no longer free."""
        return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY

    def mapped(status: Path = Path("/proc/self/status")) -> int:
        """Bytes of writable memory of this process, resident or not: what RLIMIT_DATA counts."""
        line = next(one for one in status.read_text(encoding="utf-8").splitlines() if one.startswith("VmData"))
        return int(line.split()[1]) * 1024
else:

    def _data() -> nullcontext[Allow]:
        """macOS maps without counting, Windows refuses cleanly when it can promise no more: the gauge is all there."""
        return nullcontext(lambda more: None)

    def counts_mapped() -> bool:
        return False
