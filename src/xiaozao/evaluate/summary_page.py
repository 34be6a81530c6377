"""The page of all evaluations of a run: without a script and without a single request to anywhere.

The template only arranges. What users and models wrote is escaped and made visible there; the drawings are numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.evaluate.page import Words, clip, fill
from xiaozao.evaluate.statistics.intervals import Interval
from xiaozao.evaluate.summary import Summary, Telling, Worse
from xiaozao.evaluate.telling import (
    MEASURES,
    WHO,
    figures,
    form_notes,
    form_text,
    leak_lines,
    left_notes,
    obedience_sentence,
    power,
    preference,
    prompt_sentence,
    reasons,
    shown_signs,
    standing_notes,
    standing_sentence,
    suite_name,
)
from xiaozao.texts.catalogue import Language, say

TEMPLATE = Path(__file__).with_name("summary.html.j2")
LOST = 9  # questions of the vote that are listed
NAMED = {"group": "bench.suite.", "measure": "form.measure.", "sign": "form.sign."}
CONDITIONS = ("base_weights_sha256", "result_weights_sha256", "template_sha256", "precision", "decoding", "threads",
              "together", "answer_tokens")  # fmt: skip


@dataclass(frozen=True)
class Dumbbell:
    """One line of the chart, in percent of its width: before, after, and the interval around after."""

    name: str
    before: float
    after: float
    low: float
    high: float
    told: str


@dataclass(frozen=True)
class Chart:
    """Lines over one axis. ticks: (place in percent of the width, label)."""

    title: str
    lines: tuple[Dumbbell, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Cell:
    """A share of one sitting, with its interval."""

    count: int
    n: int
    share: float
    interval: Interval | None


def render_summary(summary: Summary, language: Language) -> str:
    """The page as HTML."""

    def words(key: str, **params: object) -> str:
        return say(key, language, **params)

    bench, form = summary.bench.document, summary.form.document
    return fill(
        TEMPLATE,
        w=Words(language), say=words, summary=summary, sentence=summary.sentence(language),
        worse=[_worse(one, language) for one in summary.worse],
        charts=[one for one in (_shares(bench, language), _bits(bench, language)) if one.lines] if bench else [],
        bench=bench, bench_sentence=standing_sentence(bench, language) if bench else "",
        groups=[(one, suite_name(one["name"], language), figures(one)) for one in bench.get("groups", ())],
        topics=[(suite_name(one["name"], language), one) for one in bench.get("topics", ())],
        notes=[*standing_notes(bench["groups"], language), *left_notes(bench, language)] if bench else [],
        form=form, **_form(form, language),
        outcome=summary.outcome, **_vote(summary, language),
        pairs=[_pair(one, Words(language)) for one in summary.pairs],
        conditions=[(name, _conditions(one.document["conditions"], Words(language)), one.document["conditions"])
                    for name, one in summary.parts.items() if "conditions" in one.document],
    )  # fmt: skip


def _worse(one: Worse, language: Language) -> str:
    name = suite_name(one.name, language) if one.key == "group" else one.name
    if one.key in ("measure", "sign"):
        name = say(f"{NAMED[one.key]}{one.name}", language)
    before, after = (_amount(one, value) for value in (one.before, one.after))
    return say(f"summary.worse.{one.key}", language, name=name, before=before, after=after)


def _amount(one: Worse, value: float) -> str:
    """A share, the bits of a text, or a count."""
    if one.key not in ("group", "measure"):
        return f"{value:.0f}"
    return f"{value:.3f}" if one.key == "group" and one.name.startswith(("solutions.", "texts.")) else f"{value:.0%}"


# --- charts -----------------------------------------------------------------------------------------------------------


def _shares(bench: Mapping[str, Any], language: Language) -> Chart:
    """Right answers, from none to all."""
    lines = []
    for group in bench["groups"]:
        if group["kind"] != "text":
            low, high = (min(max(group["before"] + _end(group, end), 0.0), 1.0) for end in ("low", "high"))
            places = [100 * value for value in (group["before"], group["after"], low, high)]
            lines.append(_line(group, places, language))
    ticks = tuple((float(at), f"{at}%") for at in (0, 25, 50, 75, 100))
    return Chart(say("summary.chart.shares", language), tuple(lines), ticks)


def _bits(bench: Mapping[str, Any], language: Language) -> Chart:
    """The change of bits per byte in percent of what they were; zero is where they were before."""
    texts = [one for one in bench["groups"] if one["kind"] == "text"]
    changes = [[100 * _end(one, key) / one["before"] for key in ("difference", "low", "high")] for one in texts]
    reach = _round_up(max([abs(value) for change in changes for value in change], default=1.0))
    lines = [
        _line(one, [50 + 50 * value / reach for value in (0.0, *change)], language)
        for one, change in zip(texts, changes, strict=True)
    ]
    ticks = tuple((50.0 + 25 * step, f"{reach * step / 2:+g}%" if step else "0%") for step in (-2, -1, 0, 1, 2))
    return Chart(say("summary.chart.bits", language), tuple(lines), ticks)


def _end(group: Mapping[str, Any], name: str) -> float:
    """An end of the interval; where it has none, as that of a single item, the difference itself is drawn."""
    value = group[name]
    return float(group["difference"] if value is None else value)


def _line(group: Mapping[str, Any], places: Sequence[float], language: Language) -> Dumbbell:
    before, after, low, high = places
    name, (was, now, difference) = suite_name(group["name"], language), figures(group)
    told = say("summary.chart.line", language, name=name, before=was, after=now, difference=difference)
    return Dumbbell(name, before, after, low, high, told)


def _round_up(value: float) -> float:
    """1, 2, 4 or 10 times a power of ten that is not smaller."""
    power_of_ten = 1.0
    while power_of_ten * 10 < value:
        power_of_ten *= 10
    return next(step * power_of_ten for step in (1, 2, 4, 10) if step * power_of_ten >= value)


# --- form and vote ----------------------------------------------------------------------------------------------------


def _form(form: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The columns of who sat, the rows of measures and of signs, and the sentences about them."""
    if not form:
        return {"sittings": [], "measures": [], "signs": [], "same": [], "asked": "", "prompt": "", "form_notes": [],
                "obeyed": "", "leaked": []}  # fmt: skip
    who = [one for one in WHO if one in form["sittings"]]
    sat = [form["sittings"][one] for one in who]
    same = [
        say("form.one_answer", language, who=say(f"form.who.{name}", language), count=one["one_answer"]["count"],
            text=one["one_answer"]["answer"])
        for name, one in zip(who, sat, strict=True) if one["one_answer"] is not None
    ]  # fmt: skip
    return {
        "sittings": who,
        "measures": [(name, [_cell(one, name, form["n"]) for one in sat], form["changes"][name]["outcome"])
                     for name in MEASURES if name in form["changes"]],
        "signs": [(name, [one["signs"][name] for one in sat]) for name in shown_signs(sat)],
        "same": same,
        "asked": say("form.asked", language, n=form["n"], form=form_text(form["form"], language)),
        "prompt": prompt_sentence(form, language),
        "form_notes": form_notes(form, language),
        "obeyed": obedience_sentence(form, language),
        "leaked": leak_lines(form, language),
    }  # fmt: skip


