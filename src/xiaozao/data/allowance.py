"""How much a table may hold, and how large it may become unpacked: what is beyond is refused by its count."""

from pathlib import Path

COLUMNS = 16_384  # Excel's own limit; no data of questions and answers has a hundredth of it
FREE = 256_000_000  # bytes that any file may unpack to
RATIO = 100  # beyond that, how many times its size; real tables are packed to a tenth, repetitive ones to a fiftieth
MARK = "\0kind"  # the key of a value that JSON does not know, between two processes


def most_bytes(path: Path) -> int:
    """Bytes that the contents of a file may have."""
    return max(FREE, RATIO * path.stat().st_size)
