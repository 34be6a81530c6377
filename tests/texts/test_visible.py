"""What others wrote can be looked at: nothing in it steers a terminal, nothing is lost."""

import io
import json
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from tests.data.folders import write_jsonl
from xiaozao.cli.console import Output, show, stage_bars
from xiaozao.cli.main import run
from xiaozao.cli.verb import OutputSettings
from xiaozao.errors import ArtefactError, Problem
from xiaozao.events import Noticed, to_line, to_record
from xiaozao.texts.visible import LONGEST, in_line, json_visible, visible

EVIL = "a\x1b]0;owned\x07b\x9b31m\u202ec\u2066d\x7f\r\x00\ud800e"
SHOWN = r"a\x1b]0;owned\x07b\x9b31m\u202ec\u2066d\x7f\r\x00\ud800e"
STEERING = [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0xD800]


ROWS = [[{EVIL[:9]: 1}], [{"prompt": EVIL[:18], "answer": "b"}, {"messages": 3, EVIL[:9]: "a"}]]


def steers(text: str) -> set[str]:
    return {one for one in text if ord(one) in STEERING and one not in "\n\t"}


def test_what_steers_is_shown_and_the_rest_stays() -> None:
    assert visible(EVIL) == SHOWN and in_line(EVIL) == SHOWN
    assert visible("a\n\tb 您好 😀 é") == "a\n\tb 您好 😀 é"
    assert in_line("a\n\tb") == r"a\n\tb"
    for number in STEERING:
        assert not steers(visible(chr(number))) and not steers(in_line(chr(number)))


def test_a_value_in_a_sentence_ends_somewhere() -> None:
    assert len(in_line("x" * 10**6)) == LONGEST + 1


def test_json_with_escapes_reads_back_as_the_same_value() -> None:
    text = json_visible(json.dumps({EVIL: [EVIL]}, ensure_ascii=False))
    assert not steers(text) and json.loads(text) == {EVIL: [EVIL]}


def test_every_error_shows_what_it_quotes() -> None:
    error = ArtefactError("artefact_damaged", [Problem("json", {"detail": ValueError(EVIL)})], path=Path("x\x1b[2J"))
    for text in (str(error), error.what("zh-CN"), error.problems[0].text("zh-CN")):
        assert not steers(text) and text.encode()
    assert SHOWN in str(error) and r"x\x1b[2J" in str(error)


def test_a_record_of_the_journal_can_be_looked_at() -> None:
    line = to_line(to_record(Noticed("config_stripped", {"keys": EVIL}), 1, 1.0))
    assert not steers(line) and json.loads(line)["params"]["keys"] == EVIL


def test_tables_bars_and_plain_text_are_shown_through_the_same_window(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stdout", file)
    console = Output(OutputSettings(no_color=True)).stdout
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL, Text("b\x1bc\x9b"))
    show(console, table)
    show(console, f"first\n{EVIL}\nlast")
    with stage_bars(console) as progress:
        progress.add_task(EVIL)
        console.print(progress)
    told = file.getvalue()
    assert not steers(told) and told.count(r"\x1b]0;owned") >= 4 and "first\n" in told


@pytest.mark.parametrize("words", [[], ["--json"], ["-q"]])
@pytest.mark.parametrize("name", ["rows.jsonl", "ro\x1b[2J\x9bws.jsonl"])
@pytest.mark.parametrize(
    "rows", [[{EVIL[:9]: 1}], [{"prompt": EVIL[:18], "answer": "b"}, {"messages": 3, EVIL[:9]: "a"}]]
)
def test_columns_rows_and_names_of_files_steer_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], name: str, rows: list[dict[str, object]]
) -> None:
    run(["data", "check", str(write_jsonl(tmp_path / name, rows)), *words])
    out, err = capfd.readouterr()
    assert not steers(out) and not steers(err)
    assert words == ["-q"] or r"\x1b" in out + err or r"\u001b" in out + err
