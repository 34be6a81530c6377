"""Near duplicates among many short texts, in bounded memory.

    "Cancel order 4711!" -> normalised  "cancel order 0000"
                         -> grams       " ca" "can" "anc" ... with 3 to 5 characters; Chinese, Japanese, Korean 2 to 4
                         -> MinHash     96 numbers, in 24 bands of 4
    two texts with an equal band are candidates -> cosine of their grams >= threshold -> twins

The cosine is that of the square roots of the counts: with the counts themselves, a long number ("0000000000") would
make any two short texts that hold one alike.

A pair whose sets of grams have a Jaccard index of 0.65 (about a cosine of 0.8) shares a band in 99 % of the cases. A
candidate is always confirmed by its cosine, so no pair below the threshold is told.

A distinct text costs about 500 bytes and its compressed characters, at most 1,000 of them: a million questions are
0.7 GB. Of a longer text up to 128 grams are kept, chosen by their hash; its cosine is an estimate with a standard error
of about 0.05.
"""

import hashlib
import re
import unicodedata
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint32]

COMPONENT, TWIN = 0.8, 0.9  # cosines: texts of one group; texts that say the same
BANDS, BAND = 24, 4  # a band is so many numbers of the MinHash
SEED = 1
LEAST = 0.45  # the Jaccard index that the MinHash must estimate for a candidate to be confirmed; its error is 0.05
NEIGHBOURS = 64  # a text is compared with so many others of one bucket
TOGETHER = 200_000  # characters that wait to be hashed together
PAIRS = 2048  # that are confirmed together
KNOWN = 20_000  # texts of which all profiles are made at once: about 2 kB each
WHOLE = 1000  # characters of a text that is kept whole
SAMPLED = 128  # grams kept of a longer text
LONGEST = 100_000  # characters that are read of a text
CJK = ((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x3130, 0x318F), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
       (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))  # fmt: skip
_CJK_CLASS = "".join(f"{chr(first)}-{chr(last)}" for first, last in CJK)
_BESIDE_CJK = re.compile(f" (?=[{_CJK_CLASS}])|(?<=[{_CJK_CLASS}]) ")


