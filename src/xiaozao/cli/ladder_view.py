"""The options that were changed to fit the budget, and the ways out if that was not enough, as lines of text."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from xiaozao.spec.plan import Effect, WayOut
from xiaozao.texts.catalogue import Language, has, say

NOTICEABLE = 0.02  # a share of a step's time


def ladder_view(steps: Sequence[Mapping[str, Any]], language: Language) -> list[RenderableType]:
    """A line for every option that was changed to save memory; empty if none was. `steps` as in events.Planned."""
    if not steps:
        return []
    lines: list[RenderableType] = [
        Text(),
        Text(say("ladder.title", language)),
        *(Text(f"  {_step(one, language)}") for one in steps),
    ]
    if len(steps) > 1:
        saved, slower = sum(int(one["saves_bytes"]) for one in steps), prod(float(one["slower"]) for one in steps)
        lines.append(Text("  " + say("ladder.all", language, saved=_size(saved)) + _cost(slower, language)))
    return lines


def effects_view(effects: Sequence[Effect], language: Language) -> list[RenderableType]:
    """One line: how much more memory larger values of some options would take."""
    if not effects:
        return []
    told = (say(f"ladder.more.{one.option}", language, more=one.more, size=_size(one.peak_bytes)) for one in effects)
    return [Text(), Text(say("ladder.more", language, effects=say("ladder.more.and", language).join(told)))]


def ways_view(ways: Sequence[WayOut], language: Language) -> list[RenderableType]:
    """A line for every change that would make the run fit; empty if the run fits."""
    if not ways:
        return []
    lines = (say("problem.way_out", language, **one.words()) for one in ways)
    return [Text(), Text(say("ladder.ways", language)), *(Text(f"  {line}") for line in lines)]


def _step(step: Mapping[str, Any], language: Language) -> str:
    option = step["option"]
    before, after = (_value(option, str(step[name]), language) for name in ("before", "after"))
    name = say(f"ladder.{option}", language) if has(f"ladder.{option}") else option
    line = say("ladder.step", language, option=name, before=before, after=after, saved=_size(int(step["saves_bytes"])))
    return line + _cost(float(step["slower"]), language)


def _cost(slower: float, language: Language) -> str:
    """How an option changes the time of a step."""
    costs = "same" if abs(slower - 1) < NOTICEABLE else "slower" if slower > 1 else "faster"
    return say(f"ladder.{costs}", language, factor=f"{slower if slower > 1 else 1 / slower:.2f}")


def _value(option: str, value: str, language: Language) -> str:
    key = f"ladder.{option}.{value}"
    return say(key, language) if has(key) else value


def _size(count: int) -> str:
    """`1.20 GB`, `35 MB`; negative if the option costs memory."""
    return f"{count / 1e9:.2f} GB" if abs(count) >= 1e9 else f"{count / 1e6:.0f} MB"
