"""A tape of steps against the profile of the same model, which was found another way."""

from typing import Any

import pytest

from tests.train.test_trace import CASES, FULL, question
from xiaozao.errors import UnsupportedModel
from xiaozao.plan.attention import buckets, transients
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.spec.plan import Row
from xiaozao.spec.tape import Attends, Event, Given, Steps, Taken
from xiaozao.train.tape import LOADING, record
from xiaozao.train.trace import trace

ROW = Row((70, 130, 90, 130), 416)


def peak(tape: list[Event], attention: str) -> tuple[int, int]:
    """The most bytes that are taken, rounded to nothing, and those at the end; attention on top of what it meets."""
    held: dict[int, int] = {}
    most, groups = 0, buckets(())
    for event in tape:
        more = 0
        if isinstance(event, Taken):
            assert event.number not in held
            held[event.number] = event.size
        elif isinstance(event, Given):
            del held[event.number]  # which was taken, and not given yet
        elif isinstance(event, Attends):
            more = transients(attention, [event.heads], groups, 4)[event.kind == "backward"]
        else:
            groups = buckets(event.lengths)
        most = max(most, sum(held.values()) + more)
    return most, sum(held.values())


@pytest.mark.parametrize("name", ["lora", "lora, block", "lora, sdpa", "full, block", "full, fused", "int8, block"])
def test_the_most_that_is_taken_is_what_the_profile_says(name: str) -> None:
    asked = question(**CASES[name])
    rows = (ROW,) if asked.fused_update else (ROW, ROW)
    most, rest = peak(record(Steps(asked, rows, ROW)), asked.attention)
    profile = trace(asked)
    setting = Setting(asked.attention, 4, len(rows) > 1, 0, False, False, 0, [], 10**12)
    live = plan_traced(profile, [ROW], [ROW], setting).live_bytes  # as if all buckets of attention were there at once
    assert 0.98 * live <= most <= 1.001 * live
    still = profile.weights.of(profile.blocks) + profile.states.of(profile.blocks)
    assert rest == pytest.approx(still, rel=0.02)  # gradients are gone, and so is all else


def test_the_second_step_has_states_and_every_row_is_there_in_order() -> None:
    asked, other = question(method=FULL), Row((40,), 39)
    tape = record(Steps(asked, (ROW, other), other))
    assert [event for event in tape if isinstance(event, Row)] == [ROW, ROW, other, other]
    assert tape[:2] == [Taken(LOADING, tape[0].size), Given(LOADING)] if isinstance(tape[0], Taken) else False


def test_a_model_that_cannot_be_traced_is_told() -> None:
    with pytest.raises(UnsupportedModel):
        record(Steps(question({"model_type": "no such thing"}), (ROW,), None))


@pytest.mark.parametrize("change", [{}, {"checkpointing": "block"}])
def test_the_same_steps_make_the_same_tape(change: dict[str, Any]) -> None:
    steps = Steps(question(**change), (ROW,), None)
    assert record(steps) == record(steps)
