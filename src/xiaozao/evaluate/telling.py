"""What evaluations found, in sentences: the same ones on a terminal and on the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from xiaozao.evaluate.blind.outcome import Outcome
from xiaozao.evaluate.statistics.verdict import FEWEST
from xiaozao.texts.catalogue import Language, say
from xiaozao.texts.visible import visible

LEAKS = 5  # that are named one by one
SHOWN = 160  # characters of an answer in one line
WHO = ("base", "prompted", "tuned")
MEASURES = (
    "strict",
    "lenient",
    "belongs",
    "intent",
    "exact",
    "sound",
)  # of form, in the order shown


def suite_name(name: str, language: Language) -> str:
    """A suite of ours in words; one of the user's as he called it."""
    return say(f"bench.suite.{name}", language) if "." in name else name


def standing_sentence(result: Mapping[str, Any], language: Language) -> str:
    """The verdict of the standard tests."""
    deciding = [one for one in result["groups"] if one["certifies"] and one["informative"]]
    worse = [suite_name(one["name"], language) for one in deciding if one["outcome"] == "regressed"]
    names, fewest = say("list.semicolon", language).join(worse), min((one["n"] for one in deciding), default=0)
    return say(f"bench.sentence.{result['outcome']}", language, names=names, n=fewest)


def figures(group: Mapping[str, Any]) -> tuple[str, str, str]:
    """Before, after, and the difference with its interval: points of a hundred, or percent of the bits of before."""
    bounds = (("difference", ""), ("low", "-∞"), ("high", "+∞"))
    if group["kind"] == "text":
        change, low, high = (_points(group[key], group["before"], without) for key, without in bounds)
        return f"{group['before']:.3f}", f"{group['after']:.3f}", f"{change} % [{low}, {high}]"
    change, low, high = (_points(group[key], 1, without) for key, without in bounds)
    return f"{group['before']:.1%}", f"{group['after']:.1%}", f"{change} [{low}, {high}]"


def _points(value: float | None, of: float, without: str) -> str:
    """A hundred times a share; `without` for a bound that does not exist, as that of a single item."""
    return without if value is None else f"{100 * value / of:+.1f}"


def standing_notes(groups: Sequence[Mapping[str, Any]], language: Language) -> list[str]:
    """What would decide, and how much the machine alone changes."""
    notes = [
        _needed(one, suite_name(one["name"], language), one["before"] if one["kind"] == "text" else 1.0, language)
        for one in groups
        if one["informative"] and one["outcome"] == "inconclusive"
    ]
    notes += _few([one for one in groups if one["informative"] and one["certifies"]], language)
    noisy = [one for one in groups if one["kind"] != "text" and one["noise"] is not None]
    if noisy:
        flipped, asked = sum(int(one["noise"]) for one in noisy), sum(one["n"] for one in noisy)
        notes.append(say("bench.noise", language, flipped=flipped, n=asked))
    return notes


def obedience_sentence(result: Mapping[str, Any], language: Language) -> str:
    """Whether the model still does as it is told; empty where nobody asked."""
    told = result.get("obedience")
    if not told:
        return ""
    shares = {name: f"{told[name]:.0%}" for name in ("before", "after")}
    return say(f"form.obedience.{told['outcome']}", language, n=told["n"], needed=told["n_needed"] or "-", **shares)


def leak_lines(result: Mapping[str, Any], language: Language) -> list[str]:
    """What of the training rows came out again, beside the base model; empty where no rows were searched."""
    told = result.get("leaks")
    if not told or not told["rows"]:
        return []
    before, after = told["base"]["count"], told["tuned"]["count"]
    lines = [say(f"form.leak.{'some' if after else 'none'}", language, rows=told["rows"], before=before, after=after)]
    for leak in told["tuned"]["shown"][:LEAKS]:
        kind = say(f"finding.{leak['kind']}" if leak["shown"] else "form.leak.passage", language, size=leak["size"])
        lines.append(say("form.leak.row", language, line=leak["line"], question=leak["question"], kind=kind,
                         shown=leak["shown"]))  # fmt: skip
    return lines


def form_notes(result: Mapping[str, Any], language: Language) -> list[str]:
    """How many questions would decide what is undecided, that they are few, and what was left out."""
    changes = {name: result["changes"][name] for name in MEASURES if name in result["changes"]}
    notes = [
        _needed(change, say(f"form.measure.{name}", language), 1.0, language)
        for name, change in changes.items()
        if change["outcome"] == "inconclusive"
    ]
    return [*notes, *_few(list(changes.values())[:1], language), *left_notes(result, language)]


