"""python -m xiaozao.data.trial: tries tokenizer.json files in a process of its own, which may crash or be killed.

A file can make the package `tokenizers` panic, match a pattern for ever, or write a million letters for one. A question
is {"path": ...}; the answer is empty where all went well, else {"detail": why not}. See encoder.py.
"""

import json
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from xiaozao.machine.apart import Json, serve

MEMORY = 3_000_000_000  # bytes of addresses; the largest tokenizers there are take a third of it
PROBES = (
    "Hello world, how can I help you today? It's 3.14 or 1,000; don't <|im_end|>\n\n\tend.", string.printable,
    "您好，请问有什么可以帮您？ Привет! こんにちは 안녕하세요 مرحبا 😀👩‍👩‍👧 é ﬁ ① \u0378\ue000\uffff",
    "a" * 3000, " " * 3000, "1" * 3000, "\n" * 500, "-" * 500, "您" * 500, "aA1! " * 300, "",
)  # fmt: skip
TIMES = 16  # how many ids a byte may become, and letters an id of the same text, beside a few that are put before it


class _Told:
    """Keeps the message of an exception of the package as the reason. A panic is no Exception and ends the process."""

    detail: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self.detail = str(error)[:300] or type(error).__name__
        return isinstance(error, Exception)


def answers(question: Json) -> Iterator[str]:
    """Encode and decode every probe."""
    answer: Json = {}
    with _Told() as told:
        tokenizer = Tokenizer.from_str(Path(question["path"]).read_text(encoding="utf-8-sig"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        answer = next((failed for probe in PROBES if (failed := _tried(tokenizer, probe))), {})
    yield json.dumps(answer if told.detail is None else {"detail": told.detail})


def _tried(tokenizer: Tokenizer, probe: str) -> Json:
    """Empty, or why the tokenizer is refused."""
    ids = tokenizer.encode(probe, add_special_tokens=False).ids
    size = len(probe.encode())
    if len(ids) > TIMES * size + 64:
        return {"detail": f"{size} bytes -> {len(ids)} tokens"}
    length = len(tokenizer.decode(ids, skip_special_tokens=False))
    return {"detail": f"{len(ids)} tokens -> {length} characters"} if length > TIMES * (size + len(ids)) + 4096 else {}


if __name__ == "__main__":
    sys.exit(serve(answers, MEMORY))
