"""A run before it begins: what its budget decides on real data, and what is kept of a run that is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.toy import write_judged
from tests.worker.test_reference import make
from xiaozao.errors import DataError, DoesNotFit, UsageError
from xiaozao.evaluate import exam
from xiaozao.events import Event, Noticed, Planned, Progress
from xiaozao.hub.folder import read_config
from xiaozao.machine.hardware import cores, look
from xiaozao.machine.resident import rss
from xiaozao.plan import fit
from xiaozao.plan.fit import every_sample
from xiaozao.plan.ladder import Choice
from xiaozao.plan.profile_cache import Profiles
from xiaozao.spec.parts import FIRST
from xiaozao.spec.plan import MemoryPlan, Moment, Reserved, RowSizes
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.spec.tape import Steps
from xiaozao.store.files import RunFolder
from xiaozao.worker import ready as module
from xiaozao.worker.ready import Ready, get_ready
from xiaozao.worker.resolve import Plans

ROW = {"prompt": "What is 3 plus 1?", "completion": "4"}


def begin(folder: RunFolder) -> tuple[Ready, Planned]:
    told: list[Event] = []
    ready = get_ready(folder, told.append)
    return ready, next(event for event in told if isinstance(event, Planned))


def options(ready: Ready) -> dict[str, Any]:
    named = ready.spec.options()
    return {name: named[name] for name in FIRST}


def test_all_that_is_open_is_decided_and_frozen(tmp_path: Path, model: Path) -> None:
    ready, planned = begin(make(tmp_path / "run", model, "sft", budget="16GB", checkpointing="auto"))
    assert options(ready) == FIRST
    assert ready.spec.train.micro_batch and not planned.ladder
    assert RunSpec.from_options(read_file(ready.folder.resolved)) == ready.spec
    again, planned = begin(ready.folder)
    assert again.spec == ready.spec and not planned.ladder


def test_a_run_that_is_refused_says_the_ways_out_and_is_not_frozen(tmp_path: Path, model: Path) -> None:
    folder = make(tmp_path / "run", model, "sft", budget=1)
    with pytest.raises(DoesNotFit) as caught:
        begin(folder)
    (*_, last) = caught.value.problems
    assert last.key == "way_out" and str(last.params["options"]).startswith("budget=")
    assert not folder.resolved.exists()
    name, value = str(last.params["options"]).split("=")
    spec = RunSpec.from_options({**read_file(folder.spec), name: value})
    folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    assert begin(folder)[0].plan.fits


def test_a_hopeless_budget_is_refused_with_what_a_trace_says(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "SMALL", 0)
    folder, told = make(tmp_path / "run", model, "sft", budget=1, stream="none"), list[Event]()
    with pytest.raises(DoesNotFit):
        get_ready(folder, told.append)
    planned = next(event for event in told if isinstance(event, Planned))
    assert planned.high_bytes > planned.low_bytes > 0 and planned.budget_bytes == 1


def test_what_is_imported_for_a_choice_is_looked_at_before_it_stands(tmp_path: Path, model: Path) -> None:
    """With what the first choice imports it does not fit any more; the second is made knowing that."""
    ready, _ = begin(make(tmp_path / "run", model, "sft", budget="16GB"))
    room, held = ready.plan.peak_bytes + 1, [0]

    def plan_of(spec: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        load, *rest = ready.plan.moments
        grown = Moment(load.name, {**load.parts, "runtime": ready.plan.peak_bytes + held[0]})
        return replace(ready.plan, moments=(grown,), budget_bytes=room, low_bytes=0, high_bytes=0)

    choices: list[Choice] = []

    def decide() -> Choice:
        choices.append(Choice(ready.spec, ready.plan if not choices else plan_of(ready.spec, room)))
        held[0] = 100
        return choices[-1]

    choice, plan = module._decided(decide, lambda: plan_of)
    assert len(choices) == 2 and choice is choices[1] and plan.peak_bytes == choice.plan.peak_bytes


def test_of_a_run_on_a_gpu_it_is_asked_what_the_allocator_holds(tmp_path: Path, model: Path) -> None:
    asked: list[Steps] = []

    def reserve(steps: Steps) -> Reserved:
        asked.append(steps)
        return Reserved(100, 200)

    profiles = Profiles(tmp_path, lambda _: pytest.fail("no profile is wanted"), reserve)
    sizes = every_sample((64,))
    plans = Plans(sizes, read_config(model).values, 0, profiles)
    spec = RunSpec.from_options(
        {"model": "m", "data": "d", "device": "cuda", "micro_batch": 2, "batch": 4, "precision": "bf16", **FIRST}
    ).with_options(attention="sdpa")
    for batch in (4, 2):
        found = plans.holds(spec.with_options(batch=batch))
        assert found is not None and found.reserved == 200
    row = RowSizes((64, 64), 128)
    assert [(one.rows, one.accumulates, one.validation) for one in asked] == [((row,), True, row), ((row,), False, row)]
    for other in ({"device": "cpu"}, {"devices": 2}, {"checkpointing": "offload"}):
        assert plans.holds(spec.with_options(**other)) is None


def test_without_a_budget_a_run_may_take_what_is_free_and_what_it_has(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(look(), memory_available=3 * 10**9)
    monkeypatch.setattr(module, "look", lambda: machine)
    _, planned = begin(make(tmp_path / "run", model, "sft"))
    assert planned.budget_bytes == pytest.approx(3 * 10**9 + rss(), rel=0.1)
    assert planned.budget_bytes > 3.1 * 10**9


def test_a_run_that_ran_within_its_budget_is_resumed_though_its_process_is_larger(tmp_path: Path, model: Path) -> None:
    ready, planned = begin(make(tmp_path / "run", model, "sft", budget="16GB"))
    for path in (ready.folder.resolved, ready.folder.spec):
        spec = RunSpec.from_options({**read_file(path), "budget": planned.peak_bytes - 1_000_000})
        path.write_text(spec.to_yaml(), encoding="utf-8")
    assert begin(ready.folder)[0].plan.budget_bytes == planned.peak_bytes - 1_000_000


def questions(folder: Path, *rows: dict[str, str]) -> str:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_texts_are_no_questions(tmp_path: Path, model: Path) -> None:
    folder = make(tmp_path / "run", model, "sft", questions=questions(tmp_path, {"text": "no turns"}))
    with pytest.raises(DataError) as caught:
        begin(folder)
    assert caught.value.key == "no_questions" and not folder.resolved.exists()


def test_questions_are_planned_as_long_as_they_are_asked(tmp_path: Path, model: Path) -> None:
    """Samples are cut to the run's length; what is asked is not."""
    long = {"prompt": "How much is it? " * 40, "completion": "4"}
    told = {"questions": questions(tmp_path, long), "length": 32, "truncation": "left"}
    asked = begin(make(tmp_path / "run", model, "sft", **told))[0].exam
    assert asked is not None and asked.sizes.tokens > 300 and asked.samples.longest <= 32


