"""The rows that every tool trains on: chosen once, rendered once, and laid down for all in one order.

    rows.jsonl      what Xiaozao reads: `messages`
    tokens.jsonl    what the peers get: the same rows as ids and labels, in the order in which Xiaozao will visit them
    heldout.jsonl   ids and labels of rows that nobody trains on

Labels are the answer with the token that ends it; -100 elsewhere.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.pack import epoch_order
from xiaozao.data.tokens import ChatTokenizer

IGNORED = -100
Message = dict[str, str]


@dataclass(frozen=True)
class Samples:
    """Where the files lie, and what is in them."""

    rows: Path
    tokens: Path
    heldout: Path
    count: int
    token_count: int
    target_count: int


def read_rows(path: Path) -> list[list[Message]]:
    """The conversations of an Alpaca JSON file or a JSON Lines file with `messages`."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return [_alpaca(row) for row in json.loads(text)]
    return [json.loads(line)["messages"] for line in text.splitlines() if line.strip()]


def choose(rows: list[list[Message]], seed: int) -> list[list[Message]]:
    """A seeded shuffle."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def joined(rows: list[list[Message]], tokenizer: ChatTokenizer, length: int, count: int) -> list[list[Message]]:
    """Conversations laid one behind the other, as turns: `count` samples of at most `length` tokens, as full as may be.

    Raises ValueError when the rows do not suffice.
    """
    found: list[list[Message]] = []
    current: list[Message] = []
    for row in rows:
        if current and len(_encode(tokenizer, current + row)["input_ids"]) > length:
            found.append(current)
            current = []
            if len(found) == count:
                return found
        current = current + row
    raise ValueError(f"the rows make {len(found)} samples of {length} tokens, not {count}")


def write_samples(
    folder: Path, model: Path, train: Sequence[list[Message]], heldout: Sequence[list[Message]], seed: int
) -> Samples:
    """Lay the three files down."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ChatTokenizer.from_folder(model)
    files = [folder / f"{name}.jsonl" for name in ("rows", "tokens", "heldout")]
    encoded = [_encode(tokenizer, row) for row in train]
    _write(files[0], [{"messages": row} for row in train])
    _write(files[1], [encoded[int(index)] for index in epoch_order(len(train), seed, 0)])
    _write(files[2], [_encode(tokenizer, row) for row in heldout])
    tokens = sum(len(row["input_ids"]) for row in encoded)
    targets = sum(label != IGNORED for row in encoded for label in row["labels"])
    return Samples(files[0], files[1], files[2], len(train), tokens, targets)


def _encode(tokenizer: ChatTokenizer, messages: list[Message]) -> dict[str, Any]:
    turns = tuple(Turn(one["role"], one["content"]) for one in messages)
    sample = tokenizer.encode(Conversation(turns=turns, line=1))
    ids = [int(one) for one in sample.ids]
    labels = [one if target else IGNORED for one, target in zip(ids, sample.targets, strict=True)]
    return {"input_ids": ids, "labels": labels, "messages": messages}


def _alpaca(row: dict[str, str]) -> list[Message]:
    asked = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
