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


def _find() -> "ctypes._NamedFuncPointer | None":
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    return getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None


_TRIM = _find()
