"""Conversations -> samples, on all cores: chunks of rows go to processes of their own and come back in order.

    python -m xiaozao.data.tokenising     the process: {"folder", "template", ..., "rows": [...]} -> {"rows": [...]}

Most of the time goes into the template's program, which runs in Python, so threads would wait for each other. A file of
few rows is not worth the start of processes, and neither is a machine of one core.
"""

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from xiaozao.data.carrying import read, written
from xiaozao.data.formats import Conversation
from xiaozao.data.tokens import ChatTokenizer, Encoded, Thinking
from xiaozao.errors import DataError, Problem
from xiaozao.machine.apart import Crew, Json, Lost, serve
from xiaozao.spec.parts import DataSpec

Encodings = tuple[tuple[Encoded, ...], ...]  # of one row: its samples, each a sequence or the two of a pair
MODULE = "xiaozao.data.tokenising"
TOLD = ("template_place", "template_stop", "template_left_out", "template_as_answer")  # errors of a row's template
CHUNK = 64  # rows
WORTH = 2_000  # rows; fewer are done here before processes have started
MOST = 16  # processes


def tokenise(tokenizer: ChatTokenizer, conversation: Conversation, spec: DataSpec) -> Encodings | Problem:
    """A conversation as tokens of any length, or the reason why the template refuses it.

    Raises DataError if an id has no row in the model's embedding.
    """
    return _checked(tokenizer, conversation, _tokenised(tokenizer, conversation, spec.system, spec.thinking))


def tokenise_all(
    tokenizer: ChatTokenizer, conversations: Iterable[Conversation], spec: DataSpec, cores: int, worth: int = WORTH
) -> Generator[tuple[Conversation, Encodings | Problem], None, None]:
    """The same of many, in their order, on so many cores where there are enough of them to be worth it.

    Raises DataError as `tokenise` does, and where a process was ended from outside.
    """
    rows = iter(conversations)
    first = list(islice(rows, worth)) if cores > 1 else []
    if len(first) < worth or cores < 2:
        for conversation in chain(first, rows):
            yield conversation, tokenise(tokenizer, conversation, spec)
        return
    asked: list[list[Conversation]] = []
    with Crew(MODULE, min(cores, MOST)) as crew:
        try:
            for number, answer in enumerate(crew.answers(_questions(tokenizer, chain(first, rows), spec, asked))):
                chunk, asked[number] = asked[number], []
                for conversation, told in zip(chunk, answer["rows"], strict=True):
                    yield conversation, _checked(tokenizer, conversation, _read(told))
        except Lost as lost:
            raise DataError("tokens_lost", detail=lost.last) from None


def _questions(
    tokenizer: ChatTokenizer, rows: Iterator[Conversation], spec: DataSpec, asked: list[list[Conversation]]
) -> Iterator[Json]:
    """The chunks as questions; each chunk is noted in `asked`."""
    common = {
        "folder": str(tokenizer.folder.absolute()), "template": spec.template, "system": spec.system,
        "thinking": spec.thinking,
    }  # fmt: skip
    while chunk := list(islice(rows, CHUNK)):
        asked.append(chunk)
        yield {**common, "rows": [written(conversation) for conversation in chunk]}


def _checked(tokenizer: ChatTokenizer, conversation: Conversation, samples: Encodings | Problem) -> Encodings | Problem:
    if isinstance(samples, Problem):
        return samples
    highest = max(int(one.ids.max(initial=0)) for sample in samples for one in sample)
    if highest >= tokenizer.vocab_size:
        raise DataError("data_vocabulary", line=conversation.line, id=highest, rows=tokenizer.vocab_size)
    return samples


def _tokenised(
    tokenizer: ChatTokenizer, conversation: Conversation, system: str | None, thinking: Thinking
) -> Encodings | Problem:
    try:
        return tokenizer.encode_row(conversation, system, thinking)
    except DataError as error:
        if error.key in TOLD:
            return Problem(f"row_{error.key}", {"line": conversation.line, **error.params})
        key = "row_tokenizer" if error.key == "tokenizer_refused" else "row_template"
        return Problem(key, {"line": conversation.line, "detail": error.params["detail"]})


def answers(question: Json) -> Iterator[str]:
    """The samples or the problem of each row, as JSON."""
    tokenizer = _tokenizer(question["folder"], question["template"])
    rows: list[Json] = []
    for values in question["rows"]:
        told = _tokenised(tokenizer, read(values), question["system"], question["thinking"])
        if isinstance(told, Problem):
            params = {name: value if isinstance(value, int) else str(value) for name, value in told.params.items()}
            rows.append({"key": told.key, "params": params})
        else:
            rows.append({"samples": [[_written(one) for one in sample] for sample in told]})
    yield json.dumps({"rows": rows})


@cache
def _tokenizer(folder: str, template: str) -> ChatTokenizer:
    return ChatTokenizer.from_folder(Path(folder), template)


def _written(one: Encoded) -> list[Any]:
    ids, targets = b64encode(one.ids.tobytes()).decode(), b64encode(one.targets.tobytes()).decode()
    return [ids, targets, one.untrained, one.unreasoned, one.thinks]


def _read(told: dict[str, Any]) -> Encodings | Problem:
    if "key" in told:
        return Problem(told["key"], told["params"])
    return tuple(tuple(_read_one(*one) for one in sample) for sample in told["samples"])


def _read_one(ids: str, targets: str, untrained: list[int], unreasoned: int, thinks: bool) -> Encoded:
    return Encoded(
        np.frombuffer(b64decode(ids), dtype=np.int32), np.frombuffer(b64decode(targets), dtype=np.bool_),
        tuple(untrained), unreasoned, thinks,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(serve(answers))
