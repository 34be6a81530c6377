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

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from xiaozao.runs.memory_facts import Memory, moment_name, part_name
from xiaozao.spec.plan import PARTS
from xiaozao.texts.catalogue import Language, say
from xiaozao.texts.numbers import GB, gigabytes

WIDTH = 48
LEAST = 10  # cells
MOST = 10.0  # times the budget; more is only said to be more

GLYPHS = {"weights": "■", "gradients": "▨", "optimizer": "▦", "activations": "░", "runtime": "┆"}
ASCII = {"weights": "#", "gradients": "/", "optimizer": "o", "activations": "x", "runtime": "|"}
DARK = {"weights": "#6191D7", "gradients": "#F0AE70", "optimizer": "#6FEADB", "activations": "#B0608A",
        "runtime": "#6B7686", "ok": "#6FD08C", "warn": "#F0B860", "danger": "#FF8A80"}  # fmt: skip
LIGHT = {"weights": "#0E52A0", "gradients": "#A35C10", "optimizer": "#2A9385", "activations": "#6C2347",
         "runtime": "#7D8797", "ok": "#12703C", "warn": "#8A5300", "danger": "#B3261E"}  # fmt: skip


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
                samples=memory.samples, tokens=memory.tokens)  # fmt: skip
    if memory.high_bytes > memory.low_bytes:
        between = {"low": f"{memory.low_bytes / GB:.2f}", "high": f"{memory.high_bytes / GB:.2f} GB"}
        where = f"{where}\n{say('plan.interval', language, **between)}"
    return Group(verdict_text(memory, language, unicode), _Bar(memory, unicode), Text(where), Text(), table)


@dataclass(frozen=True)
class _Bar:
    """The bar, as wide as the screen has room for beside its numbers, so that it never wraps."""

    memory: Memory
    unicode: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        beside = bar(self.memory, self.unicode, 0).cell_len
        yield bar(self.memory, self.unicode, max(LEAST, min(WIDTH, options.max_width - beside)))


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


def _ordered(parts: Mapping[str, int]) -> list[str]:
    return [part for part in PARTS if part in parts] + [part for part in parts if part not in PARTS]


def _glyph(part: str, unicode: bool) -> str:
    return (GLYPHS if unicode else ASCII).get(part, "?")


def _palette() -> Mapping[str, str]:
    """The colours for the terminal's background.

    COLORFGBG tells a light one in many terminals; without it, dark is assumed.
    """
    return LIGHT if os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else DARK
