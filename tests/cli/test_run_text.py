"""Events as sentences, in both languages; the line that is always current."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from xiaozao.cli.run_text import Story, sparkline
from xiaozao.events import (
    Answered,
    Ended,
    Evaluated,
    Event,
    Loaded,
    Noticed,
    Planned,
    Prepared,
    Progress,
    Rehearsed,
    Reported,
    Saved,
    Split,
    Started,
    Step,
)
from xiaozao.runs.sentences import failure, notice_text
from xiaozao.texts.catalogue import LANGUAGES, Language
from xiaozao.texts.numbers import duration

STEP = Step(50, 100, 0.5, 1.2345, 1.5e-4, 0.9, 1000, 300, 0.5, 1240.0, 3_100_000_000, 65.0)

SENTENCES: list[tuple[Event, list[str]]] = [
    (Started("run", 1, 12), ["12"]),
    (Prepared(600, 590, 60, {"too_long": 10}, 54_000, 20_000, 300), ["600", "590", "60", "54,000", "300", "10"]),
    (
        Loaded("org/m", 134_500_000, 4_900_000, "cpu", "fp32", "packed", 1.0),
        ["org/m", "134.5 M", "4.9 M", "3.6%", "cpu"],
    ),
    (Planned(4, 1200, {"weights": 10**9}, "backward", 10**9, 2 * 10**9, 9), ["1.00 GB", "2.00 GB", "1200", "4"]),
    (
        Planned(
            4,
            1200,
            {"weights": 10**9},
            "backward",
            10**9,
            2 * 10**9,
            9,
            ladder=[
                {
                    "option": "checkpointing",
                    "before": "none",
                    "after": "block",
                    "saves_bytes": 345 * 10**6,
                    "slower": 1.3,
                },
                {"option": "base", "before": "none", "after": "nf4", "saves_bytes": 1_250_000_000, "slower": 1.0},
                {"option": "micro_batch", "before": "8", "after": "1", "saves_bytes": 10**7, "slower": 0.8},
                {"option": "heap", "before": "keeps", "after": "returns", "saves_bytes": 10**7, "slower": 2.0},
            ],
        ),
        ["checkpointing none → block", "345 MB", "1.30", "base none → nf4", "1.25 GB", "8 → 1", "1.25", "2.00"],
    ),
    (Evaluated(40, 1.25, 10, False), ["40", "1.2500"]),
    (Evaluated(40, 0.65, 10, False, 0.625, 0.0123), ["40", "0.6500", "62%", "0.0123"]),
    (Answered("base", 60, 2.0, 0.25, 0.1, 3.0), ["60", "25%", "10%"]),
    (Answered("tuned", 60, 2.0, 0.75, None, 3.0), ["60", "75%"]),
    (Noticed("config_stripped", {"keys": "auto_map"}), ["auto_map"]),
    (
        Rehearsed(1200, 8, 1_510_000_000, 1_600_000_000, 2 * 10**9, 1.0),
        ["8", "1,200", "1.51 GB", "1.60 GB", "2.00 GB"],
    ),
    (Rehearsed(1200, 8, 1_510_000_000, 1_600_000_000, None, 1.0), ["1.51 GB", " - "]),
    (Split(1, 1200, 600, "rehearsal", 1, None), ["1,200", "600"]),
    (Split(12, 1200, 600, "training", 1, None), ["12", "1,200", "600"]),
    (Split(12, 1200, 600, "validation", 1, None), ["1,200", "600"]),
    (Noticed("disk_tight", {"needed": "5.00", "checkpoint": "1.00", "free": "5.50"}), ["5.00", "1.00", "5.50"]),
    (Noticed("from the future", {"a": 1}), ["from the future"]),
]


def _text(pieces: list[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=200)
    for piece in pieces:
        console.print(piece, markup=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("event", "words"), SENTENCES, ids=range(len(SENTENCES)))
def test_an_event_is_told_with_its_numbers(event: Event, words: list[str], language: Language) -> None:
    told = _text(Story(language).hear(event))
    assert all(word in told for word in words), told


def test_the_best_validation_is_marked() -> None:
    story = Story("en")
    assert "best" in _text(story.hear(Evaluated(40, 1.25, 10, True)))
    assert "best" not in _text(story.hear(Evaluated(80, 1.35, 10, False)))


@pytest.mark.parametrize(
    "event", [Started("r", 1), Saved(1, "p", 1), STEP, Progress("x", 1, 2), Reported("h", "j"), Ended("succeeded")]
)
def test_some_events_are_not_worth_a_line_of_their_own(event: Event) -> None:
    assert Story("en").hear(event) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_current_line_has_all_the_numbers_of_a_step(language: Language) -> None:
    story = Story(language)
    story.hear(Evaluated(40, 1.5, 10, True))
    story.hear(STEP)
    line = story.line()
    for word in ("50/100", "50%", "1.2345", "1.5000", "1.5e-04", "1,240", "3.1 GB", "1 "):
        assert word in line


def test_the_time_left_is_told_after_some_steps_only() -> None:
    story = Story("en")
    story.hear(replace(STEP, step=2))
    assert "left" not in story.line()
    story.hear(replace(STEP, step=10))
    assert "1 min 5 s left" in story.line()


def test_the_time_left_runs_down_between_steps_and_grows_where_a_step_hangs() -> None:
    now = [0.0]
    story = Story("en", clock=lambda: now[0])
    story.hear(replace(STEP, step=89, seconds=5.0, eta_seconds=60.0))
    now[0] = 5.0
    story.hear(replace(STEP, step=90, seconds=5.0, eta_seconds=50.0))
    now[0] = 10.0
    assert "45 s left" in story.line()
    now[0] = 105.0  # twenty times as long as a step took
    assert "16 min 40 s left" in story.line()


def test_a_stage_is_the_current_line_until_it_is_done() -> None:
    story = Story("en")
    assert story.line() == "starting the worker"
    story.hear(Progress("model.bin", 25, 100))
    assert story.line() == "model.bin 25%"
    story.hear(Progress("model.bin", 0, 0))
    assert story.line() == "model.bin"
    story.hear(Progress("model.bin", 100, 100))
    assert story.line() == "starting the worker"
    story.hear(STEP)
    story.hear(Progress("validation", 1, 2))
    assert story.line().endswith("50%")
    story.hear(replace(STEP, step=51))
    assert "51/100" in story.line()


def test_a_stage_ends_with_the_event_it_leads_to() -> None:
    story = Story("en")
    story.hear(Started("r", 1))
    story.hear(Progress("tokens", 98, 100))
    story.hear(Prepared(1, 1, 0, {}, 1, 1, 1))
    assert story.line() == "preparing"
    story.hear(Loaded("m", 1, 1, "cpu", "fp32", "packed", 1.0))
    assert story.line() == "working on the first step"


def test_a_loss_that_is_not_finite_is_told_and_not_drawn() -> None:
    story = Story("en")
    for loss in (3.0, math.nan, 1.0):
        story.hear(replace(STEP, loss=loss))
    assert len(story.curve()) == 2
    story.hear(replace(STEP, loss=math.nan))
    assert "nan" in story.line()


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""), ([1.0], ""), ([1.0, 1.0], "▁▁"), ([2.0, 1.0], "█▁"), ([0.0, 0.5, 1.0], "▁▅█"),
        ([8.0, 6.0, 4.0, 2.0, 1.0, 1.0], "█▃▁"),
    ],
)  # fmt: skip
def test_a_curve_goes_from_its_lowest_to_its_highest(values: list[float], drawn: str) -> None:
    assert sparkline(values, width=3) == drawn
    sparkline(values, width=3, unicode=False).encode("ascii")


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [(0.2, "0 s", "0 秒"), (59.4, "59 s", "59 秒"), (60, "1 min 0 s", "1 分 0 秒"),
     (6600, "1 h 50 min", "1 小时 50 分"),
     (math.inf, "0 s", "0 秒"), (-3, "0 s", "0 秒")],
)  # fmt: skip
def test_times_are_told_as_people_say_them(seconds: float, english: str, chinese: str) -> None:
    assert (duration(seconds, "en"), duration(seconds, "zh-CN")) == (english, chinese)


def test_a_failure_is_told_in_the_readers_language() -> None:
    ended = Ended(
        "failed", "USAGE", "1 problem(s) in the options", "spec", {"count": 1},
        [{"key": "micro_batch", "params": {"micro_batch": 9, "batch": 8}}], 2,
    )  # fmt: skip
    what, problems, fix = failure(ended, "zh-CN")
    assert what == "选项有 1 处问题"
    assert problems == ["micro_batch=9 大于 batch=8"]
    assert "zao train --help" in fix


def test_a_failure_of_another_version_is_told_as_it_was_written() -> None:
    what, problems, fix = failure(Ended("failed", "NEW", "it says", "no such key", problems=[{"key": "new"}]), "zh-CN")
    assert (what, problems, fix) == ("it says", ["{'key': 'new'}"], "")


def test_a_notice_with_missing_parameters_is_still_told() -> None:
    assert notice_text(Noticed("config_stripped", {}), "en").startswith("config_stripped")
