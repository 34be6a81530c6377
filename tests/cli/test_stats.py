"""`zao data stats`: fits the screen in both languages, and draws what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.folders import chat, write_jsonl
from tests.toy import toy_folder
from xiaozao.cli.help import width_of
from xiaozao.cli.main import run
from xiaozao.cli.stats import bar_lines
from xiaozao.data.census import Bin
from xiaozao.texts.catalogue import LANGUAGES

LONG = "a very long name of an intent that does not fit into a column of any table"


def row(index: int) -> dict[str, object]:
    asked, answered = f"question {index} " * (index % 5 + 1), f"answer {index} " * (index % 7 + 1)
    return {**chat(asked, answered), "intent": f"{index % 12} {LONG}"}


ROWS = [row(index) for index in range(60)]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal is needed")
@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_shown_fits_the_terminal(language: str, width: int, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    toy_folder(tmp_path / "model")
    variables = {**os.environ, "ZAO_LANG": language, "COLUMNS": str(width), "LINES": "50", "TERM": "xterm"}
    command = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    zao = [sys.executable, "-m", "xiaozao.cli", "data", "stats", "a.jsonl", "model=model", "--no-color"]
    done = subprocess.run([sys.executable, "-c", command, *zao], cwd=tmp_path, env=variables, capture_output=True,
                          text=True, encoding="utf-8", check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split("\r")[-1] for line in done.stdout.replace("\r\n", "\n").splitlines()]
    shown = [line for line in lines if "█" in line or "p95" in line or "length=" in line]
    assert len(shown) > 10
    assert max(map(width_of, shown)) <= width


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_are_told_in_words_and_as_a_document(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    assert run(["data", "stats", "a.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "60" in said and "intent" in said and "100%" in said and "stats." not in said
    toy_folder(tmp_path / "model")
    assert run(["data", "stats", "a.jsonl", "model=model", "length=64", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["conversations"] == 60 and document["measured"] == "tokens"
    assert document["cuts"][0]["length"] == 64 and sum(one["rows"] for one in document["histogram"]) == 60
    assert document["languages"] == {"latin": 60} and len(document["fields"]["intent"]) == 12


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_picture_is_drawn_in_the_format_of_its_name(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    assert run(["data", "stats", "a.jsonl", "--plot", "new/a.png"]) == 0
    assert (tmp_path / "new/a.png").read_bytes().startswith(b"\x89PNG")
    assert run(["data", "stats", "a.jsonl", "--plot", "b.svg"]) == 0
    drawn = (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ("row, characters" if language == "en" else "整行字符数") in drawn and ">0-19<" in drawn
    assert run(["data", "stats", "a.jsonl", "--plot", "b.svg"]) == 2  # there already
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "a.jpg"], ("a.jpg", "lengths.png")),
        (["--plot", "a.jsonl"], ("a.jsonl", "lengths.png")),
        (["model=nowhere/none", "source=local"], ("nowhere/none",)),
        (["length=x"], ("length",)),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    assert run(["data", "stats", "a.jsonl", *arguments]) not in (0, 1)
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_bad_rows_are_counted_and_an_empty_result_is_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [chat("only asked"), {"messages": [{"role": "robot", "content": "x"}]}])
    assert run(["data", "stats", "a.jsonl"]) == 0
    assert "2 read, 0 conversations" in capsys.readouterr().out


def test_bars_keep_to_the_width_and_none_that_is_there_vanishes() -> None:
    histogram = (Bin(0, 50, 10_000), Bin(50, 100, 1), Bin(100, 150, 0), Bin(150, None, 20))
    for width in (20, 40, 100):
        lines = bar_lines(histogram, width, True)
        assert max(map(len, lines)) <= width
        assert [line.count("█") > 0 for line in lines] == [True, True, False, True]
    assert "#" in bar_lines(histogram, 40, False)[0]
