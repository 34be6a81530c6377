"""Recovers when memory runs out: frees everything that the attempt held and computes in smaller parts.

    attempt    runs work and returns its result, or a Short if memory ran out. Then all memory of the attempt is freed
               and the random number generators are restored
    watched    makes each block check the memory, so that a limit is exceeded by at most one block
    halved     how many tokens a micro-batch may have from now on

Only what an allocator says counts. A RuntimeError that merely speaks of memory is somebody's own error, and trying
again would hide it.
"""

import gc
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from xiaozao.errors import OutOfMemory, UnsupportedModel
from xiaozao.events import Split
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder, blocks_of

T = TypeVar("T")
# As torch 2 words it, c10/core/impl/alloc_cpu.cpp: on Linux and macOS, and on Windows.
CPU_ALLOCATOR = "DefaultCPUAllocator: "
CPU_SAYS = (CPU_ALLOCATOR + "can't allocate memory", CPU_ALLOCATOR + "not enough memory")


@dataclass(frozen=True)
class Gauge:
    """How a run's memory is read, in bytes. limit: the upper bound, None if the allocator enforces it.

    planned: the peak that was predicted. keeps: above it the heap gives back what is free; None: it is left alone.
    given_back: told when it has.
    """

    peak: Callable[[], int]
    held: Callable[[], int]
    reset: Callable[[], object]  # lets the peak begin from now
    limit: int | None = None
    planned: int = 0
    keeps: int | None = None
    given_back: Callable[[], object] = lambda: None


class LimitPassed(MemoryError):
    """The gauge found more memory in use than the limit."""

    def __init__(self, held: int, limit: int) -> None:
        super().__init__(f"{held} bytes are held, the limit is {limit}")


@dataclass(frozen=True)
class Short:
    """Memory ran out, on these samples if that is known. detail: the allocator's message."""

    detail: str
    samples: tuple[int, ...] = ()


@dataclass(frozen=True)
class Lack:
    """Describes a run at the moment when memory ran out.

    tokens: of the samples of that micro-batch. line: of its first sample in the data file. peak, limit: in bytes.
    """

    step: int
    tokens: int
    line: int | str
    rank: int
    peak: int
    limit: int | None

    def error(self, key: str, short: Short) -> OutOfMemory:
        """What ends the run, with the numbers."""
        return OutOfMemory(
            key, step=self.step, tokens=self.tokens, line=self.line, rank=self.rank, peak=gigabytes(self.peak),
            limit=gigabytes(self.limit), detail=short.detail,
        )  # fmt: skip


def gigabytes(count: int | None) -> str:
    """`1.52`; `-` for none."""
    return "-" if count is None else f"{count / 1e9:.2f}"


def is_memory(error: BaseException) -> bool:
    """Whether an allocator failed: torch's on a device or on the CPU, Python's, the C++ library's, or our watch."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if type(error) is not RuntimeError:
        return False
    text = str(error)
    return text == "std::bad_alloc" or (text.startswith("[enforce fail") and any(one in text for one in CPU_SAYS))


def attempt(work: Callable[[], T]) -> T | Short:
    """The result of `work`, or Short if memory ran out in it. Every other error passes through."""
    before = _generators()
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        short = Short(str(error).partition("\n")[0][:200])
        _let_go(error)
    _put_back(before)
    gc.collect()
    give_back()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return short


@contextmanager
def watched(decoder: Decoder, gauge: Gauge | None) -> Iterator[None]:
    """Let every block look at the gauge before it computes, forth and back, and the last one before the loss; raises
    LimitPassed there.

    What is free, but still the heap's, does not count: it is given back, from where the plan leaves no room for it.
    """
    bounds = [] if gauge is None else [one for one in (gauge.keeps, gauge.limit) if one is not None]
    if gauge is None or not bounds:
        yield
        return
    held, limit, room = gauge.held, gauge.limit, min(bounds)

    def look(*_: object) -> None:
        if held() > room:
            give_back()
            gauge.given_back()
            if limit is not None and (now := held()) > limit:
                raise LimitPassed(now, limit)

    def computed(module: nn.Module, inputs: object, output: object) -> None:
        if module is blocks[-1]:
            look()
        states = output[0] if isinstance(output, tuple) else output
        if isinstance(states, Tensor) and states.requires_grad:
            states.register_hook(look)

    blocks = _watchers(decoder)
    hooks = [one.register_forward_pre_hook(look) for one in blocks]
    hooks += [one.register_forward_hook(computed) for one in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def halved(tokens: int, longest: int) -> int:
    """The most tokens of a micro-batch after one of `tokens` was too many.

    Half of them; but not less than the longest sample has, since that cannot be parted and smaller ones need not be.
    """
    return min(tokens - 1, max(tokens // 2, longest))


def lowest(most: int | None, known: Iterable[Split], step: int, where: tuple[str, ...]) -> int | None:
    """The bound in force: what was decided in this life of the run, and in earlier ones at or before this step."""
    decided = [one.most for one in known if one.step <= step and one.where in where]
    return min([*decided, *([] if most is None else [most])], default=None)


def _let_go(error: BaseException) -> None:
    """Clear the references held by the frames of an error and of its causes."""
    behind: BaseException | None = error
    while behind is not None:
        traceback.clear_frames(behind.__traceback__)
        behind.__traceback__, behind = None, behind.__context__
    error.__context__ = error.__cause__ = None


def _devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def _generators() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in _devices()]


def _put_back(states: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(states[0])
    for device, state in enumerate(states[1]):
        torch.cuda.set_rng_state(state, device)


def _watchers(decoder: Decoder) -> list[nn.Module]:
    """The blocks; the model as a whole where it has no single list of them."""
    try:
        return list(blocks_of(decoder.model))
    except UnsupportedModel:
        return [decoder.model.base_model]
