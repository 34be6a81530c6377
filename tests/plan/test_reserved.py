"""What a GPU's allocator holds for a tape, and a budget that has room for it."""

from xiaozao.plan.allocator import MIB, WORKSPACE
from xiaozao.plan.attention_memory import buckets, transients
from xiaozao.plan.ladder import Choice, choose
from xiaozao.plan.reserved import reserved
from xiaozao.spec.parts import FIRST
from xiaozao.spec.plan import PARTS, MemoryPlan, Moment, Reserved, RowSizes
from xiaozao.spec.profile import Heads
from xiaozao.spec.run import RunSpec
from xiaozao.spec.tape import Attends, Event, Given, Taken

LIBRARY = 20 * MIB  # the segment of cuBLAS's workspace
HEADS = Heads(16, 4, 64, 64, None)


def test_what_is_given_back_is_used_again_where_it_fits_and_held_where_it_does_not() -> None:
    same: list[Event] = [Taken(1, 30 * MIB), Given(1), Taken(2, 30 * MIB)]
    assert reserved(same, "sdpa", 2) == Reserved(30 * MIB + WORKSPACE, 30 * MIB + LIBRARY)
    larger: list[Event] = [Taken(1, 30 * MIB), Given(1), Taken(2, 32 * MIB)]
    assert reserved(larger, "sdpa", 2) == Reserved(32 * MIB + WORKSPACE, 62 * MIB + LIBRARY)


def test_attention_takes_for_itself_what_the_row_needs() -> None:
    row = RowSizes((2048, 2048), 4000)
    _, backward = transients("sdpa", [HEADS], buckets(row.lengths), 2)
    assert backward > 10 * MIB
    without = reserved([row, Attends("forward", HEADS)], "sdpa", 2)
    found = reserved([row, Attends("forward", HEADS), Attends("backward", HEADS)], "sdpa", 2)
    assert found.allocated - without.allocated == backward and found.reserved > without.reserved


def ask(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
    """800 in use, and with activations computed again 600; each beside a runtime of 100."""
    live = {"none": 800, "selective": 800, "block": 600, "offload": 600}[one.train.checkpointing]
    parts = {**dict.fromkeys(PARTS, 0), "weights": live, "runtime": 100}
    return MemoryPlan((Moment("loss", parts),), budget, 4, 10, 1, 1, live_bytes=live, traced=True, cpu=False)


def chosen(budget: int, unused: int | None, **options: object) -> tuple[Choice, list[str]]:
    """The choice where so much is held unused, and the checkpointing of each run whose allocator was asked for."""
    asked: list[str] = []

    def holds(one: RunSpec) -> Reserved | None:
        asked.append(one.train.checkpointing)
        assert one.train.micro_batch == 4
        live = ask(one, 0).live_bytes
        return None if unused is None else Reserved(live, live + unused)

    spec = RunSpec.from_options({"model": "m", "data": "d", "batch": 4, "precision": "bf16", **FIRST, **options})
    return choose(spec, "cuda", budget, ask, holds=holds), asked


def test_a_budget_has_room_for_what_is_held_unused() -> None:
    found, asked = chosen(2000, 50, checkpointing="auto")
    assert asked == ["none"] and found.plan.fits and not found.steps and not found.ways
    assert found.plan.peak_bytes == 950 and found.plan.allocated == 800 and found.plan.budget_bytes == 2000


def test_a_way_that_fits_without_it_and_not_with_it_gives_way_and_that_is_told() -> None:
    found, asked = chosen(1200, 400, checkpointing="auto")
    assert found.spec.train.checkpointing == "block" and found.plan.fits and found.plan.peak_bytes == 1100
    assert asked[0] == "none" and asked[-1] == "block" and not found.ways
    assert [(one.option, one.after) for one in found.steps] == [("checkpointing", "block")]


def test_a_run_that_never_fits_names_the_budget_that_would_do_with_all_of_it() -> None:
    found, _ = chosen(1200, 500_000_000)
    assert not found.plan.fits and found.plan.reserved is not None
    assert found.ways[-1].options == {"budget": "0.51GB"} and found.ways[-1].peak_bytes == 500_000_900
    assert all(one.peak_bytes <= 1200 for one in found.ways[:-1])


def test_where_nothing_is_known_the_choice_is_as_it_was() -> None:
    found, _ = chosen(1200, None)
    assert found.plan.reserved is None and found.plan.peak_bytes == 900 and found.plan.allocated == 800


def test_what_is_held_unused_is_beside_training_and_not_beside_what_comes_before_and_after() -> None:
    def moment(name: str, live: int) -> Moment:
        return Moment(name, {**dict.fromkeys(PARTS, 0), "weights": live, "runtime": 100})

    plan = MemoryPlan((moment("load", 700), moment("loss", 500), moment("answers", 900)), 0, 1, 1, 1, 1, cpu=False)
    held = plan.holding(Reserved(510, 800))
    assert {one.name: one.total for one in held.moments} == {"load": 800, "loss": 900, "answers": 1000}
    assert held.allocated == 900 and held.unused == 290
