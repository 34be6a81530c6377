"""The standard tests: every item of some suites asked of one model, a record for each.

generated   the chat template's prompt, answered greedily in batches of like length, judged by the item's scorer
choice      "Question: ...\\nAnswer:" and " " + choice; the likeliest per character counts (lm-eval's acc_norm)
text        bits per byte: of a solution after its problem in the template, or of plain text
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import ArtefactError, DataError
from xiaozao.evaluate.record import Record, Records
from xiaozao.evaluate.scorers import SCORERS
from xiaozao.evaluate.suite import Item, Suite
from xiaozao.events import Event, Progress
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder
from xiaozao.models.generate import Sampling, generate
from xiaozao.models.likelihood import ROW, Branches, log_likelihoods

TRIED = 16  # tokens of the first prompt, on which it is tried whether the model computes numbers
CHOICES_TOGETHER = 32  # questions between two moments at which records are written
Known = Callable[[str], Record | None]  # asked -> a record of an earlier evaluation of the same model


class Stopped(Exception):
    """The evaluation was asked to stop; what is recorded stays."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One model that sits the tests.

    tokens: of an answer, at most. together: prompts that are answered at a time. backwards: the other order, so that
    batches are composed otherwise.
    """

    who: str
    decoder: Decoder
    tokenizer: ChatTokenizer
    records: Records
    on_event: Callable[[Event], object]
    should_stop: Callable[[], bool]
    tokens: int
    together: int = 32
    backwards: bool = False
    known: Known = lambda asked: None

    def sit(self, suites: Sequence[Suite]) -> None:
        """Ask what is not recorded yet. Raises Stopped, and ArtefactError where numbers are none."""
        questions = [_Question.of(suite, item, self.tokenizer, self.tokens) for suite in suites for item in suite.items]
        self._take_known(questions)
        done = sum(self._has(one) for one in questions)
        total = len(questions)
        self.on_event(Progress(f"sit_{self.who}", done, total))
        if done < total:
            start = questions[0].branches.context
            self._check_numbers(log_likelihoods(self.decoder, [Branches(start[:TRIED], (start[:1],))]))
        for batch in self._batches([one for one in questions if not self._has(one)]):
            if self.should_stop():
                raise Stopped
            begun = time.perf_counter()
            answered = self._generated(batch) if batch[0].kind == "generated" else self._likely(batch)
            seconds = (time.perf_counter() - begun) / len(batch)
            self.records.add(replace(one, seconds=round(seconds, 4)) for one in answered)
            done += len(batch)
            self.on_event(Progress(f"sit_{self.who}", done, total))
            give_back()

    def _has(self, question: "_Question") -> bool:
        """Whether the question is answered in these very words."""
        record = self.records.known.get((self.who, question.suite, question.item.id))
        return record is not None and record.asked == question.asked

    def _take_known(self, questions: Sequence["_Question"]) -> None:
        """Take over what the same model answered in an earlier evaluation."""
        taken = []
        for question in questions:
            if not self._has(question) and (known := self.known(question.asked)) is not None:
                value = question.judge(known.answer) if question.kind == "generated" else known.value
                taken.append(replace(known, who=self.who, suite=question.suite, item=question.item.id, value=value))
        self.records.add(taken)

    def _batches(self, questions: Sequence["_Question"]) -> Iterator[list["_Question"]]:
        """Questions of one kind and like length, `together` at a time."""
        for kind, size in (("generated", self.together), ("choice", CHOICES_TOGETHER), ("text", CHOICES_TOGETHER)):
            mine = sorted((one for one in questions if one.kind == kind), key=lambda one: one.branches.tokens)
            if self.backwards:
                mine.reverse()
            for start in range(0, len(mine), size):
                yield mine[start : start + size]

    def _generated(self, batch: Sequence["_Question"]) -> list[Record]:
        prompts = [one.branches.context for one in batch]
        stopped = False

        def on_token(row: int, token: int) -> bool:
            nonlocal stopped
            stopped = stopped or self.should_stop()
            return stopped

        tokens = generate(self.decoder, prompts, self.tokenizer.eos_ids, Sampling(self.tokens), on_token)
        if stopped:
            raise Stopped
        answers = [(self.tokenizer.decode(ids), len(ids)) for ids in tokens]
        return [
            self._record(one, answer, one.judge(answer), count)
            for one, (answer, count) in zip(batch, answers, strict=True)
        ]

    def _likely(self, batch: Sequence["_Question"]) -> list[Record]:
        told = log_likelihoods(self.decoder, [one.branches for one in batch], min(ROW, 16 * self.together))
        self._check_numbers(told)
        return [one.weigh(self, sums) for one, sums in zip(batch, told, strict=True)]

    def _check_numbers(self, told: Sequence[tuple[float, ...]]) -> None:
        """Raises ArtefactError where a likelihood is not a number: such a model still writes answers, of one token."""
        if not all(math.isfinite(value) for sums in told for value in sums):
            raise ArtefactError("eval_no_numbers", model={"text": f"eval.model.{self.who}"})

    def _record(self, question: "_Question", answer: str, value: float, tokens: int) -> Record:
        return Record(self.who, question.suite, question.item.id, question.asked, answer, value, tokens, 0.0)


@dataclass(frozen=True)
class _Question:
    """An item as ids. tokens: of an answer, at most. size: bytes of a text."""

    suite: str
    kind: str
    item: Item
    branches: Branches
    tokens: int
    size: int = 0

    @classmethod
    def of(cls, suite: Suite, item: Item, tokenizer: ChatTokenizer, tokens: int) -> "_Question":
        match suite.kind:
            case "generated":
                prompt = tokenizer.encode_prompt(item.asked, item.tools, item.thinking)
                return cls(suite.name, suite.kind, item, Branches(tuple(prompt), ((),)), tokens)
            case "choice":
                return cls(suite.name, suite.kind, item, _choices(item, tokenizer), 0)
            case "text":
                branches, size = _solution(item, tokenizer) if item.ask else _text(item, tokenizer)
                return cls(suite.name, suite.kind, item, branches, 0, size)

    @property
    def positions(self) -> int:
        """How many the model needs to read it, and to write the longest answer."""
        return self.branches.longest + self.tokens

    @property
    def asked(self) -> str:
        """Changes with any id that the model reads, and with the number of tokens that it may write."""
        document = [self.kind, self.branches.context, self.branches.choices, self.tokens]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]

    def judge(self, answer: str) -> float:
        """1 or 0; 0 for an item that is judged with all others later."""
        return float(bool(self.item.check) and SCORERS[self.item.check](self.item.answers, answer))

    def weigh(self, sitting: Sitting, sums: tuple[float, ...]) -> Record:
        """The record of likelihoods: the likeliest choice, or the bits per byte of the only text."""
        if self.kind == "text":
            value = -sums[0] / math.log(2) / self.size
            return sitting._record(self, "", value, len(self.branches.choices[0]))
        normed = [one / len(choice) for one, choice in zip(sums, self.item.answers, strict=True)]
        best = max(range(len(normed)), key=normed.__getitem__)
        tokens = sum(len(choice) for choice in self.branches.choices)
        return sitting._record(self, self.item.answers[best], float(best == self.item.right), tokens)


def too_long(suites: Sequence[Suite], tokenizer: ChatTokenizer, tokens: int, most: int) -> dict[str, list[str]]:
    """The items that a model with `most` positions cannot read with an answer of `tokens`: their ids, by suite.

    Raises DataError for a suite of which none can be asked.
    """
    left: dict[str, list[str]] = {}
    for suite in suites:
        sizes = {one.id: _Question.of(suite, one, tokenizer, tokens).positions for one in suite.items}
        if long := [name for name, size in sizes.items() if size > most]:
            left[suite.name] = long
        if len(long) == len(sizes):
            raise DataError("eval_all_long", suite=suite.name, n=len(long), least=min(sizes.values()), most=most)
    return left


def longest_prompt(suites: Sequence[Suite], tokenizer: ChatTokenizer) -> int:
    """Tokens of the longest prompt that is answered."""
    asked = [item for suite in suites if suite.kind == "generated" for item in suite.items]
    return max((len(tokenizer.encode_prompt(one.asked, one.tools, one.thinking)) for one in asked), default=0)


def _choices(item: Item, tokenizer: ChatTokenizer) -> Branches:
    """As lm-eval encodes: the context alone, and the context with each choice, less the context's ids."""
    context = f"Question: {item.ask}\nAnswer:"
    ids = tokenizer.encode_plain(context)
    whole = [tokenizer.encode_plain(f"{context} {choice}") for choice in item.answers]
    # Where a choice melts into the context's last token, that token is weighed with it: nothing is no choice.
    end = max(1, min(len(ids), *(len(one) - 1 for one in whole)))
    return Branches(tuple(ids[:end]), tuple(tuple(one[end:]) for one in whole))


def _solution(item: Item, tokenizer: ChatTokenizer) -> tuple[Branches, int]:
    """A solution as the answer of a conversation, with the token that ends it."""
    told = item.answers[0]
    encoded = tokenizer.encode(Conversation((Turn("user", item.ask), Turn("assistant", told)), line=0))
    places = encoded.targets.nonzero()[0]
    first, end = int(places[0]), int(places[-1]) + 1
    ids = encoded.ids.tolist()
    return Branches(tuple(ids[:first]), (tuple(ids[first:end]),)), len(told.encode())


def _text(item: Item, tokenizer: ChatTokenizer) -> tuple[Branches, int]:
    """A plain text; its first token is context where no BOS stands before it."""
    text = item.answers[0]
    ids = tokenizer.encode_plain(text)
    before = tokenizer.decode(ids[:1])
    return Branches(tuple(ids[:1]), (tuple(ids[1:]),)), len(text.encode()) - len(before.encode())
