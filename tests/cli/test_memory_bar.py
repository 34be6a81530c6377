"""The memory bar: always the same order, never colour alone, scaled to the budget."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from xiaozao.cli.memory_bar import ASCII, GLYPHS, WIDTH, bar, memory_view
from xiaozao.events import Planned
from xiaozao.runs.memory_facts import Memory, of_event, of_plan
from xiaozao.spec.plan import PARTS, MemoryPlan, Moment
from xiaozao.texts.catalogue import LANGUAGES, Language

SIZES = {"weights": 26, "gradients": 1, "optimizer": 3, "activations": 49, "runtime": 12}
BYTES = {part: size * 10**8 for part, size in SIZES.items()}


def _memory(budget: float, parts: dict[str, int] = BYTES) -> Memory:
    return Memory(parts, sum(parts.values()), round(budget * 1e9), "backward", 2, 1024)


def _shown(memory: Memory, language: str = "en", unicode: bool = True) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(memory_view(memory, "zh-CN" if language == "zh-CN" else "en", unicode))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("budget", "verdict", "sign", "words"),
    [
        (12.0, "fits", "✔", "2.9 GB"),
        (9.5, "tight", "!", "0.40 GB"),
        (9.1, "tight", "!", "0.0 GB"),
        (5.7, "too_big", "✖", "3.4 GB"),
        (1e-6, "too_big", "✖", "9.1 GB"),
    ],
)
def test_the_verdict_is_a_sign_and_words_and_an_amount(budget: float, verdict: str, sign: str, words: str) -> None:
    memory = _memory(budget)
    assert memory.verdict == verdict
    for language in ("en", "zh-CN"):
        first = _shown(memory, language).splitlines()[0]
        assert first.startswith(sign)
        assert words in first


def test_a_budget_inside_the_interval_is_tight_wherever_it_is_told() -> None:
    """Peak 8.4 GB, at most 10.2, budget 10: it should fit, and may not."""
    parts = {"weights": 84 * 10**8, "gradients": 0, "optimizer": 0, "activations": 0, "runtime": 0}
    for budget, high, expected in (
        (10.0, 10.2, "tight"),
        (10.3, 10.2, "fits"),
        (8.5, 8.45, "fits"),
        (8.3, 8.45, "too_big"),
    ):
        plan = MemoryPlan(
            (Moment("loss", parts),),
            round(budget * 1e9),
            1,
            8,
            10,
            2,
            low_bytes=8 * 10**9,
            high_bytes=round(high * 1e9),
        )
        assert of_plan(plan).verdict == plan.range.verdict == expected
        assert plan.surely_fits is (expected == "fits") and plan.fits is (expected != "too_big")
        assert _shown(of_plan(plan))[0] == {"fits": "✔", "tight": "!", "too_big": "✖"}[expected]


def test_the_parts_stand_in_their_order_with_size_and_share() -> None:
    lines = _shown(_memory(12.0, dict(reversed(BYTES.items())))).splitlines()
    rows = [line.split() for line in lines if line[:1] in GLYPHS.values() and "GB" in line and "/" not in line]
    assert [row[1] for row in rows] == list(PARTS)
    assert [row[0] for row in rows] == list(GLYPHS.values())
    assert [(row[2], row[4]) for row in rows] == [
        ("2.6", "29%"), ("0.1", "1%"), ("0.3", "3%"), ("4.9", "54%"), ("1.2", "13%"),
    ]  # fmt: skip
    assert "9.1 GB" in lines[-1]


def test_a_small_plan_shows_its_small_parts_and_a_hopeless_budget_no_absurd_share() -> None:
    small = _shown(_memory(5e-7, {part: count // 10 for part, count in BYTES.items()}))
    assert "0.01 GB" in small and "0.91 GB" in small and "0.91 / 0.00 GB" in small
    assert "(>1000%)" in small.splitlines()[0]


def test_the_bar_is_scaled_to_the_budget_and_every_part_is_seen() -> None:
    drawn = bar(_memory(12.0)).plain.split("  ")[0]
    assert len(drawn) == WIDTH
    assert drawn.count("·") == round(WIDTH * (1 - 9.1 / 12.0))
    assert set(GLYPHS.values()) <= set(drawn)
    assert [glyph for n, glyph in enumerate(drawn) if n == 0 or drawn[n - 1] != glyph] == [*GLYPHS.values(), "·"]


def test_a_bar_over_the_budget_marks_the_budget() -> None:
    drawn = bar(_memory(4.55)).plain.split("  ")[0]
    assert drawn.index("!") == WIDTH // 2
    assert "·" not in drawn


def test_parts_that_are_nothing_take_no_room() -> None:
    drawn = bar(_memory(10.0, {**BYTES, "gradients": 0, "optimizer": 0})).plain
    assert GLYPHS["gradients"] not in drawn
    assert GLYPHS["optimizer"] not in drawn


@pytest.mark.parametrize("budget", [12.0, 9.3, 1.0])
def test_a_console_without_the_glyphs_gets_ascii(budget: float) -> None:
    shown = _shown(_memory(budget), unicode=False)
    shown.encode("ascii")
    assert all(glyph in shown for glyph in ASCII.values())


def test_a_plan_of_nothing_is_drawn_all_the_same() -> None:
    assert "0.00 GB" in _shown(Memory({}, 0, 0, "load", 1, 1))


def test_a_plan_and_its_event_are_drawn_alike() -> None:
    plan = MemoryPlan((Moment("load", {"weights": 1}), Moment("backward", BYTES)), 12 * 10**9, 2, 1024, 100, 10)
    event = Planned(2, 1024, BYTES, "backward", plan.peak_bytes, 12 * 10**9, 5)
    assert of_plan(plan) == of_event(event) == _memory(12.0)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_bar_never_wraps(width: int, language: Language) -> None:
    parts = {"weights": 9 * 10**9, "activations": 3 * 10**9}
    memory = Memory(parts, 12 * 10**9, 16 * 10**9, "forward", 4, 2048)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(memory_view(memory, language))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    drawn = [line for line in lines if "■■" in line]
    assert len(drawn) == 1 and drawn[0].rstrip().endswith("16.0 GB")