class _Characters(dict[int, str]):
    """A table for str.translate: digits become 0, punctuation and control characters a space, apostrophes nothing."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        kept = character
        if character in "'’":
            kept = ""
        elif category == "Nd":
            kept = "0"
        elif category[0] in "PZ" or category in ("Cc", "Cf"):
            kept = " "
        self[code] = kept
        return kept


_CHARACTERS = _Characters()
_ASCII = bytes(ord(_CHARACTERS[code] or " ") if code < 128 else code for code in range(256))
_IS_CJK = np.zeros(0x110000, dtype=np.bool_)
for _first, _last in CJK:
    _IS_CJK[_first : _last + 1] = True


def normalised(text: str) -> str:
    """The text in lower case, compatible forms made equal, digits as 0, without punctuation and surplus spaces.

    A text of punctuation alone stays as it is.
    """
    if text.isascii():
        small = text[:LONGEST].lower()
        return " ".join(small.encode().translate(_ASCII, b"'").decode().split()) or small.strip()
    lower = unicodedata.normalize("NFKC", text[:LONGEST]).lower()
    words = " ".join(lower.translate(_CHARACTERS).split())
    return _BESIDE_CJK.sub("", words) or lower.strip()


def grams(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """The hashes of all grams of normalised texts, one text after the other, and the offsets where each begins.

    A gram has 3 to 5 characters, or 2 to 4 where its first one is Chinese, Japanese or Korean. A space stands before
    and after each text. Every text has at least one gram.
    """
    padded = [f" {text} " if text else "   " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter((len(text) for text in padded), dtype=np.int64, count=len(padded))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    left = np.repeat(starts[1:], lengths) - np.arange(len(codes))  # characters from here to the end of the text
    shorter = _IS_CJK[np.minimum(codes, 0x10FFFF)]
    wide = np.concatenate([codes, np.zeros(4, dtype=np.uint32)]).astype(np.uint64)
    hashed = np.empty((len(codes), 4), dtype=np.uint32)
    present = np.empty((len(codes), 4), dtype=np.bool_)
    value = wide[: len(codes)].copy()
    for more in range(1, 5):
        value *= np.uint64(0x9E3779B97F4A7C15)
        value += wide[more : more + len(codes)] + np.uint64(0x632BE5AB)
        hashed[:, more - 1] = _mixed(value)
        fits = left > more
        present[:, more - 1] = fits & (shorter if more == 1 else ~shorter if more == 4 else True)
    per_text = np.add.reduceat(present.sum(axis=1), starts[:-1]) if len(texts) else np.zeros(0, dtype=np.int64)
    return hashed[present], np.concatenate([[0], np.cumsum(per_text)])


def _mixed(value: NDArray[np.uint64]) -> Hashes:
    """The finaliser of splitmix64, of which the upper half is kept."""
    mixed = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(32)).astype(np.uint32)


@dataclass(frozen=True)
class _Profiles:
    """The gram counts of several texts: hashes ascending within each text, and the offsets where each begins.

    level: of a text, grams whose hash has so many leading zeros were kept.
    """

    hashes: Hashes
    counts: Ints
    offsets: Ints
    level: NDArray[np.uint8]

    def cosines(self, left: Ints, right: Ints) -> NDArray[np.float64]:
        """The cosine of each pair of texts, over the grams that both would have kept."""
        level = np.maximum(self.level[left], self.level[right])
        keys_left, counts_left = self._of(left, level)
        keys_right, counts_right = self._of(right, level)
        _, at_left, at_right = np.intersect1d(keys_left, keys_right, assume_unique=True, return_indices=True)
        shared = _summed(keys_left[at_left], np.sqrt(counts_left[at_left] * counts_right[at_right]), len(left))
        norms = _summed(keys_left, counts_left, len(left)) * _summed(keys_right, counts_right, len(left))
        return np.divide(shared, np.sqrt(norms), out=np.zeros(len(left)), where=norms > 0)

    def _of(self, texts: Ints, level: NDArray[np.uint8]) -> tuple[Ints, Ints]:
        """The grams of texts as keys (place << 32) + hash, and their counts."""
        sizes = self.offsets[texts + 1] - self.offsets[texts]
        place = np.repeat(np.arange(len(texts)), sizes)
        entries = np.arange(sizes.sum()) + np.repeat(self.offsets[texts] - (np.cumsum(sizes) - sizes), sizes)
        hashes = self.hashes[entries].astype(np.int64)
        kept = hashes < (np.int64(1) << (32 - level.astype(np.int64)))[place]
        return ((place << 32) + hashes)[kept], self.counts[entries][kept]


def _summed(keys: Ints, values: NDArray[np.float64] | Ints, count: int) -> NDArray[np.float64]:
    return np.bincount(keys >> 32, weights=values, minlength=count).astype(np.float64)


class Twins:
    """Texts that are added one by one, and which of them are near duplicates.

    threshold: the least cosine of a pair. Answers after any number of texts, and more may be added after that.
    """

    def __init__(self, threshold: float = COMPONENT) -> None:
        self.threshold = threshold
        self._distinct = array("Q")  # of each text: the number of its normalised form
        self._first = array("Q")  # of each distinct form: the text that had it first
        self._numbers: dict[bytes, int] = {}  # hash of a normalised form -> its number
        self._waiting: list[str] = []
        self._waiting_size = 0
        self._bands: list[Hashes] = []
        self._digests: list[NDArray[np.uint8]] = []  # the lowest 8 bits of each number of a MinHash
        self._kept = bytearray()
        self._ends = array("Q", [0])
        self._levels = bytearray()
        self._known: _Profiles | None = None

    def __len__(self) -> int:
        return len(self._distinct)

    def add(self, text: str) -> int:
        """Add a text; returns its index, from 0."""
        return self.add_form(normalised(text))

    def add_form(self, form: str) -> int:
        """The same for a text that is normalised already."""
        digest = hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        number = self._numbers.setdefault(digest, len(self._first))
        if number == len(self._first):
            self._first.append(len(self._distinct))
            self._waiting.append(form)
            self._waiting_size += len(form)
        self._distinct.append(number)
        if self._waiting_size > TOGETHER:
            self._hash_waiting()
        return len(self._distinct) - 1

    def forms(self) -> list[int]:
        """Of each text the index of the first text with the same normalised form."""
        return [self._first[number] for number in self._distinct]

    def groups(self, threshold: float | None = None) -> list[int]:
        """Of each text the number of its component: texts that are linked by twins, directly or through others.

        The number is the index of the component's first text. threshold: another than that of pairs.
        """
        least = self.threshold if threshold is None else threshold
        parent = np.arange(len(self._first))
        waiting: list[Ints] = []  # pairs that are not of one tree yet, as [left, right]
        for left, right in self._candidates():
            waiting.append(_apart(parent, np.stack([left, right])))
            if sum(pairs.shape[1] for pairs in waiting) >= PAIRS:
                self._link(parent, np.concatenate(waiting, axis=1), least)
                waiting = []
        if waiting:
            self._link(parent, np.concatenate(waiting, axis=1), least)
        self._known = None
        roots = _roots(parent, np.arange(len(parent)))
        first = np.frombuffer(self._first, dtype=np.uint64).astype(np.int64) if len(parent) else roots
        numbers: list[int] = first[roots][np.array(self._distinct, dtype=np.int64)].tolist()
        return numbers

    def _link(self, parent: Ints, pairs: Ints, least: float) -> None:
        """Unite the trees of those pairs whose cosine is high enough."""
        for at in range(0, pairs.shape[1], PAIRS):
            left, right = _apart(parent, pairs[:, at : at + PAIRS])
            close = self._cosines(left, right) >= least
            for first, second in zip(left[close].tolist(), right[close].tolist(), strict=True):
                _unite(parent, first, second)

    def pairs(self) -> Iterator[tuple[int, int, float]]:
        """The twins as (index, higher index, cosine), each once, in no order.

        Texts of one normalised form are told as pairs of the first of them with each other one, and only the first
        is compared with other forms.
        """
        for index, number in enumerate(self._distinct):
            if self._first[number] != index:
                yield self._first[number], index, 1.0
        for left, right in self._candidates():
            for at in range(0, len(left), PAIRS):
                some = slice(at, at + PAIRS)
                cosines = self._cosines(left[some], right[some])
                for place in np.flatnonzero(cosines >= self.threshold).tolist():
                    mine, other = self._first[int(left[at + place])], self._first[int(right[at + place])]
                    yield min(mine, other), max(mine, other), float(cosines[place])

    def _hash_waiting(self) -> None:
        """Turn the waiting forms into bands, and keep what will confirm them."""
        if not self._waiting:
            return
        hashes, offsets = grams(self._waiting)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes.astype(np.uint64), offsets.astype(np.uintp), BANDS * BAND, SEED
        )
        digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, BANDS, BAND)
        self._digests.append((digests & np.uint64(255)).astype(np.uint8).reshape(-1, BANDS * BAND))
        value = digests[:, :, 0].copy()
        for place in range(1, BAND):
            value = value * np.uint64(0x9E3779B97F4A7C15) + digests[:, :, place]
        self._bands.append(_mixed(value))
        for index, form in enumerate(self._waiting):
            if len(form) <= WHOLE:
                kept, level = zlib.compress(form.encode("utf-8", "surrogatepass"), 1), 0
            else:
                kept, level = _sample(hashes[offsets[index] : offsets[index + 1]])
            self._kept += kept
            self._ends.append(len(self._kept))
            self._levels.append(level)
        self._waiting, self._waiting_size = [], 0

    def _candidates(self) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of forms with an equal band, and MinHashes that agree; a pair is told at the first equal band."""
        self._hash_waiting()
        if not self._bands:
            return
        self._bands, self._digests = [np.concatenate(self._bands)], [np.concatenate(self._digests)]
        bands, digests = self._bands[0], self._digests[0]
        least = BANDS * BAND * (LEAST + (1 - LEAST) / 256)  # numbers that agree by chance among them
        for band in range(BANDS):
            # Of a crowded bucket those with another equal band are neighbours, in whatever order the texts came.
            order = np.lexsort((bands[:, (band + 1) % BANDS], bands[:, band]))
            column = bands[order, band]
            for distance in range(1, min(NEIGHBOURS + 1, len(order))):
                equal = column[distance:] == column[:-distance]
                if not equal.any():
                    break
                left, right = order[:-distance][equal], order[distance:][equal]
                fresh = ~(bands[left, :band] == bands[right, :band]).any(axis=1)
                left, right = left[fresh], right[fresh]
                alike = (digests[left] == digests[right]).sum(axis=1) >= least
                yield left[alike], right[alike]

    def _cosines(self, left: Ints, right: Ints) -> NDArray[np.float64]:
        if self._known is None and len(self._first) <= KNOWN:
            self._known = self._profiles(list(range(len(self._first))))
        if self._known is not None and len(self._known.level) == len(self._first):
            return self._known.cosines(left, right)
        forms, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        return self._profiles(forms.tolist()).cosines(places[: len(left)], places[len(left) :])

    def _profiles(self, forms: list[int]) -> _Profiles:
        levels = np.array([self._levels[form] for form in forms], dtype=np.uint8)
        kept = [bytes(self._kept[self._ends[form] : self._ends[form + 1]]) for form in forms]
        whole = [place for place, level in enumerate(levels) if not level]
        texts = [zlib.decompress(kept[place]).decode("utf-8", "surrogatepass") for place in whole]
        hashes, offsets = grams(texts)
        keys = [(np.repeat(np.array(whole, dtype=np.int64), np.diff(offsets)) << 32) + hashes]
        for place in np.flatnonzero(levels).tolist():
            keys.append((np.int64(place) << 32) + np.frombuffer(kept[place], dtype=np.uint32))
        entries, counts = np.unique(np.concatenate(keys), return_counts=True)
        begins = np.searchsorted(entries, np.arange(len(forms) + 1) << 32)
        return _Profiles((entries & 0xFFFFFFFF).astype(np.uint32), counts, begins, levels)


