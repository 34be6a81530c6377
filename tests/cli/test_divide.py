"""`zao data split`: what is written, what is said, and what is never overwritten."""

import json
from pathlib import Path

import pytest

from tests.data.folders import write_jsonl
from tests.data.test_division import rows_of
from xiaozao.cli.main import run
from xiaozao.texts.catalogue import LANGUAGES


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_parts_and_how_near_they_are_are_told(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    write_jsonl(tmp_path / "a.jsonl", rows_of(200))
    assert run(["data", "split", "a.jsonl", "--out", "parts"]) == 0
    said = capsys.readouterr().out
    for word in ("200", "160", "intent", "50", "0.8", "--by", "parts/train.jsonl", "validation=parts/validation.jsonl"):
        assert word in said
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "questions.jsonl", "summary.json", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip
    summary = json.loads((tmp_path / "parts" / "summary.json").read_text(encoding="utf-8"))
    assert summary["rows"] == {"train": 160, "validation": 20, "questions": 20}
    assert summary["by"] == "intent" and summary["guessed"] and summary["seed"] == 0


def test_flags_and_names_with_values_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows_of(200))
    options = {"train": "0.5", "validation": "5%", "questions": "8", "seed": "3", "by": "intent"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    pairs = [f"{name}={value}" for name, value in options.items()]
    documents = []
    for out, given in (("one", flags), ("other", pairs)):
        assert run(["data", "split", "a.jsonl", "--out", out, *given, "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0]["rows"] == documents[1]["rows"] == {
        "train": 100, "validation": 8, "questions": 8, "unused": 84,
    }  # fmt: skip
    assert (tmp_path / "one/train.jsonl").read_bytes() == (tmp_path / "other/train.jsonl").read_bytes()


def test_what_is_there_is_only_replaced_with_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows_of(100))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "questions.jsonl").write_text("mine", encoding="utf-8")
    assert run(["data", "split", "a.jsonl", "--out", "parts"]) == 2
    said = capsys.readouterr().err
    assert "questions.jsonl" in said and "--yes" in said
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["questions.jsonl"]
    assert run(["data", "split", "a.jsonl", "--out", "parts", "questions=0", "--yes"]) == 0
    assert not (tmp_path / "parts" / "questions.jsonl").exists()  # not of this division


def test_the_file_that_is_read_is_never_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", rows_of(100))
    before = path.read_bytes()
    assert run(["data", "split", "train.jsonl", "--out", ".", "--yes"]) == 2
    assert "train.jsonl" in capsys.readouterr().err and path.read_bytes() == before
    assert run(["data", "split", "train.jsonl", "--out", "./../" + tmp_path.name, "--yes"]) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("validation=1.5", ("validation=1.5", "validation=10%")),
        ("questions=abc", ("questions=abc", "questions=50")),
        ("train=0", ("train=0", "train=0.1")),
        ("validation=-3", ("validation=-3",)),
        ("seed=x", ("seed=x", "seed=1")),
        ("questions=500", ("500 question", "100 usable", "questions=0")),
        ("by=topic", ("topic", "intent", "--by")),
        ("learning=3", ("learning",)),
    ],
)
def test_what_makes_no_division_is_refused_with_a_way_out(
    given: str, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows_of(100))
    assert run(["data", "split", "a.jsonl", "--out", "parts", given]) in (2, 3)
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert "should not happen" not in said and not (tmp_path / "parts").exists()


def test_options_of_training_are_named_as_without_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows_of(100))
    assert run(["data", "split", "a.jsonl", "--out", "parts", "length=512", "bad_rows=drop"]) == 0
    said = capsys.readouterr().err
    assert "length" in said and "bad_rows" not in said


def test_a_folder_that_is_a_file_is_an_error_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows_of(100))
    assert run(["data", "split", "a.jsonl", "--out", "a.jsonl"]) != 0
    said = capsys.readouterr().err
    assert "a.jsonl" in said and "should not happen" not in said
