"""What `zao data check` says about a file."""

import json
from pathlib import Path

import pytest

from tests.data.folders import byte_level, chat, model_folder, write_jsonl
from xiaozao.data.checks import check
from xiaozao.data.prepare import prepare
from xiaozao.errors import DataError, NotFound
from xiaozao.spec.parts import DataSpec

ROWS = [
    *({**chat(f"question {index}", f"answer {index}"), "intent": "a"} for index in range(40)),
    chat("question 0", "answer 0"),
    chat("hi", ""),
    {"messages": []},
    {"messages": [{"role": "robot", "content": "x"}]},
    chat("hi", "w" * 300),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("check") / "model", byte_level())


def test_report_says_everything_at_once(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    report = check(DataSpec(data=str(path), length=100), model)
    assert (report.kind, report.format, report.encoding, report.size) == (
        "jsonl", "messages", "utf-8", path.stat().st_size,
    )  # fmt: skip
    assert (report.rows_read, report.rows_used, report.problem_count, report.ok) == (45, 41, 2, False)
    assert report.dropped == {"empty_answer": 1, "row_no_turns": 1, "row_role": 1, "too_long": 1}
    assert report.rows_read == report.rows_used + sum(report.dropped.values())
    assert [problem.params["line"] for problem in report.problems] == [43, 44]
    assert (report.conversations, report.duplicates, report.turns, report.fields) == (42, 1, 2.0, ("intent",))
    found = report.token_statistics
    assert found is not None
    assert found.total == report.tokens > found.targets > 0
    assert found.p50 <= found.p95 <= found.longest
    assert found.longest > 300 and abs(found.over_length - 1 / 42) < 1e-9
    assert [one["line"] for one in report.samples] == [1, 2]


def test_report_agrees_with_what_is_trained(tmp_path: Path, model: Path) -> None:
    spec = DataSpec(data=str(write_jsonl(tmp_path / "a.jsonl", ROWS)), length=100, validation="none", bad_rows="drop")
    report = check(spec, model)
    data = prepare(spec, model, 0, tmp_path / "cache", lambda *_: None)
    assert (report.rows_used, report.dropped) == (data.counts.rows_used, data.counts.dropped)


def test_report_without_a_model_has_no_tokens(tmp_path: Path) -> None:
    report = check(DataSpec(data=str(write_jsonl(tmp_path / "a.jsonl", ROWS[:40]))), None)
    assert report.ok and report.tokens == 0 and report.token_statistics is None
    assert report.characters > 10


def test_report_is_strict_json_in_both_languages(tmp_path: Path, model: Path) -> None:
    report = check(DataSpec(data=str(write_jsonl(tmp_path / "a.jsonl", ROWS))), model)
    english, chinese = report.to_json(), report.to_json("zh-CN")
    assert json.loads(json.dumps(english, allow_nan=False)) == english
    assert english["problems"][0]["text"] != chinese["problems"][0]["text"]
    assert english["problems"][0]["line"] == 43 and english["ok"] is False


def test_many_problems_are_counted_and_the_first_listed(tmp_path: Path) -> None:
    report = check(DataSpec(data=str(write_jsonl(tmp_path / "a.jsonl", ROWS[:1] + [{"messages": []}] * 90))), None)
    assert (report.problem_count, len(report.problems)) == (90, 20)


def test_file_that_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check(DataSpec(data=str(tmp_path / "a.jsonl")), None)
    with pytest.raises(DataError):
        check(DataSpec(data=str(write_jsonl(tmp_path / "a.jsonl", [{"a": 1}]))), None)


def test_the_notes_on_a_validation_file_are_told_by_check_and_training(tmp_path: Path) -> None:
    rows = [{"question": f"{word}?", "answer": word} for word in ("red", "blue", "green")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    other = write_jsonl(tmp_path / "v.jsonl", [{"question": "white?", "answers": ["white", "yes, white"]}])
    spec = DataSpec(data=str(path), validation=str(other))
    told = [note.text() for note in check(spec, None).notes]
    assert len(told) == 1 and told[0].startswith("v.jsonl: 1 row(s) have several answers in answers")
    folder = model_folder(tmp_path / "model", byte_level())
    prepared = prepare(spec, folder, 1, tmp_path / "cache", lambda *_: None)
    assert [note.text() for note in prepared.counts.notes] == told
