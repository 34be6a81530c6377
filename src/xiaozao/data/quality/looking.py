"""The checks of single rows on all cores: chunks of rows go to processes of their own, and findings come back in order.

python -m xiaozao.data.quality.looking     the process: {"rows": [...]} -> {"looked": [...]}

with Looking(inspection, cores) as looking:
    looking.see(conversation)               for each row; the first ones are checked here, before processes start
inspection holds the same as after inspection.see of each row
"""

import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import astuple
from types import TracebackType
from typing import Any, Self

from xiaozao.data import carrying
from xiaozao.data.formats import Conversation
from xiaozao.data.quality.across import Numbers
from xiaozao.data.quality.findings import Hit
from xiaozao.data.quality.inspection import Inspection, Looked, look
from xiaozao.errors import DataError
from xiaozao.machine.apart import Crew, Json, Lost, serve

MODULE = "xiaozao.data.quality.looking"
WORTH = 4_000  # rows; fewer are checked here before processes have started
CHUNK = 128  # rows
MOST = 16  # processes
AHEAD = 3  # chunks for each process that wait for it or to be taken in


class Looking:
    """Passes rows on to an inspection, checked by as many processes as there are cores. To be used in a `with`."""

    def __init__(self, inspection: Inspection, cores: int, worth: int | None = None) -> None:
        self._inspection, self._count, self._worth = inspection, min(cores, MOST), WORTH if worth is None else worth
        self._crew: Crew | None = None
        self._chunk: list[Conversation] = []
        self._waiting: deque[tuple[list[int], Future[Json]]] = deque()

    def see(self, conversation: Conversation) -> None:
        """Check one row, here or later. Raises DataError where a process was ended from outside."""
        if self._count < 2 or len(self._inspection.rows) < self._worth and self._crew is None:
            self._inspection.see(conversation)
            return
        self._chunk.append(conversation)
        if len(self._chunk) >= CHUNK:
            self._ask()
        while len(self._waiting) > AHEAD * self._count:
            self._take()

    def finish(self) -> None:
        """Wait for all that is on its way."""
        if self._chunk:
            self._ask()
        while self._waiting:
            self._take()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            if self._crew is not None:
                self._crew.__exit__(kind, error, trace)

    def _ask(self) -> None:
        if self._crew is None:
            self._crew = Crew(MODULE, self._count)
        question = {"rows": [carrying.written(conversation) for conversation in self._chunk]}
        self._waiting.append(([conversation.line for conversation in self._chunk], self._crew.ask(question)))
        self._chunk = []

    def _take(self) -> None:
        lines, future = self._waiting.popleft()
        try:
            answer = future.result()
        except Lost as lost:
            raise DataError("check_lost", detail=lost.last) from None
        for line, told in zip(lines, answer["looked"], strict=True):
            self._inspection.note(line, _read(told))


def answers(question: Json) -> Iterator[str]:
    """What is found in each row, as JSON."""
    yield json.dumps({"looked": [_written(look(carrying.read(values))) for values in question["rows"]]})


def _written(looked: Looked) -> list[object]:
    return [[[kind, *astuple(hit)] for kind, hit in looked.hits], _values(looked.numbers), looked.form]


def _values(numbers: Numbers) -> list[object]:
    return [
        numbers.whole, numbers.question, numbers.answer, numbers.claim, numbers.length, numbers.language,
        numbers.system, numbers.judged, numbers.json, numbers.labels,
    ]  # fmt: skip


def _read(told: list[Any]) -> Looked:
    hits, numbers, form = told
    return Looked([(kind, Hit(*rest)) for kind, *rest in hits], Numbers(*numbers), form)


if __name__ == "__main__":
    sys.exit(serve(answers))
