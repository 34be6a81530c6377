"""Memory as a table and a bar: the four parts and the runtime, against the budget.

    Memory  [ok] fits, 2.9 GB left (24 %)
    ■■■■■■■■■▨▦░░░░░░░░░░░░░░░░┆┆┆┆·············  9.1 of 12.0 GB

    ■ weights       2.6 GB   29 %
    ▨ gradients     0.1 GB    1 %
    ...

Colours and patterns are those of every page: never colour alone, always the same order.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.events import Planned
from xiaozao.spec.plan import PARTS, SAFE, MemoryPlan
from xiaozao.texts.catalogue import Language, has, say

GB = 1e9
WIDTH = 48
FINE = 2e9  # bytes; of smaller plans the parts have two places
MOST = 10.0  # times the budget; more is only said to be more

GLYPHS = {"weights": "■", "gradients": "▨", "optimizer": "▦", "activations": "░", "runtime": "┆"}
ASCII = {"weights": "#", "gradients": "/", "optimizer": "o", "activations": "x", "runtime": "|"}
DARK = {"weights": "#6191D7", "gradients": "#F0AE70", "optimizer": "#6FEADB", "activations": "#B0608A",
        "runtime": "#6B7686", "ok": "#6FD08C", "warn": "#F0B860", "danger": "#FF8A80"}  # fmt: skip
LIGHT = {"weights": "#0E52A0", "gradients": "#A35C10", "optimizer": "#2A9385", "activations": "#6C2347",
         "runtime": "#7D8797", "ok": "#12703C", "warn": "#8A5300", "danger": "#B3261E"}  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """What is drawn: the parts at the moment that needs most, and the budget, in bytes."""

    parts: Mapping[str, int]
    peak_bytes: int
    budget_bytes: int
    moment: str
    micro_batch: int
    tokens: int
    low_bytes: int = 0  # the interval that the plan stands behind; 0 where there is none
    high_bytes: int = 0

    @property
    def verdict(self) -> str:
        """`fits`, `tight` (over 85 % of the budget), `too_big`, or `no_budget` where there is none to compare with."""
        if not self.budget_bytes:
            return "no_budget"
        if self.peak_bytes > self.budget_bytes:
            return "too_big"
        return "fits" if self.peak_bytes <= SAFE * self.budget_bytes else "tight"

    @property
    def places(self) -> int:
        """Behind the point of its gigabytes: small plans have small parts."""
        return 2 if self.peak_bytes < FINE else 1


def of_plan(plan: MemoryPlan) -> Memory:
    """From a plan."""
    peak = plan.peak
    return Memory(
        peak.parts, plan.peak_bytes, plan.budget_bytes, peak.name, plan.micro_batch, plan.tokens, plan.low_bytes,
        plan.high_bytes,
    )  # fmt: skip


def of_event(event: Planned) -> Memory:
    """From the event in a journal."""
    return Memory(
        event.parts, event.peak_bytes, event.budget_bytes, event.moment, event.micro_batch, event.tokens,
        event.low_bytes, event.high_bytes,
    )  # fmt: skip


def gigabytes(count: float, places: int | None = None) -> str:
    """`2.6 GB`, and `0.03 GB` below one, unless it is said how many places; 1 GB = 10^9 bytes."""
    if places is None:
        places = 1 if count == 0 or count >= GB else 2
    return f"{count / GB:.{places}f} GB"


def memory_view(memory: Memory, language: Language, unicode: bool = True) -> RenderableType:
    """The verdict, the bar and the table."""
    colours = _palette()
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    for part in _ordered(memory.parts):
        share = memory.parts[part] / memory.peak_bytes if memory.peak_bytes else 0.0
        name = Text(f"{_glyph(part, unicode)} ", style=colours.get(part, "")) + Text(part_name(part, language))
        table.add_row(name, gigabytes(memory.parts[part], memory.places), f"{share:.0%}")
    total = Text(f"  {say('plan.total', language)}", style="bold")
    table.add_row(total, gigabytes(memory.peak_bytes, memory.places), "")
    where = say("plan.where", language, moment=moment_name(memory.moment, language),
                micro_batch=memory.micro_batch, tokens=memory.tokens)  # fmt: skip
    if memory.high_bytes > memory.low_bytes:
        between = {"low": f"{memory.low_bytes / GB:.2f}", "high": f"{memory.high_bytes / GB:.2f} GB"}
        where = f"{where}\n{say('plan.interval', language, **between)}"
    return Group(verdict_text(memory, language, unicode), bar(memory, unicode), Text(where), Text(), table)


def verdict_text(memory: Memory, language: Language, unicode: bool = True) -> Text:
    """One line: sign, words, and by how much."""
    if memory.verdict == "no_budget":
        return Text(say("plan.no_budget", language), style="bold")
    sign = {"fits": "✔", "tight": "!", "too_big": "✖"} if unicode else {"fits": "+", "tight": "!", "too_big": "X"}
    style = {"fits": "ok", "tight": "warn", "too_big": "danger"}[memory.verdict]
    left = memory.budget_bytes - memory.peak_bytes
    ratio = abs(left) / memory.budget_bytes
    share = f"{ratio:.0%}" if ratio <= MOST else f">{MOST:.0%}"
    words = say(f"plan.{memory.verdict}", language, amount=gigabytes(abs(left)), share=share)
    return Text(f"{sign[memory.verdict]} {words}", style=f"bold {_palette()[style]}")


def bar(memory: Memory, unicode: bool = True, width: int = WIDTH) -> Text:
    """The parts side by side; the scale is the budget, or the peak where that is larger (`!` marks the budget)."""
    scale = max(memory.budget_bytes, memory.peak_bytes, 1)
    colours, text, start = _palette(), Text(), 0
    total = 0
    for part in _ordered(memory.parts):
        total += memory.parts[part]
        end = round(width * total / scale)
        # A part that is there is seen, even if it is thinner than a cell.
        end = min(width, max(end, start + 1)) if memory.parts[part] else end
        text.append(_glyph(part, unicode) * (end - start), style=colours.get(part, ""))
        start = max(start, end)
    text.append(("·" if unicode else ".") * (width - start), style="dim")
    if memory.verdict == "too_big":
        mark = round(width * memory.budget_bytes / scale)
        text = text[:mark] + Text("!", style=f"bold {colours['danger']}") + text[mark:]
    if not memory.budget_bytes:
        return text + Text(f"  {gigabytes(memory.peak_bytes, memory.places)}")
    peak = f"{memory.peak_bytes / GB:.{memory.places}f}"
    return text + Text(f"  {peak} / {gigabytes(memory.budget_bytes, memory.places)}")


def part_name(part: str, language: Language) -> str:
    """What a part of memory is called."""
    return say(f"part.{part}", language) if has(f"part.{part}") else part


def moment_name(moment: str, language: Language) -> str:
    """What a moment of a run is called."""
    key = f"moment.{moment.replace(' ', '_')}"
    return say(key, language) if has(key) else moment


def _ordered(parts: Mapping[str, int]) -> list[str]:
    return [part for part in PARTS if part in parts] + [part for part in parts if part not in PARTS]


def _glyph(part: str, unicode: bool) -> str:
    return (GLYPHS if unicode else ASCII).get(part, "?")


def _palette() -> Mapping[str, str]:
    """COLORFGBG tells a light background in many terminals; without it, dark is the better guess."""
    return LIGHT if os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else DARK
