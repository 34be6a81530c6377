"""Whether an answer belongs to its question: by retrieval among twenty, and by intent where the rows have labels.

Texts are compared by the cosine of their character n-grams, weighted by how rare these are (TF-IDF); Chinese by two and
three characters, other scripts by three to five within words. No model is asked.
"""

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xiaozao.evaluate.scorers import plain

AMONG = 20
CHINESE = re.compile(r"[\u3400-\u9fff]")
Vector = Mapping[str, float]


@dataclass(frozen=True)
class Weights:
    """How rare each n-gram is among some texts."""

    rarity: Mapping[str, float]
    unseen: float

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Weights":
        counts = Counter(gram for text in texts for gram in set(grams(text)))
        rarity = {gram: math.log((1 + len(texts)) / (1 + count)) + 1 for gram, count in counts.items()}
        return cls(rarity, math.log(1 + len(texts)) + 1)

    def vector(self, text: str) -> Vector:
        """The weights of a text's n-grams, of length 1."""
        counted = Counter(grams(text))
        weighed = {gram: (1 + math.log(n)) * self.rarity.get(gram, self.unseen) for gram, n in counted.items()}
        length = math.sqrt(sum(value * value for value in weighed.values()))
        return {gram: value / length for gram, value in weighed.items()} if length else {}


def grams(text: str) -> list[str]:
    """The character n-grams of a text."""
    pieces = []
    for word in plain(text).casefold().split():
        sizes, word = ((1, 2), word) if CHINESE.search(word) else ((3, 4, 5), f" {word} ")
        pieces += [word[at : at + size] for size in sizes for at in range(len(word) - size + 1)]
    return pieces


def cosine(a: Vector, b: Vector) -> float:
    if len(b) < len(a):
        a, b = b, a
    return sum(value * b.get(gram, 0.0) for gram, value in a.items())


def retrieved(questions: Sequence[str], references: Sequence[str], answers: Sequence[str], seed: int = 0) -> list[bool]:
    """Whether each answer is closer to its own question and right answer than to those of 19 others.

    Others whose right answer is the same are not counted among them. With fewer questions, all of them are taken.
    """
    documents = [f"{ask} {right}" for ask, right in zip(questions, references, strict=True)]
    weights = Weights.of(documents)
    vectors = [weights.vector(one) for one in documents]
    draw, told = random.Random(seed), []
    for index, answer in enumerate(answers):
        others = [at for at, right in enumerate(references) if right != references[index]]
        among = draw.sample(others, min(AMONG - 1, len(others)))
        mine = weights.vector(answer)
        own = cosine(mine, vectors[index])
        told.append(own > 0 and all(own > cosine(mine, vectors[at]) for at in among))
    return told


def intents(taught: Sequence[tuple[str, str]], answers: Sequence[str]) -> list[str]:
    """The label of each answer: the one whose texts it is nearest to in the mean. taught: texts with their labels.

    An answer that has nothing in common with any of them has no label.
    """
    weights = Weights.of([text for text, _ in taught])
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for text, label in taught:
        for gram, value in weights.vector(text).items():
            sums[label][gram] += value
    centroids = {label: _unit(sums[label]) for label in sorted(sums)}
    told = []
    for answer in answers:
        mine = weights.vector(answer)
        alike = {label: cosine(mine, one) for label, one in centroids.items()}
        best = max(alike, key=alike.__getitem__, default="")
        told.append(best if alike.get(best) else "")
    return told


def _unit(vector: Mapping[str, float]) -> Vector:
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {gram: value / length for gram, value in vector.items()} if length else {}
