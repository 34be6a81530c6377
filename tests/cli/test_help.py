"""Help pages: in the reader's language, with two examples that are true."""

import itertools
import shlex

import click
import pytest

from xiaozao.cli.help import WIDTH, width_of, wrap
from xiaozao.cli.main import VERBS, run
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
        assert page.startswith(f"{'Usage' if language == 'en' else '用法'}: zao {' '.join(words)}")
        examples = page.split("Examples:\n" if language == "en" else "示例:\n")[1].splitlines()
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
            names = {word.partition("=")[0] for word in typed if "=" in word and word.partition("=")[0].isidentifier()}
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
