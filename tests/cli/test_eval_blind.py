"""`zao eval blind` as people use it: a vote in a terminal, sheets that go out and come back, and the result."""

import csv
import io
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.evaluate.blind.runs import answered, for_tuned, log_of, vote_all
from xiaozao.cli.booth import Booth
from xiaozao.cli.console import Output
from xiaozao.cli.main import run
from xiaozao.cli.verb import OutputSettings
from xiaozao.evaluate.blind.ballot import BlindVote, open_vote
from xiaozao.evaluate.statistics.power import decision, sign_power
from xiaozao.evaluate.statistics.sequential import wins_to_stop
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import LANGUAGES, say


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> RunFolder:
    return answered(tmp_path / "home" / "runs" / "shop", 50)


def begun(folder: RunFolder) -> BlindVote:
    """The vote of a run, begun by writing a sheet."""
    assert run(["eval", "blind", "shop", "--sheet", "first.html", "--voter", "Anna", "-q"]) == 0
    vote = open_vote(folder)
    assert vote is not None
    return vote


def fill_in(path: Path, vote: BlindVote, count: int = 99) -> None:
    """Fill in the table for the tuned model."""
    header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [header, *([*row[:6], vote.key.tuned_on[row[1]] if at < count else ""] for at, row in enumerate(rows))]
    )
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# --- from the first sheet to the result --------------------------------------------------------------------------


def test_a_table_goes_out_and_comes_back(shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "blind", "shop", "--sheet", "vote.csv", "--voter", "Anna", "--json"]) == 0
    told = document(capsys)
    assert (told["questions"], told["repeats"], told["same"], told["voter"]) == (50, 5, 0, "Anna")
    vote = open_vote(shop)
    assert vote is not None and told["commitment"] == vote.key.commitment
    fill_in(tmp_path / "vote.csv", vote, 30)
    assert run(["eval", "blind", "shop", "--read", "vote.csv"]) == 0
    assert "Anna: 30 new votes, 0 changed, 0 known already; 25 questions left" in capsys.readouterr().out
    fill_in(tmp_path / "vote.csv", vote)
    assert run(["eval", "blind", "shop", "--read", "vote.csv", "--json"]) == 0
    assert document(capsys)["read"][0] == {
        "file": "vote.csv", "voter": "Anna", "new": 25, "changed": 0, "known": 30, "left": 0,
    }  # fmt: skip
    assert run(["eval", "blind", "shop", "--result", "--json"]) == 0
    result = document(capsys)
    assert (result["verdict"], result["wins"], result["losses"], result["why_shown"]) == ("tuned", 50, 0, "finished")
    assert result["p"] < 1e-12 and result["consistency"] == [{"voter": "Anna", "same": 5, "of": 5}]
    assert len(result["answers"]) == 50 and result["salt"] == vote.key.salt


