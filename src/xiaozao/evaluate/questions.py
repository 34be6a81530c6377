"""The user's own questions with their right answers: conversations whose last turn is the answer."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from xiaozao.data.conversations import open_conversations, read_conversations, with_system
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.tokens import thinks
from xiaozao.errors import DataError
from xiaozao.evaluate.suite import Item, Suite
from xiaozao.spec.parts import DataSpec
from xiaozao.spec.run import RunSpec

INTENTS = ("intent", "label", "category", "class", "意图", "标签", "类别", "分类")  # fields that name what is wanted
QUESTIONS = "questions"  # what their suite is called
READ, KEPT = 50_000, 2_000  # rows of the training data that are read, and that are kept of them


@dataclass(frozen=True)
class Question:
    """A conversation up to the last assistant turn, and that turn as the right answer.

    tools: those that may be called, as JSON text. thinking: whether the model is asked to think first. intent: what the
    row says is wanted. line: its place in the file.
    """

    turns: tuple[Turn, ...]
    reference: str
    tools: str = ""
    thinking: bool = False
    intent: str = ""
    line: int = 0

    @property
    def text(self) -> str:
        """What the user said last."""
        return next((turn.content for turn in reversed(self.turns) if turn.role == "user"), "")


def question_part(spec: RunSpec, path: str) -> DataSpec:
    """How a file of questions is read: as the run's data was, all of it."""
    told = spec.data.format if spec.method.objective == "sft" else "auto"  # else that of other rows than questions
    return spec.data.model_copy(
        update={"data": path, "validation": "none", "rows": None, "stratify": None, "format": told}
    )


def questions_of(conversations: Iterable[Conversation], part: DataSpec) -> Iterator[Question]:
    """Those that end with an answer."""
    for row in conversations:
        if row.turns and row.turns[-1].role == "assistant":
            intent = next((row.labels[name] for name in INTENTS if name in row.labels), "")
            yield Question(
                row.turns[:-1], row.turns[-1].spoken, row.tools, thinks(row.turns, part.thinking), intent, row.line
            )


def read_questions(spec: RunSpec, path: str, limit: int | None) -> tuple[tuple[Question, ...], int]:
    """The questions of a file, at most `limit`, evenly spread; and how many rows hold none, or no right answer.

    Raises DataError where there are none.
    """
    part = question_part(spec, path)
    rows = list(open_conversations(part))
    usable = (with_system(row, part.system) for row in rows if isinstance(row, Conversation))
    questions = tuple(questions_of(usable, part))
    if not questions:
        raise DataError("no_questions", path=path)
    count = min(limit or len(questions), len(questions))
    return tuple(questions[at * len(questions) // count] for at in range(count)), len(rows) - len(questions)


def taught(spec: RunSpec, seed: int = 0) -> tuple[Question, ...]:
    """Rows of the training data as questions with their answers, drawn from all over its beginning: files are often
    sorted, and the first rows have not every intent."""
    rows = list(islice(questions_of(read_conversations(spec.data), spec.data), READ))
    return tuple(rows) if len(rows) <= KEPT else tuple(random.Random(seed).sample(rows, KEPT))


def suite_of(questions: Iterable[Question], before: tuple[Turn, ...] = ()) -> Suite:
    """The questions as items; `before` is said ahead of each, behind its own system text."""
    items = []
    for number, question in enumerate(questions):
        own = tuple(turn for turn in question.turns if turn.role == "system")
        rest = tuple(turn for turn in question.turns if turn.role != "system")
        start = () if before and before[0].role == "system" else own
        items.append(Item(str(number), "", (question.reference,), turns=(*start, *before, *rest),
                          tools=question.tools, thinking=question.thinking))  # fmt: skip
    return Suite(QUESTIONS, "generated", tuple(items))


def examples(rows: Sequence[Question], count: int, system: str | None, seed: int = 0) -> tuple[Turn, ...]:
    """Short rows of the training data as turns that show the model what is wanted, with different answers."""
    short = sorted(rows, key=lambda one: len(one.text) + len(one.reference))[: max(count, len(rows) // 2)]
    random.Random(seed).shuffle(short)
    chosen: dict[str, Question] = {}
    for row in short:
        if row.text and len(chosen) < count:
            chosen.setdefault(row.intent or row.reference, row)
    told = [turn for one in chosen.values() for turn in (Turn("user", one.text), Turn("assistant", one.reference))]
    return (Turn("system", system), *told) if system else tuple(told)
