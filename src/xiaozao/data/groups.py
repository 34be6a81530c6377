"""Which rows ask nearly the same, so that they stay together when a file is divided.

    Twins.groups -> components  rows that are linked by near duplicates of their questions
                 -> keys        the same, but a component that holds too much of the file is divided:
                                by a stricter cosine, and what is still too large by the exact question

A file of one pattern ("Classify this review: ...") is one component, and could not be divided otherwise.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.data.formats import Conversation
from xiaozao.data.twins import TWIN, Twins

LARGE = 0.2  # of all rows
SMALL = 10  # rows; a component of so many is never divided
FIELDS = ("intent", "label", "labels", "category", "class", "topic", "意图", "标签", "类别", "分类", "主题")
KINDS = 0.2  # values of a field that tells kinds of rows, by row, at most


@dataclass(frozen=True)
class Groups:
    """A value per row, equal for rows that belong together. Neither depends on the order of the rows.

    components: linked by near duplicates. keys: the same, with the largest components divided.
    """

    components: list[bytes]
    keys: list[bytes]

    @property
    def divided(self) -> int:
        """How many rows are in components that had to be divided."""
        return sum(one != other for one, other in zip(self.components, self.keys, strict=True))


def asked(conversation: Conversation) -> str:
    """The text that is compared: what the user says, or a plain text. A system text is the same in many rows."""
    return "\n".join(turn.content for turn in conversation.turns if turn.role == "user") or conversation.text


def group(twins: Twins, questions: Sequence[bytes]) -> Groups:
    """The groups of the rows whose texts were added. questions: a hash of each row's exact question."""
    components = _named(twins.groups(), questions)
    keys = components
    for strictly in (True, False):
        sizes, most = Counter(keys), max(SMALL, LARGE * len(keys))
        if max(sizes.values(), default=0) <= most:
            break
        finer = _named(twins.groups(TWIN), questions) if strictly else questions
        # the prefix keeps a part from having the name of its component, so that `divided` counts all of them
        keys = [b"-" + finer[index] if sizes[key] > most else key for index, key in enumerate(keys)]
    return Groups(components, keys)


def _named(numbers: Sequence[int], questions: Sequence[bytes]) -> list[bytes]:
    """Each group by the least of its questions."""
    names: dict[int, bytes] = {}
    for number, question in zip(numbers, questions, strict=True):
        names[number] = min(names.get(number, question), question)
    return [names[number] for number in numbers]


def kinds_field(values: dict[str, list[str]], count: int) -> str | None:
    """The field that tells kinds of rows, such as an intent: all rows have it, and its values repeat.

    values: those of each field of FIELDS that occurred. count: how many rows there are.
    """
    for name in FIELDS:
        given = values.get(name, [])
        if len(given) == count and 2 <= len(set(given)) <= KINDS * count:
            return name
    return None
