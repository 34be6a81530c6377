"""A damaged GGUF file is refused from its header, without time or memory."""

import random
import struct
from pathlib import Path

import psutil
import pytest

from tests.models.make import ARCHITECTURE, gguf_bytes, pair, string, tensor
from xiaozao.errors import ArtefactError
from xiaozao.hub.ggufheader import read_gguf

U64 = struct.Struct("<Q").pack


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    return path


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values


def test_a_whole_file_says_what_it_holds(tmp_path: Path) -> None:
    words = pair("tokenizer.ggml.tokens", 9, array(8, 2, string("a") + string("b")))
    numbers = pair("scores", 9, array(6, 3, bytes(12)))
    header = read_gguf(written(tmp_path, gguf_bytes((ARCHITECTURE, words, numbers, pair("n", 4, b"\x07\0\0\0")))))
    assert header.architecture == "llama"
    assert header.parameters == 8
    assert header.values == {"general.architecture": "llama", "n": 7}
    assert header.tensors[0].bytes == 32


def test_quantised_tensors_are_counted_by_block(tmp_path: Path) -> None:
    header = read_gguf(written(tmp_path, gguf_bytes(tensors=(tensor(dims=(64, 1), kind=8),), data=bytes(96))))
    assert header.tensors[0].kind == "Q8_0"
    assert header.tensors[0].bytes == 68


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "magic": gguf_bytes(start=b"GGML\x03\0\0\0"),
    "version 1": gguf_bytes(start=b"GGUF\x01\0\0\0"),
    "big endian": gguf_bytes(start=b"GGUF\0\0\0\x03"),
    "no dimensions": gguf_bytes(tensors=(tensor(dims=()),)),
    "5 dimensions": gguf_bytes(tensors=(tensor(dims=(1,) * 5),)),
    "10^6 dimensions": gguf_bytes(tensors=(tensor(n=10**6),)),
    "2^32-1 dimensions": gguf_bytes(tensors=(tensor(n=2**32 - 1),)),
    "dimension 0": gguf_bytes(tensors=(tensor(dims=(0, 2)),)),
    "dimension 2^42+1": gguf_bytes(tensors=(tensor(dims=(2**42 + 1,)),)),
    "product wraps": gguf_bytes(tensors=(tensor(dims=(2**33, 2**33)),)),
    "not whole blocks": gguf_bytes(tensors=(tensor(dims=(33,), kind=8),)),
    "2^63 pairs": gguf_bytes(n_pairs=2**63),
    "2^63 tensors": gguf_bytes(n_tensors=2**63),
    "no tensors": gguf_bytes(tensors=()),
    "one tensor too many": gguf_bytes(n_tensors=2),
    "string of 2^40": gguf_bytes((string(b"k", 2**40),)),
    "value of 2^40": gguf_bytes((pair("k", 8, string(b"v", 2**40)),)),
    "array of 2^40 strings": gguf_bytes((pair("k", 9, array(8, 2**40)),)),
    "array of 2^63 numbers": gguf_bytes((pair("k", 9, array(4, 2**63)),)),
    "nested arrays": gguf_bytes((pair("k", 9, array(9, 1, array(9, 1, array(4, 1, bytes(4))))),)),
    "unknown type": gguf_bytes((pair("k", 99, bytes(8)),)),
    "unknown element type": gguf_bytes((pair("k", 9, array(99, 1, bytes(8))),)),
    "unknown tensor type": gguf_bytes(tensors=(tensor(kind=4000),)),
    "alignment 0": gguf_bytes((pair("general.alignment", 4, bytes(4)),)),
    "alignment 3": gguf_bytes((pair("general.alignment", 4, b"\x03\0\0\0"),)),
    "alignment 2^31": gguf_bytes((pair("general.alignment", 4, b"\0\0\0\x80"),)),
    "alignment 2^63": gguf_bytes((pair("general.alignment", 10, U64(2**63)),)),
    "alignment as text": gguf_bytes((pair("general.alignment", 8, string("32")),)),
    "key of no length": gguf_bytes((pair("", 4, bytes(4)),)),
    "key twice": gguf_bytes((ARCHITECTURE, ARCHITECTURE)),
    "key not UTF-8": gguf_bytes((string(b"\xff") + struct.pack("<I", 4) + bytes(4),)),
    "offset beyond the end": gguf_bytes(tensors=(tensor(offset=2**40),)),
    "offset not aligned": gguf_bytes(tensors=(tensor(offset=8),)),
    "offset that wraps": gguf_bytes(tensors=(tensor(offset=2**64 - 32),)),
    "tensor larger than the file": gguf_bytes(data=bytes(31)),
    "overlapping tensors": gguf_bytes(tensors=(tensor("a"), tensor("b"))),
    "tensor twice": gguf_bytes(tensors=(tensor("a"), tensor("a", offset=32))),
    "tensor without a name": gguf_bytes(tensors=(tensor(""),)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_header_is_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_gguf(written(tmp_path, BROKEN[case]))
    assert "m.gguf" in str(caught.value)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].text("zh-CN")


def test_every_truncation_of_the_header_is_refused(tmp_path: Path) -> None:
    whole = gguf_bytes((ARCHITECTURE, pair("t", 9, array(8, 2, string("a") + string("b")))))
    for length in range(len(whole) - 32):
        with pytest.raises(ArtefactError):
            read_gguf(written(tmp_path, whole[:length]))


def test_random_damage_is_refused_or_harmless_and_bounded(tmp_path: Path) -> None:
    draw = random.Random(0)
    whole = gguf_bytes((ARCHITECTURE, pair("t", 9, array(8, 2, string("a") + string("b"))), pair("n", 10, U64(5))))
    before = psutil.Process().memory_info().rss
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(whole) - 32)] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
        try:
            read_gguf(written(tmp_path, bytes(damaged)))
        except ArtefactError:
            refused += 1
    assert refused > 250
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


def test_a_file_of_empty_strings_does_not_hold_us_up(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    start = b"GGUF\x03\0\0\0" + struct.pack("<QQ", 1, 1) + pair("k", 9, array(8, 10**8))
    with path.open("wb") as file:
        file.write(start)
        file.truncate(10**9)  # sparse: 125 million strings of no length would fit
    with pytest.raises(ArtefactError):
        read_gguf(path)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (gguf_bytes(n_tensors=10**6, data=bytes(36 * 10**6)), "1000000 tensors"),
        (gguf_bytes(n_pairs=10**6, data=bytes(20 * 10**6)), "1000000 keys"),
    ],
    ids=["tensors", "pairs"],
)
def test_a_million_entries_are_refused_by_their_count(tmp_path: Path, data: bytes, count: str) -> None:
    with pytest.raises(ArtefactError, match=count):
        read_gguf(written(tmp_path, data))