@pytest.mark.skipif(os.name == "nt", reason="no sha256sum")
def test_the_seal_can_be_opened_with_a_command(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    vote_all(begun(shop), "Anna", for_tuned)
    capsys.readouterr()
    assert run(["eval", "blind", "shop", "--result", "--json"]) == 0
    told = document(capsys)
    done = subprocess.run(
        ["sh", "-c", "printf '%s\\n%s' \"$0\" \"$1\" | sha256sum", told["salt"], told["mapping"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[0] == told["commitment"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_result_is_a_sentence_and_a_table(
    shop: RunFolder, language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    vote = begun(shop)
    vote_all(vote, "Anna", lambda number, side: side if number % 3 else "tie")
    vote_all(vote, "Ben", for_tuned)
    capsys.readouterr()
    assert run(["eval", "blind", "shop", "--result"]) == 0
    shown = capsys.readouterr().out
    first, second = ("The tuned model is preferred: 50 of 50", "A was chosen") if language == "en" else (
        "微调后的模型更受偏好：50 个分出胜负的问题中赢了 50 个", "选 A",
    )  # fmt: skip
    assert first in shown and second in shown and vote.key.salt in shown
    assert "Anna" in shown and "Ben" in shown and "{" not in shown
    assert run(["eval", "blind", "shop", "--result", "-q"]) == 0
    assert capsys.readouterr().out == "tuned\n"


def test_the_result_waits_for_everybody_and_says_for_whom(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    vote = begun(shop)
    log_of(vote).vote("Ben", vote.key.asked[0], "a")
    assert run(["eval", "blind", "shop", "--result"]) == 2
    told = capsys.readouterr().err
    assert "Ben has 54 of 55 left" in told and "Anna has 55 of 55 left" in told
    assert "zao eval blind shop --result --reveal" in told
    assert log_of(vote).read().revealed is None
    assert run(["eval", "blind", "shop", "--result", "--reveal"]) == 0
    assert "Shown before everybody was through" in capsys.readouterr().out
    revealed = log_of(vote).read().revealed
    assert revealed is not None and revealed[0] == "asked"


def test_a_sheet_that_nobody_returned_is_waited_for(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "blind", "shop", "--sheet", "vote.html"]) == 0
    vote = open_vote(shop)
    assert vote is not None
    vote_all(vote, "me", for_tuned)
    assert run(["eval", "blind", "shop", "--result"]) == 2
    assert "a sheet was written, and none came back" in capsys.readouterr().err


def test_after_the_result_a_vote_is_closed_and_a_new_one_can_begin(
    shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = begun(shop)
    assert run(["eval", "blind", "shop", "--sheet", "vote.csv", "--voter", "Anna"]) == 0
    fill_in(tmp_path / "vote.csv", first)
    vote_all(first, "Anna", for_tuned)
    assert run(["eval", "blind", "shop", "--result"]) == run(["eval", "blind", "shop", "--result"]) == 0
    capsys.readouterr()
    for words in (["--read", "vote.csv"], ["--sheet", "late.html"]):
        assert run(["eval", "blind", "shop", *words]) == 2
        told = capsys.readouterr().err
        assert "votes after that would not be blind" in told and "zao eval blind shop --again" in told
    assert run(["eval", "blind", "shop", "--again", "--sheet", "late.html"]) == 0
    second = open_vote(shop)
    assert second is not None and second.ballot.hash != first.ballot.hash
    assert run(["eval", "blind", "shop", "--read", "vote.csv"]) == 3
    told = capsys.readouterr().err
    assert first.ballot.name in told and second.ballot.name in told


def test_votes_on_answers_that_are_no_longer_those_of_the_run_say_so(
    shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(shop)
    other = answered(tmp_path / "other", 50, tuned="Something else {0}")
    other.answers("tuned").replace(shop.answers("tuned"))
    assert run(["eval", "blind", "shop", "--sheet", "vote.csv"]) == 0
    assert "The vote is on the earlier answers" in capsys.readouterr().err


PAGES = sorted((Path(__file__).parents[2] / "docs").glob("blind*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_command_of_the_page_works(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a run that was trained before; what is voted at the terminal and on the page is put in between."""
    shop = answered(tmp_path / "home" / "runs" / "my-run", 50)
    lines = [line.removeprefix("$ ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("$ ")]
    trained, *commands, sealed = (shlex.split(line) for line in lines)
    (tmp_path / "train.jsonl").touch()
    assert run([*trained[1:], "--print-config"]) == 0
    assert "questions: " in capsys.readouterr().out
    vote = None
    for command in commands:
        assert command[:4] == ["zao", "eval", "blind", "my-run"]
        if "--sheet" not in command and "--read" not in command and "--result" not in command:
            continue  # at the terminal: below
        if "--read" in command:
            vote = open_vote(shop)
            assert vote is not None
            vote_all(vote, "Anna", for_tuned)
            fill_in(tmp_path / "vote.csv", vote)
            votes = [{"pair": pair.id, "choice": "tie"} for pair in vote.ballot.pairs]
            given = {"format": "xiaozao-votes", "v": 1, "sheet": vote.ballot.name, "voter": "Ben", "votes": votes}
            (tmp_path / "votes-Ben.json").write_text(json.dumps(given), encoding="utf-8")
        assert run([*command[1:], "--json"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out[out.rindex('{\n  "schema_version"') :])
    assert (result["verdict"], sorted(result["voters"])) == ("tuned", ["Anna", "Ben", "Cleo"])
    assert len(commands) == 5 and sealed[0] == "printf" and sealed[-1] == "sha256sum"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_tables_of_the_page_are_true(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| (\d+)%? \S+ (\d+) ?% \|$", text, flags=re.MULTILINE)
    assert len(lines) == 5
    for decided, needed, p, low, high in lines:
        row = decision(int(decided))
        assert (row.wins, f"{row.p:.3f}") == (int(needed), p)
        assert (f"{100 * row.interval.low:.0f}", f"{100 * row.interval.high:.0f}") == (low, high)
    first, second = re.findall(r"^\|[^|]*((?:\| \d+ ){8})\|$", text, flags=re.MULTILINE)
    decided, needed = ([int(number) for number in re.findall(r"\d+", row)] for row in (first, second))
    assert [wins_to_stop(number) for number in decided] == needed
    for share, found in ((0.7, 78), (0.65, 51), (0.6, 24)):
        assert round(100 * sign_power(50, share)) == found and str(found) in text


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "zao eval blind shop --sheet vote.html"),
        (["--json"], 2, "Voting needs a terminal"),
        (["--sheet", "vote.txt"], 2, "neither .html nor .csv"),
        (["--sheet", "a.csv", "--read", "b.csv"], 2, "--sheet, --read cannot be asked for at once"),
        (["--result", "--again"], 2, "--result, --again cannot"),
        (["--reveal", "--voter", "Anna"], 2, "--result, --voter cannot"),
        (["--result"], 8, "No vote on the run shop has begun yet"),
        (["--read", "b.csv"], 8, "No vote on the run shop has begun yet"),
        (["--voter", " ", "--sheet", "a.csv"], 2, "cannot be the name of a voter"),
        (["--sheet", "nowhere/a.csv"], 9, "nowhere/a.csv cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(
    shop: RunFolder, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "blind", "shop", *words]) == code
    assert told in capsys.readouterr().err


def test_without_a_terminal_no_vote_begins(shop: RunFolder) -> None:
    assert run(["eval", "blind", "shop"]) == 2
    assert open_vote(shop) is None and not shop.blind.exists()


def test_more_refusals_of_a_vote_that_has_begun(
    shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vote = begun(shop)
    for words, code, told in (
        (["--result"], 2, "Nobody has voted on the run shop yet"),
        (["--sheet", "first.html"], 2, "first.html is there already"),
        (["--read", "none.csv"], 8, "There is no file none.csv"),
        (["--read", "first.html"], 3, "no sheet of a blind vote"),
    ):
        assert run(["eval", "blind", "shop", *words]) == code
        assert told in capsys.readouterr().err
    assert run(["eval", "blind", "shop", "--sheet", "first.html", "--yes"]) == 0
    vote.folder.votes.write_text("not a vote\n", encoding="utf-8")
    assert run(["eval", "blind", "shop", "--result"]) == 2
    assert "1 lines of" in capsys.readouterr().err
    vote.folder.pairs.write_text("{", encoding="utf-8")
    assert run(["eval", "blind", "shop", "--result"]) == 3
    assert "pairs.json is damaged" in capsys.readouterr().err
    assert run(["eval", "blind", "shop", "--again", "--sheet", "new.html"]) == 0


def test_all_files_are_read_before_a_vote_is_recorded(
    shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vote = begun(shop)
    assert run(["eval", "blind", "shop", "--sheet", "vote.csv", "--voter", "Anna"]) == 0
    fill_in(tmp_path / "vote.csv", vote)
    (tmp_path / "bad.csv").write_text("a,b\n", encoding="utf-8")
    assert run(["eval", "blind", "shop", "--read", "vote.csv", "--read", "bad.csv"]) == 3
    assert log_of(vote).read().voters == ()


def test_a_run_without_answers_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = answered(tmp_path / "home" / "runs" / "bare", 3)
    folder.answers("base").unlink()
    folder.answers("tuned").unlink()
    assert run(["eval", "blind", "bare", "--sheet", "a.csv"]) == 8
    assert "questions=FILE" in capsys.readouterr().err
    assert run(["eval", "blind", "nothing", "--sheet", "a.csv"]) == 8


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_nothing_is_written_through_a_link(shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").mkdir()
    shop.blind.symlink_to(tmp_path / "precious")
    assert run(["eval", "blind", "shop", "--sheet", "a.csv"]) == 3
    assert "precious" in capsys.readouterr().err and list((tmp_path / "precious").iterdir()) == []


def test_a_removed_run_takes_its_vote_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = answered(tmp_path / "elsewhere", 3)
    assert run(["eval", "blind", str(folder.path), "--sheet", "a.csv"]) == 0
    assert run(["runs", "rm", str(folder.path), "--yes"]) == 0
    assert not folder.path.exists()


# --- at the terminal ---------------------------------------------------------------------------------------------


def voted_with(vote: BlindVote, keys: Sequence[str], voter: str = "me") -> tuple[int, str]:
    """Press these keys; returns the exit code and what was on the screen. After the last key the input ends."""
    output = Output(OutputSettings(language="en"))
    screen = io.StringIO()
    output.stdout.file = screen
    pressed = iter(keys)

    def key() -> str:
        try:
            return next(pressed)
        except StopIteration:
            raise EOFError from None

    code = Booth(vote, log_of(vote), voter, output, key).vote()
    return code, screen.getvalue()


def test_each_key_has_its_choice(shop: RunFolder) -> None:
    vote = begun(shop)
    order = [pair.id for pair in vote.order("me")]
    code, screen = voted_with(vote, ["a", "B", "t", "x", "s", "ａ", "\x1b[D", "\x1b[C", "z", "\x1b", "aa"])
    assert code == 0
    chosen = log_of(vote).read().choices["me"]
    assert chosen == dict(zip(order, ["a", "b", "tie", "bad", "skip", "a", "a", "b"], strict=False))
    assert "Question 1 of 55" in screen and "Voted: Both bad" in screen and "skipped 1" in screen


def test_undo_goes_back_and_a_stopped_vote_goes_on(shop: RunFolder) -> None:
    vote = begun(shop)
    order = [pair.id for pair in vote.order("me")]
    assert "There is no vote to take back" in voted_with(vote, ["u", "q"])[1]
    voted_with(vote, ["a", "a", "a", "u", "u", "b"])
    assert log_of(vote).read().choices["me"] == {order[0]: "a", order[1]: "b"}
    _, screen = voted_with(vote, ["t", "q"])
    assert "Question 3 of 55" in screen
    assert list(log_of(vote).read().choices["me"]) == order[:3]


def test_all_the_way_to_the_end(shop: RunFolder) -> None:
    vote = begun(shop)
    keys = [vote.key.tuned_on[pair.id] for pair in vote.order("me")]
    code, screen = voted_with(vote, keys)
    assert (code, log_of(vote).read().open("me", [pair.id for pair in vote.ballot.pairs])) == (0, 0)
    assert "You may stop" not in screen  # Anna has a sheet; with her the votes are counted together


def test_a_voter_alone_is_told_when_he_may_stop(tmp_path: Path, shop: RunFolder) -> None:
    vote = begun(shop)
    vote.folder.votes.unlink()
    keys = [vote.key.tuned_on[pair.id] for pair in vote.order("me")]
    for count in range(len(keys)):
        code, screen = voted_with(vote, [keys[count], "q"])
        votes = sum(pair.id in vote.key.asked for pair in vote.order("me")[: count + 1])
        assert ("You may stop" in screen.rpartition("Voted")[2]) is (votes >= 8)
        assert f"{votes} decisive votes" in screen
        if votes == 8:
            break
    assert run(["eval", "blind", "shop", "--result"]) == 0


def test_the_screen_tells_nothing_of_the_sides(shop: RunFolder) -> None:
    vote = begun(shop)
    _, screen = voted_with(vote, ["a"] * 55)
    screen = screen.replace("SmolLM2-135M", "")  # what the base model says of itself in its answers
    for word in ("tuned", "base", "SmolLM2", "shop", vote.key.salt, str(vote.key.seed)):
        assert word not in screen


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_wrap_and_nothing_is_wider_than_the_screen(
    tmp_path: Path, columns: int, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    long = "很长的回答，" * 40 + " and a very long word " + "x" * 150
    answered(tmp_path / "home" / "runs" / "long", 6, base=long + "{0}", tuned="Short {0}\n\nsecond line")
    terminal = Terminal(["eval", "blind", "long"], columns)
    try:
        screen = terminal.until("x" * 20)
        terminal.press("q")
        assert terminal.ended() == 0
    finally:
        terminal.close()
    lines = [line for line in screen.splitlines() if line.strip()]
    assert max(map(width, lines)) <= columns
    assert screen.count(say("blind.sheet.answer_a", "zh-CN" if language == "zh-CN" else "en")) >= 1


def width(line: str) -> int:
    """Columns that a line takes, without what steers the terminal."""
    return cell_len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r"))


class Terminal:
    """A real `zao` in a terminal of its own."""

    def __init__(self, words: Sequence[str], columns: int) -> None:
        pty = pytest.importorskip("pty")
        self._ours, theirs = pty.openpty()
        size = {"COLUMNS": str(columns), "LINES": "60", "TERM": "xterm"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xiaozao.cli", *words], stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, **size}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._seen = b""

    def until(self, text: str, seconds: float = 60) -> str:
        """What was shown until a text came up."""
        deadline = time.monotonic() + seconds
        while text not in self._seen.decode("utf-8", "ignore"):
            assert time.monotonic() < deadline, self._seen.decode("utf-8", "replace")
            if select.select([self._ours], [], [], 0.1)[0]:
                self._seen += os.read(self._ours, 1 << 16)
        time.sleep(0.3)  # the rest of the screen, and the wait for a key
        while select.select([self._ours], [], [], 0)[0]:
            self._seen += os.read(self._ours, 1 << 16)
        screen, self._seen = self._seen.decode("utf-8", "replace"), b""
        return screen.rpartition("\x1b[2J")[2]

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def interrupt(self) -> None:
        """Ctrl-C while the program does something else than waiting for a key."""
        self._process.send_signal(signal.SIGINT)

    def ended(self) -> int:
        return self._process.wait(timeout=60)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_loses_nothing_and_the_vote_goes_on(shop: RunFolder, how: str) -> None:
    terminal = Terminal(["eval", "blind", "shop", "--voter", "Anna"], 100)
    try:
        terminal.until("Question 1 of 55")
        terminal.press("a")
        terminal.until("Question 2 of 55")
        terminal.press("t")
        terminal.until("Question 3 of 55")
        terminal.press("\x03") if how == "key" else terminal.interrupt()
        assert terminal.ended() == 130
    finally:
        terminal.close()
    vote = open_vote(shop)
    assert vote is not None
    assert list(log_of(vote).read().choices["Anna"].values()) == ["a", "tie"]
    again = Terminal(["eval", "blind", "shop", "--voter", "Anna"], 60)
    try:
        assert "Question 3 of 55" in again.until("Question 3 of 55")
        again.press("q")
        assert again.ended() == 0
    finally:
        again.close()
