"""Every objective through the worker on a toy, and the log-probabilities at the start where no adapter gives them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toy import toy_decoder, toy_pairs, write_chats, write_judged
from xiaozao.data.cache import Counts, PreparedData
from xiaozao.errors import DataError
from xiaozao.events import Evaluated, Event, Planned, Progress, Step
from xiaozao.models.blocks import Decoder
from xiaozao.models.layers.linear import without_adapters
from xiaozao.models.trainable import make_trainable
from xiaozao.spec.objectives import BETAS, KINDS
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.train.preference_losses import Preference
from xiaozao.worker.jobs import run
from xiaozao.worker.reference import loss_of, switches_off, with_reference

NOTHING = PreparedData(toy_pairs([(3, 4, 5)]), None, Counts(0, 0, 0, {}), "none")


pytestmark = pytest.mark.usefixtures("own_cache")


def make(folder: Path, model: Path, objective: str, **options: object) -> RunFolder:
    """A run folder, ready to be run."""
    folder.mkdir(parents=True)
    kind = KINDS[objective]
    path = folder / "data.jsonl"
    data = write_chats(path, 16) if kind == "answers" else write_judged(path, 16, kind)
    asked = {"model": str(model), "data": str(data), "objective": objective, "epochs": 1, "batch": 4, "micro_batch": 2,
             "validation": 0.25, "precision": "fp32", "threads": 1, "rank": 4, "eval_every": 2, **options}  # fmt: skip
    if options.get("method") == "full":
        del asked["rank"]
    made = RunFolder(folder)
    made.spec.write_text(RunSpec.from_options(asked).to_yaml(), encoding="utf-8")
    return made


def heard(folder: RunFolder, on_event: Callable[[Event], object] = lambda event: None) -> list[Event]:
    """Run it, and everything it said."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        on_event(event)

    run(folder, emit)
    return events


@pytest.mark.parametrize("objective", KINDS)
def test_every_objective_trains_from_a_file_to_an_adapter(tmp_path: Path, model: Path, objective: str) -> None:
    folder = make(tmp_path / "run", model, objective)
    events = heard(folder)
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) == 3 and (folder.adapter / "adapter_model.safetensors").is_file()
    judged = objective not in ("sft", "pretrain")
    assert all((one.accuracy is not None) == judged == (one.margin is not None) for one in evaluated)
    if objective in ("dpo", "kto"):
        assert (evaluated[0].accuracy, evaluated[0].margin) == (0.5, 0.0)
        assert evaluated[0].loss == pytest.approx(math.log(2) if objective == "dpo" else 0.5, abs=1e-6)
    resolved = read_file(folder.resolved)
    assert resolved["beta"] == BETAS.get(objective) and resolved["gamma"] == (1.0 if objective == "simpo" else None)
    assert resolved["learning_rate"] == (2e-5 if judged else 2e-4)
    assert not folder.reference.exists()


def test_a_plan_counts_both_answers_of_a_pair(tmp_path: Path, model: Path) -> None:
    planned = [event for event in heard(make(tmp_path / "a", model, "dpo")) if isinstance(event, Planned)]
    chosen = [event for event in heard(make(tmp_path / "b", model, "kto")) if isinstance(event, Planned)]
    assert planned[0].tokens > 1.8 * chosen[0].tokens


WITHOUT: list[dict[str, object]] = [
    {"method": "full"}, {"adapter": "pissa"}, {"also": "norms"}, {"method": "full", "last_blocks": 1},
    {"method": "full", "fused_update": True, "micro_batch": 4},
]  # fmt: skip


@pytest.mark.parametrize("options", WITHOUT, ids=str)
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_what_cannot_be_switched_off_starts_at_no_preference_too(
    tmp_path: Path, model: Path, objective: str, options: dict[str, object]
) -> None:
    folder = make(tmp_path / "run", model, objective, **options)
    events = heard(folder)
    first = next(event for event in events if isinstance(event, Evaluated))
    assert first.loss == pytest.approx(math.log(2) if objective == "dpo" else 0.5, abs=1e-6)
    assert first.margin == pytest.approx(0.0, abs=1e-5)
    assert any(isinstance(event, Progress) and event.stage == "reference" for event in events)
    assert (folder.reference / "manifest.json").is_file()


@pytest.mark.parametrize("options", [{}, {"method": "full"}], ids=str)
def test_a_run_resumed_in_the_middle_ends_with_the_same_bits(
    tmp_path: Path, model: Path, options: dict[str, object]
) -> None:
    whole = make(tmp_path / "whole", model, "dpo", **options)
    heard(whole)
    parts = make(tmp_path / "parts", model, "dpo", **options)
    heard(parts, lambda event: parts.stop.touch() if isinstance(event, Step) and event.step == 2 else None)
    parts.stop.unlink()
    again = heard(parts)
    assert [event.step for event in again if isinstance(event, Step)] == [3]
    assert not any(isinstance(event, Progress) and event.stage == "reference" for event in again)
    name = "model/model.safetensors" if options else "adapter/adapter_model.safetensors"
    assert (parts.path / name).read_bytes() == (whole.path / name).read_bytes()


