"""`zao data check`: a report for people, a document for programs, exit 3 where training would stop."""

import json
from pathlib import Path

import pytest

from xiaozao.cli.main import run
from xiaozao.texts.catalogue import LANGUAGES

GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello there"}]}
BAD = {"messages": [{"role": "user", "content": "hi"}, {"role": "robot", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")


def _file(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_good_file_is_described(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(["data", "check", _file(tmp_path / "数据.jsonl", GOOD, GOOD, GOOD)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("!")  # the same question three times: nothing can be kept aside
    assert "validation=none" in said
    assert run(["data", "check", str(tmp_path / "数据.jsonl"), "validation=none"]) == 0
    assert capsys.readouterr().out.startswith("✔")
    for word in ("数据.jsonl", "messages", "utf-8", "3", "hello there"):
        assert word in said


def test_what_takes_effect_in_training_alone_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", _file(tmp_path / "d.jsonl", GOOD, GOOD, GOOD), "rows=1", "bad_rows=stop"]) == 0
    said = capsys.readouterr()
    assert "3" in said.out and "rows" in said.err and "bad_rows" not in said.err


def test_a_check_reads_for_an_objective_and_says_which_one_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = _file(tmp_path / "pairs.jsonl", {"prompt": "hi", "chosen": "hello there", "rejected": "no"})
    assert run(["data", "check", pairs, "objective=dpo"]) == 0
    said = capsys.readouterr().out
    assert "preference" in said and "hello there" in said and "(rejected)" in said
    assert run(["data", "check", pairs]) == 0  # in order in itself; the report says who learns from it
    assert "dpo, orpo, simpo" in capsys.readouterr().out
    assert run(["data", "check", pairs, "objective=kto"]) == 3
    assert "objective=dpo" in capsys.readouterr().err


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_problem_is_listed_with_its_row(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(["data", "check", _file(tmp_path / "d.jsonl", GOOD, BAD, *[GOOD] * 5, BAD)]) == 3
    said = capsys.readouterr().out
    assert said.startswith("✖")
    problems = [line for line in said.splitlines() if line.startswith("  - ")]
    assert len(problems) == 2
    assert "2" in problems[0]
    assert "8" in problems[1]
    assert "robot" in problems[1]


def test_many_problems_are_counted_and_not_all_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", _file(tmp_path / "d.jsonl", GOOD, *[BAD] * 40)]) == 3
    said = capsys.readouterr().out
    assert said.count("  - ") == 20
    assert "and 20 more" in said
    assert "40 problem(s)" in said


def test_a_program_gets_the_whole_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _file(tmp_path / "d.jsonl", GOOD, BAD)
    assert run(["data", "check", file, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["ok"], document["problem_count"]) == (1, False, 1)
    assert document["rows_read"] == document["rows_used"] + sum(document["dropped"].values()) == 2
    assert document["problems"][0]["line"] == 2


def test_a_missing_file_and_a_wrong_option_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(tmp_path / "none.jsonl")]) == 8
    assert "none.jsonl" in capsys.readouterr().err
    assert run(["data", "check", _file(tmp_path / "d.jsonl", GOOD), "lenght=3"]) == 2
    assert "length" in capsys.readouterr().err


def test_rows_that_are_dropped_are_no_obstacle_where_that_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As training does with the same options."""
    other = {"messages": [{"role": "user", "content": "ho"}, GOOD["messages"][1]]}
    file = _file(tmp_path / "d.jsonl", *[GOOD, other] * 20, BAD)
    assert run(["data", "check", file]) == 3
    said = capsys.readouterr().out
    assert "bad_rows=drop" in said and said.startswith("✖")
    assert run(["data", "check", file, "bad_rows=drop"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("✔ 40 rows") and "1 with problems" in said and "unknown role" in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_many_rows_left_out_are_a_warning_with_the_share_and_what_to_do(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    other = {"messages": [{"role": "user", "content": "ho"}, {"role": "assistant", "content": ""}]}
    file = _file(tmp_path / "d.jsonl", *[GOOD] * 9, other)
    assert run(["data", "check", file, "validation=none"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("!") and "10%" in said and "empty_answer" not in said
    assert ("empty answer" if language == "en" else "回答为空") in said
    assert run(["data", "check", _file(tmp_path / "e.jsonl", *[GOOD] * 30, other), "validation=none"]) == 0
    assert capsys.readouterr().out.startswith("✔")


@pytest.mark.parametrize(
    ("option", "code", "word"),
    [("validation=2", 3, "validation=2"), ("validation=1", 0, ""), ("validation=50%", 0, ""),
     ("validation=1.0", 2, "5%"), ("validation=typo.jsonl", 8, "typo.jsonl")],
)  # fmt: skip
def test_what_validation_would_stop_at_is_told(
    option: str, code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"messages": [{"role": "user", "content": "ho"}, GOOD["messages"][1]]}
    assert run(["data", "check", _file(tmp_path / "d.jsonl", GOOD, other), option]) == code
    said = capsys.readouterr()
    assert word in said.out + said.err


def test_the_file_that_validates_is_checked_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, held = _file(tmp_path / "d.jsonl", GOOD, GOOD), _file(tmp_path / "v.jsonl", GOOD, BAD)
    assert run(["data", "check", data, f"validation={held}"]) == 3
    assert "v.jsonl:2" in capsys.readouterr().out
    assert run(["data", "check", data, f"validation={held}", "bad_rows=drop"]) == 0


def test_several_files_are_checked_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = _file(tmp_path / "a.jsonl", GOOD), _file(tmp_path / "b.jsonl", GOOD, BAD)
    assert run(["data", "check", f"{one}，{other}"]) == 3
    said = capsys.readouterr().out
    assert "b.jsonl:2" in said and "3 read, 2 usable" in said
