"""What all evaluations of a run found, together: the sentence, what got worse, and the pairs that are worth reading.

    bench/result.json, format/result.json, the closed blind vote -> summarise -> Summary -> summary_page -> report.html
                                                                                  -> to_json       -> report.json

Nothing is judged here: every verdict is the one of its evaluation. A vote that is going on has no result to hand in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from xiaozao.errors import ArtefactError
from xiaozao.evaluate.blind.outcome import Outcome
from xiaozao.evaluate.degeneration import SIGNS
from xiaozao.evaluate.form import Form
from xiaozao.evaluate.leak import Leak
from xiaozao.evaluate.standing import Topic
from xiaozao.evaluate.telling import MEASURES, WHO, form_text, leak_lines, reasons
from xiaozao.texts.catalogue import Language, say

State = Literal["done", "begun", "absent"]
Tendency = Literal["better", "worse", "mixed", "unclear"]
PAIRS = 10


@dataclass(frozen=True, kw_only=True)
class Part:
    """One evaluation. document: its result where it is done. command: what makes it, goes on with it, or shows it."""

    state: State
    command: str
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Worse:
    """One thing that got worse: the text `summary.worse.<key>`. name: a suite, a measure or a sign of decay."""

    key: Literal["group", "measure", "sign", "one_answer", "vote"]
    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Telling:
    """A question whose two answers tell something: what was won, or what still fails."""

    kind: Literal["gain", "failure"]
    example: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """run: what to type for it. outcome: of the vote, if it is closed; its document is in `vote`."""

    run: str
    model: str
    data: str
    bench: Part
    form: Part
    vote: Part
    outcome: Outcome | None = None

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"bench": self.bench, "format": self.form, "blind": self.vote}

    @property
    def worse(self) -> tuple[Worse, ...]:
        """All that got worse and was shown to, evaluation by evaluation."""
        worse = [
            Worse("group", one["name"], one["before"], one["after"])
            for one in self.bench.document.get("groups", ())
            if one["informative"] and one["outcome"] == "regressed"
        ]
        changes = self.form.document.get("changes", {})
        worse += [
            Worse("measure", name, changes[name]["before"], changes[name]["after"])
            for name in MEASURES
            if name in changes and changes[name]["outcome"] == "regressed"
        ]
        obeyed = self.form.document.get("obedience")
        if obeyed and obeyed["outcome"] == "regressed":
            worse.append(Worse("measure", "obedience", obeyed["before"], obeyed["after"]))
        worse += self._decay()
        if self.outcome is not None and self.outcome.verdict == "base":
            worse.append(Worse("vote", "", self.outcome.losses, self.outcome.wins))
        return tuple(worse)

    def _decay(self) -> list[Worse]:
        """Signs that more answers show than before; counts, without a test."""
        sittings = self.form.document.get("sittings")
        if not sittings:
            return []
        before, after = sittings["base"], sittings["tuned"]
        rising = [
            Worse("sign", name, before["signs"][name], count)
            for name, count in after["signs"].items()
            if count > before["signs"][name]
        ]
        same = after["one_answer"]
        if same is not None and (before["one_answer"] is None or same["count"] > before["one_answer"]["count"]):
            rising.append(Worse("one_answer", same["answer"], (before["one_answer"] or {"count": 0})["count"],
                                same["count"]))  # fmt: skip
        return rising

    @property
    def tendency(self) -> Tendency:
        """Where it goes, over all verdicts that were shown."""
        verdicts = {self.bench.document.get("outcome")}
        verdicts |= {one["outcome"] for one in self.form.document.get("changes", {}).values()}
        if obeyed := self.form.document.get("obedience"):
            verdicts.add(obeyed["outcome"])
        if self.outcome is not None:
            verdicts.add({"tuned": "improved", "base": "regressed"}.get(self.outcome.verdict, "inconclusive"))
        if "regressed" in verdicts:
            return "mixed" if "improved" in verdicts else "worse"
        return "better" if "improved" in verdicts else "unclear"

    @property
    def pairs(self) -> tuple[Telling, ...]:
        """Up to PAIRS questions, gains and failures in turn."""
        kept = self.form.document
        in_turn = zip_longest(
            [Telling("failure", one) for one in kept.get("failures", ())],
            [Telling("gain", one) for one in kept.get("gains", ())],
        )
        return tuple(one for both in in_turn for one in both if one is not None)[:PAIRS]

    @property
    def same_weights(self) -> bool:
        """Whether the tests that are done saw the same weights of the result."""
        hashes = {one.document["conditions"]["result_weights_sha256"] for one in (self.bench, self.form)
                  if one.document}  # fmt: skip
        return len(hashes) < 2

    def sentence(self, language: Language) -> str:
        """What all that is done found, in one sentence."""
        told = [*self._bench_clause(language), *self._form_clause(language), *self._vote_clause(language)]
        return say("summary.sentence", language, clauses=say("list.semicolon", language).join(told))

    def _bench_clause(self, language: Language) -> list[str]:
        if not self.bench.document:
            return []
        deciding = [one for one in self.bench.document["groups"] if one["certifies"] and one["informative"]]
        lost = sum(one["outcome"] == "regressed" for one in deciding)
        return [say(f"summary.bench.{self.bench.document['outcome']}", language, count=lost, n=len(deciding))]

    def _form_clause(self, language: Language) -> list[str]:
        if not self.form.document:
            return []
        name = "strict" if "strict" in self.form.document["changes"] else "belongs"
        shares = {
            who: f"{one['measures'][name]['share']:.0%}" for who, one in self.form.document["sittings"].items()
        }  # fmt: skip
        key = f"summary.form.{name}{'_prompted' if 'prompted' in shares else ''}"
        return [say(key, language, before=shares["base"], prompted=shares.get("prompted", ""), after=shares["tuned"])]

    def _vote_clause(self, language: Language) -> list[str]:
        if self.outcome is None:
            return []
        told = self.outcome
        return [say(f"summary.vote.{told.verdict}", language, wins=told.wins, decisive=told.decisive)]

    def to_json(self, language: Language) -> dict[str, Any]:
        """Everything for a program; the results are those of the evaluations, unchanged, null where there is none."""
        return {
            "v": 1, "run": self.run, "model": self.model, "data": self.data,
            "sentence": self.sentence(language), "tendency": self.tendency,
            "states": {name: one.state for name, one in self.parts.items()},
            "commands": {name: one.command for name, one in self.parts.items()},
            "worse": [vars(one) for one in self.worse],
            "pairs": [{"kind": one.kind, **one.example} for one in self.pairs],
            **{name: one.document or None for name, one in self.parts.items()},
        }  # fmt: skip


# --- the shape of a result, so that a damaged file is told and not stumbled over --------------------------------------

Verdict = Literal["regressed", "no_regression", "improved", "inconclusive"]


@dataclass(frozen=True)
class _Suite:
    items: int
    sha256: str


@dataclass(frozen=True)
class _Conditions:
    base_weights_sha256: str
    result_weights_sha256: str
    template_sha256: str | None
    precision: str
    threads: int
    together: int
    answer_tokens: int
    decoding: str
    suites: dict[str, _Suite]
    versions: dict[str, str]
    seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True)
class _Change:
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    outcome: Verdict
    n: int
    n_needed: int | None


@dataclass(frozen=True)
class _Group(_Change):
    name: str
    kind: Literal["generated", "choice", "text"]
    certifies: bool
    informative: bool
    margin: float
    noise: float | None


@dataclass(frozen=True)
class _Bench:
    outcome: Verdict
    groups: list[_Group]
    topics: list[Topic]
    conditions: _Conditions


@dataclass(frozen=True)
class _Share:
    count: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class _OneAnswer:
    answer: str
    count: int


@dataclass(frozen=True)
class _Measures:
    strict: _Share
    lenient: _Share
    belongs: _Share
    sound: _Share
    exact: _Share


@dataclass(frozen=True)
class _Sitting:
    measures: _Measures
    intent: float | None
    signs: dict[str, int]
    one_answer: _OneAnswer | None


@dataclass(frozen=True)
class _Example:
    question: str
    reference: str
    base: str
    tuned: str
    breaches: list[dict[str, Any]]
    signs: list[str]
    belongs: bool


@dataclass(frozen=True)
class _Lost:
    question: str
    base: str
    tuned: str


@dataclass(frozen=True)
class _Leaked:
    count: int
    shown: list[Leak]


@dataclass(frozen=True)
class _Leaks:
    rows: int
    base: _Leaked
    tuned: _Leaked


@dataclass(frozen=True)
class _Form:
    form: Form
    n: int
    sittings: dict[Literal["base", "prompted", "tuned"], _Sitting]
    changes: dict[str, _Change]
    against_prompt: dict[str, _Change]
    failures: list[_Example]
    conditions: _Conditions
    gains: list[_Example] = field(default_factory=list)
    obedience: _Change | None = None
    disobeyed: list[_Lost] = field(default_factory=list)
    leaks: _Leaks | None = None


BENCH: TypeAdapter[_Bench] = TypeAdapter(_Bench)
FORM: TypeAdapter[_Form] = TypeAdapter(_Form)


def check_bench(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The result of the standard tests as it is. Raises ArtefactError if something in it is missing or not so."""
    told = _checked(BENCH, document, path)
    if any(one.kind == "text" and one.before <= 0 for one in told.groups):
        raise ArtefactError("eval_result", path=path, detail="before: 0")
    return document


def check_form(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The result of the test of form as it is. Raises ArtefactError if something in it is missing or not so."""
    told = _checked(FORM, document, path)
    absent = [who for who in WHO if who != "prompted" and who not in told.sittings]
    absent += [] if "belongs" in told.changes else ["belongs"]
    absent += [name for name in told.changes if name not in MEASURES]
    for sitting in told.sittings.values():
        absent += set(SIGNS) ^ sitting.signs.keys()
        absent += ["intent"] if "intent" in told.changes and sitting.intent is None else []
    try:
        form_text(document["form"], "en")
        leak_lines(document, "en")
        for example in (*document["failures"], *document.get("gains", ())):
            reasons(example, "en")
    except (LookupError, AttributeError) as error:  # a rule, a sign or a language that has no words, or no schema
        absent.append(str(error))
    if absent:
        raise ArtefactError("eval_result", path=path, detail=", ".join(absent))
    return document


def _checked(adapter: TypeAdapter[Any], document: Mapping[str, Any], path: Path) -> Any:
    # Halves of characters, which a model may write, are no fault of the file; only here something stands for them.
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ArtefactError("eval_result", path=path, detail=detail) from None