def _cell(sitting: Mapping[str, Any], measure: str, n: int) -> Cell:
    if measure == "intent":
        return Cell(round(sitting["intent"] * n), n, sitting["intent"], None)
    told = sitting["measures"][measure]
    return Cell(told["count"], n, told["share"], Interval(told["low"], told["high"]))


def _vote(summary: Summary, language: Language) -> dict[str, Any]:
    """The bar of the votes, in percent of all, and the questions that were lost."""
    told = summary.outcome
    if told is None:
        return {"bar": [], "lost": [], "preference": "", "power": ""}
    counts = {"wins": told.wins, "ties": told.ties, "bad": told.both_bad, "losses": told.losses}
    return {
        "bar": [(name, count, 100 * count / told.voted if told.voted else 0.0) for name, count in counts.items()],
        "lost": [one.text for one in told.questions if one.winner == "base"][:LOST],
        "preference": preference(told, language), "power": power(told, language),
    }  # fmt: skip


def _pair(one: Telling, words: Words) -> dict[str, Any]:
    texts = {name: clip(one.example[name], words) for name in ("question", "reference", "base", "tuned")}
    why = reasons(one.example, words.language) if one.kind == "failure" else say("summary.gain", words.language)
    return {"kind": one.kind, "why": why, **texts}


def _conditions(conditions: Mapping[str, Any], words: Words) -> list[tuple[str, str]]:
    shown = [(name, str(conditions[name])) for name in CONDITIONS if conditions[name] is not None]
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return [*shown, ("versions", versions), ("time", words.duration(conditions["seconds"])),
            ("peak", words.bytes(conditions["peak_rss_bytes"]))]  # fmt: skip
