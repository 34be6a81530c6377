"""Whole runs with the weights on disk: the same events as from memory, resumed alike, and said so in what is kept."""

import math
from pathlib import Path

import pytest

from tests.worker.test_reference import heard, make
from xiaozao.events import Evaluated, Planned, Step
from xiaozao.spec.run import read_file

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("objective", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("base", ["none", "int8"])
def test_a_run_from_disk_is_the_run_from_memory(tmp_path: Path, model: Path, objective: str, base: str) -> None:
    told, saved = [], []
    for stream in ("disk", "none"):
        folder = make(tmp_path / stream, model, objective, stream=stream, checkpointing="block", base=base)
        events = heard(folder)
        told.append([one.loss for one in events if isinstance(one, Step | Evaluated)])
        saved.append((folder.adapter / "adapter_model.safetensors").read_bytes())
        resolved = read_file(folder.resolved)
        assert resolved["stream"] == stream
    assert told[0] == told[1] and saved[0] == saved[1]
    if objective == "dpo":
        assert told[0][0] == pytest.approx(math.log(2), abs=1e-6)


def test_blocks_are_computed_again_unless_something_else_is_asked_for(tmp_path: Path, model: Path) -> None:
    for asked, decided in (("auto", "block"), ("selective", "selective"), ("none", "none")):
        folder = make(tmp_path / asked, model, "sft", stream="disk", checkpointing=asked)
        heard(folder)
        assert read_file(folder.resolved)["checkpointing"] == decided


def test_a_run_from_disk_goes_on_where_it_stopped(tmp_path: Path, model: Path) -> None:
    whole = make(tmp_path / "whole", model, "sft", stream="disk")
    heard(whole)
    parts = make(tmp_path / "parts", model, "sft", stream="disk")
    heard(parts, lambda event: parts.stop.touch() if isinstance(event, Step) and event.step == 2 else None)
    parts.stop.unlink()
    again = heard(parts)
    assert [event.step for event in again if isinstance(event, Step)] == [3]
    name = "adapter_model.safetensors"
    assert (parts.adapter / name).read_bytes() == (whole.adapter / name).read_bytes()


def answered(folder: Path, model: Path, **options: object) -> list[str]:
    """What a run that is asked two questions keeps of its answers, before and after."""
    folder.mkdir()
    questions = folder / "questions.jsonl"
    questions.write_text('{"prompt": "What is 3 plus 1?", "completion": "4"}\n' * 2, encoding="utf-8")
    run = make(folder / "run", model, "sft", questions=str(questions), answer_tokens=4, **options)
    heard(run)
    return [path.read_text(encoding="utf-8") for path in sorted(run.report.rglob("*answers*.json*"))]


def test_questions_are_answered_by_weights_on_disk(tmp_path: Path, model: Path) -> None:
    disk, memory = (
        answered(tmp_path / stream, model, stream=stream, checkpointing="block") for stream in ("disk", "none")
    )
    assert disk and disk == memory


def test_the_plan_of_a_run_from_disk_holds_what_is_resident(tmp_path: Path, model: Path) -> None:
    planned = [
        [event for event in heard(make(tmp_path / stream, model, "sft", stream=stream)) if isinstance(event, Planned)][
            0
        ]
        for stream in ("disk", "none")
    ]
    assert planned[0].parts["optimizer"] == planned[1].parts["optimizer"]
    learns = 2 * 4 * 4 * (2 * 64 + 2 * 48 + 3 * 80)  # bytes: two blocks, rank 4, fp32, (in + out) of the seven layers
    norms, matrix = 5 * 32 * 4, 384 * 32  # the largest matrix is one tile
    assert planned[0].parts["weights"] == pytest.approx(learns + norms + matrix * (4 + 2), rel=1e-3)
