"""Advice that is followed to the letter works: the options and commands that texts name, the way on after a fault."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from tests.toy import toy_folder, write_chats
from xiaozao.cli.main import VERBS, run
from xiaozao.events import Ended, Event, Started, Step
from xiaozao.spec.fields import OPTIONS
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal
from xiaozao.store.runs import summarise
from xiaozao.texts.catalogue import LANGUAGES, Language, catalogue

# What stands before a `=` in a text and is no option of ours.
FOREIGN = {
    *("HF_ENDPOINT", "HTTPS_PROXY", "key", "python", "tie_word_embeddings"),
    *("time", "sender", "text", "customer", "question", "answer", "context", "label"),  # of columns=
    *("NAME", "arc"),  # of --task
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")


def _advice(language: Language) -> dict[str, str]:
    told = ("error.", "problem.", "notice.", "train.", "runs.", "doctor.", "plan.", "suggest.", "models.", "ladder.")
    return {key: text for key, text in catalogue(language).items() if key.startswith(told)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_that_a_text_names_is_one(language: Language) -> None:
    wrong = {
        key: name
        for key, text in _advice(language).items()
        for name in re.findall(r"(?<![\w{./-])([A-Za-z_]+)=(?!=)", text)
        if name not in OPTIONS and name not in FOREIGN
    }
    assert wrong == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_command_that_a_text_names_is_one(language: Language) -> None:
    wrong = {}
    for key, text in _advice(language).items():
        for verb, word in re.findall(r"(?<![A-Za-z])zao ([a-z]+)(?: ([a-z]+)(?= |$|[.;,，；）]))?", text):
            command = VERBS[verb]() if verb in VERBS else None
            if command is None or (isinstance(command, click.Group) and word not in command.commands):
                wrong[key] = f"{verb} {word}"
    assert wrong == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_flag_that_advice_names_is_one_of_some_verb(language: Language) -> None:
    flags = {"--help", "--upgrade", "--index-url", "--force-reinstall"}
    for verb in VERBS.values():
        group = verb()
        for command in (group, *(group.commands.values() if isinstance(group, click.Group) else ())):
            flags |= {flag for one in command.get_params(click.Context(command)) for flag in one.opts}
    named = {flag for text in _advice(language).values() for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert named <= flags


# --- data: checked again with what the advice says -------------------------------------------------------------------

GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
TEXT = {"text": "a text"}
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
# By key of the error: rows, options that fail, and what the advice says to write.
DATA: dict[str, tuple[list[dict[str, Any]], list[str], list[str]]] = {
    "data_rows": ([GOOD, {"messages": [{"role": "nobody", "content": "x"}]}, GOOD], [], ["bad_rows=drop"]),
    "data_mixed": ([GOOD, TEXT], [], ["format=messages", "bad_rows=drop"]),
    "data_texts": ([TEXT, TEXT], ["objective=dpo"], ["objective=pretrain"]),
    "data_pairs": ([PAIR, PAIR], ["objective=sft"], ["objective=dpo"]),
    "data_answers": ([GOOD, GOOD], ["objective=dpo"], ["objective=sft"]),
}


@pytest.mark.parametrize("key", DATA)
def test_advice_on_data_works_when_it_is_followed(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, given, advice = DATA[key]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run(["data", "check", str(path), *given]) == 3
    said = capsys.readouterr()
    assert advice[0] in said.err + said.out or advice[0].partition("=")[2] in said.err
    names = {word.partition("=")[0] for word in advice}
    kept = [word for word in given if word.partition("=")[0] not in names]
    assert run(["data", "check", str(path), *kept, *advice]) == 0


# --- folders ---------------------------------------------------------------------------------------------------------


def _folder(path: Path, *events: Event) -> RunFolder:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.spec.write_text("model: m\ndata: d\n", encoding="utf-8")
    with Journal(folder.events) as journal:
        for event in events:
            journal.record(event)
    return folder


def _commands(text: str) -> list[list[str]]:
    return [shlex.split(found) for found in re.findall(r"zao ((?:train --resume|runs \w+) \S+)", text)]


def test_a_folder_with_a_run_can_be_gone_on_with_or_removed_as_the_advice_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(tmp_path / "out", Started("r", 1), Ended("succeeded"))
    data = write_chats(tmp_path / "d.jsonl", 4)
    words = ["train", "model=m", f"data={data}", f"output={folder.path}"]
    assert run(words) == 2
    resume, remove = ([part.strip(";") for part in one] for one in _commands(capsys.readouterr().err))
    assert run(resume) == 0
    assert run([*remove, "--yes"]) == 0
    assert not folder.path.exists()


def test_a_refused_resume_works_without_what_was_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = Step(3, 9, 0.3, 1.5, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, 6.0)
    folder = _folder(tmp_path / "out", Started("r", 1), step, Ended("succeeded"))
    assert run(["train", "--resume", str(folder.path), "rank=4"]) == 2
    capsys.readouterr()
    assert run(["train", "--resume", str(folder.path)]) == 0


# --- whole runs: fail, and go on as the advice says ------------------------------------------------------------------


def _zao(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xiaozao.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A toy run that fails for its data: one row has no answer, and nothing fits into eight tokens."""
    data = write_chats(tmp_path / "d.jsonl", 12)
    with data.open("a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "nobody", "content": "x"}]}\n')
    return [
        f"model={toy_folder(tmp_path / 'toy')}", f"data={data}", f"output={tmp_path / 'run'}", "device=cpu",
        "precision=fp32", "rank=2", "length=8", "batch=4", "epochs=0.5", "validation=none", "threads=1", "budget=8GB",
    ]  # fmt: skip


@pytest.mark.real
@pytest.mark.skipif(os.name == "nt", reason="paths in commands")
def test_a_run_that_failed_for_its_data_goes_on_as_the_advice_says(words: list[str], tmp_path: Path) -> None:
    first = _zao("train", *words)
    assert first.returncode == 3 and "bad_rows=drop" in first.stderr
    assert "zao train --resume run key=value" in first.stderr
    second = _zao("train", "--resume", "run", "bad_rows=drop")
    assert second.returncode == 3 and "length=" in second.stderr
    third = _zao("train", "--resume", "run", "length=128")
    assert third.returncode == 0, third.stderr
    folder = RunFolder(tmp_path / "run")
    summary = summarise(folder)
    assert (summary.state, summary.steps) == ("succeeded", 2)
    assert _zao("runs", "rm", "run", "--yes").returncode == 0 or folder.path.exists()


@pytest.mark.real
@pytest.mark.skipif(os.name == "nt", reason="paths in commands")
def test_a_run_that_does_not_fit_goes_on_with_the_way_out_that_was_named(words: list[str], tmp_path: Path) -> None:
    fixed = [word for word in words if not word.startswith(("length", "budget"))]
    first = _zao("train", *fixed, "bad_rows=drop", "length=128", "budget=1MB")
    assert first.returncode == 4
    way = re.search(r"- (\S+=\S+(?: \S+=\S+)*) would do", first.stderr)
    assert way is not None, first.stderr
    assert _zao("train", "--resume", "run", *way[1].split()).returncode == 0
