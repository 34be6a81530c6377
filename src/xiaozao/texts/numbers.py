"""Numbers with their units, in the words of the reader's language."""

import math

from xiaozao.texts.catalogue import Language, say


def number(value: float | None) -> str:
    """A loss with four digits; `-` for none, `nan` as it is."""
    return "-" if value is None else f"{value:.4f}"


def millions(count: int) -> str:
    """`134.5 M` parameters."""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def duration(seconds: float, language: Language) -> str:
    """`45 s`, `12 min 5 s`, `1 h 50 min`."""
    whole = max(0, round(seconds)) if math.isfinite(seconds) else 0
    if whole < 60:
        return say("time.seconds", language, seconds=whole)
    if whole < 3600:
        return say("time.minutes", language, minutes=whole // 60, seconds=whole % 60)
    return say("time.hours", language, hours=whole // 3600, minutes=whole % 3600 // 60)


GB = 1e9


def gigabytes(count: float, places: int | None = None) -> str:
    """`2.6 GB`, and `0.03 GB` below one, unless it is said how many places; 1 GB = 10^9 bytes."""
    if places is None:
        places = 1 if count == 0 or count >= GB else 2
    return f"{count / GB:.{places}f} GB"
