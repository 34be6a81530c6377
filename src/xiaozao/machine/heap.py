"""Giving freed memory back to the system. glibc keeps it, and then the resident set only ever grows.

Tensors of a step differ in size from those of the next, so the heap fragments; returned between steps, the peak stays
that of one step. Measured on a 135M model over 14 steps of 650 tokens: 1.8 GB instead of 2.2 GB, at no cost in time.
"""

import ctypes
import ctypes.util
import gc
import sys


def give_back() -> None:
    """Return what is free to the system; does nothing where the allocator is not glibc's."""
    gc.collect(0)
    if _TRIM is not None:
        _TRIM(0)


def keep_nothing() -> None:
    """Let blocks of 128 kB and more return to the system as soon as they are freed, for the rest of the process.

    glibc keeps up to 32 MB of each size to use again, and what lies between keeps more from returning. Fresh pages cost
    time: the steps of a 135M model in fp32 took up to 1.3 times as long, at 0.9 times the peak (docs/budgets.md).
    """
    if _OPTION is not None:
        _OPTION(MMAP_THRESHOLD, RETURNED)


def _find(function: str) -> "ctypes._NamedFuncPointer | None":
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    return getattr(ctypes.CDLL(name), function, None) if name else None


MMAP_THRESHOLD, RETURNED = -3, 1 << 17  # M_MMAP_THRESHOLD of malloc.h; bytes
_TRIM, _OPTION = _find("malloc_trim"), _find("mallopt")
