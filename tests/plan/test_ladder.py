"""What a budget decides: the ladder, with plans of a decoder of known size."""

from itertools import product
from typing import Any

import pytest

from xiaozao.errors import UsageError
from xiaozao.plan import ladder
from xiaozao.plan.fit import Setup, every_sample, fit
from xiaozao.plan.ladder import Choice, choose, effects, larger_budget
from xiaozao.plan.streaming import stays_cached
from xiaozao.spec.parts import FIRST
from xiaozao.spec.plan import MemoryPlan, Moment
from xiaozao.spec.run import RunSpec

ONE_B = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
         "intermediate_size": 8192, "vocab_size": 128256}  # fmt: skip
EVERYTHING = 10**12


def spec(**options: Any) -> RunSpec:
    return RunSpec.from_options({"model": "m", "data": "d", "length": 512, "precision": "bf16", **options})


def ask(one: RunSpec, budget: int, /, returns: bool | None = None, device: str = "cuda") -> MemoryPlan:
    train = one.train.model_copy(update={"budget": budget})
    setup = Setup(one.method, train, device, 0, one.model.base, stream=one.model.stream == "disk")
    return fit(ONE_B, setup, every_sample((one.data.length,)), returns)


def chosen(budget: int, **options: Any) -> Choice:
    return choose(spec(**options), "cuda", budget, ask)


def values(choice: Choice) -> dict[str, Any]:
    named = choice.spec.options()
    return {name: named[name] for name in ("optimizer", "base", "stream", "checkpointing", "micro_batch", "batch")}


def test_with_room_for_all_nothing_gives_way() -> None:
    found = chosen(EVERYTHING)
    assert values(found) == {"optimizer": "adamw", "base": "none", "stream": "none", "checkpointing": "none",
                             "micro_batch": 16, "batch": 16}  # fmt: skip
    assert not found.steps and not found.ways


def test_without_a_budget_the_first_choices_are_planned() -> None:
    assert values(chosen(0)) == values(chosen(EVERYTHING))


def test_less_and_less_memory_goes_down_the_rungs_and_what_is_chosen_should_fit() -> None:
    top, peaks, seen = ask(spec().decided(), 0).peak_bytes, [], []
    for share in (1.2, 0.6, 0.3, 0.2, 0.12, 0.1, 0.06, 0.04):
        found = chosen(round(share * top))
        if not found.plan.fits:
            break
        peaks.append(found.plan.peak_bytes)
        rung = {name: values(found)[name] for name in ("optimizer", "base", "stream")}
        seen.append(next(i for i, one in enumerate(ladder.RUNGS) if {**FIRST, **one}.items() >= rung.items()))
        assert found.spec.train.batch == 16
    assert len(seen) >= 6 and seen == sorted(seen) and seen[0] == 0 and max(seen) >= 6
    assert peaks == sorted(peaks, reverse=True)


def test_weights_that_stay_on_disk_come_before_fewer_bits_where_the_system_has_room_for_their_files() -> None:
    """They change no number; what is named keeps its place."""
    assert stays_cached(10**9, 4 * 10**9) and not stays_cached(10**9, 4 * 10**9 - 1)
    budget = round(0.2 * ask(spec().decided(), 0).peak_bytes)
    found = [choose(spec(), "cpu", budget, ask, cached) for cached in (False, True)]
    assert [(one.spec.model.stream, one.spec.model.base != "none") for one in found] == [
        ("none", True), ("disk", False),
    ]  # fmt: skip
    assert all(one.plan.fits for one in found)
    assert choose(spec(stream="none"), "cpu", budget, ask, True).spec.model.base != "none"


