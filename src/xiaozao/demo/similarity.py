"""How much of their letters two messages share."""

Shingles = frozenset[str]


def shingles(text: str, length: int = 5) -> Shingles:
    """The character 5-grams of a message, in lower case and with single spaces."""
    plain = " ".join(text.lower().split())
    return frozenset(plain[at : at + length] for at in range(max(1, len(plain) - length + 1)))


def similarity(one: Shingles, other: Shingles) -> float:
    """Jaccard similarity: shared over all 5-grams, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