def _needed(judged: Mapping[str, Any], name: str, of: float, language: Language) -> str:
    """The number of items that would decide, with what is assumed. of: what a margin is a share of."""
    if wanted := judged["n_needed"] or judged.get("few") and judged["n_least"]:
        return say("bench.needed", language, name=name, n=wanted)
    if "n_least" not in judged:  # a result of an earlier version
        return say("bench.needed_unknown", language, name=name)
    margin = f"{100 * judged['margin'] / of:.2g}"
    return say("bench.needed_noise", language, name=name, n=judged["n_least"], margin=margin)


def _few(judged: Sequence[Mapping[str, Any]], language: Language) -> list[str]:
    few = [one["n"] for one in judged if one.get("few")]
    return [say("bench.few", language, n=min(few), fewest=FEWEST)] if few else []


def left_notes(result: Mapping[str, Any], language: Language) -> list[str]:
    """What was longer than the model's context, and was left out of both sides."""
    return [
        say("eval.too_long", language, name=suite_name(name, language), count=len(ids))
        for name, ids in result.get("too_long", {}).items()
    ]


def form_sentence(result: Mapping[str, Any], language: Language) -> str:
    """What the test of form found."""
    key = "strict" if "strict" in result["changes"] else "belongs"
    change, belongs = result["changes"][key], result["changes"]["belongs"]
    return say(
        f"form.sentence.{key}", language, before=f"{change['before']:.0%}", after=f"{change['after']:.0%}",
        belongs_before=f"{belongs['before']:.0%}", belongs=f"{belongs['after']:.0%}",
    )  # fmt: skip


def form_text(form: Mapping[str, Any], language: Language) -> str:
    """A form in words."""
    parts = []
    if form["kind"] == "json":
        parts.append(say("form.is.json", language, keys=", ".join(form["schema"].get("properties", {}))))
    elif form["kind"] == "label":
        parts.append(say("form.is.label", language, labels=", ".join(form["labels"])))
    if form["least"] is not None or form["most"] is not None:
        parts.append(say("form.is.length", language, least=form["least"] or 0, most=form["most"] or "∞"))
    if form["language"]:
        parts.append(say(f"form.is.{form['language']}", language))
    parts += [say(f"form.is.{name}", language, text=in_short(form[name])) for name in ("begins", "ends") if form[name]]
    parts += [
        say(f"form.is.{name}", language, text=in_short(one)) for name in ("must", "must_not") for one in form[name]
    ]
    if form["pattern"]:
        parts.append(say("form.is.pattern", language, text=in_short(form["pattern"])))
    return say("list.semicolon", language).join(parts) or say("form.is.none", language)


def reasons(failure: Mapping[str, Any], language: Language) -> str:
    """All that is wrong with one answer: the rules that it breaks, signs of decay, another question's answer."""
    why = [say(f"breach.{told['key']}", language, **{key: visible(str(value)) for key, value in told.items()})
           for told in failure["breaches"]]  # fmt: skip
    why += [say(f"form.sign.{sign}", language) for sign in failure["signs"]]
    why += [] if failure["belongs"] else [say("form.elsewhere", language)]
    return say("list.semicolon", language).join(why)


def prompt_sentence(result: Mapping[str, Any], language: Language) -> str:
    """Whether examples in a prompt would have done; empty where nobody asked."""
    against = result["against_prompt"]
    key = "strict" if "strict" in against else "belongs"
    if key not in against:
        return ""
    outcome = "improved" if against[key]["outcome"] == "improved" else "not_improved"
    shares = {"prompted": f"{against[key]['before']:.0%}", "tuned": f"{against[key]['after']:.0%}"}
    return say(f"form.prompt.{outcome}", language, **shares)


def shown_signs(sittings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The signs of decay that anybody's answers show."""
    return [sign for sign in sittings[0]["signs"] if any(one["signs"][sign] for one in sittings)]


def preference(result: Outcome, language: Language) -> str:
    """The result of a blind vote."""
    return say(
        f"blind.verdict.{result.verdict}", language, wins=result.wins, losses=result.losses, decisive=result.decisive,
        share=f"{100 * result.wins / result.decisive:.0f}" if result.decisive else "–",
        low=whole(result.interval.low), high=whole(result.interval.high), p=p_value(result.p),
        posterior=probability(result.posterior), evidence=f"{min(result.evidence, 1e6):.3g}",
    )  # fmt: skip


def power(result: Outcome, language: Language) -> str:
    """What so many votes can show."""
    if result.needed is None or result.detectable is None:
        return say("blind.power_none", language, decisive=result.decisive)
    return say(
        "blind.power", language, decisive=result.decisive, needed=result.needed, detectable=whole(result.detectable)
    )


def whole(share: float) -> str:
    """A share in whole percent."""
    return f"{100 * share:.0f}"


def probability(share: float) -> str:
    """A probability, never 0 or 1, which no vote can show."""
    return "> 0.999" if share > 0.999 else "< 0.001" if share < 0.001 else f"{share:.3f}"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def in_short(text: str) -> str:
    """A text in one line, cut if it is long."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