def _sample(hashes: Hashes) -> tuple[bytes, int]:
    """The grams with the most leading zeros in their hash, at most SAMPLED, each as often as it occurs; and how many
    zeros that are."""
    level = 1
    while len(hashes) > SAMPLED and level < 31:
        kept = hashes[hashes < (1 << (32 - level))]
        if len(kept) <= SAMPLED:
            return kept.tobytes(), level
        level += 1
    return hashes[hashes < (1 << (32 - level))].tobytes(), level


def _roots(parent: Ints, forms: Ints) -> Ints:
    """The root of each form's tree."""
    roots = parent[forms]
    while not np.array_equal(above := parent[roots], roots):
        roots = above
    parent[forms] = roots
    return roots


def _apart(parent: Ints, pairs: Ints) -> Ints:
    """The pairs whose forms stand in different trees."""
    different: Ints = pairs[:, _roots(parent, pairs[0]) != _roots(parent, pairs[1])]
    return different


def _unite(parent: Ints, first: int, second: int) -> None:
    """Link two trees; the lower root, which is the earlier text, stays."""
    mine, other = _root(parent, first), _root(parent, second)
    parent[max(mine, other)] = min(mine, other)


def _root(parent: Ints, form: int) -> int:
    while (above := int(parent[form])) != form:
        parent[form] = parent[above]
        form = above
    return form
