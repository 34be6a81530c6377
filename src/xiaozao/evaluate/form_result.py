"""The test of form and relevance: the user's questions, answered before and after training, held against the form that
his own answers have. Everything here is computed from recorded answers, so another form can be tried without asking.

    keeps the form         strictly, and after what people forgive is taken off
    belongs                the answer is closer to its own question than to those of 19 others
    intent                 what the answer is about is what the row says was wanted (rows with an intent)
    exact                  the right answer, word for word, or every field of it
    obedience              orders of form that the training data does not have ("in capitals") are kept as before
    signs of decay         empty, not ended, looping, copied, template tokens, blanks; one answer for everything

"prompted" is the base model with examples in its prompt: what tuning has to beat.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xiaozao.errors import ArtefactError, DataError
from xiaozao.evaluate.classes import Classes, classify
from xiaozao.evaluate.contract import Answer, judge, learn_contract
from xiaozao.evaluate.degeneration import SIGNS, Collapse, collapse, has_blanks, signs
from xiaozao.evaluate.form import Breach, Form, breaches, forgiven, learn_form
from xiaozao.evaluate.leak import Leak, leaks
from xiaozao.evaluate.paper import Paper
from xiaozao.evaluate.pattern import SECONDS, SlowPattern
from xiaozao.evaluate.questions import QUESTIONS
from xiaozao.evaluate.record import Record
from xiaozao.evaluate.relevance import intents, retrieved
from xiaozao.evaluate.statistics.intervals import wilson
from xiaozao.evaluate.statistics.verdict import Verdict, jointly, verdict
from xiaozao.evaluate.suite import OBEDIENCE

SHOWN = 20  # failures that are kept with their text
MARGIN = 0.05  # a loss of form that would not matter


@dataclass(frozen=True, kw_only=True)
class Given:
    """One answer, judged."""

    text: str
    strict: bool
    lenient: bool
    exact: bool
    belongs: bool
    intended: bool | None
    signs: tuple[str, ...]
    breaches: tuple[str, ...]
    details: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class Sitting:
    """All answers of one model, and the answer that it gives to everything, if it does."""

    given: tuple[Given, ...]
    collapse: Collapse | None
    classes: Classes | None

    def share(self, what: Callable[[Given], bool]) -> float:
        return sum(map(what, self.given)) / len(self.given)


@dataclass(frozen=True)
class Order:
    """An order of form that the training data does not have, and both answers."""

    ask: str
    base: Record
    tuned: Record


@dataclass(frozen=True)
class FormResult:
    """All sittings. changes: from base to tuned, by measure; against: from prompted to tuned. obeyed: the change in
    orders that were kept."""

    form: Form
    questions: tuple[tuple[str, str], ...]
    sittings: Mapping[str, Sitting]
    changes: Mapping[str, Verdict]
    against: Mapping[str, Verdict]
    obeyed: Verdict | None = None
    orders: tuple[Order, ...] = ()
    rows: int = 0  # of the training data, that were searched for what comes out again
    leaked: Mapping[str, tuple[Leak, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {
            "form": self.form.to_json(),
            "n": len(self.questions),
            "sittings": {who: _document(one) for who, one in self.sittings.items()},
            "changes": {name: _change(one) for name, one in self.changes.items()},
            "against_prompt": {name: _change(one) for name, one in self.against.items()},
            "obedience": None if self.obeyed is None else _change(self.obeyed),
            "disobeyed": self._disobeyed(),
            "leaks": {
                "rows": self.rows,
                **{
                    who: {"count": len(told), "shown": [vars(one) for one in told[:SHOWN]]}
                    for who, told in self.leaked.items()
                },
            },
            "failures": self._failures(),
            "gains": self._gains(),
        }

    def _disobeyed(self) -> list[dict[str, object]]:
        """Orders that the base model kept and the tuned one does not."""
        lost = [one for one in self.orders if one.base.value > one.tuned.value]
        return [{"question": one.ask, "base": one.base.answer, "tuned": one.tuned.answer} for one in lost[:SHOWN]]

    def _failures(self) -> list[dict[str, object]]:
        """Answers of the tuned model that break the form, fall apart or miss the question; those with most first."""
        tuned = self.sittings["tuned"].given
        bad = [at for at, one in enumerate(tuned) if not _good(one)]
        bad.sort(key=lambda at: (tuned[at].strict, -len(tuned[at].signs), at))
        return [self._example(at) for at in bad[:SHOWN]]

    def _gains(self) -> list[dict[str, object]]:
        """Good answers of the tuned model to questions that the base model failed; exactly right ones first."""
        base, tuned = self.sittings["base"].given, self.sittings["tuned"].given
        won = [at for at, one in enumerate(tuned) if _good(one) and not _good(base[at])]
        won.sort(key=lambda at: (not tuned[at].exact, base[at].strict, at))
        return [self._example(at) for at in won[:SHOWN]]

    def _example(self, at: int) -> dict[str, object]:
        """One question with both answers, and what is wrong with that of the tuned model."""
        told = self.sittings["tuned"].given[at]
        return {
            "question": self.questions[at][0], "reference": self.questions[at][1],
            "base": self.sittings["base"].given[at].text, "tuned": told.text,
            "breaches": [{"key": key, **params} for key, params in zip(told.breaches, told.details, strict=True)],
            "signs": list(told.signs), "belongs": told.belongs,
        }  # fmt: skip


MEASURES: dict[str, Callable[[Given], bool]] = {
    "strict": lambda one: one.strict,
    "lenient": lambda one: one.lenient,
    "belongs": lambda one: one.belongs,
    "sound": lambda one: not one.signs,
    "exact": lambda one: one.exact,
}


def _good(given: Given) -> bool:
    """Whether an answer keeps the form, shows no sign of decay and belongs to its question."""
    return given.strict and not given.signs and given.belongs


def learned(paper: Paper) -> Form:
    """The form of the training data's answers; without rows, that of the right answers."""
    return learn_form([one.reference for one in paper.rows or paper.questions])


