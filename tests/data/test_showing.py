"""`show`: what is shown of a row is what a run would learn from it."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import CHATML, STRICT, byte_level, chat, model_folder, write_jsonl
from xiaozao.data.conversations import read_conversations
from xiaozao.data.rows import FILE_LINES
from xiaozao.data.showing import Shown, show_row
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import DataError
from xiaozao.spec.parts import DataSpec

ROWS = [
    chat("hi", "hello there"), chat("only asked"), {"messages": [{"role": "robot", "content": "x"}]},
    chat("您好 👩‍👩‍👧", "您好，é ﬁ 😀！", "and?", "no more", system="Be kind."),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("showing") / "model", byte_level())


def show(path: Path | str, line: int, model: Path | None = None, **options: Any) -> Shown:
    return show_row(DataSpec(data=str(path), **options), line, model)


def test_ids_and_targets_are_those_of_a_run_and_the_text_is_whole(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    tokenizer = ChatTokenizer.from_folder(model)
    for line, conversation in zip((1, 4), read_conversations(DataSpec(data=str(path), bad_rows="drop")), strict=True):
        shown = show(path, line, model)
        encoded = tokenizer.encode(conversation)
        ((sequence,),) = shown.samples
        assert sequence.ids == tuple(encoded.ids) and sequence.targets == tuple(encoded.targets)
        assert tuple(one for run in sequence.runs for one in run.ids) == sequence.ids
        assert tuple(run.learned for run in sequence.runs for _ in run.ids) == sequence.targets
        assert "".join(run.text for run in sequence.runs) == tokenizer.decode(sequence.ids, skip_special=False)
        assert "\ufffd" not in "".join(run.text for run in sequence.runs)  # no character is cut between runs
        answers = [turn.content for turn in conversation.turns if turn.role == "assistant"]
        learned = "".join(run.text for run in sequence.runs if run.learned and not run.special)
        assert learned.strip() == "".join(answers)
        assert {run.text for run in sequence.runs if run.special} == {"<|im_start|>", "<|im_end|>"}
        assert (shown.tokens, shown.outcome) == (len(encoded.ids), "")


def test_text_that_looks_like_a_special_token_is_none(tmp_path: Path, model: Path) -> None:
    ((sequence,),) = show(
        write_jsonl(tmp_path / "a.jsonl", [chat("say <|im_end|>", "<|im_end|> no")]), 1, model
    ).samples
    plain = "".join(run.text for run in sequence.runs if not run.special)
    assert plain.count("<|im_end|>") == 2
    assert sum(run.special and run.text == "<|im_end|>" for run in sequence.runs) == 2


def test_without_a_model_the_conversation_is_shown(tmp_path: Path) -> None:
    shown = show(write_jsonl(tmp_path / "a.jsonl", ROWS), 4)
    assert shown.samples == () and [turn["role"] for turn in shown.conversation["messages"]] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip


def test_a_pair_has_two_sides_and_a_text_is_learned_but_for_its_first_token(tmp_path: Path, model: Path) -> None:
    pair = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "hi", "chosen": "hello", "rejected": "no"}])
    (sides,) = show(pair, 1, model).samples
    assert [one.side for one in sides] == ["chosen", "rejected"]
    assert ["hello" in run.text for one in sides for run in one.runs if run.learned and not run.special] == [
        True,
        False,
    ]
    ((text,),) = show(write_jsonl(tmp_path / "t.jsonl", [{"text": "once upon a time"}]), 1, model).samples
    assert text.targets == (False, *[True] * (len(text.ids) - 1))


def test_a_row_that_a_run_would_leave_out_says_so(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [chat("hi", "hello " * 50)])
    shown = show(path, 1, model, length=20)
    assert shown.outcome == "too_long" and shown.tokens == len(shown.samples[0][0].ids) > 20
    cut = show(path, 1, model, length=20, truncation="right")
    assert cut.outcome == "" and len(cut.samples[0][0].ids) == 20


@pytest.mark.parametrize(
    ("line", "key"), [(2, "show_dropped"), (3, "show_unusable"), (5, "show_no_row"), (10**13 + 1, "show_no_row")]
)
def test_a_row_that_is_none_is_refused_with_its_reason(line: int, key: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        show(write_jsonl(tmp_path / "a.jsonl", ROWS), line)
    assert caught.value.key == key
    assert [problem.key for problem in caught.value.problems] == (["row_role"] if key == "show_unusable" else [])


def test_rows_of_the_second_file_are_found(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", [chat("hi", "first")])
    second = write_jsonl(tmp_path / "b.jsonl", [chat("hi", "second"), {"messages": 3}])
    shown = show(f"{first},{second}", FILE_LINES + 1)
    assert shown.line == "2:1" and shown.conversation["messages"][1]["content"] == "second"
    with pytest.raises(DataError) as caught:
        show(f"{first},{second}", FILE_LINES + 2)
    assert caught.value.key == "show_unusable"


def test_a_template_that_refuses_the_row_is_told(tmp_path: Path) -> None:
    strict = model_folder(tmp_path / "strict", byte_level(), STRICT)
    path = write_jsonl(tmp_path / "a.jsonl", [chat("hi", "hello", system="no")])
    with pytest.raises(DataError, match="System role not supported"):
        show(path, 1, strict)
    assert show(path, 1, model_folder(tmp_path / "kind", byte_level(), CHATML)).samples
