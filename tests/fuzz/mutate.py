"""One valid input -> one that is a little wrong: the same for the same random state, on every machine.

Bytes are flipped, cut, doubled and exchanged for those that readers trip over; where the input is JSON, its values are
exchanged as well, because a wrong value in the right place is what random bytes almost never make.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any

PIECES = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80",
    b'"', b"\\", b"\n", b"\r", b",", b":", b"{", b"}", b"[", b"]", b"{}",
    b"[]", b"null", b"true", b"NaN", b"-1", b"0", b"1e999", b"1e400", b"99999999999999999999999",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\\ud800", b"'", b"&", b"<", b">", b"*a", b"&a", b"!!python/name:os.system",
    b"[" * 200, b'{"a":' * 200, b"9" * 400, b"\x1b]0;x\x07", b"=", b"\t", b";",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**18, 10**30, -(10**9), 0.5, -0.0, 1e300, 1e-300,
    "", "0", "a", "-1", "auto", "../x",
    "\x1b]0;x\x07", "\u202e", "\ud800", "x" * 5000, [], {}, [[]],
    [None], ["a"], [1, 2], {"": None}, {"a": {"b": []}}, [{}], [0] * 3000,
)  # fmt: skip


def mutant(random: Random, data: bytes) -> bytes:
    """One to four changes of the bytes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(CHANGES)(random, changed)
    return bytes(changed)


def json_mutant(random: Random, data: bytes) -> bytes:
    """One or two changes of the values in a JSON text; every fourth time of its bytes."""
    if random.random() < 0.25:
        return mutant(random, data)
    value = json.loads(data)
    for _ in range(random.choice((1, 1, 2))):
        value = _changed(random, value)
    return json.dumps(value).encode()


def lines_mutant(random: Random, data: bytes) -> bytes:
    """The same for a text with one JSON value on each line."""
    lines = data.splitlines()
    place = random.randrange(len(lines))
    lines[place] = json_mutant(random, lines[place])
    return b"\n".join(lines) + b"\n"


def _changed(random: Random, value: Any) -> Any:
    """The value with one of its inner values exchanged, left out, doubled or moved; or another one in its place."""
    inner = isinstance(value, dict | list) and len(value) > 0
    if not inner or random.random() < 0.1:
        return random.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    copy = dict(value) if isinstance(value, dict) else list(value)
    kind = random.random()
    if kind < 0.15:
        del copy[key]
    elif kind < 0.25:
        other = random.choice(keys)
        copy[key], copy[other] = copy[other], copy[key]
    elif kind < 0.3 and isinstance(copy, dict):
        copy[random.choice(("", "a", "\ud800", "x" * 300, "__class__"))] = copy.pop(key)
    elif kind < 0.35 and isinstance(copy, list):
        copy *= random.choice((2, 50))
    else:
        copy[key] = _changed(random, copy[key])
    return copy


def _flip(random: Random, data: bytearray) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _put(random: Random, data: bytearray) -> None:
    place = random.randrange(len(data) + 1)
    data[place:place] = random.choice(PIECES)


def _over(random: Random, data: bytearray) -> None:
    place, piece = random.randrange(len(data) + 1), random.choice(PIECES)
    data[place : place + len(piece)] = piece


def _cut(random: Random, data: bytearray) -> None:
    place = random.randrange(len(data) + 1)
    del data[place : place + random.choice((1, 4, 64, len(data)))]


def _double(random: Random, data: bytearray) -> None:
    place, length = random.randrange(len(data) + 1), random.choice((1, 8, 200))
    data[place:place] = data[place : place + length] * random.choice((1, 30))


def _move(random: Random, data: bytearray) -> None:
    source, target, length = random.randrange(len(data) + 1), random.randrange(len(data) + 1), random.choice((4, 64))
    data[target : target + length] = data[source : source + length]


CHANGES: tuple[Callable[[Random, bytearray], None], ...] = (_flip, _put, _over, _cut, _double, _move)
