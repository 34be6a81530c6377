"""What may change when a run goes on: everything while nothing was learned, later what changes no number."""

from pathlib import Path

import pytest

from xiaozao.errors import UsageError
from xiaozao.events import Ended, Event, Rehearsed, Split, Started, Step
from xiaozao.runs.restart import LATER, change, has_learned
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal, read_records

STEP = Step(3, 9, 0.3, 1.5, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, 6.0)
BEFORE: list[Event] = [
    Started("r", 1), Rehearsed(9, 1, 5, 4, 6, 0.1), Split(1, 9, 4, "rehearsal", 5, 6),
    Ended("failed", "DATA_INVALID", "m", "data_rows", {}, [], 3),
]  # fmt: skip


def _folder(path: Path, *events: Event, **options: object) -> RunFolder:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    spec = RunSpec.from_options({"model": "m", "data": "/d.jsonl", **options})
    folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    folder.resolved.write_text(spec.with_options(micro_batch=2).to_yaml(), encoding="utf-8")
    with Journal(folder.events) as journal:
        for event in events:
            journal.record(event)
    return folder


def test_before_the_first_step_any_option_changes_and_nothing_of_before_decides(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "r", *BEFORE)
    (folder.report / "answers").mkdir(parents=True)
    before = folder.events.read_bytes()
    assert not has_learned(folder)
    change(folder, "r", {"bad_rows": "drop", "length": 64, "devices": 2})
    options = read_file(folder.spec)
    assert (options["bad_rows"], options["length"], options["devices"]) == ("drop", 64, 1)
    assert not folder.resolved.exists() and not folder.report.exists()
    assert read_records(folder.events)[0] == []
    assert (folder.path / "events.1.jsonl").read_bytes() == before


def test_after_a_step_only_what_changes_no_number_does(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "r", Started("r", 1), STEP)
    assert has_learned(folder)
    change(folder, "r", {"keep": 1, "data": "/elsewhere/d.jsonl"})
    for path in (folder.spec, folder.resolved):
        assert (read_file(path)["keep"], read_file(path)["data"]) == (1, "/elsewhere/d.jsonl")
    assert read_file(folder.resolved)["micro_batch"] == 2 and read_records(folder.events)[0]
    with pytest.raises(UsageError, match="rank, seed") as caught:
        change(folder, "r", {"rank": 4, "seed": 1, "keep": 3})
    assert "keep" in str(caught.value.params["allowed"])
    assert read_file(folder.spec)["keep"] == 1


def test_a_checkpoint_alone_counts_as_learned(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "r", Started("r", 1))
    (folder.checkpoints / "step-00000001").mkdir(parents=True)
    assert has_learned(folder)


@pytest.mark.parametrize("events", [BEFORE, [Started("r", 1), STEP]])
def test_a_run_never_leaves_its_folder(tmp_path: Path, events: list[Event]) -> None:
    folder = _folder(tmp_path / "r", *events)
    with pytest.raises(UsageError) as caught:
        change(folder, "r", {"output": "/elsewhere"})
    assert caught.value.key == "resume_output"


def test_a_wrong_value_changes_nothing(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "r", *BEFORE)
    before = folder.spec.read_text(encoding="utf-8")
    with pytest.raises(UsageError):
        change(folder, "r", {"rank": 0})
    assert folder.spec.read_text(encoding="utf-8") == before and folder.resolved.exists()


def test_what_may_change_later_names_no_option_that_is_not_there() -> None:
    assert set(LATER) <= set(RunSpec.from_options({"model": "m", "data": "d"}).options())
