"""A tape of steps against the profile of the same model, which was found another way."""

import pytest

from tests.measure.test_trace import CASES, FULL, question
from xiaozao.errors import UnsupportedModel
from xiaozao.measure.recording import LOADING, record
from xiaozao.measure.trace import trace
from xiaozao.plan.attention_memory import buckets, transients
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.tape import Attends, Event, Given, Steps, Taken

ROW = RowSizes((70, 130, 90, 130), 416)


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


@pytest.mark.parametrize("name", ["lora, block", "lora, sdpa", "full, block", "full, fused", "int8"])
def test_the_most_that_is_taken_is_what_the_profile_says(name: str) -> None:
    asked = question(**CASES[name])
    accumulates = not asked.fused_update
    most, rest = peak(record(Steps(asked, (ROW,), accumulates, ROW)), asked.attention)
    profile = trace(asked)
    setting = Setting(asked.attention, 4, accumulates, 0, False, False, 0, [], 10**12)
    live = plan_traced(profile, [ROW], [ROW], setting).live_bytes  # as if all buckets of attention were there at once
    assert 0.98 * live <= most <= 1.001 * live
    still = profile.weights.of(profile.blocks) + profile.states.of(profile.blocks)
    assert rest == pytest.approx(still, rel=0.02)  # gradients are gone, and so is all else


@pytest.mark.parametrize("accumulates", [False, True])
def test_every_row_makes_a_step_behind_one_that_makes_the_states(accumulates: bool) -> None:
    """And no gradients but its own are there, unless it adds to them."""
    asked, other = question(method=FULL), RowSizes((40,), 39)
    tape = record(Steps(asked, (ROW, other), accumulates, other))
    times = 2 if accumulates else 1
    assert [event for event in tape if isinstance(event, RowSizes)] == [ROW, *[ROW] * times, *[other] * times, other]
    one = peak(record(Steps(asked, (ROW,), accumulates, None)), asked.attention)
    assert peak(tape, asked.attention)[0] == one[0]


def test_the_largest_weight_is_held_twice_until_all_are_there() -> None:
    asked = question()
    tape, profile = record(Steps(asked, (ROW,), False, None)), trace(asked)
    loaded = tape[: tape.index(Given(LOADING))]
    assert all(isinstance(event, Taken) for event in loaded)
    weights = profile.weights.of(profile.blocks)
    assert sum(event.size for event in loaded if isinstance(event, Taken)) == weights + profile.largest


def test_a_model_that_cannot_be_traced_is_told() -> None:
    with pytest.raises(UnsupportedModel):
        record(Steps(question({"model_type": "no such thing"}), (ROW,), False, None))


def test_the_same_steps_make_the_same_tape() -> None:
    steps = Steps(question(checkpointing="block"), (ROW,), False, None)
    assert record(steps) == record(steps)
