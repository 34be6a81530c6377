"""Signals to `zao train`: the first asks the run to save and stop, the second ends it at once."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from xiaozao.cli.console import Output
from xiaozao.store.files import RunFolder

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # those that this system has


@dataclass
class Signals:
    """The signals that were received so far."""

    count: int = 0
    number: int = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM: 128 + the number, as shells have it."""
        return 128 + self.number


@contextmanager
def stopping(
    folder: RunFolder, kill: Callable[[], None], output: Output, stopping: str = "train.stopping"
) -> Iterator[Signals]:
    """While inside, signals write the stop request instead of ending this process. stopping: the text that says so."""
    seen = Signals()

    def handle(number: int, _: FrameType | None) -> None:
        seen.count += 1
        seen.number = number
        if seen.count == 1:
            folder.stop.touch()
        else:
            kill()
        # The terminal may be what went away (SIGHUP); the request above must stand all the same.
        with contextlib.suppress(OSError):
            output.note(stopping if seen.count == 1 else "train.killing")

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if not (number == getattr(signal, "SIGHUP", None) and before[number] == signal.SIG_IGN):  # nohup
            signal.signal(number, handle)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
