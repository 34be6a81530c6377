"""tokenizer.json is looked at before it is used: what could grow without end, or fail on a row, is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.data.folders import byte_level, metaspace, model_folder, word_level
from xiaozao.data.encoder import Encoder
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.tokenising import tokenise
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import ArtefactError, Problem
from xiaozao.spec.parts import DataSpec

Change = Callable[[dict[str, Any]], object]


def changed(make: Callable[[], Tokenizer], change: Change) -> str:
    document = json.loads(make().to_str())
    change(document)
    return json.dumps(document)


def refusal(text: str) -> str:
    with pytest.raises(ArtefactError) as caught:
        Encoder(Path("tokenizer.json"), text)
    assert caught.value.what("zh-CN") != caught.value.what("en") and len(str(caught.value)) < 1500
    return str(caught.value)


def replaces(part: str, pattern: dict[str, str], content: str, times: int = 1) -> Change:
    step = {"type": "Replace", "pattern": pattern, "content": content}
    kind = "decoders" if part == "decoder" else "normalizers"
    return lambda document: document.update({part: {"type": "Sequence", kind: [step] * times}})


BOMBS: dict[str, tuple[Change, str]] = {
    "a thousand for one": (replaces("decoder", {"String": "a"}, "a" * 1000), "1e+03"),
    "two for one, forty times": (replaces("decoder", {"String": "a"}, "aa", 40), "1.1e+12"),
    "before every character": (replaces("normalizer", {"Regex": ""}, "a" * 20), "21"),
    "for nothing": (replaces("normalizer", {"String": ""}, "a"), "1e+300"),
    "a million letters": (replaces("decoder", {"String": "a"}, "a" * 10**6), "1000000"),
    "steps": (replaces("decoder", {"String": "a"}, "b", 1000), "1002"),
    "a long token": (lambda document: document["model"]["vocab"].update({"a" * 10**6: 300}), "1000000"),
    "a long added token": (lambda document: document["added_tokens"][0].update(content="a" * 5000), "5000"),
    "an id beyond all": (lambda document: document["model"]["vocab"].update({"zz": 2**40}), str(2**40)),
    "half a character": (lambda document: document["model"]["vocab"].update({"\ud800": 300}), "surrogates"),
    "no model": (lambda document: document.pop("model"), "vocabulary"),
    "no vocabulary": (lambda document: document["model"].update(vocab=3), "vocabulary"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_could_grow_without_end_is_refused_with_the_number(case: str) -> None:
    change, number = BOMBS[case]
    assert number in refusal(changed(byte_level, change))


@pytest.mark.parametrize(
    ("make", "change", "field"),
    [
        (word_level, lambda document: document["model"].update(unk_token="none of them"), "unk_token"),
        (word_level, lambda document: document["model"].update(type="WordPiece", unk_token="none of them",
         continuing_subword_prefix="##", max_input_chars_per_word=100), "unk_token"),
        (metaspace, lambda document: document["model"].update(unk_id=None), "unk_id"),
        (metaspace, lambda document: document["model"].update(unk_id=10**6), "unk_id"),
    ],
)  # fmt: skip
def test_a_model_that_fails_on_what_it_does_not_know_is_refused(
    make: Callable[[], Tokenizer], change: Change, field: str
) -> None:
    assert field in refusal(changed(make, change))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"model": {"vocab": {}}}', '{"model": []}'])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("make", [byte_level, metaspace, word_level])
def test_real_kinds_pass_and_answer_rare_characters(make: Callable[[], Tokenizer]) -> None:
    encoder = Encoder(Path("tokenizer.json"), make().to_str())
    assert encoder.decode(encoder.encode("😀 hello \u0378"), True)


def fails_on_rare(document: dict[str, Any]) -> None:
    document["model"].update(unk_token="none of them")
    document["pre_tokenizer"] = None


def test_a_tokenizer_that_fails_on_some_text_is_refused_when_it_is_tried(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, Tokenizer.from_str(changed(byte_level, fails_on_rare)))
    with pytest.raises(ArtefactError, match="failed when it was tried.*none of them"):
        ChatTokenizer.from_folder(folder)


def test_a_text_that_the_tokenizer_refuses_is_a_problem_of_its_row(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path, byte_level()))
    vars(tokenizer)["_encoder"] = Encoder(tmp_path / "tokenizer.json", changed(byte_level, fails_on_rare))
    refused = tokenise(tokenizer, Conversation((Turn("user", "您好"), Turn("assistant", "a")), 7), DataSpec(data="a"))
    assert isinstance(refused, Problem) and (refused.key, refused.params["line"]) == ("row_tokenizer", 7)
    assert "none of them" in refused.text("zh-CN")


def panics(document: dict[str, Any]) -> None:
    document["model"].update(continuing_subword_prefix="x" * 500)


def runs_away(document: dict[str, Any]) -> None:
    document["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated",
                                 "invert": False}  # fmt: skip


@pytest.mark.parametrize("change", [panics, runs_away])
def test_a_tokenizer_that_panics_is_refused_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Change
) -> None:
    folder = model_folder(tmp_path, byte_level())
    (folder / "tokenizer.json").write_text(changed(byte_level, change), encoding="utf-8")
    with pytest.raises(ArtefactError, match="when it was tried"):
        ChatTokenizer.from_folder(folder)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"chat_template": [{"name": ["a"], "template": "b"}]}, "chat_template"),
        ({"chat_template": 3}, "chat_template"),
        ({"chat_template": [{"name": "default"}]}, "chat_template"), ({"chat_template": ["a"]}, "chat_template"),
        ({"chat_template": {"default": "a"}}, "chat_template"), ({"bos_token": 3}, "bos_token"),
        ({"eos_token": ["</s>"]}, "eos_token"), ({"eos_token": {"text": "</s>"}}, "eos_token"),
        ({"add_bos_token": "yes"}, "add_bos_token"), ({"eos_token": "\ud800"}, "surrogates"),
    ],
)  # fmt: skip
def test_settings_of_another_type_are_refused(tmp_path: Path, settings: dict[str, Any], field: str) -> None:
    folder = model_folder(tmp_path, byte_level(), template=None, **settings)
    with pytest.raises(ArtefactError, match="tokenizer_config.json") as caught:
        ChatTokenizer.from_folder(folder)
    assert field in str(caught.value)
