"""Help pages: in the reader's language, with two examples that are true."""

import inspect
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module

import click
import pytest

from xiaozao.cli import asked, declared
from xiaozao.cli.help import WIDTH, width_of, wrap
from xiaozao.cli.main import VERBS, run
from xiaozao.cli.models import SOURCES
from xiaozao.cli.suggest import LENGTH
from xiaozao.launch.targets import TARGETS
from xiaozao.plan.suggestions import JOBS
from xiaozao.spec.fields import OPTIONS
from xiaozao.texts.catalogue import LANGUAGES, Language, say


def _paths(name: str) -> list[list[str]]:
    """A verb and, if it is a noun, those below it."""
    command = VERBS[name]()
    return [[name], *([name, one] for one in (command.commands if isinstance(command, click.Group) else ()))]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_and_two_examples(
    name: str, language: Language, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    for words in _paths(name):
        assert run([*words, "--help"]) == 0
        page = capsys.readouterr().out
        assert page.startswith(f"{'Usage: ' if language == 'en' else '用法：'}zao {' '.join(words)}")
        examples = page.split("Examples:\n" if language == "en" else "示例：\n")[1].splitlines()
        assert len(examples) >= 2
        assert all(line.startswith(f"  zao {words[0]}") for line in examples)
        assert "--json" in page
        assert "cli." not in page
        assert max(map(width_of, page.splitlines())) <= WIDTH + 20


@pytest.mark.parametrize(("words", "count"), [(["train"], 2), (["plan"], 1), (["data", "check"], 0)])
def test_help_asks_for_what_the_verb_needs_alone(
    words: list[str], count: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", "en")
    assert run([*words, "--help"]) == 0
    assert capsys.readouterr().out.count("[required]") == count


@pytest.mark.parametrize("name", VERBS)
def test_the_flags_in_examples_exist(name: str) -> None:
    for language, words in itertools.product(LANGUAGES, _paths(name)):
        for line in say(f"cli.{'.'.join(words)}.examples", language).splitlines():
            _, *typed = shlex.split(line)
            command, context = VERBS[typed.pop(0)](), click.Context(click.Command("zao"))
            while isinstance(command, click.Group):
                command = command.commands[typed.pop(0)]
            known = {flag for parameter in command.get_params(context) for flag in parameter.opts}
            assert {word for word in typed if word.startswith("-")} <= known
            options = [word for before, word in zip(["", *typed], typed, strict=False) if not before.startswith("--")]
            names = {
                word.partition("=")[0] for word in options if "=" in word and word.partition("=")[0].isidentifier()
            }
            assert names <= set(OPTIONS)


def test_wide_characters_take_two_columns() -> None:
    assert width_of("ab中文，") == 8


@pytest.mark.parametrize(
    "text",
    [
        "one two three four five six seven",
        "中文没有空格，所以可以在任何地方换行。但标点不行！",
        "混合 English 和 GGUF 的句子，长度足够换行。",
    ],
)
def test_lines_are_no_wider_than_asked_and_lose_nothing(text: str) -> None:
    lines = wrap(text, 20)
    assert all(width_of(line) <= 22 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) > 1
    assert not any(line.startswith(tuple("，。！、）")) for line in lines)


def test_an_english_word_is_never_broken() -> None:
    assert wrap("supercalifragilistic word", 10) == ["supercalifragilistic", "word"]


def test_an_empty_text_is_one_empty_line() -> None:
    assert wrap("", 10) == [""]


HEAVY = ("torch", "transformers", "polars", "matplotlib", "scipy", "numpy", "tokenizers", "huggingface_hub", "rich")
LOOK = """
import contextlib, io, json, sys
from xiaozao.cli.main import run
page = io.StringIO()
with contextlib.redirect_stdout(page):
    code = run(sys.argv[1:])
print(json.dumps([code, len(page.getvalue()), sorted(sys.modules)]))
"""


@pytest.mark.parametrize("words", [words for name in VERBS for words in _paths(name)], ids=" ".join)
def test_help_imports_nothing_of_what_the_verb_works_with(words: list[str]) -> None:
    """It answers in 0.3 s because of that."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *words, "--help"], capture_output=True, text=True, encoding="utf-8", check=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    code, length, modules = json.loads(done.stdout)
    assert code == 0 and length > 200
    assert [name for name in HEAVY if name in modules] == []


def test_what_a_verb_declares_is_what_its_work_knows() -> None:
    assert declared.JOBS == tuple(JOBS)
    assert declared.LENGTH == OPTIONS["length"].default == LENGTH
    assert tuple(TARGETS) == asked.TARGETS
    assert declared.SOURCES == SOURCES == OPTIONS["source"].choices


@pytest.mark.parametrize("name", VERBS)
def test_the_work_of_every_verb_is_there_and_takes_what_is_declared(name: str) -> None:
    for words in _paths(name):
        command = VERBS[words[0]]()
        if len(words) > 1 and isinstance(command, click.Group):
            command = command.commands[words[1]]
        if isinstance(command, click.Group):
            continue
        work = inspect.unwrap(command.callback) if command.callback else None
        assert work is not None and work.__closure__ is not None
        place = dict(zip(work.__code__.co_freevars, (cell.cell_contents for cell in work.__closure__), strict=True))
        function = getattr(import_module(f"xiaozao.cli.{place['module']}"), place["name"])
        given = {one.name: None for one in command.params}
        inspect.signature(function).bind(**given)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["chat", "x", "--max-tokens", "0"], ["--max-tokens", "0", ">= 1"]),
        (["chat", "x", "--temperature", "hot"], ["--temperature", "hot", ">= 0"]),
        (["models", "suggest", "--job", "cook"], ["--job", "cook", "support | extract"]),
        (["export", "x", "--precision", "fp8"], ["--precision", "fp8", "bf16 | fp32"]),
        (["export", "x", "--to", "ollama"], ["ollama", "zao export x --to gguf"]),
        (["export", "x", "--type", "q8_0"], ["--type", "--to gguf"]),
        (["export", "x", "--to", "pdf"], ["pdf", "merged"]),
    ],
    ids=lambda one: " ".join(one),
)
def test_a_wrong_value_of_a_flag_is_told_in_the_readers_language(
    words: list[str], parts: list[str], language: Language, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(words) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in parts)
    assert not re.search("is not (one of|a valid|in the range)", said)
