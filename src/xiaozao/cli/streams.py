"""stdout and stderr, and what happens when they can no longer be written to.

A stream may be closed before we start, its reader may end (`zao ... | head -1`), or its disk may be full. For most
verbs this is a failure. It is no failure of a run: a verb that follows one calls `endure`, and output that cannot be
written is dropped, so that the exit code tells how the run ended.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

LOST: list[OSError] = []  # what happened to the streams, the first first
ENDURING: list[bool] = []  # not empty where lost output is no failure


def endure() -> None:
    """From now on, silently drop output that cannot be written."""
    ENDURING.append(True)


def open_streams() -> None:
    """Replace streams that were closed before we started. To be called first.

    A file that is opened later would get the file descriptor of a closed stream, and with it the stream's output.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", encoding="utf-8", errors="replace", closefd=False)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that cannot show a character must not end a run
        setattr(sys, name, cast(TextIO, Stream(stream)))


class Stream:
    """A text stream that reports its first failed write, and from then on writes to nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Drop what is still buffered, too, or Python would fail to flush it at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        LOST.append(error)
        if not ENDURING:
            raise error
