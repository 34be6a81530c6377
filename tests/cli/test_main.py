"""The one place where an error becomes words and an exit code."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.toy import toy_folder, write_chats
from xiaozao.cli.main import VERBS, run
from xiaozao.cli.verb import Verb
from xiaozao.errors import DataError, Problem, UsageError
from xiaozao.texts.catalogue import LANGUAGES, Language

ZAO = [sys.executable, "-m", "xiaozao.cli"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")


def _raise(kind: str) -> int:
    match kind:
        case "ours":
            raise DataError("data", problems=[Problem("micro_batch", {"micro_batch": 2, "batch": 1})], path="f")
        case "usage":
            raise UsageError("argument", argument="x y")
        case "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")
        case "forbidden":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/some/file")
        case "bug":
            raise KeyError("k")
        case "ctrl-c":
            raise KeyboardInterrupt
        case "three":
            return 3
    return 0


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A verb of the test's own, in the place of `doctor`."""
    trial = Verb("doctor", callback=_raise, params=[click.Option(["--kind"], default="", help="cli.common.json")])
    monkeypatch.setitem(VERBS, "doctor", lambda: trial)
    yield


CASES = [
    ("usage", 2, "USAGE", "x y"),
    ("full", 9, "ENVIRONMENT", "/some/file"),
    ("forbidden", 9, "ENVIRONMENT", "/some/file"),
    ("bug", 1, "FAILED", "KeyError: 'k'"),
]


@pytest.mark.usefixtures("verb")
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("kind", "code", "name", "word"), CASES)
def test_an_error_is_said_on_stderr_in_the_readers_language(
    kind: str, code: int, name: str, word: str, language: Language,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(["doctor", "--kind", kind]) == code
    said = capsys.readouterr()
    assert said.out == ""
    first, *_, last = said.err.splitlines()
    assert first.startswith(f"{'Error' if language == 'en' else '错误'}[{name}] ")
    assert word in first
    assert last.startswith("Try: " if language == "en" else "建议：")
    assert "Traceback" not in said.err


@pytest.mark.usefixtures("verb")
@pytest.mark.parametrize("place", ["before", "after", "format"])
@pytest.mark.parametrize(("kind", "code", "name", "word"), CASES)
def test_a_program_gets_the_error_as_one_document(
    kind: str, code: int, name: str, word: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"before": ["--json", "doctor"], "after": ["doctor", "--json"], "format": ["doctor", "--format", "json"]}
    assert run([*words[place], "--kind", kind]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["error"]["code"] == name
    assert word in document["error"]["message"]
    assert document["error"]["fix"]
    assert document["error"]["problems"] == []


@pytest.mark.usefixtures("verb")
def test_the_traceback_of_a_bug_is_in_the_log_and_with_debug_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["doctor", "--kind", "bug"])
    assert "KeyError" in (tmp_path / "home" / "error.log").read_text(encoding="utf-8")
    assert str(tmp_path / "home" / "error.log") in capsys.readouterr().err
    run(["doctor", "--kind", "bug", "--debug"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("verb")
def test_a_home_that_cannot_be_written_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "file" / "home"))
    assert run(["doctor", "--kind", "bug"]) == 1
    assert "KeyError: 'k'" in capsys.readouterr().err


@pytest.mark.usefixtures("verb")
def test_ctrl_c_is_130_and_a_verb_may_return_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--kind", "ctrl-c"]) == 130
    assert run(["doctor", "--kind", "three"]) == 3
    assert run(["doctor"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "trian"),
        (["--nope"], "--nope"),
        (["plan", "--rnak", "3"], "--rank"),
        (["train", "--rank"], "--rank"),
        (["plan", "--format", "yaml"], "--format"),
        (["runs", "show"], "RUN"),
        (["runs", "delete"], "show"),
        (["train", "word"], "word"),
    ],
)
def test_a_wrong_command_line_is_2_and_names_what_is_wrong(
    words: list[str], expected: str, language: Language, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(words) == 2
    said = capsys.readouterr()
    assert "[USAGE]" in said.err
    assert expected in said.err
    assert said.out == ""
    assert run([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "USAGE"


def test_all_problems_of_a_spec_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "model=m", "data=d", "rank=x", "--epochs", "0", "foo=1", "--json"]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n  - ") == 3
    problems = json.loads(said.out)["error"]["problems"]
    assert {problem["params"]["name"] for problem in problems} == {"rank", "epochs", "foo"}


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["--help"], "Usage: zao "),
        ([], "Usage: zao "),
        (["-h"], "Usage: zao "),
        (["runs"], "Usage: zao runs "),
        (["--version"], "zao "),
    ],
)
def test_help_and_version_are_results(words: list[str], start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    said = capsys.readouterr()
    assert said.out.startswith(start)
    assert said.err == ""


SNIPPET = """
import sys
from xiaozao.cli.main import run
code = run(sys.argv[1:])
heavy = {"torch", "transformers", "polars", "pydantic", "rich", "matplotlib", "pyarrow"} & set(sys.modules)
print("code", code, "heavy", sorted(heavy))
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["trian"]])
def test_the_first_page_imports_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPET, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].endswith("heavy []")


@pytest.mark.parametrize(
    "words", [["plan", "--help"], ["train", "--help"], ["runs", "ls"], ["data", "check", "--help"], ["train", "rank=x"]]
)
def test_the_verbs_that_must_be_instant_never_reach_torch(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPET, *words], capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1]
    assert "torch" not in last
    assert "transformers" not in last


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently on Windows")
def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen([*ZAO, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode == 141


LONG = "长" * 100  # 300 bytes


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "show", LONG], ["export", LONG], ["chat", LONG], ["data", "check", LONG], ["train", "--resume", LONG],
        ["train", f"model={LONG}", f"data={__file__}"], ["plan", LONG], ["export", "a" * 300],
    ],
    ids=lambda words: " ".join(words[:2])[:20],
)  # fmt: skip
def test_a_name_that_no_disk_takes_is_refused_in_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) in (2, 8, 9)
    said = capsys.readouterr().err
    assert "has 300 bytes" in said or "name too long" in said


def test_an_output_that_no_disk_takes_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from_here = toy_folder(tmp_path / "model"), write_chats(tmp_path / "d.jsonl", 8)
    words = ["train", f"model={from_here[0]}", f"data={from_here[1]}"]
    for output in (tmp_path / LONG, tmp_path / "/".join(["a" * 200] * 30)):
        assert run([*words, f"output={output}"]) == 2
        said = capsys.readouterr().err
        assert "file systems allow 255" in said or "file systems allow 4096" in said


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use cannot be removed there")
@pytest.mark.parametrize("words", [["runs", "ls"], ["train", "model=m", "data=d"], ["doctor", "--offline"]])
def test_a_working_folder_that_is_gone_is_said_in_words(tmp_path: Path, words: list[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from xiaozao.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=gone, capture_output=True, text=True)
    assert done.returncode == 9
    assert "no longer exists" in done.stderr and "cd " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["ZAO_HOME", "ZAO_CACHE"])
@pytest.mark.parametrize("words", [["runs", "ls"], ["train", "model=m", "data=d"], ["disk"]])
def test_a_place_of_ours_that_is_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, words: list[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    places = [("file", "file"), ("link", "link"), *([("file/below/it", "file")] if name == "ZAO_HOME" else [])]
    for place, named in places[: 3 if words[0] == "runs" else 2]:
        monkeypatch.setenv(name, str(tmp_path / place))
        assert run(words) == 9
        said = capsys.readouterr().err
        assert name in said and f"{tmp_path / named} " in said
