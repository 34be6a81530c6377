"""Counts live bytes and work of code that runs under fake tensors.

Every operation is seen and none is computed.

A storage counts from the operation that makes it until the last tensor on it is gone, as an allocator would see it.
"""

import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xiaozao.measure.work import BETWEEN, Phase, Tally
from xiaozao.spec.profile import Heads
from xiaozao.spec.tape import Attends, Event, Given, Taken

WRAPPERS = ("__torch_dispatch__", "_fn", "inner")  # what torch puts between an operation and a mode
Seen = tuple[int, str]  # bytes alive, and whose transient bytes come on top: "forward", "backward", or "" for nobody's


class Ledger(TorchDispatchMode):
    """The bytes alive at each allocation, in order, under the name of what runs at the time.

    tape: where each of them is written down as well, if anywhere; then no work is counted, which takes its time.
    """

    tape: list[Event] | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.twice: set[torch.Size] = set()  # shapes of the matrices that are used twice, and learn
        self.heard: dict[Phase, list[Seen]] = {}
        self.work: dict[Phase, Tally] = {}
        self._phase = BETWEEN
        self._known: dict[int, int] = {}  # storages, and their numbers
        self._count = 0

    def enter(self, phase: Phase) -> None:
        """Begin a phase: the work from here on is counted for it, and the live bytes are its first entry."""
        self._phase = phase
        self._hear("")

    def start_over(self) -> None:
        """Forget the records so far; live storages stay known."""
        self.heard, self.work = {}, {}

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made before the ledger."""
        for tensor in tensors:
            self._add(tensor)

    def transient(self, kind: str, heads: Heads) -> None:
        """Here attention runs, whose own bytes and work are not known: they come on top of what is alive now."""
        self._hear(kind)
        self._tally().attended[heads, kind] += 1
        if self.tape is not None:
            self.tape.append(Attends(kind, heads))

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = args[0].add_(args[1]) if self._is_sum(func, args) else func(*args, **(kwargs or {}))
        if self.tape is None:
            self._tally().count(func, args, dict(kwargs or {}), out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return out

    def _is_sum(self, func: Callable[..., Any], args: Sequence[Any]) -> bool:
        """Whether autograd itself adds the two gradients of a matrix that is used twice. With real tensors it does so
        in place; with fakes it would not."""
        if func is not torch.ops.aten.add.Tensor or not isinstance(args[0], Tensor) or args[0].shape not in self.twice:
            return False
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_name in WRAPPERS:
            frame = frame.f_back
        return frame.f_code.co_name == "_engine_run_backward"  # and not somebody's own backward

    def _add(self, tensor: Tensor) -> None:
        storage: torch.UntypedStorage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._count += 1
        self._known[key] = self._count
        self.now += size
        if self.tape is not None and size:
            self.tape.append(Taken(self._count, size))
        self._hear("")
        self._tally().add("fresh", size)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        number = self._known.pop(key)
        self.now -= size
        if self.tape is not None and size:
            self.tape.append(Given(number))

    def _hear(self, kind: str) -> None:
        self.heard.setdefault(self._phase, []).append((self.now, kind))

    def _tally(self) -> Tally:
        return self.work.setdefault(self._phase, Tally())
