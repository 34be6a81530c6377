import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.blind.runs import answered
from xiaozao.errors import ArtefactError, NotFound
from xiaozao.evaluate.blind.pairs import MARKS, AnswerPair, clean, digest_of, read_pairs


def test_pairs_are_read_from_what_a_run_keeps(tmp_path: Path) -> None:
    source = read_pairs(answered(tmp_path / "run", 3, same=(1,)), "run")
    assert [pair.question for pair in source.pairs] == [f"How do I return item {n}?" for n in range(3)]
    assert source.pairs[0].tuned.startswith("Please send item 0")
    assert [pair.same for pair in source.pairs] == [False, True, False]
    assert source.digest == digest_of(answered(tmp_path / "other", 3, same=(1,)))
    assert source.digest != digest_of(answered(tmp_path / "third", 4))


def test_white_space_alone_makes_no_difference() -> None:
    assert AnswerPair("q", "two  words\n", "two words").same
    assert AnswerPair("q", "", "").same
    assert not AnswerPair("q", "two words", "twowords").same


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  Hello.<|im_end|>\n", "Hello."),
        ("<|start_header_id|>assistant<|end_header_id|>Hi", "assistantHi"),
        ("Hi</s>", "Hi"),
        ("[INST] Hi [/INST]", "Hi"),
        ("<｜end▁of▁sentence｜>好", "好"),
        ("<start_of_turn>Hi<end_of_turn>", "Hi"),
        ("<|a<|im_end|>b|>Hi", "Hi"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eabc", "\\u202eabc"),
        ("if a < b | c > d", "if a < b | c > d"),
        ("<|not a mark, for it goes on and on and on and on and on and on and on|>", None),
    ],
)
def test_what_would_tell_a_model_or_steer_a_terminal_is_taken_out(text: str, cleaned: str | None) -> None:
    assert clean(text) == (text if cleaned is None else cleaned)


@given(st.text() | st.lists(st.sampled_from(["<|", "|>", "im_end", "<s>", "</s>", "[INST]", " "])).map("".join))
def test_a_clean_text_stays_as_it_is(text: str) -> None:
    once = clean(text)
    assert MARKS.search(once) is None
    assert clean(once) == once


def test_a_run_without_questions_says_what_to_do(tmp_path: Path) -> None:
    folder = answered(tmp_path / "run", 3)
    folder.answers("tuned").unlink()
    with pytest.raises(NotFound, match="not answered the questions after training yet") as raised:
        read_pairs(folder, "shop")
    assert raised.value.fix() == "Let it finish: zao train --resume shop"
    folder.answers("base").unlink()
    with pytest.raises(NotFound, match="trained without questions") as raised:
        read_pairs(folder, "shop")
    assert f"zao train {folder.spec} questions=FILE output=NEW-FOLDER" in raised.value.fix()
    assert digest_of(folder) is None
    answered(tmp_path / "other", 3).answers("tuned").rename(folder.answers("tuned"))
    with pytest.raises(NotFound, match="no answers of the base model"):
        read_pairs(folder, "shop")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "JSONDecodeError"),
        ('{"loss": 1}', "KeyError"),
        ("[]", "TypeError"),
        ('{"answers": [{"question": "q"}]}', "KeyError"),
        ('{"answers": [{"question": "q", "answer": "a"}, {"question": "q", "answer": null}]}', r"answers\[2\]"),
        ("[" * 100_000, "RecursionError|JSONDecodeError"),
    ],
)
def test_damaged_answers_are_refused(tmp_path: Path, content: str, told: str) -> None:
    folder = answered(tmp_path / "run", 3)
    folder.answers("base").write_text(content, encoding="utf-8")
    with pytest.raises(ArtefactError, match=f"answers-base.json is damaged: .*({told})"):
        read_pairs(folder, "run")


def test_answers_to_other_questions_are_refused(tmp_path: Path) -> None:
    folder = answered(tmp_path / "run", 3)
    document = json.loads(folder.answers("tuned").read_text(encoding="utf-8"))
    document["answers"].pop()
    folder.answers("tuned").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtefactError, match="Before training 3 questions were answered, after it 2"):
        read_pairs(folder, "run")
