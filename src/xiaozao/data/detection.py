"""Which encoding a text has that is neither UTF-8 nor marked: the one that makes it the likeliest text of a language.

A guess needs evidence: enough bytes that are not ASCII, a text that is likely at all, and distance from the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.data.letters import LANGUAGES, Language

SAMPLE = 4000  # bytes of lines that are not ASCII
LEAST_BYTES = 6  # that are not ASCII, for a script of its own
LEAST_EACH = -7.0  # log probability of a byte, below which a reading makes no sense
MARGIN = 3.0  # log odds to the next reading with another text
USUAL = {"gb18030": 4.0, "cp1252": 2.0, "cp949": 1.0, "cp932": 1.0, "cp1251": 1.0}  # log odds before the text is seen
UNUSUAL = {
    **dict.fromkeys(("mac_roman", "mac_latin2", "mac_cyrillic", "cp850", "cp852", "johab"), -5.0),
    **dict.fromkeys(("iso8859_4", "iso8859_5", "cp1257"), -3.0),
    **{"cp866": -2.0, "iso8859_2": -1.0, "cp1258": -1.0},
}


@dataclass(frozen=True)
class Reading:
    """One way to read the bytes. score: a log probability; margin: to the best other text."""

    encoding: str
    language: str
    text: str
    score: float
    margin: float = 0.0


def detect(lines: Sequence[bytes]) -> Reading | None:
    """The encoding of lines that are not UTF-8, or None where they do not tell it."""
    raw = _sample(lines)
    strange = sum(byte > 0x7F for byte in raw)
    readings = [
        reading for one in LANGUAGES for name in one.encodings if (reading := _read(raw, name, one)) is not None
    ]
    if not strange or not readings:
        return None
    best = max(readings, key=lambda reading: reading.score)
    others = [one.score for one in readings if one.text != best.text]
    margin = best.score - max(others, default=best.score - 100.0)
    language = next(one for one in LANGUAGES if one.name == best.language)
    chinese = best.encoding == "gb18030"  # the usual case, which needs no distance
    least = 1 if language.latin or chinese else LEAST_BYTES
    usual = USUAL.get(best.encoding, 0.0)
    if (best.score - usual) / strange < LEAST_EACH or strange < least or (margin < MARGIN and not chinese):
        return None
    return Reading(best.encoding, best.language, best.text, best.score, margin)


def _sample(lines: Sequence[bytes]) -> bytes:
    """The first lines that are not ASCII, whole ones, so that no character is cut."""
    taken, size = [], 0
    for line in lines:
        if not line.isascii():
            taken.append(line if len(line) <= SAMPLE else _cut(line))
            size += len(taken[-1])
        if size >= SAMPLE:
            break
    return b"\n".join(taken)


def _cut(line: bytes) -> bytes:
    """The beginning of a long line, up to an ASCII sign that is no second byte of a character."""
    start = line[:SAMPLE]
    end = max(start.rfind(sign) for sign in (b" ", b'"', b",", b"."))
    return start[:end] if end > 0 else start


def _read(raw: bytes, encoding: str, language: Language) -> Reading | None:
    text = raw.decode(encoding, errors="replace")
    if text.count("\ufffd") * 50 > len(text):
        return None
    score = language.likelihood(text) + USUAL.get(encoding, 0.0) + UNUSUAL.get(encoding, 0.0)
    return Reading(encoding, language.name, text, score)
