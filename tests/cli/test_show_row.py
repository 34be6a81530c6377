"""`zao data show`: colours where there are any, signs where there are none, and never a control character."""

import json
from pathlib import Path

import pytest

from tests.data.folders import chat, write_jsonl
from tests.toy import toy_folder
from xiaozao.cli.main import run
from xiaozao.texts.catalogue import LANGUAGES


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.chdir(tmp_path)
    toy_folder(tmp_path / "model")
    write_jsonl(tmp_path / "a.jsonl", [{**chat("hi\x1b[31m", "hello there"), "intent": "greet"}, chat("only asked")])


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_learned_is_marked_where_there_is_no_colour(
    language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(["data", "show", "a.jsonl", "--row", "1", "model=model"]) == 0
    said = capsys.readouterr().out
    assert "«hello there" in said and "intent: greet" in said
    assert ("context" if language == "en" else "上下文") in said
    assert "\x1b" not in said and "\\x1b[31m" in said


def test_colours_take_the_place_of_signs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run(["data", "show", "a.jsonl", "--row", "1", "model=model"]) == 0
    said = capsys.readouterr().out
    assert "«" not in said and "\x1b[1;32mhello there" in said
    assert run(["data", "show", "a.jsonl", "--row", "1", "model=model", "--no-color"]) == 0
    assert "«hello there" in capsys.readouterr().out


def test_ids_and_targets_are_in_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", "a.jsonl", "--row", "1", "model=model", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    ((sequence,),) = document["samples"]
    assert len(sequence["ids"]) == len(sequence["targets"]) == document["tokens"]
    assert [one["text"] for one in sequence["runs"] if one["learned"]][0] == "hello there"


def test_a_row_that_is_left_out_is_shown_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", "a.jsonl", "--row", "1", "model=model", "length=8"]) == 0
    assert "length=8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0", ("--row 0", "--row 7")), ("x", ("--row x",)), ("-1", ("-1",)), ("1:", ("1:",)),
        ("9", ("row 9", "--row 1")), ("2", ("row 2", "no answer")), ("2:1", ("2:1",)), ("٣", ("--row 1",)),
    ],
)  # fmt: skip
def test_what_is_no_row_is_refused(row: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", "a.jsonl", f"--row={row}"]) not in (0, 1)
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_a_file_without_a_usable_row_leads_to_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "b.jsonl", [chat("only asked")])
    assert run(["data", "show", "b.jsonl", "--row", "5"]) == 3
    assert "zao data check" in capsys.readouterr().err
