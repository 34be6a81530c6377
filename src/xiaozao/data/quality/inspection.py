"""Every check of contents, and the pass that applies them: a file -> kinds of findings, all at once.

inspection = Inspection()
survey(file, ..., inspection.see, inspection.leave)     while the file is read
inspection.finish(file, others)                         kinds, the gravest first

Kinds of one row are pure functions in CHECKS; kinds of several rows are made from numbers (across.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.quality import across, dialogue, languages, leftovers, private, replies, trailing
from xiaozao.data.quality.findings import EXAMPLES, Check, Example, Found, Hit, by_gravity, head
from xiaozao.data.quality.sieve import suspects
from xiaozao.data.twins import TWIN, Twins, normalised
from xiaozao.events import OnProgress

CHECKS: dict[str, Check] = {
    **private.CHECKS, **leftovers.CHECKS, **replies.CHECKS, **dialogue.CHECKS, **languages.CHECKS,
}  # fmt: skip
SERIOUS = {"api_key", "private_key", "password", "id_card", "bank_card", "iban", "ssn", "template_token", "mojibake",
           "unclosed_think", "leak_validation", "leak_questions", "contradiction", "broken_json",
           "swapped"}  # fmt: skip
NOTES = {"white_space", "invisible", "full_width", "same_answer", "rare_label", "dominant_label", "length_outlier",
         "too_few",
         "late_system", "trailing_turn", "no_system", "ip_address", "plate", "one_word", "address"}  # fmt: skip
SAFE = {"duplicate", "white_space", "invisible", "control", "same_role", "trailing_turn", "empty_answer", "no_answer"}
OF_FILE = {"same_answer", "rare_label", "dominant_label", "too_few", "model_language"}
ACROSS = {"duplicate", "near_duplicate", "contradiction", "leak_validation", "leak_questions", "length_outlier",
          "minority_language", "no_system", "broken_json", "no_answer", "trailing_turn", "cut_at_length"}  # fmt: skip
LEFT = ("empty_answer", "no_answer")  # of rows that are left out, of which there is nothing to show
FEW_ROWS = 50
TOKENS_A_CHARACTER = 1.0  # Chinese costs 0.5 to 0.8 in a model that knows it, and from 1.2 in one that does not
TWINS_LIMIT = 500_000  # rows; of more the first are compared


@dataclass(frozen=True)
class Looked:
    """What was found in one row by itself. form: the normalised question, for near duplicates."""

    hits: list[tuple[str, Hit]]
    numbers: across.Numbers
    form: str


def look(conversation: Conversation) -> Looked:
    """All checks of one row, and what of it is compared with other rows."""
    bare = [(kind, hit) for kind in suspects(conversation) if (hit := CHECKS[kind](conversation)) is not None]
    hits = [(kind, hit if hit.excerpt else replace(hit, excerpt=_shown(conversation))) for kind, hit in bare]
    return Looked(hits, across.Numbers.of(conversation), normalised(conversation.question()))


class Inspection:
    """What was found so far. Memory grows by a few numbers per row, and by nothing else."""

    def __init__(self, twins: bool = True) -> None:
        self.rows = across.Rows()
        self._kinds: dict[str, Found] = {}
        self._twins = Twins(TWIN) if twins else None

    def see(self, conversation: Conversation) -> None:
        """Check one row."""
        self.note(conversation.line, look(conversation))

    def note(self, line: int, looked: "Looked") -> None:
        """Take in what was found in one row."""
        for kind, hit in looked.hits:
            self.add(kind, line, hit)
        self.rows.add(line, looked.numbers)
        if self._twins is not None and len(self.rows) <= TWINS_LIMIT:
            self._twins.add_form(looked.form)

    def leave(self, dropped: Dropped) -> None:
        """Note a row that training leaves out because it has no answer."""
        if dropped.reason in LEFT:
            self.add(dropped.reason, dropped.line, Hit(""))

    def add(self, kind: str, line: int, hit: Hit, **params: object) -> None:
        """Count a hit of a kind."""
        if kind not in self._kinds:
            gravity = "serious" if kind in SERIOUS else "note" if kind in NOTES else "warning"
            self._kinds[kind] = Found(kind, gravity, params=dict(params))
        finding = self._kinds[kind]
        if hit.excerpt and kind not in private.CHECKS and len(finding.examples) < EXAMPLES:
            hit = replace(hit, excerpt=private.hidden(hit.excerpt))
        finding.add(line, hit)

    @property
    def compared(self) -> int:
        """Rows among which near duplicates are looked for."""
        return len(self._twins) if self._twins is not None else 0

    @property
    def duplicates(self) -> int:
        """How many rows stood in the file before."""
        return sum(1 for _ in across.duplicates(self.rows))

    def measured(self, longest: int, tokens: int, characters: int) -> None:
        """What a tokenizer made of the rows: its longest row, and how many tokens it needs for a character."""
        if "cut_at_length" in self._kinds:
            self._kinds["cut_at_length"].params["longest"] = longest
        rate = tokens / max(characters, 1)
        if rate > TOKENS_A_CHARACTER and across.main_language(self.rows) not in languages.LATIN:
            self.add("model_language", self.rows.lines[0], Hit(""), rate=f"{rate:.1f}")

    def finish(
        self, file: ConversationFile, others: Mapping[str, ConversationFile], on_progress: OnProgress
    ) -> tuple[Found, ...]:
        """Compare the rows, read excerpts of those that are shown, and give all kinds. others: the validation and the
        question file, by the kind of their leak."""
        for kind, limit in replies.STYLE.items():
            if kind in self._kinds and self._kinds[kind].count > limit * max(len(self.rows), 10):
                del self._kinds[kind]
        if "hanging" in self._kinds and "no_end" in self._kinds:
            self._without("no_end", set(self._kinds["hanging"].lines))
        on_progress("data_compare", 0, 2)
        self._compare()
        on_progress("data_compare", 1, 2)
        for kind, other in others.items():
            self._leaks(kind, other)
        used = set(self.rows.lines)
        for line, excerpt in trailing.trailing_turns(file):
            if line in used:
                self.add("trailing_turn", line, Hit(excerpt))
        self._excerpts(file)
        on_progress("data_compare", 2, 2)
        return tuple(by_gravity(list(self._kinds.values())))

    def _without(self, kind: str, lines: set[int]) -> None:
        """Take rows out of a kind that another kind names better."""
        finding = self._kinds.pop(kind)
        kept = [line for line in finding.lines if line not in lines]
        shown = {example.line: example.hit for example in finding.examples}
        for line in kept:
            self.add(kind, line, shown.get(line, Hit("")))

    def _compare(self) -> None:
        pairs: dict[str, Callable[[across.Rows], Iterable[tuple[int, int]]]] = {
            "duplicate": across.duplicates, "contradiction": across.contradictions,
        }  # fmt: skip
        for kind, compare in pairs.items():
            for line, other in compare(self.rows):
                self.add(kind, line, Hit("", other=other))
        for line, other in self._near():
            self.add("near_duplicate", line, Hit("", other=other))
        for line, length in across.outliers(self.rows):
            self.add("length_outlier", line, Hit("", note=f"{length:,}"))
        for line, language, main in across.minorities(self.rows):
            self.add("minority_language", line, Hit(""), language=language, main=main)
        for line in across.without_system(self.rows):
            self.add("no_system", line, Hit(""))
        for line in across.broken_json(self.rows):
            self.add("broken_json", line, Hit(""))
        for line, count, total in across.same_answer(self.rows):
            self.add("same_answer", line, Hit("", note=f"{count:,} / {total:,}"))
        for kind, name, value, count, total, line in across.labels(self.rows):
            self.add(kind, line, Hit("", note=f"{name}={value}: {count:,} / {total:,}"))
        if 0 < len(self.rows) < FEW_ROWS:
            self.add("too_few", self.rows.lines[0], Hit(""), rows=len(self.rows))

    def _near(self) -> Iterator[tuple[int, int]]:
        """Rows whose question is nearly that of an earlier row, and that are no exact duplicates of it."""
        if self._twins is None:
            return
        for place, first in enumerate(self._twins.groups()):
            if self.rows.judged[place] or self.rows.judged[first]:
                continue
            if first != place and self.rows.whole[place] != self.rows.whole[first]:
                yield self.rows.lines[place], self.rows.lines[first]

    def _leaks(self, kind: str, other: ConversationFile) -> None:
        """Rows whose question stands in a file that judges the model."""
        theirs = {across.question_key(one): one.line for one in other if isinstance(one, Conversation)}
        theirs.pop(0, None)
        keys = across.numbers(self.rows.question)
        for place in np.flatnonzero(np.isin(keys, np.array(list(theirs), dtype=np.uint64))):
            line = theirs[int(keys[place])]
            self.add(kind, self.rows.lines[int(place)], Hit("", other=line), path=other.source.path.name)

    def _excerpts(self, file: ConversationFile) -> None:
        """Read the rows once more that have no excerpt yet, as far as the last of them: only those of kinds that were
        told when all rows were known, such as duplicates."""
        shown = list(chain.from_iterable(found.examples for kind, found in self._kinds.items() if kind not in LEFT))
        wanted = {example.line for example in shown if not example.hit.excerpt}
        texts: dict[int, str] = {}
        rows = iter(file) if wanted else iter(())
        for conversation in rows:
            if isinstance(conversation, Conversation | Dropped) and conversation.line in wanted:
                texts[conversation.line] = _shown(conversation)
                if len(texts) == len(wanted):
                    break
        for finding in self._kinds.values():
            for place, example in enumerate(finding.examples):
                if example.line in texts and not example.hit.excerpt:
                    finding.examples[place] = Example(example.line, replace(example.hit, excerpt=texts[example.line]))


def _shown(row: Conversation | Dropped) -> str:
    """The question and the beginning of the answer."""
    if isinstance(row, Dropped):
        return ""
    asked = next((turn.content for turn in row.turns if turn.role == "user"), row.text)
    given = next((turn.content for turn in row.turns if turn.role == "assistant"), "")
    asked, given = private.hidden(asked), private.hidden(given)
    return f"{head(asked, 60)} → {head(given, 60)}" if given else head(asked)
