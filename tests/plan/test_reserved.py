"""What a GPU's allocator holds for a tape, and a budget that has room for it."""

import pytest

from xiaozao.plan.allocator import MIB, WORKSPACE
from xiaozao.plan.attention import buckets, transients
from xiaozao.plan.held import within
from xiaozao.plan.ladder import Choice
from xiaozao.plan.reserved import reserved
from xiaozao.spec.plan import PARTS, MemoryPlan, Moment, Row
from xiaozao.spec.profile import Heads
from xiaozao.spec.run import RunSpec
from xiaozao.spec.tape import Attends, Event, Given, Reserved, Taken

LIBRARY = 20 * MIB  # the segment of cuBLAS's workspace
HEADS = Heads(16, 4, 64, 64, None)
SPEC = RunSpec.from_options({"model": "m", "data": "d"})


def test_what_is_given_back_is_used_again_where_it_fits_and_held_where_it_does_not() -> None:
    same: list[Event] = [Taken(1, 30 * MIB), Given(1), Taken(2, 30 * MIB)]
    assert reserved(same, "sdpa", 2) == Reserved(30 * MIB + WORKSPACE, 30 * MIB + LIBRARY)
    larger: list[Event] = [Taken(1, 30 * MIB), Given(1), Taken(2, 32 * MIB)]
    assert reserved(larger, "sdpa", 2) == Reserved(32 * MIB + WORKSPACE, 62 * MIB + LIBRARY)


def test_attention_takes_for_itself_what_the_row_needs() -> None:
    row = Row((2048, 2048), 4000)
    _, backward = transients("sdpa", [HEADS], buckets(row.lengths), 2)
    assert backward > 10 * MIB
    without = reserved([row, Attends("forward", HEADS)], "sdpa", 2)
    found = reserved([row, Attends("forward", HEADS), Attends("backward", HEADS)], "sdpa", 2)
    assert found.allocated - without.allocated == backward and found.reserved > without.reserved


def choice(peak: int, budget: int) -> Choice:
    parts = {**dict.fromkeys(PARTS, 0), "weights": peak - 100, "runtime": 100}
    return Choice(SPEC, MemoryPlan((Moment("loss", parts),), budget, 1, 10, 1, 1, live_bytes=peak - 100))


@pytest.mark.parametrize(
    ("held", "budget", "tried", "fits"),
    [
        (50, 1000, [1000], True),  # 800 + 50
        (300, 1000, [1000, 700], True),  # 1100 is too much; 700 fits, with 300 more
        (950, 1000, [1000, 50], False),  # nothing is so small, and with as much more it is too large
        (2000, 1000, [1000, 1], False),  # no budget at all would be another question
    ],
)
def test_a_budget_has_room_for_what_is_held_unused(held: int, budget: int, tried: list[int], fits: bool) -> None:
    asked: list[int] = []

    def choose(one: int) -> Choice:
        asked.append(one)
        return choice(next((size for size in (800, 600) if size <= one), 600), one)

    found = within(budget, choose, lambda spec: choice_live(asked[-1]) + held)
    assert asked == tried and found.plan.fits is fits and found.plan.budget_bytes == budget
    if fits:
        assert found.plan.reserved_bytes == found.plan.live_bytes + held
        assert found.plan.peak_bytes == found.plan.reserved_bytes + 100 and not found.ways


def choice_live(budget: int) -> int:
    return (800 if budget >= 800 else 600) - 100


def test_one_that_never_fits_names_the_budget_that_would_do() -> None:
    found = within(1000, lambda one: choice(600, one), lambda spec: 5_000_000_000)
    assert not found.plan.fits and found.ways[-1].options == {"budget": "5.01GB"}


def test_where_nothing_is_known_the_choice_is_as_it_was() -> None:
    found = within(1000, lambda one: choice(600, one), lambda spec: None)
    assert found.plan.reserved_bytes is None and found.plan.peak_bytes == 600
