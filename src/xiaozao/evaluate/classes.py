"""Answers that are one of a few labels: accuracy, the F1 of each label and their mean, and what was taken for what."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

OTHER = ""  # an answer that is none of the labels


@dataclass(frozen=True)
class Classes:
    """labels: the right ones. table: (right, given) -> how often; what is none of the labels counts as given OTHER."""

    labels: tuple[str, ...]
    table: dict[tuple[str, str], int]

    @property
    def n(self) -> int:
        return sum(self.table.values())

    @property
    def accuracy(self) -> float:
        return sum(count for (right, given), count in self.table.items() if right == given) / self.n if self.n else 0.0

    def f1(self, label: str) -> float:
        """The harmonic mean of precision and recall; 0 for a label that is never given rightly."""
        hit = self.table.get((label, label), 0)
        wrong = sum(count for (right, given), count in self.table.items() if (right == label) != (given == label))
        return 2 * hit / (2 * hit + wrong) if hit else 0.0

    @property
    def macro_f1(self) -> float:
        """The mean over all labels, each counted alike however rare it is."""
        return sum(self.f1(label) for label in self.labels) / len(self.labels) if self.labels else 0.0


def classify(right: Sequence[str], given: Sequence[str]) -> Classes:
    """The table of right and given labels."""
    labels = tuple(sorted(set(right)))
    known = set(labels)
    pairs = [(one, other if other in known else OTHER) for one, other in zip(right, given, strict=True)]
    return Classes(labels, dict(Counter(pairs)))