def compare_forms(paper: Paper, records: Iterable[Record], form: Form) -> FormResult:
    """Judge the recorded answers of all who sat. Raises ArtefactError where some are not there."""
    told = {one.key: one for one in records}
    wanted = [
        (who, suite.name, item.id) for who in paper.sittings for suite in paper.sittings[who] for item in suite.items
    ]
    if missing := sum(key not in told for key in wanted):
        raise ArtefactError("eval_answers_gone", missing=missing, total=len(wanted))
    asked = [(one.text, one.reference) for one in paper.questions]
    allowed = has_blanks([right for _, right in asked])
    sittings = {}
    for who, suites in paper.sittings.items():
        asking = next(suite for suite in suites if suite.name == QUESTIONS)
        answers = [told[who, asking.name, item.id] for item in asking.items]
        sittings[who] = _sitting(paper, answers, form, allowed)
    measures = {
        name: one for name, one in MEASURES.items() if name not in ("strict", "lenient") or not form.asks_nothing
    }
    if paper.questions[0].intent:
        measures["intent"] = lambda one: bool(one.intended)
    orders = _obeyed(paper, told)
    changes = _verdicts(sittings["base"], sittings["tuned"], measures, orders)
    obeyed = changes.pop(OBEDIENCE, None)
    against = _verdicts(sittings["prompted"], sittings["tuned"], measures) if "prompted" in sittings else {}
    leaked = {
        who: leaks(paper.rows, paper.questions, [one.text for one in sittings[who].given]) for who in ("base", "tuned")
    }
    return FormResult(form, tuple(asked), sittings, changes, against, obeyed, orders, len(paper.rows), leaked)


def _obeyed(paper: Paper, told: Mapping[tuple[str, str, str], Record]) -> tuple[Order, ...]:
    """The orders that the training data does not have, with what both models made of them."""
    suites = [suite for suite in paper.sittings["base"] if suite.name != QUESTIONS]
    return tuple(
        Order(item.ask, told["base", suite.name, item.id], told["tuned", suite.name, item.id])
        for suite in suites for item in suite.items
    )  # fmt: skip