def ready(decoder: Decoder, folder: Path, data: PreparedData = NOTHING, **identity: str) -> tuple[PreparedData, bool]:
    """The data with its reference, and whether it was computed now."""
    spec = RunSpec.from_options({"model": "m", "data": "d", "objective": "dpo", "method": "full",
                                 "micro_batch": 1, "precision": "fp32"})  # fmt: skip
    events: list[Event] = []
    found = with_reference(data, loss_of(spec.method), decoder, spec, folder, identity, events.append)
    return found, bool(events)


def test_the_start_is_computed_once_and_stays_when_the_model_moves(tmp_path: Path) -> None:
    decoder = toy_decoder(lora=None)
    data = replace(NOTHING, validation=toy_pairs([(2, 6, 3)] * 2, seed=4))
    first, computed = ready(decoder, tmp_path / "reference", data, run="a")
    assert computed and first.validation is not None and first.train.reference is not None
    with torch.no_grad():
        next(iter(decoder.trainable().values())).mul_(2)
    second, computed = ready(decoder, tmp_path / "reference", data, run="a")
    assert not computed and second.train.reference is not None
    np.testing.assert_array_equal(first.train.reference, second.train.reference)
    _, computed = ready(decoder, tmp_path / "reference", data, run="another")
    assert computed


def test_a_damaged_start_is_computed_again(tmp_path: Path) -> None:
    decoder = toy_decoder(lora=None)
    first, _ = ready(decoder, tmp_path / "reference")
    file = tmp_path / "reference" / "reference.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    second, computed = ready(decoder, tmp_path / "reference")
    assert computed and first.train.reference is not None and second.train.reference is not None
    np.testing.assert_array_equal(first.train.reference, second.train.reference)


def test_an_adapter_that_switches_off_and_a_loss_without_a_start_need_nothing_kept() -> None:
    def method(**options: object) -> RunSpec:
        return RunSpec.from_options({"model": "m", "data": "d", **options})

    assert [switches_off(method(adapter=one).method) for one in ("lora", "rslora", "dora", "pissa")] == [True] * 3 + [
        False
    ]
    referenced = {name: getattr(loss_of(method(objective=name).method), "referenced", False) for name in KINDS}
    assert referenced == {"sft": False, "pretrain": False, "dpo": True, "orpo": False, "simpo": False, "kto": True}


@pytest.mark.parametrize("adapter", ["lora", "rslora", "dora"])
def test_kinds_of_adapters_that_switch_off_give_the_start_back(adapter: str) -> None:
    decoder = toy_decoder(lora=None)
    spec = RunSpec.from_options({"model": "m", "data": "d", "objective": "dpo", "adapter": adapter, "alpha": 8.0})
    loss = loss_of(spec.method)
    assert isinstance(loss, Preference)
    untouched = loss.reference(decoder, NOTHING.train, 1)
    make_trainable(decoder, spec.method, 0)
    for one in decoder.trainable().values():
        torch.nn.init.normal_(one, std=0.3)
    with without_adapters(decoder.model):
        np.testing.assert_array_equal(loss.reference(decoder, NOTHING.train, 1), untouched)
    assert not np.array_equal(loss.reference(decoder, NOTHING.train, 1), untouched)


@pytest.mark.parametrize(("objective", "kind", "key"), [
    ("sft", "pairs", "data_pairs"), ("kto", "pairs", "data_pairs"), ("sft", "verdicts", "data_verdicts"),
    ("dpo", "verdicts", "data_verdicts"), ("dpo", "texts", "data_texts"), ("orpo", "answers", "data_answers"),
    ("pretrain", "answers", "data_answers"),
])  # fmt: skip
def test_data_of_another_kind_is_refused_with_the_objective_that_fits(
    tmp_path: Path, model: Path, objective: str, kind: str, key: str
) -> None:
    folder = make(tmp_path / "run", model, "sft")
    path = tmp_path / "run" / "data.jsonl"
    if kind != "answers":
        write_judged(path, 16, kind)
    options = {**read_file(folder.spec), "objective": objective}
    folder.spec.write_text(RunSpec.from_options(options).to_yaml(), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        heard(folder)
    fitting = {"pairs": "dpo", "verdicts": "kto", "texts": "pretrain", "answers": "sft"}[kind]
    assert caught.value.key == key and f"objective={fitting}" in caught.value.fix("en")
    assert f"objective={objective}" in caught.value.what("en") and f"objective={fitting}" in caught.value.fix("zh-CN")
