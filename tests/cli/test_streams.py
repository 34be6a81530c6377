"""Output that nobody takes: closed streams, full disks, readers that went away, consoles without our characters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xiaozao.events import Ended, Event, Started, Step
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells and devices of POSIX")
STEP = Step(3, 9, 0.3, 1.5, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, 6.0)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with two runs: one that succeeded with many steps, one that failed."""
    steps: list[Event] = [Started("r", 1), *[STEP] * 2000]
    for name, ended in {"good": Ended("succeeded"), "bad": Ended("failed", "DATA_INVALID", "m", exit_code=3)}.items():
        folder = RunFolder(tmp_path / "home" / "runs" / name)
        folder.path.mkdir(parents=True)
        folder.spec.write_text("model: m\ndata: d\n", encoding="utf-8")
        with Journal(folder.events) as journal:
            for event in (*steps, ended):
                journal.record(event)
    return {**os.environ, "ZAO_HOME": str(tmp_path / "home"), "ZAO_LANG": "zh-CN"}


def _shell(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    line = command.replace("zao", f"{sys.executable} -m xiaozao.cli")
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, timeout=120)


@pytest.mark.parametrize("lost", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full", "> /dev/full 2>&1",
                                  "2> /dev/full", "| head -1 > /dev/null; exit ${PIPESTATUS[0]}"])  # fmt: skip
@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 3)])
@pytest.mark.parametrize("words", ["runs watch", "train --resume"])
def test_the_exit_code_tells_how_the_run_ended_whoever_reads(
    lost: str, name: str, code: int, words: str, home: dict[str, str]
) -> None:
    if words == "train --resume" and name == "bad":
        return  # it would be started again
    done = _shell(f"zao {words} {name} --json {lost}", home)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


def test_a_verb_that_only_shows_something_fails_where_that_is_lost(home: dict[str, str]) -> None:
    done = _shell("zao runs ls > /dev/full", home)
    assert done.returncode == 9
    assert "输出无法写出" in done.stderr.decode() and "?" not in done.stderr.decode()
    assert _shell("zao runs show nothing 2> /dev/full", home).returncode == 8
    assert _shell("zao runs show nothing >&- 2>&-", home).returncode == 8
    assert _shell("zao runs ls >&-", home).returncode == 0


def test_a_file_never_takes_the_place_of_a_closed_stream(home: dict[str, str], tmp_path: Path) -> None:
    """Else the index of runs would get what is meant for the terminal."""
    before = (Path(home["ZAO_HOME"]) / "runs" / "good" / "events.jsonl").read_bytes()
    assert _shell("zao runs show good <&- >&- 2>&-", home).returncode == 0
    assert _shell("zao runs ls", home).returncode == 0
    assert (Path(home["ZAO_HOME"]) / "runs" / "good" / "events.jsonl").read_bytes() == before


C_LOCALES = [
    {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
]  # fmt: skip
VERBS = {
    "--help": 0, "train --help": 0, "runs ls": 0, "runs show good": 0, "runs show 无": 8, "data check 数据.jsonl": 0,
    "train model=模型 data=数据.jsonl --print-config": 0,
}  # fmt: skip


@pytest.mark.parametrize("words", VERBS)
@pytest.mark.parametrize("locale", C_LOCALES, ids=str)
def test_the_c_locale_is_no_obstacle(words: str, locale: dict[str, str], home: dict[str, str], tmp_path: Path) -> None:
    row = '{"messages": [{"role": "user", "content": "您好"}, {"role": "assistant", "content": "在"}]}\n'
    (tmp_path / "数据.jsonl").write_text(row, encoding="utf-8")
    done = _shell(f"cd {tmp_path}; zao {words}", {**home, **locale})
    assert done.returncode == VERBS[words]
    assert b"Traceback" not in done.stderr and "不该发生" not in done.stderr.decode("utf-8", "replace")


def test_an_argument_that_is_no_text_is_refused_in_words(home: dict[str, str]) -> None:
    done = _shell(r"zao runs show $'caf\xe9'", home)
    assert done.returncode == 2
    assert r"caf\xe9" in done.stderr.decode()
