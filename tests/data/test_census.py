"""`stats`: every number against a plain count of the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.folders import CHATML, STRICT, byte_level, chat, model_folder, write_jsonl
from xiaozao.data.census import BINS, PERCENTILES, Census, bins, language_of, take_census
from xiaozao.data.conversations import read_conversations
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.spec.parts import DataSpec

ROWS = [
    {**chat(f"question {index}", f"answer {index} " * (index % 7 + 1)), "intent": "abc"[index % 3], "id": f"r{index}"}
    for index in range(60)
]


def census(path: Path, model: Path | None = None, **options: Any) -> Census:
    return take_census(DataSpec(data=str(path), **options), model)


def test_lengths_are_those_of_the_rows(tmp_path: Path) -> None:
    counted = census(write_jsonl(tmp_path / "a.jsonl", [*ROWS, chat("only asked")]))
    asked = [len(row["messages"][0]["content"]) for row in ROWS]
    answered = [len(row["messages"][1]["content"]) for row in ROWS]
    assert (counted.rows_read, counted.conversations, counted.dropped) == (61, 60, {"no_answer": 1})
    assert counted.lengths["turns"].total == 120
    for name, values in (("question_characters", asked), ("answer_characters", answered)):
        lengths = counted.lengths[name]
        assert (lengths.total, lengths.shortest, lengths.longest) == (sum(values), min(values), max(values))
        assert lengths.mean == pytest.approx(sum(values) / 60)
        for percent in PERCENTILES:  # the least value that so many percent do not exceed
            assert sum(value <= lengths.percentiles[percent] for value in values) >= percent / 100 * 60
            assert lengths.percentiles[percent] in values
    assert counted.measured == "characters" and counted.cuts == ()
    assert sum(one.rows for one in counted.histogram) == 60


def test_tokens_are_those_that_a_run_would_see(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", byte_level(), CHATML)
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    counted = census(path, model, length=64)
    tokenizer = ChatTokenizer.from_folder(model)
    encoded = [tokenizer.encode(one) for one in read_conversations(DataSpec(data=str(path)))]
    lengths = [len(one.ids) for one in encoded]
    assert counted.measured == "tokens"
    assert counted.lengths["tokens"].total == sum(lengths)
    assert counted.lengths["answer_tokens"].total == sum(int(one.targets.sum()) for one in encoded)
    assert counted.lengths["prompt_tokens"].total == sum(int((~one.targets).sum()) for one in encoded)
    assert [cut.length for cut in counted.cuts] == [64, 256, 512, 1024, 2048, 4096, 8192]
    assert counted.cuts[0].rows == sum(length > 64 for length in lengths) > 0
    assert counted.cuts[0].share == pytest.approx(counted.cuts[0].rows / 60)


def test_a_template_that_is_named_takes_effect(tmp_path: Path) -> None:
    bare = model_folder(tmp_path / "bare", byte_level(), None)
    with_own = model_folder(tmp_path / "own", byte_level(), CHATML)
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    named = census(path, bare, template="chatml").lengths["tokens"].total
    assert named == census(path, with_own).lengths["tokens"].total != census(path, bare).lengths["tokens"].total


def test_rows_that_a_template_refuses_are_counted(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", byte_level(), STRICT)
    counted = census(write_jsonl(tmp_path / "a.jsonl", [*ROWS, chat("hi", "hello", system="no")]), model)
    assert counted.untold == 1 and counted.conversations == 61


def test_fields_that_repeat_are_counted_and_others_are_not(tmp_path: Path) -> None:
    counted = census(write_jsonl(tmp_path / "a.jsonl", [*ROWS, {**chat("q", "r"), "intent": "rare"}]))
    assert counted.fields == {"intent": {"a": 20, "b": 20, "c": 20, "rare": 1}}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("怎么取消订单？", "zh"), ("請問運費多少", "zh"), ("how do I cancel?", "en"), ("où est mon colis", "fr"),
        ("注文をキャンセルしたい", "ja"), ("ありがとう", "ja"), ("주문을 취소하고 싶어요", "ko"),
        ("где моя посылка", "ru"),
        ("أين طلبي", "ar"), ("12345 !!!", "other"), ("", "other"), ("สวัสดีครับคุณ", "th"), ("ok fine", "latin"),
        ("帮我看一下 Kubernetes 的 deployment 为什么起不来，日志里没有错误", "zh"),
        ("I bought 小米 phone last week and it broke", "en"), ("我想买の字的贴纸和别的东西一共十件", "zh"),
    ],
)  # fmt: skip
def test_a_language_is_guessed_by_its_letters(text: str, language: str) -> None:
    assert language_of(text) == language


@given(values=st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
def test_bins_hold_every_row_once_and_join(values: list[int]) -> None:
    made = bins(np.array(values, dtype=np.int64))
    assert sum(one.rows for one in made) == len(values)
    assert len(made) <= BINS + 1 and made[0].start == 0
    for one, other in zip(made, made[1:], strict=False):
        assert one.end == other.start
    for one in made:
        end = one.end if one.end is not None else max(values) + 1
        assert one.rows == sum(one.start <= value < end for value in values)


def test_a_file_of_no_usable_row_has_no_lengths(tmp_path: Path) -> None:
    counted = census(write_jsonl(tmp_path / "a.jsonl", [chat("only asked")]))
    assert (counted.lengths, counted.histogram, counted.languages, counted.fields) == ({}, (), {}, {})
