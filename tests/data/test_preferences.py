"""Preference pairs and verdicts: every shape in which people write them, and what is wrong with a row, by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import byte_level, chat, model_folder, write_jsonl
from xiaozao.data.checks import check
from xiaozao.data.formats import Conversation, Dropped, format_of, parse_row
from xiaozao.data.prepare import PreparedData, prepare
from xiaozao.data.rows import Row
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import Problem
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import LANGUAGES

USER = {"role": "user", "content": "hi"}
GOOD, BAD = {"role": "assistant", "content": "hello"}, {"role": "assistant", "content": "go away"}


def parsed(values: dict[str, Any]) -> Conversation | Dropped | Problem:
    return parse_row(Row(values, 7, 0), format_of(values))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("pairs") / "model", byte_level())


def run(rows: list[dict[str, Any]], model: Path, folder: Path, objective: str, **options: Any) -> PreparedData:
    spec = DataSpec(data=str(write_jsonl(folder / "rows.jsonl", rows)), **{"validation": "none", **options})
    return prepare(spec, model, 0, folder / "cache", lambda *_: None, objective)


PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
    "a question": {"question": "hi", "chosen": "hello", "rejected": "go away"},
    "an instruction": {"instruction": "hi", "input": "", "chosen": "hello", "rejected": "go away"},
    "turns beside turns": {"messages": [USER], "chosen": GOOD, "rejected": BAD},
    "lists of turns": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "whole conversations": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "hi"}],
        "chosen": {"from": "gpt", "value": "hello"}, "rejected": {"from": "gpt", "value": "go away"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_a_question_and_two_answers_however_it_is_written(name: str) -> None:
    found = parsed(PAIRS[name])
    assert format_of(PAIRS[name]) == "preference" and isinstance(found, Conversation)
    assert [(one.role, one.content) for one in found.turns] == [("user", "hi"), ("assistant", "hello")]
    assert [(one.role, one.content) for one in found.rejected] == [("user", "hi"), ("assistant", "go away")]
    assert found.shared == 1 and found.liked is None


VERDICTS: dict[str, tuple[dict[str, Any], bool]] = {
    "messages": ({"messages": [USER, GOOD], "label": True}, True),
    "prompt and completion": ({"prompt": "hi", "completion": "hello", "label": False}, False),
    "turns": ({"prompt": [USER], "completion": [GOOD], "label": True}, True),
    "another name": ({"messages": [USER, GOOD], "kto_tag": False}, False),
    "as tables write it": ({"prompt": "hi", "completion": "hello", "label": "TRUE"}, True),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_verdict_is_an_answer_and_whether_it_is_good(name: str) -> None:
    values, liked = VERDICTS[name]
    found = parsed(values)
    assert format_of(values) == "kto" and isinstance(found, Conversation)
    assert [one.content for one in found.turns] == ["hi", "hello"] and found.liked is liked and found.shared == 1


def test_a_label_that_is_no_verdict_stays_a_label() -> None:
    found = parsed({"messages": [USER, GOOD], "label": "greeting"})
    assert isinstance(found, Conversation) and found.liked is None and found.labels == {"label": "greeting"}


PROBLEMS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no question": ({"chosen": "a", "rejected": "b"}, "preference", "row_no_field", "prompt"),
    "two questions": (
        {"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "bye"}, BAD]},
        "preference", "row_pair_question", "chosen",
    ),
    "two turns beside a text": (
        {"prompt": "hi", "chosen": [GOOD, GOOD], "rejected": "b"}, "preference", "row_answer_turns", "chosen"
    ),
    "a number as a turn": (
        {"prompt": "hi", "chosen": [7], "rejected": "b"}, "preference", "row_not_a_turn", "chosen[0]"
    ),
    "no turns": ({"prompt": "hi", "chosen": [], "rejected": "b"}, "preference", "row_no_turns", "chosen"),
    "the user answers": ({"prompt": "hi", "chosen": USER, "rejected": "b"}, "preference", "row_role", "chosen.role"),
    "no verdict": ({"messages": [USER, GOOD]}, "kto", "row_no_field", "label"),
    "perhaps": ({"messages": [USER, GOOD], "label": "perhaps"}, "kto", "row_not_verdict", "label"),
    "a verdict on a text": ({"text": "hi", "label": True}, "kto", "row_no_field", "messages"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_wrong_with_a_row_is_said_with_line_and_field(name: str) -> None:
    values, format, key, field = PROBLEMS[name]
    found = parse_row(Row(values, 7, 0), format)
    assert isinstance(found, Problem) and (found.key, found.params["line"]) == (key, 7)
    assert found.params["field"] == field
    assert all("7" in found.text(language) and field in found.text(language) for language in LANGUAGES)


def test_equal_answers_are_dropped_and_counted(model: Path, tmp_path: Path) -> None:
    rows = [PAIRS["texts"], {**PAIRS["texts"], "rejected": "hello"}]
    data = run(rows, model, tmp_path, "dpo")
    assert data.counts.dropped == {"same_answers": 1} and len(data.train) == 1


def test_of_a_pair_only_the_answers_are_targets_and_both_share_the_prompt(model: Path, tmp_path: Path) -> None:
    earlier = [USER, GOOD, {"role": "user", "content": "and you?"}]
    data = run([{"messages": earlier, "chosen": "fine", "rejected": "no"}], model, tmp_path, "dpo")
    tokenizer, sides = (
        ChatTokenizer.from_folder(model),
        [data.train.sample(number) for number in data.train.sequences(0)],
    )
    learned = [tokenizer.decode(ids[targets].tolist()) for ids, targets in sides]
    assert learned == ["fine", "no"]
    prompts = [ids[: int(targets.argmax())].tolist() for ids, targets in sides]
    assert prompts[0] == prompts[1] and data.train.group == 2


def test_verdicts_reach_the_samples_and_crossed_answers_are_those_of_others(model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n % 2 == 0} for n in range(5)]
    data = run(rows, model, tmp_path, "kto")
    assert data.train.liked is not None and data.train.liked.tolist() == [1, 0, 1, 0, 1]
    tokenizer = ChatTokenizer.from_folder(model)
    answers = []
    for number in range(5):
        ids, targets = data.train.crossed(number)
        assert f"q{number}" in tokenizer.decode(ids.tolist())
        answers.append(tokenizer.decode(ids[targets].tolist()))
    assert sorted(answers) == [f"a{n}" for n in range(5)]
    assert all(answer != f"a{number}" for number, answer in enumerate(answers))


def test_a_crossed_sequence_is_no_longer_than_those_it_is_made_of(model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "q " * (40 * (n % 2) + 1), "completion": "a " * (40 * (n % 3) + 1), "label": True} for n in range(7)
    ]
    data = run(rows, model, tmp_path, "kto")
    for number in range(7):
        ids, targets = data.train.crossed(number)
        assert len(ids) == len(targets) <= data.train.longest and targets.any()


def test_long_texts_are_cut_into_pieces_and_each_token_is_learned_once(model: Path, tmp_path: Path) -> None:
    data = run([{"text": "hello world " * 40}, {"text": "hi"}], model, tmp_path, "pretrain", length=32)
    tokens = [len(ChatTokenizer.from_folder(model).encode(one).ids) for one in
              (Conversation((), 1, "hello world " * 40), Conversation((), 2, "hi"))]  # fmt: skip
    assert data.train.target_tokens == sum(tokens) - 2  # the first token of a text has nothing before it
    assert data.train.longest == 32 and data.counts.rows_used == 2 and len(data.train) > 2


def test_a_check_reads_pairs_for_the_objective_that_learns_from_them(model: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [PAIRS["texts"], PAIRS["texts"]])
    report = check(DataSpec(data=str(path)), model, objective="dpo")
    assert report.ok and report.format == "preference" and report.duplicates == 1
    assert "assistant (rejected)" in json.dumps(report.to_json())


def test_chats_and_pairs_in_one_file_are_told_apart(model: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="line 2"):
        run([PAIRS["texts"], chat("hi", "hello")], model, tmp_path, "dpo")


def test_a_preference_pair_of_openai_is_read_as_it_is() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    row = {
        "input": {"messages": [{"role": "user", "content": "hi"}], "tools": [tool], "parallel_tool_calls": True},
        "preferred_output": [{"role": "assistant", "content": "hello"}],
        "non_preferred_output": [{"role": "assistant", "content": "go away"}],
    }
    assert format_of(row) == "preference"
    parsed = parse_row(Row(row, 1, 0), "preference")
    assert isinstance(parsed, Conversation)
    assert [turn.content for turn in parsed.turns] == ["hi", "hello"]
    assert (parsed.rejected[-1].content, parsed.shared) == ("go away", 1)
    assert json.loads(parsed.tools) == [tool]
