"""Limits on the size of a table and of its unpacked contents. A larger table is refused with the number it exceeds."""

from pathlib import Path

COLUMNS = 16_384  # Excel's own limit; no data of questions and answers has a hundredth of it
FREE = 256_000_000  # bytes that any file may unpack to
RATIO = 100  # beyond that, how many times its size; real tables are packed to a tenth, repetitive ones to a fiftieth
MARK = "\0kind"  # the key of a value that JSON does not know, between two processes


def most_bytes(path: Path) -> int:
    """The most bytes that the contents of a file may unpack to."""
    return max(FREE, RATIO * path.stat().st_size)