def _sitting(paper: Paper, answers: Sequence[Record], form: Form, allowed: bool) -> Sitting:
    asked, right = [one.text for one in paper.questions], [one.reference for one in paper.questions]
    texts = [one.answer for one in answers]
    belongs = retrieved(asked, right, texts)
    labelled = [(one.reference, one.intent) for one in paper.rows or paper.questions if one.intent]
    guessed = intents(labelled, texts) if labelled else [""] * len(texts)
    contract = learn_contract(right)
    given = []
    for at, question in enumerate(paper.questions):
        told, lenient = _held(texts[at], form, at + 1, answers[at].who)
        given.append(Given(
            text=texts[at], strict=not told, lenient=lenient,
            exact=judge(Answer(asked[at], right[at], texts[at]), contract).exact, belongs=belongs[at],
            intended=guessed[at] == question.intent if question.intent else None,
            signs=signs(asked[at], texts[at], answers[at].tokens < paper.tokens, allowed),
            breaches=tuple(one.key for one in told), details=tuple(one.params for one in told),
        ))  # fmt: skip
    classes = classify(right, [forgiven(text, form) for text in texts]) if form.kind == "label" else None
    return Sitting(tuple(given), collapse(asked, texts, right), classes)


def _held(text: str, form: Form, number: int, who: str) -> tuple[tuple[Breach, ...], bool]:
    """What is wrong with one answer, and whether it keeps the form leniently.

    Raises DataError where a pattern of the form takes too long on it.
    """
    try:
        told = breaches(text, form)
        return told, not told or not breaches(forgiven(text, form), form)
    except SlowPattern as slow:
        model = {"text": f"eval.model.{who}"}
        raise DataError(
            "form_slow", pattern=slow.pattern, seconds=SECONDS, number=number, model=model, size=len(text)
        ) from None


def _verdicts(
    before: Sitting, after: Sitting, measures: Mapping[str, Callable[[Given], bool]], orders: Sequence[Order] = ()
) -> dict[str, Verdict]:
    verdicts = {
        name: verdict([what(one) for one in before.given], [what(one) for one in after.given], MARGIN)
        for name, what in measures.items()
    }
    if orders:
        was, now = (
            [one.value > 0.5 for one in side] for side in zip(*((o.base, o.tuned) for o in orders), strict=True)
        )
        verdicts[OBEDIENCE] = verdict(was, now, MARGIN)
    return jointly(verdicts)


def _document(sitting: Sitting) -> dict[str, object]:
    n = len(sitting.given)
    shares = {}
    for name, what in MEASURES.items():
        count = sum(map(what, sitting.given))
        interval = wilson(count, n)
        shares[name] = {"count": count, "share": count / n, "low": interval.low, "high": interval.high}
    with_intent = [one for one in sitting.given if one.intended is not None]
    document: dict[str, object] = {
        "measures": shares,
        "intent": sum(bool(one.intended) for one in with_intent) / len(with_intent) if with_intent else None,
        "signs": {name: sum(name in one.signs for one in sitting.given) for name in SIGNS},
        "breaches": _counted(sitting),
        "one_answer": None if sitting.collapse is None else vars(sitting.collapse),
    }
    if sitting.classes is not None:
        told = sitting.classes
        table = [
            {"right": right, "given": given, "count": count} for (right, given), count in sorted(told.table.items())
        ]
        document["classes"] = {"accuracy": told.accuracy, "macro_f1": told.macro_f1, "table": table,
                               "f1": {label: told.f1(label) for label in told.labels}}  # fmt: skip
    return document


def _counted(sitting: Sitting) -> dict[str, int]:
    """How many answers break each rule."""
    return dict(Counter(key for answer in sitting.given for key in set(answer.breaches)))


def _change(told: Verdict) -> dict[str, object]:
    return {
        "before": told.before, "after": told.after, "difference": told.difference, "low": told.interval.low,
        "high": told.interval.high, "p": told.p, "p_adjusted": told.p_adjusted, "outcome": told.outcome,
        "n": told.n, "n_needed": told.n_needed, "n_least": told.least, "few": told.few, "margin": told.margin,
    }  # fmt: skip
