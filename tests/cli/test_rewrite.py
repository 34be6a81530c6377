"""`zao data convert`: what is said of what was taken over and what was not."""

import json
from pathlib import Path

import pytest

from tests.data.folders import chat, write_jsonl
from xiaozao.cli.main import run
from xiaozao.texts.catalogue import LANGUAGES

THOUGHT = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "reasoning": "z"}]}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_lost_is_named_with_its_rows(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    odd = {"messages": [*chat("a")["messages"], *chat("b", "c")["messages"]]}
    write_jsonl(tmp_path / "a.jsonl", [chat("hi", "hello"), THOUGHT, odd, chat("q", "r", "s", "t"), chat("only asked")])
    assert run(["data", "convert", "a.jsonl", "b.json", "--to", "alpaca"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("! b.json") and "history" in said and "--to messages" in said
    assert "5" in said and "messages" in said
    lines = said.splitlines()
    assert len([line for line in lines if "2)" in line or "第 2 行" in line]) == 1
    assert len([line for line in lines if "3)" in line or "第 3 行" in line]) == 1
    rows = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert [row["output"] for row in rows] == ["hello", "y", "t"]


def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", [chat("hi", "hello"), THOUGHT])
    assert run(["data", "convert", "a.jsonl", "b.jsonl", "--to", "messages"]) == 0
    said = capsys.readouterr().out
    assert "!" not in said and "2 rows" in said
    assert run(["data", "convert", "a.jsonl", "b.jsonl", "--to", "openai", "--json", "--yes"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["written"], document["lost"], document["left"], document["path"]) == (2, {}, {}, "b.jsonl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.jsonl", "b.csv", "--to", "messages"], ("b.csv", "b.jsonl")),
        (["a.jsonl", "a.jsonl", "--to", "messages", "--yes"], ("a.jsonl", "never overwritten")),
        (["a.jsonl", "there.jsonl", "--to", "messages"], ("there.jsonl", "--yes")),
        (["a.jsonl", "folder", "--to", "messages"], ("folder", "folder/data.jsonl")),
        (["a.jsonl", "a.jsonl/b.jsonl", "--to", "messages"], ("a.jsonl", "another folder")),
        (["text.jsonl", "b.jsonl", "--to", "openai"], ("plain text", "--to messages")),
        (["no.jsonl", "b.jsonl", "--to", "openai"], ("no.jsonl",)),
        (["a.jsonl", "b.jsonl", "--to", "parquet"], ("parquet", "messages")),
    ],
)
def test_what_is_not_written_is_refused_with_a_way_out(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [chat("hi", "hello")])
    write_jsonl(tmp_path / "text.jsonl", [{"text": "once upon a time"}])
    write_jsonl(tmp_path / "there.jsonl", [])
    (tmp_path / "folder").mkdir()
    before = path.read_bytes()
    assert run(["data", "convert", *arguments]) not in (0, 1)
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert path.read_bytes() == before and not (tmp_path / "b.jsonl").exists()
