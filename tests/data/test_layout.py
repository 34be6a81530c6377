"""How a file is read that only its names and contents as a whole explain: mapping, classes, verdicts, marks."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import byte_level, model_folder
from xiaozao.data.checks import check
from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation
from xiaozao.data.prepare import prepare
from xiaozao.errors import DataError, Problem, UsageError
from xiaozao.events import Noticed
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import say
from xiaozao.worker.ready import note_text

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, **options: Any) -> tuple[ConversationFile, list[list[tuple[str, str]]]]:
    """The file after it was read, and its conversations as (role, text)."""
    file = ConversationFile(path, DataSpec(data=str(path), **options))
    verdicts = list(file)
    assert all(isinstance(verdict, Conversation) for verdict in verdicts), verdicts
    talks = [verdict for verdict in verdicts if isinstance(verdict, Conversation)]
    return file, [[(turn.role, turn.content) for turn in talk.turns] for talk in talks]


def notes(file: ConversationFile) -> dict[str, Problem]:
    return {note.key: note for note in file.notes}


@pytest.mark.parametrize("name", ["context", "input", "passage", "上下文", "Context "])
def test_what_a_question_is_about_goes_into_the_prompt(tmp_path: Path, name: str) -> None:
    row = {"instruction": "Which colour?", name: "The boat of Ola is green.", "response": "Green."}
    file, talks = read(jsonl(tmp_path / "a.jsonl", row))
    assert "Which colour?" in talks[0][0][1] and "The boat of Ola is green." in talks[0][0][1]
    assert file.notes == ()


def test_a_weak_name_of_context_is_one_only_where_it_holds_prose(tmp_path: Path) -> None:
    rows = [
        {"question": "q1", "answer": "a1", "document": "The boat is green today."},
        {"question": "q2", "answer": "a2", "document": "KB-17"},
    ]
    _, talks = read(jsonl(tmp_path / "a.jsonl", *rows))
    assert [talk[0][1] for talk in talks] == ["q1\n\nThe boat is green today.", "q2"]


def test_a_column_of_text_that_is_used_nowhere_is_named_and_the_advice_uses_it(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": "a", "hint": f"Look at shelf {n}.", "intent": "find"} for n in range(3)]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    file, _ = read(path)
    assert file.notes == (Problem("note_unused", {"field": "hint", "count": 3}),)
    assert "columns=context=hint" in file.notes[0].text()
    advised, talks = read(path, columns="context=hint")
    assert talks[1][0] == ("user", "q1\n\nLook at shelf 1.") and advised.notes == ()


def test_text_that_repeats_like_a_label_is_no_warning(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": "a", "team": "Parcels and returns desk"} for n in range(40)]
    assert read(jsonl(tmp_path / "a.jsonl", *rows))[0].notes == ()


@pytest.mark.parametrize("history", [1, 0, 2.5, True])
def test_a_history_that_is_a_number_is_a_field_of_the_users(tmp_path: Path, history: Any) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", {"instruction": "Who was Nero?", "output": "A Roman emperor.", "history": history}
    )
    file, talks = read(path)
    assert talks == [[("user", "Who was Nero?"), ("assistant", "A Roman emperor.")]]
    assert "history" in check(DataSpec(data=str(path)), None).fields or isinstance(history, float)


def test_earlier_rounds_may_be_turns(tmp_path: Path) -> None:
    _, talks = read(jsonl(tmp_path / "a.jsonl", {"instruction": "and?", "output": "bye", "history": TURNS}))
    assert talks == [[("user", "hi"), ("assistant", "hello"), ("user", "and?"), ("assistant", "bye")]]


def test_an_empty_instruction_with_an_input_asks_the_input(tmp_path: Path) -> None:
    row = {"instruction": "", "input": "Who wrote Hamlet?", "output": "Shakespeare."}
    _, talks = read(jsonl(tmp_path / "a.jsonl", row))
    assert talks == [[("user", "Who wrote Hamlet?"), ("assistant", "Shakespeare.")]]


@pytest.mark.parametrize("written", [json.dumps(TURNS), str(TURNS), f"  {json.dumps(TURNS, indent=1)}\n"])
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_turns_that_stand_as_text_are_turns(tmp_path: Path, written: str, name: str) -> None:
    file, talks = read(jsonl(tmp_path / "a.jsonl", {name: written}))
    assert file.format == "messages" and talks == [[("user", "hi"), ("assistant", "hello")]]


@pytest.mark.parametrize(
    "rounds",
    [
        [{"system": "", "input": "hi", "output": "hello"}, {"input": "and?", "output": "bye"}],
        [{"human": "hi", "assistant": "hello"}, {"human": "and?", "assistant": "bye"}],
        [["hi", "hello"], ["and?", "bye"]],
    ],
)
def test_rounds_of_question_and_answer_are_turns(tmp_path: Path, rounds: Any) -> None:
    file, talks = read(jsonl(tmp_path / "a.jsonl", {"conversation": rounds}))
    assert talks == [[("user", "hi"), ("assistant", "hello"), ("user", "and?"), ("assistant", "bye")]]
    assert file.format == "messages"


def test_turns_as_columns_of_lists_are_turns(tmp_path: Path) -> None:
    row = {"messages": {"role": ["user", "assistant"], "content": ["hi", "hello"]}}
    assert read(jsonl(tmp_path / "a.jsonl", row))[1] == [[("user", "hi"), ("assistant", "hello")]]


def test_turns_as_text_that_cannot_be_read_are_a_problem_of_the_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"messages": TURNS}, {"messages": '[{"role": "user", "content": "hi"'})
    verdicts = list(ConversationFile(path, DataSpec(data=str(path))))
    assert isinstance(verdicts[1], Problem)
    assert (verdicts[1].key, verdicts[1].params["line"], verdicts[1].params["field"]) == (
        "row_turns_text",
        2,
        "messages",
    )


@pytest.mark.parametrize(("good", "bad"), [(1, 0), ("1", "0"), ("yes", "no"), (1.0, -1), ("是", "否")])
def test_labels_that_are_verdicts_in_every_row_are_read_as_verdicts(tmp_path: Path, good: Any, bad: Any) -> None:
    rows = [{"prompt": "q1", "completion": "a1", "label": good}, {"prompt": "q2", "completion": "a2", "label": bad}]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    file = ConversationFile(path, DataSpec(data=str(path)))
    assert [talk.liked for talk in file if isinstance(talk, Conversation)] == [True, False]
    assert file.format == "kto"


@pytest.mark.parametrize("label", [2, "billing", None])
def test_labels_of_which_one_is_no_verdict_stay_labels(tmp_path: Path, label: Any) -> None:
    rows = [{"prompt": "q1", "completion": "a1", "label": 1}, {"prompt": "q2", "completion": "a2", "label": label}]
    assert read(jsonl(tmp_path / "a.jsonl", *rows))[0].format == "prompt"


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"question": "q", "answer": "a", "label": "true"}, "prompt"),
        ({"instruction": "q", "output": "a", "label": 1}, "alpaca"),
        ({"messages": TURNS, "label": False}, "messages"),
    ],
)
def test_the_advice_where_answers_with_verdicts_are_refused_works(tmp_path: Path, row: Any, format: str) -> None:
    rows = [row, {key: {"q": "r", "a": "b"}.get(str(value), value) for key, value in row.items()}]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    model = model_folder(tmp_path / "m", byte_level())
    with pytest.raises(DataError) as caught:
        prepare(DataSpec(data=str(path), validation="none"), model, 0, tmp_path / "cache", lambda *_: None)
    assert f"format={format}" in caught.value.fix("en") and f"format={format}" in caught.value.fix("zh-CN")
    spec = DataSpec(data=str(path), validation="none", format=format)  # type-checked by pydantic
    assert prepare(spec, model, 0, tmp_path / "cache", lambda *_: None).counts.rows_used == 2


def test_messages_and_questions_win_over_columns_that_a_chat_log_has(tmp_path: Path) -> None:
    meta = {"name": "chat 1", "date": "2024-01-01", "text": "user: hi\nassistant: hello there"}
    file, talks = read(jsonl(tmp_path / "a.jsonl", {"messages": TURNS, **meta}, {"messages": TURNS, **meta}))
    assert file.format == "messages" and len(talks) == 2
    assert file.notes == (Problem("note_unused_beside", {"field": "text", "count": 2}),)
    forum = [
        {"question": "bread?", "answer": "Slowly.", "author": "Ann", "created_at": "2024-01-01 10:00", "body": "x"},
        {"question": "fish?", "answer": "In oil.", "author": "Support", "created_at": "2024-01-01 10:05", "body": "y"},
    ]
    file, talks = read(jsonl(tmp_path / "b.jsonl", *forum))
    assert file.format == "prompt" and talks[1] == [("user", "fish?"), ("assistant", "In oil.")]


@pytest.mark.parametrize(
    ("text", "label"), [("text", "label"), ("文本", "标签"), ("sentence", "sentiment"), ("query", "intent")]
)
def test_a_text_and_a_label_are_a_classification_whose_classes_are_told(tmp_path: Path, text: str, label: str) -> None:
    rows = [{text: f"film {n}", label: "good" if n < 12 else "bad"} for n in range(15)]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    file, talks = read(path)
    assert file.format == "classification" and talks[0] == [("user", "film 0"), ("assistant", "good")]
    assert notes(file)["note_classes"].params["classes"] == "good (12), bad (3)"
    assert notes(file)["note_few"].params["classes"] == "bad (3)"


def test_numbers_as_labels_and_the_way_back_to_plain_text(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": "What a film!", "label": 1}, {"text": "Boring.", "label": 0})
    assert [talk[1][1] for talk in read(path)[1]] == ["1", "0"]
    texts = [
        talk.text
        for talk in ConversationFile(path, DataSpec(data="x", format="text"))
        if isinstance(talk, Conversation)
    ]
    assert texts == ["What a film!", "Boring."]


def test_texts_with_a_title_each_are_no_classification(tmp_path: Path) -> None:
    rows = [{"text": f"Chapter {n} begins here.", "topic": f"a topic of its own {n}"} for n in range(30)]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    file = ConversationFile(path, DataSpec(data=str(path)))
    assert len(list(file)) == 30 and file.format == "text"


MARKED = {
    "ChatML": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    "<|im_start|>assistant\nhello<|im_end|>\n",
    "Llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>",
    "Llama 2": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nhi [/INST] hello </s>",
    "Zephyr": "<|system|>\nBe kind.</s>\n<|user|>\nhi</s>\n<|assistant|>\nhello</s>",
    "Alpaca": "Be kind.\n\n### Instruction:\nhi\n\n### Response:\nhello",
    "Vicuna": "Be kind. USER: hi ASSISTANT: hello</s>",
}


@pytest.mark.parametrize("style", MARKED)
def test_ready_made_marks_are_read_as_turns_where_every_row_has_them(tmp_path: Path, style: str) -> None:
    file, talks = read(jsonl(tmp_path / "a.jsonl", {"text": MARKED[style]}, {"text": MARKED[style]}))
    assert talks == [[("system", "Be kind."), ("user", "hi"), ("assistant", "hello")]] * 2
    assert file.format == "messages" and notes(file)["note_marks_read"].params["count"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nhello<end_of_turn>\n",
        "### Human: hi### Assistant: hello",
        "\n\nHuman: hi\n\nAssistant: hello",
        "<｜User｜>hi<｜Assistant｜>hello<｜end▁of▁sentence｜>",
        "用户：hi\n助手：hello",
        "<human>: hi\n<bot>: hello",
        "<|prompter|>hi<|endoftext|><|assistant|>hello<|endoftext|>",
        "### User:\nhi\n### Assistant:\nhello",
    ],
)
def test_marks_without_a_system_text_too(tmp_path: Path, text: str) -> None:
    assert read(jsonl(tmp_path / "a.jsonl", {"text": text}))[1] == [[("user", "hi"), ("assistant", "hello")]]


def test_marks_in_some_texts_only_are_a_warning_with_the_count(tmp_path: Path) -> None:
    rows = [
        {"text": MARKED["ChatML"]},
        {"text": "A tale."},
        {"text": "<fim>"},
        {"text": "<|fim_prefix|>x = <|fim_suffix|>"},
    ]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    file = ConversationFile(path, DataSpec(data=str(path)))
    assert all(isinstance(talk, Conversation) and talk.text for talk in file) and file.format == "text"
    assert file.notes == (Problem("note_marks", {"count": 2, "rows": 4, "read": 1}),)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("客户问题", "客服回答"),
        ("标题", "内容"),
        ("提问内容", "回复内容"),
        ("Customer Question", "Agent Reply"),
        ("标准问", "标准答案"),
    ],
)
def test_headers_are_mapped_by_name_and_content_and_told(tmp_path: Path, question: str, answer: str) -> None:
    rows = [{"编号": n, question: f"可以退货吗{n}", answer: f"可以的，七天内都可以{n}"} for n in range(3)]
    file, talks = read(jsonl(tmp_path / "a.jsonl", *rows))
    assert talks[2] == [("user", "可以退货吗2"), ("assistant", "可以的，七天内都可以2")]
    assert file.notes == (Problem("note_columns", {"question": question, "answer": answer}),)


def test_columns_map_any_table_and_problems_name_the_columns_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("甲,乙,丙\n在吗,在的,请客气\n,没问题,\n", encoding="utf-8")
    spec = DataSpec(data=str(path), columns="question＝甲，answer＝乙，system＝丙")
    first, second = list(ConversationFile(path, spec))
    assert isinstance(first, Conversation) and isinstance(second, Problem)
    assert [turn.content for turn in first.turns] == ["请客气", "在吗", "在的"]
    assert (second.key, second.params["field"]) == ("row_empty", "甲")


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("question=甲,answer=丁", "chatlog_column"),
        ("question=甲", "columns_missing"),
        ("question=甲,colour=甲", "chatlog_role"),
    ],
)
def test_columns_that_cannot_be_mapped_are_refused(tmp_path: Path, columns: str, key: str) -> None:
    (tmp_path / "a.csv").write_text("甲,乙\n在吗,在的\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        list(ConversationFile(tmp_path / "a.csv", DataSpec(data="x", columns=columns)))
    assert caught.value.key == key and "甲" in str(caught.value.params)


def test_a_named_column_wins_over_one_that_is_called_like_a_field(tmp_path: Path) -> None:
    rows = [{"prompt": "id-1", "completion": "x", "wish": "hi there", "said": "hello"}]
    _, talks = read(jsonl(tmp_path / "a.jsonl", *rows), columns="question=wish,answer=said")
    assert talks == [[("user", "hi there"), ("assistant", "hello")]]


def test_training_is_told_the_notes_too_and_again_from_the_cache(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", *({"question": f"q{n}", "answer": "a", "hint": f"See shelf {n}."} for n in range(3))
    )
    model, spec = model_folder(tmp_path / "m", byte_level()), DataSpec(data=str(path), validation="none")
    for _ in range(2):
        (note,) = prepare(spec, model, 0, tmp_path / "cache", lambda *_: None).counts.notes
        told = Noticed("data_note", {"note": note_text(note)})
        assert "hint" in say(f"notice.{told.key}", "en", **json.loads(json.dumps(told.params)))
        assert "关于数据" in say(f"notice.{told.key}", "zh-CN", **told.params)


def test_the_notes_of_several_files_name_their_file(tmp_path: Path) -> None:
    rows = [{"问题描述": "可以退货吗", "处理答复": "可以的"}]
    paths = [jsonl(tmp_path / name, *rows) for name in ("a.jsonl", "b.jsonl")]
    report = check(DataSpec(data=",".join(map(str, paths))), None)
    assert [note.text("zh-CN").split("：")[0] for note in report.notes] == ["a.jsonl", "b.jsonl"]
    assert "问题描述" in report.notes[1].text("en") and report.to_json()["notes"][0]["key"] == "note_in"
