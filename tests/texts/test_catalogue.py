"""Two catalogues with the same keys and placeholders; every key that the source uses exists."""

import ast
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xiaozao import errors
from xiaozao.cli.demo import tried_text
from xiaozao.spec.fields import OPTIONS
from xiaozao.texts.catalogue import LANGUAGES, Language, catalogue, has, language_from, language_of, say

SOURCE = Path(errors.__file__).parent
ERRORS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.XiaozaoError)}

# Who takes a key of the catalogues as first argument, and what stands before it there.
PREFIXES = {
    **dict.fromkeys(ERRORS, "error."),
    "Problem": "problem.",
    "Noticed": "notice.",
    "Progress": "stage.",
    **dict.fromkeys(("say", "_say", "note", "confirm"), ""),
}

# Modules whose own method `say` puts a prefix before the key.
OWN_PREFIXES = {"evaluate/page.py": "report."}


def placeholders(text: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def _literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be, as far as they stand in the source."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _literals(body)
            yield from _literals(orelse)


def _given(call: ast.Call) -> set[str] | None:
    """The parameters that a call hands over by name or as a dict; None where that cannot be read off."""
    if any(keyword.arg is None for keyword in call.keywords):
        return None
    names = {keyword.arg for keyword in call.keywords if keyword.arg}
    for argument in call.args[1:]:
        if isinstance(argument, ast.List | ast.Tuple) or getattr(argument, "id", "") == "problems":
            continue
        if not isinstance(argument, ast.Dict) or not all(isinstance(key, ast.Constant) for key in argument.keys):
            return None
        names |= {str(key.value) for key in argument.keys if isinstance(key, ast.Constant)}
    return names


def uses() -> Iterator[tuple[str, str, set[str] | None]]:
    """Where a key is used, the key, and the parameters given with it."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                own = OWN_PREFIXES.get(path.relative_to(SOURCE).as_posix(), "") if name == "say" else ""
                for literal in _literals(node.args[0]) if name in PREFIXES else ():
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", own + PREFIXES[name] + literal, _given(node)
            if isinstance(node, ast.keyword) and node.arg in ("help", "key") and isinstance(node.value, ast.Constant):
                if str(node.value.value).startswith("cli."):
                    yield f"{path.relative_to(SOURCE)}:{node.value.lineno}", str(node.value.value), None


def test_the_catalogues_have_the_same_keys() -> None:
    assert set(catalogue("en")) == set(catalogue("zh-CN"))


def test_the_catalogues_have_the_same_placeholders() -> None:
    for key, text in catalogue("en").items():
        assert placeholders(text) == placeholders(catalogue("zh-CN")[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_catalogues_are_sorted_and_no_text_is_empty(language: Language) -> None:
    pairs = json.loads(
        (SOURCE / "texts" / f"{language}.json").read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: pairs
    )
    keys = [key for key, _ in pairs]
    assert keys == sorted(set(keys))
    assert [key for key, text in pairs if not text.strip()] == []


def test_every_key_in_the_source_exists() -> None:
    found = list(uses())
    assert len(found) > 100
    missing = [f"{where} {key}" for where, key, _ in found if not has(key)]
    assert not missing


def test_every_text_gets_the_parameters_it_names() -> None:
    wrong = []
    for where, key, given in uses():
        for one in (key, f"{key}.fix") if key.startswith("error.") else (key,):
            if given is not None and has(one) and not placeholders(catalogue("en")[one]) <= given | {"fix"}:
                wrong.append(f"{where} {one} names {placeholders(catalogue('en')[one])}, is given {given}")
    assert not wrong


def test_every_option_has_its_text() -> None:
    assert [name for name in OPTIONS if not has(f"option.{name}")] == []


def test_a_fix_belongs_to_an_error() -> None:
    assert [key for key in catalogue("en") if key.endswith(".fix") and key[:-4] not in catalogue("en")] == ["cli.fix"]


def test_an_unknown_key_is_a_bug_and_says_so() -> None:
    with pytest.raises(KeyError, match="no.such.key"):
        say("no.such.key")


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh-CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "ZAO_LANG": "zh"}, "zh-CN"),
        ({"ZAO_LANG": "", "LC_MESSAGES": "zh_TW"}, "zh-CN"),
    ],
)
def test_the_language_is_the_readers(environment: dict[str, str], language: str) -> None:
    assert language_from(environment) == language


def test_windows_names_of_languages_are_known() -> None:
    assert language_of("Chinese (Simplified)_China") == "zh-CN"
    assert language_of("English_United States") == "en"


def test_every_reason_to_leave_a_row_out_has_words() -> None:
    """Problems of rows are counted under their keys where bad_rows=drop leaves them out."""
    rows = [key.removeprefix("problem.") for key in catalogue("en") if key.startswith("problem.row_")]
    assert [key for key in rows if not has(f"dropped.{key}")] == []


def test_counts_become_words_and_control_characters_are_shown() -> None:
    assert say("watch.dropped", "en", reasons={"too_long": 3, "empty_answer": 1, "media": 0}) == (
        "dropped: 3 too long, 1 empty answer"
    )
    assert say("watch.dropped", "zh-CN", reasons={"too_long": 3}) == "丢弃：过长 3 条"
    assert say("error.data_empty", "en", path="a\x1b]0;evil\x07.csv\u202e") == r"a\x1b]0;evil\x07.csv\u202e is empty"


def test_what_the_demo_tried_is_told_in_the_readers_language() -> None:
    assert tried_text("cache: found", "zh-CN") == "缓存：已有"
    assert tried_text("hf: unreachable (timed out)", "zh-CN") == "Hugging Face：无法连接 (timed out)"
    assert tried_text("modelscope: not installed", "en") == "ModelScope: its client is not installed"
    assert tried_text("pypi: fetched", "en") == "PyPI: fetched"


GLOSSARY = json.loads((SOURCE / "texts" / "glossary.json").read_text(encoding="utf-8"))["terms"]
# What is no prose: option=value, paths, names of files, commands and what stands in braces.
CODE = re.compile(r"\{\w+\}|[\w.]+=\S*|\b(?:runs|models):\w*|https?://\S+|re:|[A-Za-z][\w./*-]*:(?=\s|$)")
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff”）][,:;!?(]|[,:;!?)][\u4e00-\u9fff]")


def _prose(key: str) -> str:
    """A Chinese text without what is no prose in it; examples of commands are none."""
    return "" if key.endswith(".examples") else CODE.sub(" ", catalogue("zh-CN")[key])


@pytest.mark.parametrize("term", GLOSSARY, ids=[term["en"] for term in GLOSSARY])
def test_a_word_that_the_glossary_forbids_stands_in_no_text(term: dict[str, Any]) -> None:
    forbidden = re.compile("|".join(term.get("not", ["(?!)"])))
    assert {key: text for key in catalogue("zh-CN") if (text := _prose(key)) and forbidden.search(text)} == {}


def test_the_words_of_the_glossary_are_those_of_the_texts() -> None:
    everything = "".join(catalogue("zh-CN").values())
    for term in GLOSSARY:
        words = re.split(r"[（）/ ]+", term["zh"])
        assert any(word and word in everything for word in words), term


def test_punctuation_in_chinese_is_full_width() -> None:
    assert {key: text for key in catalogue("zh-CN") if HALF_WIDTH.search(text := _prose(key))} == {}


def test_quotes_stand_close_to_chinese_words() -> None:
    spaced = re.compile(r"[\u4e00-\u9fff] “|” [\u4e00-\u9fff]|\d %|\} %")
    assert {key for key in catalogue("zh-CN") if spaced.search(catalogue("zh-CN")[key])} == set()


@pytest.mark.parametrize(
    "broken", ["{", '{"a" 1}', '{"a": 1 "b"}', "{'a': 1}", '{"a": 1} x', '{"a": "\n"}', '{"a', '{"\\q": 1}']
)
def test_what_python_says_of_json_is_in_the_readers_language(broken: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(broken)
    english = say("problem.row_json", "en", line=1, column=2, detail=caught.value.msg)
    assert caught.value.msg in english
    assert not re.search(r"[A-Za-z]{5}", say("problem.row_json", "zh-CN", line=1, column=2, detail=caught.value.msg))