def test_a_larger_budget_never_costs_precision() -> None:
    """These plans have no interval: one that should fit comes before less precise weights, or weights on disk."""
    tight = min(ask(spec(checkpointing=kind, micro_batch=1).decided(), 0).peak_bytes for kind in ("none", "block"))
    found = [chosen(round(tight * share)) for share in (1.02, 1.1, 1.25)]
    assert all(one.spec.model.base == "none" and one.spec.train.optimizer == "adamw" for one in found)
    assert all(one.spec.model.stream == "none" and one.plan.fits for one in found)
    assert not found[0].plan.surely_fits


def test_activations_go_nowhere_without_a_gpu() -> None:
    with pytest.raises(UsageError) as caught:
        choose(spec(checkpointing="offload"), "cpu", 0, ask)
    assert caught.value.key == "offload_cpu"


@pytest.mark.parametrize("share", [0.95, 0.8, 0.7, 0.6])
def test_what_is_chosen_is_the_fastest_of_all_that_change_no_number(share: float) -> None:
    budget = round(share * ask(spec().decided(), 0).peak_bytes)
    found = chosen(budget)
    tried = [
        ask(spec(checkpointing=kind, micro_batch=size).decided(), budget)
        for kind, size in product(ladder.CHECKPOINTING["cuda"], (1, 2, 4, 8, 16))
    ]
    assert found.spec.model.base == "none" and found.spec.train.optimizer == "adamw"
    assert found.plan.seconds == min(one.seconds for one in tried if one.surely_fits)


@pytest.mark.parametrize("pinned", [{"checkpointing": "none"}, {"base": "int8"}, {"optimizer": "adafactor"},
                                    {"stream": "none"}, {"micro_batch": 2}])  # fmt: skip
@pytest.mark.parametrize("budget", [EVERYTHING, 6 * 10**9, 3 * 10**9, 10**6])
def test_what_the_user_named_is_kept(pinned: dict[str, Any], budget: int) -> None:
    assert values(chosen(budget, **pinned)).items() >= pinned.items()


def test_the_steps_down_lead_from_comfort_to_the_choice() -> None:
    comfort = ask(spec().decided(), 0)
    found = chosen(round(0.2 * comfort.peak_bytes))
    named = values(Choice(spec().decided(micro_batch=comfort.samples), comfort))
    for step in found.steps:
        assert str(named[step.option]) == step.before
        named[step.option] = step.after
    assert {name: str(value) for name, value in named.items()} == {
        name: str(value) for name, value in values(found).items()
    }
    assert sum(step.saves_bytes for step in found.steps) == comfort.peak_bytes - found.plan.peak_bytes


