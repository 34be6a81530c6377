"""The report as one HTML file: without a script and without a single request to anywhere.

The template only arranges; every number is put into words here. All that comes from users and models passes the
template's escaping; the one thing that does not is the curve, which is our own drawing of numbers.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from xiaozao.evaluate.compare import Change, Comparison, Pair, choose, compare
from xiaozao.evaluate.contract import Answer, Contract, Judgement, read_object
from xiaozao.evaluate.curves import inline_svg
from xiaozao.evaluate.facts import ReportFacts, Side
from xiaozao.evaluate.statistics.intervals import Interval, wilson
from xiaozao.spec.plan import PARTS
from xiaozao.texts.catalogue import Language, say

TEMPLATE = Path(__file__).with_name("report.html.j2")
LOOK = Path(__file__).with_name("look.css")
LONGEST = 400  # characters of one answer on the page; report.json has all of them
NO_BREAK = "\u00a0"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class Line:
    """One field of an answer. `right` is None in the reference."""

    name: str
    value: str
    right: bool | None


@dataclass(frozen=True)
class Pane:
    """One of the three columns of a question: the reference, the base model's answer, the tuned model's answer.

    `verdict` is `exact`, `wrong`, `form` (not in the required form) or empty; `lines` are the fields of an object, else
    `text` is the whole answer.
    """

    title: str
    verdict: str
    lines: tuple[Line, ...]
    text: str


@dataclass(frozen=True)
class Cell:
    """A count as a share with its interval."""

    count: int
    n: int

    @property
    def share(self) -> float:
        return self.count / self.n

    @property
    def interval(self) -> Interval:
        return wilson(self.count, self.n)


@dataclass(frozen=True)
class Words:
    """The texts and number formats of one language, for the template."""

    language: Language

    def say(self, key: str, **params: object) -> str:
        return say(f"report.{key}", self.language, **params)

    def percent(self, share: float) -> str:
        """A share in percent with one decimal; never 0% or 100% unless it is exact."""
        if 0 < share < 0.001:
            return "<0.1%"
        if 0.999 < share < 1:
            return ">99.9%"
        return f"{100 * share:.1f}".removesuffix(".0") + "%"

    def bytes(self, size: int) -> str:
        if size >= 10**9:
            return f"{size / 10**9:.{1 if size >= 10**10 else 2}f} GB"
        return f"{size / 10**6:.0f} MB" if size >= 10**6 else f"{size} B"

    def duration(self, seconds: float) -> str:
        whole = round(seconds)
        if whole < 60:
            return self.say("seconds", seconds=whole)
        if whole < 3600:
            return self.say("minutes", minutes=whole // 60, seconds=whole % 60)
        return self.say("hours", hours=whole // 3600, minutes=whole % 3600 // 60)

    def loss(self, value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    def p(self, value: float) -> str:
        """A p-value as text, with no-break spaces, so that a line never ends in "p <"."""
        return f"p{NO_BREAK}<{NO_BREAK}0.001" if value < 0.001 else f"p{NO_BREAK}={NO_BREAK}{value:.3f}"


def render(facts: ReportFacts, language: Language) -> str:
    """The report as HTML."""
    comparison = compare(facts.base.answers, facts.tuned.answers)
    words = Words(language)
    shown = choose(comparison.pairs)
    return fill(
        TEMPLATE,
        w=words,
        facts=facts,
        found=comparison,
        headline=headline(facts, comparison, words),
        measures=measures(comparison, words),
        fields=fields(comparison),
        losses=[(name, getattr(facts.base, name), getattr(facts.tuned, name)) for name in ("loss", "validation_loss")],
        shown=[(pair, panes(pair, comparison.contract, words)) for pair in shown],
        shown_misses=sum(not pair.tuned_verdict.exact for pair in shown),
        parts=[(part, facts.predicted_parts[part]) for part in PARTS if part in facts.predicted_parts],
        memory=memory_sentence(facts, words),
        note=words.say("measures.note" if comparison.contract.is_json else "measures.note_text"),
        scale=max(facts.predicted_peak_bytes, facts.peak_rss_bytes, 1),
        settings={name: show_setting(value) for name, value in facts.settings.items()},
        curve=Markup(inline_svg(facts.curve.read_text(encoding="utf-8"))) if facts.curve else None,
    )


def fill(template: Path, **values: object) -> str:
    """A template of ours filled in: everything is escaped; `visible` is a filter, `look` the style sheet."""
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["visible"] = visible
    environment.globals["look"] = Markup(LOOK.read_text(encoding="utf-8"))
    return environment.get_template(template.name).render(values)


def measures(comparison: Comparison, words: Words) -> list[tuple[Change, str, Cell, Cell]]:
    """The tested measures with their names, before and after; none without questions."""
    return [
        (
            one,
            measure_name(one.measure, comparison.contract, words),
            Cell(one.before, comparison.n),
            Cell(one.after, comparison.n),
        )
        for one in comparison.changes
        if comparison.n
    ]


def fields(comparison: Comparison) -> list[tuple[str, Cell, Cell]]:
    """How often each field was right, before and after."""
    base, tuned = comparison.base.fields, comparison.tuned.fields
    return [
        (name, Cell(base[name], comparison.n), Cell(tuned[name], comparison.n)) for name in comparison.contract.fields
    ]


def headline(facts: ReportFacts, comparison: Comparison, words: Words) -> str:
    """The headline: each measure before and after, then whether the change is more than chance."""
    if not comparison.n:
        return _loss_sentence(facts.base, facts.tuned, words) or words.say("headline.steps", steps=facts.steps)
    said = []
    for change in comparison.changes:
        direction = "rose" if change.after > change.before else "fell" if change.after < change.before else "same"
        measure = measure_name(change.measure, comparison.contract, words)
        said.append(words.say(f"headline.{direction}", measure=measure, before=change.before, after=change.after,
                              n=comparison.n))  # fmt: skip
    said.append(_verdict_sentence(comparison, words))
    return ("" if words.language == "zh-CN" else " ").join(said)


def memory_sentence(facts: ReportFacts, words: Words) -> str:
    """The error of the planned peak, relative to the measured one, as a sentence."""
    predicted, measured = facts.predicted_peak_bytes, facts.peak_rss_bytes
    if not measured:
        return words.say("memory.unmeasured", predicted=words.bytes(predicted))
    off = (predicted - measured) / measured
    return words.say(
        "memory.above" if off >= 0 else "memory.below",
        predicted=words.bytes(predicted), measured=words.bytes(measured), percent=words.percent(abs(off)),
    )  # fmt: skip


def measure_name(measure: str, contract: Contract, words: Words) -> str:
    """The measure in words; "exact" means something else for tickets than for plain text."""
    return words.say("measure.exact_text" if measure == "exact" and not contract.is_json else f"measure.{measure}")


def panes(pair: Pair, contract: Contract, words: Words) -> tuple[Pane, Pane, Pane]:
    """The reference and both answers of one question."""
    expected = read_object(pair.base.reference) if contract.is_json else None
    lines = tuple(Line(name, show_value(value), None) for name, value in (expected or {}).items())
    return (
        Pane(words.say("expected"), "", lines, clip(pair.base.reference, words)),
        _pane(words.say("before"), pair.base, pair.base_verdict, contract, words),
        _pane(words.say("after"), pair.tuned, pair.tuned_verdict, contract, words),
    )


def show_value(value: object) -> str:
    """A field's value as JSON: "null" and null are different answers."""
    return json.dumps(value, ensure_ascii=False)


