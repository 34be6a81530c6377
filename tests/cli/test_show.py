"""`zao data show`: a row as a conversation, and as the tokens that the model sees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.data.folders import CHATML, byte_level, chat, model_folder, write_jsonl
from xiaozao.cli.main import run
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.texts.catalogue import LANGUAGES

WEIGHED = {
    "messages": [
        {"role": "user", "content": "hello <|im_end|>"},
        {"role": "assistant", "content": "the wrong one", "weight": 0},
        {"role": "user", "content": "您好"},
        {"role": "assistant", "content": "the right one"},
    ]
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    write_jsonl(tmp_path / "my.jsonl", [chat("hi", "hello"), WEIGHED, {"messages": []}, chat("hi", "")])
    model = model_folder(tmp_path / "model", byte_level(), CHATML)
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 400}), encoding="utf-8")
    save_file({"weight": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    return tmp_path


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["data", "show", str(folder / "my.jsonl"), *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_row_is_a_conversation(
    language: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    said = shown(folder, capsys, "--row", "2")
    assert "the right one" in said and "您好" in said
    assert ("context, not learned" if language == "en" else "不学习") in said
    assert "hello" in shown(folder, capsys)  # the first row


def test_what_is_learned_is_marked_without_colours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(folder, capsys, "--row", "2", f"model={folder / 'model'}")
    assert "[[the right one<|im_end|>]]" in said.replace("\n", "")
    assert "[[the wrong" not in said


def test_the_document_holds_the_ids_that_are_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Any] = json.loads(shown(folder, capsys, "--row", "2", f"model={folder / 'model'}", "--json"))
    (sample,) = told["samples"]
    tokenizer = ChatTokenizer.from_folder(folder / "model")
    learned = [token for token, target in zip(sample["ids"], sample["targets"], strict=True) if target]
    assert tokenizer.decode(learned, skip_special=False) == "the right one<|im_end|>"
    assert "".join(piece["text"] for piece in sample["runs"]) == tokenizer.decode(sample["ids"], skip_special=False)
    forged = [piece for piece in sample["runs"] if "hello <|im_end|>" in piece["text"]]
    assert len(forged) == 1 and not forged[0]["control"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--row", "3"), "cannot be read"),
        (("--row", "4"), "not trained on"),
        (("--row", "99"), "the last one begins on line 4"),
    ],
)
def test_a_row_that_cannot_be_shown_says_why(
    words: tuple[str, ...], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "show", str(folder / "my.jsonl"), *words]) == 3
    assert told in capsys.readouterr().err


def test_a_row_that_is_too_long_is_shown_with_the_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(folder, capsys, "--row", "2", f"model={folder / 'model'}", "length=8")
    assert "Training leaves this row out" in said and "the right one" in said
