"""The similarity of two messages: the share of character pieces that both have."""

from xiaozao.demo.shipped import Language

Shingles = frozenset[str]

# A Chinese character says about as much as two letters.
SHINGLE_LENGTH: dict[Language, int] = {"en": 5, "zh": 3}


def shingles(text: str, length: int) -> Shingles:
    """The pieces of `length` characters of a message, in lower case and with single spaces."""
    plain = " ".join(text.lower().split())
    return frozenset(plain[at : at + length] for at in range(max(1, len(plain) - length + 1)))


def similarity(first: Shingles, other: Shingles) -> float:
    """Jaccard similarity: shared over all pieces, 0 to 1."""
    shared = len(first & other)
    return shared / (len(first) + len(other) - shared)