def show_setting(value: object) -> str:
    """An option as one would write it on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "–" if value is None else str(value)


def clip(text: str, words: Words) -> str:
    """A long answer cut short, with a note of how much was cut."""
    rest = len(text) - LONGEST
    return text if rest <= 0 else text[:LONGEST] + words.say("clipped", count=rest)


def visible(text: object) -> str:
    """Text whose control characters, text-direction overrides and broken halves of characters show as what they are."""
    return "".join(
        f"[U+{ord(character):04X}]"
        if character in BIDI or (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t")
        else character
        for character in str(text).replace("\r\n", "\n")
    )


def _pane(title: str, answer: Answer, verdict: Judgement, contract: Contract, words: Words) -> Pane:
    label = "exact" if verdict.exact else "form" if verdict.valid is False else "wrong"
    given = read_object(answer.answer) if contract.is_json else None
    return Pane(title, label, _lines(given, verdict.fields, words) if given else (), clip(answer.answer, words))


def _lines(given: Mapping[str, object], right: Mapping[str, bool], words: Words) -> tuple[Line, ...]:
    """The contract's fields in their order, then whatever else the answer holds; long values are cut."""
    lines = [
        Line(name, clip(show_value(given[name]), words) if name in given else words.say("missing"), ok)
        for name, ok in right.items()
    ]
    return (*lines, *(Line(name, clip(show_value(value), words), False) for name, value in given.items()
                      if name not in right))  # fmt: skip


def _verdict_sentence(comparison: Comparison, words: Words) -> str:
    """The sentence that says whether the change is more than chance, and for which measure if only for one."""
    proven = [change for change in comparison.changes if change.outcome == comparison.outcome != "unclear"]
    p = words.p(min(change.p_adjusted for change in proven or comparison.changes))
    if comparison.outcome in ("better", "worse") and len(proven) < len(comparison.changes):
        measure = measure_name(proven[0].measure, comparison.contract, words)
        return words.say(f"headline.{comparison.outcome}_part", measure=measure, p=p)
    return words.say(f"headline.{comparison.outcome}", p=p, n=comparison.n)


def _loss_sentence(base: Side, tuned: Side, words: Words) -> str:
    for name in ("loss", "validation_loss"):
        before, after = getattr(base, name), getattr(tuned, name)
        if before is not None and after is not None:
            direction = "rose" if after > before else "fell" if after < before else "same"
            return words.say(
                f"headline.loss_{direction}", measure=words.say(f"measure.{name}"),
                before=words.loss(before), after=words.loss(after),
            )  # fmt: skip
    return ""
