import csv
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from xiaozao.evaluate import curves
from xiaozao.evaluate.curves import collect, draw_curve, inline_svg, smooth, write_metrics
from xiaozao.events import Evaluated, Event, Noticed, Started, Step


def step(at: int, loss: float) -> Step:
    return Step(
        step=at, steps=50, epoch=at / 50, loss=loss, learning_rate=1e-3 / 3, grad_norm=0.1 + 0.2, tokens=900,
        target_tokens=400, seconds=1.25, tokens_per_second=720.0, peak_bytes=1_234_567_890, eta_seconds=9.0,
    )  # fmt: skip


def a_run(steps: int = 50) -> list[Event]:
    events: list[Event] = [Started("r", 1), Evaluated(0, 3.0, 400, True)]
    for at in range(1, steps + 1):
        events.append(step(at, 3.0 / at))
        if at % 10 == 0:
            events.append(Evaluated(at, 3.1 / at if at <= 30 else 0.2, 400, at <= 30))
    return events


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_metrics_hold_every_digit_of_what_the_run_said(tmp_path: Path) -> None:
    table = rows(write_metrics(a_run(), tmp_path))
    assert [row["step"] for row in table] == [str(at) for at in range(51)]
    assert table[7]["loss"] == repr(3.0 / 7)
    assert table[7]["grad_norm"] == "0.30000000000000004"
    assert table[7]["learning_rate"] == repr(1e-3 / 3)
    assert table[7]["peak_bytes"] == "1234567890"
    assert table[7]["validation_loss"] == ""
    assert table[10]["validation_loss"] == "0.31"
    assert (table[0]["validation_loss"], table[0]["loss"]) == ("3.0", "")


def test_metrics_hold_what_a_validation_of_preferences_found(tmp_path: Path) -> None:
    table = rows(
        write_metrics([Evaluated(0, 0.7, 9, True, 0.5, 0.0), step(1, 0.6), Evaluated(2, 0.6, 9, True)], tmp_path)
    )
    assert [row["validation_accuracy"] for row in table] == ["0.5", "", ""]
    assert [row["validation_margin"] for row in table] == ["0.0", "", ""]


def test_only_the_smoothed_column_is_smoothed(tmp_path: Path) -> None:
    events: list[Event] = [step(at, 2.0 if at % 2 else 1.0) for at in range(1, 61)]
    table = rows(write_metrics(events, tmp_path))
    assert {row["loss"] for row in table} == {"1.0", "2.0"}
    assert all(1.2 < float(row["smoothed_loss"]) < 1.8 for row in table[9:])


def test_a_step_that_was_run_again_counts_once_and_last(tmp_path: Path) -> None:
    events: list[Event] = [step(1, 9.0), step(2, 8.0), Noticed("resumed"), step(2, 7.0), step(3, 6.0)]
    assert [(row["step"], row["loss"]) for row in rows(write_metrics(events, tmp_path))] == [
        ("1", "9.0"), ("2", "7.0"), ("3", "6.0"),
    ]  # fmt: skip


def test_a_resume_takes_back_what_came_after_its_checkpoint() -> None:
    first: list[Event] = [Started("r", 1), Evaluated(0, 5.0, 4, True), step(1, 4.0), step(2, 3.0), step(3, 2.0)]
    history = collect([*first, Evaluated(3, 1.0, 4, True), Started("r", 2, resumed_from=1), step(2, 3.5)])
    assert [(one.step, one.loss) for one in history.steps] == [(1, 4.0), (2, 3.5)]
    assert history.best == Evaluated(0, 5.0, 4, True)


def test_the_best_is_the_last_that_was_called_best() -> None:
    best = collect(a_run()).best
    assert best is not None
    assert best.step == 30


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant() -> None:
    assert smooth([4.0, 4.0, 4.0], span=10) == pytest.approx([4.0, 4.0, 4.0])
    assert smooth([4.0, 1.0], span=3) == pytest.approx([4.0, 2.0])
    assert smooth([], span=3) == []


def test_smoothing_passes_over_a_loss_that_is_not_finite() -> None:
    result = smooth([math.nan, 2.0, math.inf, 2.0], span=3)
    assert math.isnan(result[0])
    assert result[1:] == pytest.approx([2.0, 2.0, 2.0])


def test_the_same_events_draw_the_same_bytes(tmp_path: Path) -> None:
    drawn = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        drawn.append([path.read_bytes() for path in draw_curve(a_run(), tmp_path / name, "en")])
    assert drawn[0] == drawn[1]
    assert drawn[0][0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "events",
    [[], [Evaluated(0, 3.0, 4, True)], [step(1, 2.0)], [step(1, math.nan), step(2, math.inf), step(3, 1.0)]],
    ids=["nothing", "only a validation", "one step", "not finite"],
)
def test_even_a_run_without_much_to_show_can_be_drawn(tmp_path: Path, events: list[Event]) -> None:
    png, svg = draw_curve(events, tmp_path, "en")
    assert png.stat().st_size > 1000
    ET.parse(svg)


def test_the_svg_keeps_its_labels_as_text(tmp_path: Path) -> None:
    _, svg = draw_curve(a_run(), tmp_path, "en")
    words = "".join(ET.parse(svg).getroot().itertext())
    for label in ("step", "training, smoothed", "best validation: 0.103"):
        assert label in words


def test_the_drawing_is_chinese_and_the_picture_only_with_a_font_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser has a font for the text in loss.svg, whatever this machine has."""
    monkeypatch.setattr(curves, "CJK_FONTS", ("No Such Font", "DejaVu Sans"))  # found, but without the characters
    png, svg = draw_curve(a_run(), tmp_path, "zh-CN")
    text = svg.read_text(encoding="utf-8")
    assert "最佳验证" in text and "训练损失" in text and "best validation" not in text
    picture = png.read_bytes()
    png, _ = draw_curve(a_run(), tmp_path, "en")
    assert png.read_bytes() == picture


def test_an_inlined_curve_takes_the_colours_of_its_page(tmp_path: Path) -> None:
    _, svg = draw_curve(a_run(), tmp_path, "en")
    element = inline_svg(svg.read_text(encoding="utf-8"))
    assert element.startswith("<svg")
    assert "stroke: var(--accent)" in element
    assert "<metadata" not in element
    assert not any(f"{colour};" in element for colour in curves.VARIABLES)
