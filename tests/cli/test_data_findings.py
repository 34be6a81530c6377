"""`zao data check` on a terminal: findings after the facts, a page to hand on, and a repaired copy."""

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.data.folders import chat, write_jsonl
from tests.data.quality.planted import clean, plant
from xiaozao.cli import console
from xiaozao.cli.main import run
from xiaozao.texts.catalogue import LANGUAGES

SECRET = chat("Which key opens it?", "It is sk-" + "abcDEF0123456789abcdef.")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")


def test_contents_are_warnings_and_a_serious_one_takes_the_green_tick(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_jsonl(tmp_path / "a.jsonl", clean("en", 60)))
    assert run(["data", "check", path]) == 0
    said = capsys.readouterr().out
    assert said.startswith("✔") and "Nothing stands out" in said
    assert run(["data", "check", str(write_jsonl(tmp_path / "b.jsonl", [*clean("en", 60), SECRET]))]) == 0
    said = capsys.readouterr().out
    assert said.startswith("!") and "serious findings: 1" in said
    assert "access keys" in said and "row 61, message 2" in said and "abcdef" not in said.split("stands out")[1]


def test_json_holds_the_same_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(write_jsonl(tmp_path / "b.jsonl", [*clean("en", 60), SECRET])), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["kind"], found["severity"], found["count"], found["rows"]) == ("api_key", "serious", 1, [61])
    assert found["examples"][0]["turn"] == 2 and found["what"] and found["why"] and found["fix"]


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_line_is_wider_than_the_terminal(
    language: str, width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(console, "PIPE_WIDTH", width)
    name = "zh" if language == "zh-CN" else "en"
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", plant(clean(name, 300), name, each=2).rows)
    assert run(["data", "check", "a.jsonl", "validation=none", "--no-color"]) == 0
    lines = capsys.readouterr().out.split("\n")
    findings = lines[next(index for index, line in enumerate(lines) if line.startswith(("What stands", "内容检查"))) :]
    assert len(findings) > 100 and max(map(cell_len, findings)) <= width


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_stands_alone_and_shows_what_the_terminal_shows(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    rows = [*clean("zh", 60), SECRET, chat("<script>alert(1)</script> 是什么？", "<b>请看</b>{{链接}}。")]
    path = str(write_jsonl(tmp_path / "数据.jsonl", rows))
    page = tmp_path / "page.html"
    assert run(["data", "check", path, "--report", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert f'lang="{language}"' in text and "prefers-color-scheme: dark" in text and "数据.jsonl" in text
    assert "<script" not in text and "://" not in text and "src=" not in text and "{{链接}}" in text
    assert run(["data", "check", path, "--report", str(page)]) == 2
    assert run(["data", "check", path, "--report", str(page), "--yes"]) == 0


def test_a_file_that_is_refused_is_repaired_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hand.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in clean("zh", 60)]
    path.write_text("\n".join([*lines[:30], lines[30][:-1] + ",}", *lines[31:]]), encoding="utf-8")
    assert run(["data", "check", str(path)]) == 3
    assert "--fix OUT" in capsys.readouterr().out
    out = tmp_path / "better.jsonl"
    assert run(["data", "check", str(path), "--fix", str(out)]) == 0
    said = capsys.readouterr().out
    assert "60 rows; 1 changed, 0 left out" in said and "JSON repaired" in said and "✔" in said
    assert run(["data", "check", str(path), "--fix", str(out)]) == 2  # not twice over the same name
    assert "--yes" in capsys.readouterr().err
    assert run(["data", "check", str(path), "--fix", str(out), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fixed"]["rules"] == {"json": 1}
    assert run(["data", "check", str(path), "--fix", str(path), "--yes"]) == 2


def test_flags_of_the_fix_need_it_and_their_advice_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_jsonl(tmp_path / "a.jsonl", [*clean("en", 60), SECRET]))
    assert run(["data", "check", path, "--drop", "api_key"]) == 2
    assert "--fix" in capsys.readouterr().err
    assert run(["data", "check", path, "--fix", str(tmp_path / "b.jsonl"), "--drop", "api_key"]) == 0
    said = capsys.readouterr().out
    assert "60 rows; 0 changed, 1 left out" in said and "access keys" not in said
