"""A profile by arithmetic, and where profiles are kept."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import xiaozao.plan.attention_memory as planned
from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.models.blocks import Head
from xiaozao.models.layers import attention, batched
from xiaozao.models.loading import stream
from xiaozao.plan import command as planning
from xiaozao.plan import memory
from xiaozao.plan import streaming as streamed
from xiaozao.plan.attention_memory import Bucket, buckets, transients
from xiaozao.plan.command import plan_command
from xiaozao.plan.duration import TYPICAL
from xiaozao.plan.fit import SMALL, Setup, Traced, every_sample, fit
from xiaozao.plan.ladder import Choice
from xiaozao.plan.profile_cache import Profiles, key
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.spec.pace import Asked, Rates, StepTime
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.plan import Questions, RowSizes
from xiaozao.spec.profile import COSTS, Amount, Heads, Profile, Stretch, TraceRequest, Work
from xiaozao.spec.run import RunSpec

NOTHING, PIECES = Amount(0.0, 0.0), ("fresh", "later", "update")
FORWARD = Stretch(
    name="forward", lines=((100.0, 2.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0)),
    further=(5.0, 1.0, 0, 0, 0, 0, 0), gradients=NOTHING,
)  # fmt: skip
PROFILE = Profile(
    version=2, blocks=13, traced=3, parameters=Amount(1000, 100), trainable=Amount(0, 10), weights=Amount(4000, 400),
    states=Amount(0, 80), largest=10, bytes=4, attention=(Heads(4, 2, 8, 8, None),), fresh=(FORWARD,), accumulating=(),
    work=tuple(Work(name, tuple((1e9 * (one == "fresh"), 0.0, 0.0, 0.0, 0.0) for one in COSTS), ()) for name in PIECES),
)  # fmt: skip
ANY = replace(PROFILE, accumulating=(FORWARD,))  # of a run with any micro-batch
QUESTION = TraceRequest(
    {"model_type": "llama"}, MethodSpec(alpha=1.0), "fp32", "none", "batched", "none", "adamw", 128, False
)
SETTING = Setting("batched", 2, False, 1000, False, True, 0, [], 10**9)


def test_the_highest_line_and_the_further_blocks_make_the_level() -> None:
    row = RowSizes((32, 32), 10)
    forward, _ = transients("batched", PROFILE.attention, buckets(row.lengths), 4)
    found = plan_traced(PROFILE, [row], [], SETTING)
    level = max(100 + 2 * 64 + forward, 50 * 10) + 10 * (5 + 64)
    assert next(one for one in found.moments if one.name == "forward").parts["activations"] == level
    assert found.parameters == 1000 + 13 * 100
    assert found.live_bytes == 4000 + 13 * 400 + 13 * 80 + level


def test_every_candidate_row_counts() -> None:
    small, wide = RowSizes((32, 32), 10), RowSizes((32, 32), 1000)
    both = plan_traced(PROFILE, [small, wide], [], SETTING)
    assert both.peak_bytes == plan_traced(PROFILE, [wide], [], SETTING).peak_bytes
    assert both.peak_bytes > plan_traced(PROFILE, [small], [], SETTING).peak_bytes


def test_on_a_cpu_the_plan_stands_behind_an_interval() -> None:
    for returns in (False, True):
        found = plan_traced(PROFILE, [RowSizes((32,), 10)], [], replace(SETTING, cpu=True, returns=returns))
        assert found.low_bytes < found.peak_bytes < found.high_bytes


def test_attention_takes_a_block_of_queries_at_a_time() -> None:
    shape = Heads(heads=4, kv_heads=2, width=8, value_width=8, window=None)
    short, long = (transients("batched", [shape], [Bucket(1, size)], 4)[1] for size in (1024, 2048))
    assert short < long < 2.2 * short  # as the length, not as its square
    window = transients("batched", [replace(shape, window=64)], [Bucket(1, 2048)], 4)[1]
    assert window < short


def test_samples_of_like_length_are_one_bucket() -> None:
    assert buckets((33, 64, 20)) == [Bucket(1, 32), Bucket(2, 64)]


def test_a_profile_is_traced_once(tmp_path: Path) -> None:
    asked: list[TraceRequest] = []

    def measure(question: TraceRequest) -> Profile:
        asked.append(question)
        return PROFILE

    profiles = Profiles(tmp_path, measure)
    assert profiles.get(QUESTION) == PROFILE
    assert profiles.get(replace(QUESTION, method=MethodSpec(alpha=7.0, lora_plus=4.0))) == PROFILE  # the same shapes
    assert len(asked) == 1
    profiles.get(replace(QUESTION, method=MethodSpec(alpha=1.0, rank=32)))
    assert len(asked) == 2


def test_a_model_that_cannot_be_traced_is_tried_once(tmp_path: Path) -> None:
    asked: list[TraceRequest] = []

    def measure(question: TraceRequest) -> Profile:
        asked.append(question)
        raise UnsupportedModel("trace", model="llama", detail="-")

    profiles = Profiles(tmp_path, measure)
    assert profiles.get(QUESTION) is None
    assert profiles.get(QUESTION) is None
    assert len(asked) == 1


def test_a_damaged_profile_is_traced_again(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path, lambda _: PROFILE)
    profiles.get(QUESTION)
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert profiles.get(QUESTION) == PROFILE
    assert path.name == f"{key(replace(QUESTION, method=MethodSpec(alpha=1.0)))}.json"


@pytest.mark.parametrize(("hidden", "traced"), [(512, True), (32, False)])
def test_small_models_are_not_worth_a_trace(tmp_path: Path, hidden: int, traced: bool) -> None:
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": 13, "num_attention_heads": 4,
              "intermediate_size": 4 * hidden, "vocab_size": 1000}  # fmt: skip
    profiles = Profiles(tmp_path, lambda _: PROFILE)
    train = TrainSpec(optimizer="adamw", checkpointing="none", batch=1, budget=10**10)
    setup = Setup(MethodSpec(precision="fp32", alpha=1.0), train, "cpu", 0, traced=Traced(profiles, "batched"))
    assert fit(config, setup, every_sample((64,))).traced == traced
    assert SMALL > 1000


@pytest.mark.parametrize(("width", "budget", "returns"), [
    (2048, 10**11, False), (2048, 5 * 10**7, True), (32768, 10**11, True),
])  # fmt: skip
def test_weights_on_disk_are_traced_and_large_ones_always_leave_a_heap_that_gives_back(
    tmp_path: Path, width: int, budget: int, returns: bool
) -> None:
    asked: list[TraceRequest] = []

    def measure(question: TraceRequest) -> Profile:
        asked.append(question)
        return ANY

    config = {"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 13, "num_attention_heads": 4,
              "intermediate_size": width, "vocab_size": 1000}  # fmt: skip
    method, train = (
        MethodSpec(precision="fp32", alpha=1.0),
        TrainSpec(budget=budget, optimizer="adamw", checkpointing="block"),
    )
    for profiles in (Profiles(tmp_path, measure), None):
        traced = Traced(profiles, "batched") if profiles else None
        setup = Setup(method, train, "cpu", 0, stream=True, traced=traced)
        found = fit(config, setup, every_sample((64,)))
        assert found.traced == bool(traced)
        assert found.returns == (returns if traced else width == 32768)
    assert [one.stream for one in asked] == [True]


def test_answers_of_weights_on_disk_hold_a_tile(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 13, "num_attention_heads": 4,
              "intermediate_size": 2048, "vocab_size": 1000}  # fmt: skip
    train, profiles = TrainSpec(budget=10**11, optimizer="adamw"), Traced(Profiles(tmp_path, lambda _: ANY), "batched")
    method = MethodSpec(precision="fp32", alpha=1.0)
    held = []
    for on_disk in (True, False):
        setup = Setup(method, train, "cpu", 0, questions=Questions(1, 8, 2), stream=on_disk, traced=profiles)
        moments = fit(config, setup, every_sample((64,)), returns=True).moments
        held.append(next(one for one in moments if one.name == "answers").total)
    assert held[0] - held[1] == 512 * 2048 * (4 + 2)


def test_the_numbers_that_a_plan_repeats_are_those_of_the_engine() -> None:
    """plan/ imports no torch, so it cannot look them up."""
    assert planned.STEP == attention.STEP
    assert planned.BLOCK == batched.BLOCK
    assert memory.CHUNK == Head.chunk
    assert streamed.TILE == stream.TILE


@pytest.mark.parametrize("lengths", [(1,), (32, 33), (200, 70, 64, 65, 199)])
def test_buckets_are_those_that_attention_makes(lengths: tuple[int, ...]) -> None:
    made = [Bucket(*one.shape) for one in attention.layout(lengths).buckets]
    assert buckets(lengths) == made


def test_a_heap_that_keeps_adds_to_the_steps_where_loading_would_be_the_peak_without_it() -> None:
    large = replace(PROFILE, largest=100_000_000)
    for returns in (False, True):
        found = plan_traced(large, [RowSizes((32,), 10)], [], replace(SETTING, cpu=True, returns=returns))
        assert (found.peak.name == "load") == returns
        assert found.low_bytes < found.peak_bytes < found.high_bytes


def test_a_heap_keeps_what_the_budget_leaves_it_and_no_less_than_what_is_taken_between_two_looks() -> None:
    churn, setting = 30_000_000, replace(SETTING, cpu=True, returns=False, churn=30_000_000)
    rows = [RowSizes((32,), 10)]
    free = plan_traced(PROFILE, rows, [], replace(setting, budget=0))
    alive = free.peak_bytes - memory.KEPT[1]
    for budget, kept in ((0, memory.KEPT[1]), (alive + 120_000_000, 80_000_000), (alive + 50_000_000, churn)):
        found = plan_traced(PROFILE, rows, [], replace(setting, budget=budget))
        assert found.peak_bytes == alive + kept
        assert found.keeps_below == found.peak_bytes - churn
        assert found.surely_fits == (kept > churn)
    assert plan_traced(PROFILE, rows, [], replace(setting, returns=True)).keeps_below is None


def test_of_weights_on_disk_a_tile_may_be_there_once_more_where_the_heap_keeps() -> None:
    rows, setting = [RowSizes((32,), 10)], replace(SETTING, cpu=True, returns=False, churn=30_000_000)
    for returns, more in ((False, 7_000_000), (True, 0)):
        plain, tiled = (
            plan_traced(PROFILE, rows, [], replace(setting, returns=returns, tile=tile)) for tile in (0, 7_000_000)
        )
        assert tiled.peak_bytes == plain.peak_bytes and tiled.high_bytes == plain.high_bytes + more


CONFIG = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 13, "num_attention_heads": 4,
    "intermediate_size": 2048, "vocab_size": 1000,
}  # fmt: skip


def command(
    folder: Path, pace: Callable[[Asked], Rates | None], asked: list[TraceRequest] | None = None, **options: str
) -> Choice:
    """`zao plan` of a model whose profile is ANY; what was traced goes to `asked`."""

    def measure(question: TraceRequest) -> Profile:
        if asked is not None:
            asked.append(question)
        return ANY

    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    words = {"model": "m", "data": "d", "device": "cpu", "precision": "fp32", "budget": "1GB", **options}
    profiles = Profiles(folder / "profiles", measure)
    return plan_command(RunSpec.from_options(words), folder, profiles, pace)


def test_a_hopeless_budget_is_answered_without_tracing_all_that_is_hopeless(tmp_path: Path) -> None:
    """The first choice, and what comes out as the least, which is planned exactly."""
    asked: list[TraceRequest] = []
    found = command(tmp_path, lambda _: None, asked, budget="1MB")
    assert not found.plan.fits and found.plan.traced and found.plan.budget_bytes == 10**6
    assert len(asked) <= 2
    ((name, value),) = found.ways[-1].options.items()
    again = command(tmp_path, lambda _: None, asked, **{name: value})
    assert again.plan.fits and again.plan.surely_fits


def test_the_last_micro_batch_of_a_step_may_be_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def step_time(profile: Profile, micros: Sequence[RowSizes], *rest: object) -> StepTime:
        seen.extend(row.tokens for row in micros)
        return StepTime(1.0, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(planning, "step_time", step_time)
    command(tmp_path, lambda _: TYPICAL, batch="10", micro_batch="4", length="256")
    assert seen == [4 * 256, 4 * 256, 2 * 256]


def test_a_pace_that_was_asked_for_in_vain_is_remembered(tmp_path: Path) -> None:
    assert command(tmp_path, lambda _: None).unpaced
    assert not command(tmp_path, lambda _: TYPICAL).unpaced
    assert not command(tmp_path, lambda _: None, stream="disk").unpaced


def test_weights_that_learn_in_16_bits_are_planned_as_the_run_computes_with_them(tmp_path: Path) -> None:
    asked: list[Asked] = []

    def pace(one: Asked) -> Rates:
        asked.append(one)
        return TYPICAL

    command(tmp_path, pace, method="full", weights="bf16", precision="auto")
    assert asked[0].precision == "bf16"


def test_a_trace_that_failed_is_not_tried_again_and_a_missing_package_is_told(tmp_path: Path) -> None:
    tried: list[str] = []

    def fails(question: TraceRequest) -> Profile:
        tried.append(question.base)
        raise EnvironmentProblem("tracer" if question.base == "none" else "no_bitsandbytes", model="m", detail="d")

    profiles = Profiles(tmp_path, fails)
    assert profiles.get(QUESTION) is None and profiles.get(QUESTION) is None
    assert tried == ["none"]
    with pytest.raises(EnvironmentProblem) as caught:
        profiles.get(replace(QUESTION, base="nf4"))
    assert caught.value.key == "no_bitsandbytes"


def test_activations_in_the_memory_of_the_host_are_not_traced(tmp_path: Path) -> None:
    traced = Traced(Profiles(tmp_path, lambda _: ANY), "sdpa")
    method = MethodSpec(precision="bf16", alpha=1.0)
    found = [
        traced.profile(CONFIG, Setup(method, TrainSpec(budget=1, checkpointing=kind), "cuda", 0))
        for kind in ("block", "offload")
    ]
    assert found[0] is not None and found[1] is None


@pytest.mark.parametrize(("options", "times"), [({}, 1), ({"base": "nf4"}, 1), ({"stream": "disk"}, 0)])
def test_the_pace_is_asked_for_what_was_chosen_alone(tmp_path: Path, options: dict[str, str], times: int) -> None:
    asked: list[Asked] = []

    def pace(one: Asked) -> Rates:
        asked.append(one)
        return TYPICAL

    found = command(tmp_path, pace, None, **options)
    assert len(asked) == times and (found.plan.step is None) == (times == 0)
    assert [one.bits for one in asked] == [options.get("base") == "nf4"] * times