def test_questions_that_are_answered_together_tell_how_far_they_are(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(tmp_path, *[ROW] * 5)
    ready, _ = begin(make(tmp_path / "run", model, "sft", questions=asked, answer_tokens=8))

    def generate(decoder: object, prompts: list[list[int]], *rest: Any) -> list[list[int]]:
        heard = rest[-1]
        for _ in range(8):
            assert [heard(row, 1) for row in range(len(prompts))] == [None] * len(prompts)  # True would end a row
        return [[1]] * len(prompts)

    monkeypatch.setattr(exam, "generate", generate)
    told: list[Event] = []
    nobody: Any = None
    assert ready.exam
    ready.exam.sit("base", nobody, replace(ready.plan, together=4), lambda *_: 1.0, told.append)
    assert [one.done for one in told if isinstance(one, Progress)] == [0, 1, 2, 3, 4, 5]


def test_the_loss_of_long_questions_is_taken_of_as_many_as_are_answered_together(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, _ = begin(make(tmp_path / "run", model, "sft", questions=questions(tmp_path, ROW, ROW, ROW)))
    seen: list[int] = []

    def loss(decoder: object, samples: object, micro_batch: int) -> float:
        seen.append(micro_batch)
        return 1.0

    monkeypatch.setattr(exam, "generate", lambda decoder, prompts, *rest: [[1]] * len(prompts))
    assert ready.exam
    nobody: Any = None
    for together, size in ((2, 4), (4, 2)):
        plan = replace(ready.plan, together=together, samples=size)
        ready.exam.sit("base", nobody, plan, loss, lambda event: None)
    assert seen == [2, 2]


def notices(folder: RunFolder) -> list[str]:
    told: list[Event] = []
    get_ready(folder, told.append)
    return [event.key for event in told if isinstance(event, Noticed) and event.key != "alike"]  # toy chats are alike


def test_a_model_without_a_template_is_told_of_where_it_is_asked_something(tmp_path: Path, model: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "chat_template.jinja").unlink()
    assert notices(make(tmp_path / "chats", bare, "sft")) == ["plain_template"]
    assert notices(make(tmp_path / "own", model, "sft")) == []
    folder = make(tmp_path / "texts", bare, "sft")
    write_judged(tmp_path / "texts" / "data.jsonl", 16, "texts")
    assert notices(folder) == []


def test_threads_far_beyond_the_cores_are_refused_with_the_numbers(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageError) as caught:
        get_ready(make(tmp_path / "run", model, "sft", threads=100_000), lambda event: None)
    assert "100000" in caught.value.what("zh-CN") and str(cores()) in caught.value.what()


@pytest.mark.parametrize(("warmup", "told"), [(1000, ["warmup_long"]), (2, []), (0.5, []), (0, [])])
def test_a_warm_up_that_is_longer_than_the_run_is_told_of(
    tmp_path: Path, model: Path, warmup: float, told: list[str]
) -> None:
    assert notices(make(tmp_path / "run", model, "sft", warmup=warmup)) == told


def test_answers_without_another_to_be_held_against_are_told_of(tmp_path: Path, model: Path) -> None:
    assert notices(make(tmp_path / "many", model, "kto")) == []
    few = make(tmp_path / "few", model, "kto", rows=3, batch=2)
    assert notices(few) == ["kto_validation"]
    one = make(tmp_path / "one", model, "kto", rows=2, batch=1, micro_batch=1)
    assert notices(one) == ["kto_train", "kto_validation"]