def test_a_micro_batch_that_grew_is_nothing_that_gave_way() -> None:
    """Where weights are read from disk for each micro-batch, larger ones may be the faster."""

    def plan(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        on_disk = one.model.stream == "disk"
        size = one.train.micro_batch or (2 if on_disk else 1)
        moment = Moment("loss", {"weights": 10 if on_disk else 1000, "activations": 100 * size})
        return MemoryPlan((moment,), budget, size, 64, 1, 1)

    found = choose(spec(optimizer="adamw", base="none", checkpointing="block", batch=4), "cuda", 500, plan)
    assert values(found)["stream"] == "disk" and found.plan.samples == 2
    assert [(one.option, one.saves_bytes) for one in found.steps] == [("stream", 990)]


@pytest.mark.parametrize(
    ("budget", "after", "saves"), [(1000, None, 0), (650, "keeps_less", 50), (550, "returns", 190)]
)
def test_a_budget_that_leaves_the_heap_less_is_told_with_what_that_saves(
    budget: int, after: str | None, saves: int
) -> None:
    """500 bytes are alive; a heap that keeps takes 200 more where it may, and needs 100."""

    def plan(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        returns = 0 < budget < 600 if returns is None else returns
        kept = 10 if returns else min(200, budget - 500) if budget else 200
        peak = Moment("loss", {"activations": 500 + kept})
        return MemoryPlan(
            (peak,), budget, 1, 64, 1, 1, low_bytes=500, high_bytes=peak.total, returns=returns, traced=True
        )  # fmt: skip

    found = choose(
        spec(optimizer="adamw", base="none", stream="none", checkpointing="none", batch=1), "cpu", budget, plan
    )
    told = [(one.option, one.before, one.after, one.saves_bytes) for one in found.steps]
    assert told == ([] if after is None else [("heap", "keeps", after, saves)]) and found.plan.surely_fits


def test_where_nothing_fits_there_are_ways_out_that_do_and_the_smallest_budget() -> None:
    found = chosen(3_000_000_000, base="none", stream="none", length=4096)
    assert not found.plan.fits and 1 < len(found.ways) <= 3
    for way in found.ways[:-1]:
        changed = {**way.options}
        budget = 3_000_000_000
        assert ask(found.spec.with_options(**changed), budget).fits
    ((name, value),) = found.ways[-1].options.items()
    assert name == "budget"
    again = spec(base="none", stream="none", length=4096, budget=value)
    assert again.train.budget and choose(again, "cuda", again.train.budget, ask).plan.fits


@pytest.mark.parametrize("share", [0.75, 0.6, 0.45])
def test_full_parameters_have_ways_out_that_leave_them_full(share: float) -> None:
    named = {"method": "full", "optimizer": "adamw", "checkpointing": "block", "batch": 1}
    budget = round(share * ask(spec(**named).decided(), 0).peak_bytes)
    found = chosen(budget, **named)
    ways = [one.options for one in found.ways[:-1]]
    assert not found.plan.fits and ways and all(ask(found.spec.with_options(**one), budget).fits for one in ways)
    assert any({"optimizer", "fused_update", "weights"} & one.keys() for one in ways)


def test_rungs_that_need_a_package_that_is_not_here_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "find_spec", lambda _: None)
    for budget in (3 * 10**9, 10**9, 10**8):
        assert values(chosen(budget))["base"] != "nf4" and values(chosen(budget))["optimizer"] != "adamw8bit"


def test_full_parameters_have_no_base_and_no_stream_to_give() -> None:
    found = chosen(10**8, method="full")
    assert values(found)["base"] == "none" and values(found)["stream"] == "none"
    assert {"method": "lora"} in [way.options for way in chosen(8 * 10**9, method="full").ways]


def test_on_a_cpu_full_parameters_can_go_to_disk() -> None:
    def on_cpu(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        return ask(one, budget, returns, "cpu")

    budget = 9 * 10**9  # for 1.2 billion parameters
    wanted = {"stream": "disk", "fused_update": "true"}
    assert wanted in [way.options for way in choose(spec(method="full", batch=4), "cpu", budget, on_cpu).ways]
    found = choose(spec(method="full", batch=4, fused_update=True), "cpu", budget, on_cpu)
    assert values(found)["stream"] == "disk" and found.plan.fits
    on_gpu = chosen(budget, method="full", batch=4, fused_update=True)
    assert values(on_gpu)["stream"] == "none" and wanted not in [way.options for way in on_gpu.ways]


def test_the_smallest_budget_is_rounded_up() -> None:
    assert larger_budget(ask(spec().decided(micro_batch=1), 0)).options["budget"].endswith("GB")


def test_what_larger_numbers_would_take_is_what_the_plan_says_of_them() -> None:
    found = chosen(EVERYTHING, micro_batch=2, batch=2)
    told = {one.option: one.peak_bytes for one in effects(found, ask)}
    now = ask(found.spec, 0).peak_bytes
    assert told["micro_batch"] == ask(found.spec.with_options(micro_batch=3, batch=3), 0).peak_bytes - now > 0
    assert told["length"] == ask(found.spec.with_options(length=768), 0).peak_bytes - now > 0
    assert told["rank"] == ask(found.spec.with_options(rank=32), 0).peak_bytes - now > 0


def test_full_parameters_have_no_rank_that_could_be_larger() -> None:
    assert [one.option for one in effects(chosen(EVERYTHING, method="full"), ask)] == ["micro_batch", "length"]
