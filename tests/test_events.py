"""Events are strict JSON records, and read back as what they were."""

import dataclasses
import json
import math
from typing import Any

import pytest

from xiaozao.events import (
    TYPES,
    Ended,
    Evaluated,
    Event,
    Loaded,
    Noticed,
    Planned,
    Prepared,
    Progress,
    Rehearsed,
    Split,
    Started,
    Step,
    from_record,
    to_line,
    to_record,
)

EVENTS: list[Event] = [
    Started("run", 7, None),
    Started("run", 7, 12),
    Prepared(10, 8, 2, {"too_long": 2}, 900, 300, 120),
    Loaded("org/模型", 10**9, 10**6, "cpu", "bf16", "packed", 1.5),
    Planned(4, 1024, {"weights": 10**10, "runtime": 1}, "backward", 10**10 + 1, 2 * 10**10, 100),
    Step(1, 100, 0.01, 2.5, 1e-4, 0.9, 1000, 300, 0.5, 2000.0, 10**9, 49.5),
    Evaluated(10, 1.25, 300, True),
    Evaluated(10, 0.69, 300, True, 0.5, 0.25),
    Noticed("config_stripped", {"keys": "a, b"}),
    Progress("download", 1, 2),
    Rehearsed(1200, 8, 10**9, 9 * 10**8, 2 * 10**9, 1.5),
    Rehearsed(1200, 8, 10**9, 9 * 10**8, None, 1.5),
    Split(12, 1200, 600, "training", 10**9, 2 * 10**9),
    Ended("failed", "USAGE", "text", "spec", {"count": 1}, [{"key": "micro_batch", "params": {"batch": 1}}], 2),
]


@pytest.mark.parametrize("event", EVENTS, ids=[f"{n}-{type(e).__name__}" for n, e in enumerate(EVENTS)])
def test_an_event_reads_back(event: Event) -> None:
    record = json.loads(to_line(to_record(event, 3, 1.5)))
    assert (record["v"], record["seq"], record["time"], record["type"]) == (1, 3, 1.5, type(event).__name__.lower())
    assert from_record(record) == event


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_survive_strict_json(value: float) -> None:
    step = dataclasses.replace(EVENTS[5], loss=value) if isinstance(EVENTS[5], Step) else None
    assert step is not None
    line = to_line(to_record(step, 1, 0.0))
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    again = from_record(json.loads(line))
    assert isinstance(again, Step)
    assert repr(again.loss) == repr(value)


def test_numbers_that_are_not_finite_survive_where_they_may_be_missing() -> None:
    again = from_record(json.loads(to_line(to_record(Ended("failed", final_loss=math.nan), 1, 0.0))))
    assert isinstance(again, Ended)
    assert again.final_loss is not None
    assert math.isnan(again.final_loss)


def test_a_line_is_one_line_whatever_the_text() -> None:
    line = to_line(to_record(Noticed("x", {"text": "a\nb\r\u2028c", "deep": [math.nan, {"k": (1, math.inf)}]}), 1, 0.0))
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["params"] == {"text": "a\nb\r\u2028c", "deep": ["nan", {"k": [1, "inf"]}]}


@pytest.mark.parametrize("record", [{}, {"type": "from the future", "x": 1}, {"type": None}])
def test_a_type_of_another_version_is_passed_over(record: dict[str, Any]) -> None:
    assert from_record(record) is None


def test_a_field_of_another_version_is_ignored() -> None:
    assert from_record({"type": "progress", "stage": "a", "done": 1, "total": 2, "new": 3}) == Progress("a", 1, 2)


def test_the_types_are_all_kinds_of_event() -> None:
    assert set(TYPES.values()) == set(Event.__args__)
