"""A repaired copy and the list of its changes: what is safe is done unasked, the rest by name, and nothing unlisted."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import chat, write_jsonl
from tests.data.quality.planted import clean, plant
from xiaozao.data.checks import check
from xiaozao.data.quality.fixing import CHANGES, DROPPABLE, PART, Fixed, Wanted, fix, wanted
from xiaozao.data.quality.inspection import CHECKS, SAFE
from xiaozao.data.quality.mending import mend
from xiaozao.errors import DataError, EnvironmentProblem, UsageError
from xiaozao.spec.parts import DataSpec


def repair(path: Path, out: Path, asked: Wanted | None = None, **options: Any) -> Fixed:
    return fix(DataSpec(data=str(path), **options), out, asked or Wanted(), False, lambda *_: None, {})


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def changes(out: Path) -> list[dict[str, Any]]:
    return rows(Path(f"{out}{CHANGES}"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_after_a_fix_no_safe_kind_is_found_and_the_list_holds_just_what_changed(language: str, tmp_path: Path) -> None:
    planted = plant(clean(language, 500), language)
    path = write_jsonl(tmp_path / "a.jsonl", planted.rows)
    before = path.read_bytes()
    done = repair(path, tmp_path / "b.jsonl")
    assert path.read_bytes() == before
    left = {found.kind for found in check(DataSpec(data=done.path), None).findings}
    assert not left & SAFE
    listed = {change["row"]: change for change in changes(tmp_path / "b.jsonl")}
    gone = {row for row, change in listed.items() if change["after"] is None and change["rule"] != "trailing_turn"}
    written = iter(rows(tmp_path / "b.jsonl"))
    for line, row in enumerate(planted.rows, 1):
        if line not in gone:
            assert (next(written) != row) == (line in listed), (line, row)
    assert next(written, None) is None
    assert done.left_out == len(gone) and done.changed == len(listed) - len(gone)
    assert {planted.faults[line] for line in listed} == SAFE


def test_a_copy_of_clean_rows_is_the_same_and_has_no_changes(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", clean("zh", 40))
    done = repair(path, tmp_path / "b.jsonl")
    assert rows(tmp_path / "b.jsonl") == rows(path) and changes(tmp_path / "b.jsonl") == []
    assert (done.rows, done.changed, done.left_out) == (40, 0, 0)


SLIPS = [
    '{"question": "one?", "answer": "A trailing comma.",}',
    "{'question': 'two?', 'answer': 'Single quotes.'}",
    "{“question”： “three?”， “answer”： “全角标点。”}",
    '｛"question": "four?", "answer": "全角括号。"｝',
    '{"question": "five?", "answer": "She said "yes" to me."}',
    '{"question": "six?" "answer": "A comma is missing."}',
    '{question: "seven?", answer: "No quotes at the keys."}',
    '{"question": "eight?", "answer": "A comma behind the row."},',
    '{"question": "nine?",\n"answer": "Broken into\ntwo lines."}',
    '{"question": "ten?", "answer": "A tab\tinside."}',
    '{"question": "eleven?", "answer": "True to life.", "checked": True, "note": None}',
]


def test_hand_made_json_that_check_refuses_is_repaired_in_one_command(tmp_path: Path) -> None:
    path = tmp_path / "hand.jsonl"
    path.write_text("\n".join([*SLIPS, '{"question": "last?", "answer": "This one is right."}']), encoding="utf-8")
    assert not check(DataSpec(data=str(path)), None).ok
    done = repair(path, tmp_path / "out.jsonl")
    assert check(DataSpec(data=done.path), None).ok
    written = {row["question"]: row["answer"] for row in rows(tmp_path / "out.jsonl")}
    assert len(written) == len(SLIPS) + 1 and done.left_out == 0
    assert written["five?"] == 'She said "yes" to me.' and written["three?"] == "全角标点。"
    assert written["nine?"].split() == "Broken into two lines.".split()
    assert [change["rule"] for change in changes(tmp_path / "out.jsonl")] == ["json"] * len(SLIPS)


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "cut?", "answer": "It stops in the mid',
        '{"question": "lost?", "answer": "kept"} and words behind the row that would be lost',
        "no JSON at all",
        '{"question": "twice?", "question": "again, with another text?", "answer": "yes"}',
        '["question", "answer"]',
        '{"question": "robot?"}',
        '{"messages": [{"role": "robot", "content": "hi"}]}',
    ],
)
def test_what_cannot_be_repaired_without_guessing_is_left_out_with_its_reason(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = '{"question": "good?", "answer": "Yes, it is."}'
    path.write_text(f"{good}\n{line}\n", encoding="utf-8")
    done = repair(path, tmp_path / "out.jsonl")
    assert rows(tmp_path / "out.jsonl") == [json.loads(good)] and done.left_out == 1
    (change,) = changes(tmp_path / "out.jsonl")
    assert (change["row"], change["rule"], change["after"]) == (2, "unusable", None)
    assert change["before"] and change["reason"]


def test_every_encoding_becomes_utf8_and_a_line_of_another_one_is_read(tmp_path: Path) -> None:
    line = '{"question": "发货了吗？", "answer": "昨天已经发货，请留意短信。"}'
    for name in ("gb18030", "utf-16"):
        (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding=name)
        repair(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.out")
        assert rows(tmp_path / f"{name}.out") == [json.loads(line)]
    mixed = tmp_path / "mixed.jsonl"
    other = line.replace("发货了吗", "什么时候发货")
    mixed.write_bytes(f"{line}\n".encode() + f"{other}\n".encode("gb18030"))
    repair(mixed, tmp_path / "mixed.out")
    assert rows(tmp_path / "mixed.out") == [json.loads(line), json.loads(other)]
    assert [change["rule"] for change in changes(tmp_path / "mixed.out")] == ["encoding"]


def test_tables_and_broken_arrays_become_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\n hi ,hello there\n", encoding="utf-8")
    repair(tmp_path / "a.csv", tmp_path / "a.jsonl")
    assert rows(tmp_path / "a.jsonl") == [{"question": "hi", "answer": "hello there"}]
    (tmp_path / "b.json").write_text(
        '[{"question": "a?", "answer": "Yes, a."} {"question": "b?", "answer": "Yes, b."},]', encoding="utf-8"
    )
    repair(tmp_path / "b.json", tmp_path / "b.jsonl")
    assert [row["question"] for row in rows(tmp_path / "b.jsonl")] == ["a?", "b?"]


def test_neighbours_are_merged_but_calls_weights_and_pairs_stay(tmp_path: Path) -> None:
    def turns(*pairs: tuple[str, str], **more: Any) -> list[dict[str, Any]]:
        return [{"role": role, "content": content, **more} for role, content in pairs]

    merged = {"messages": turns(("user", "hi"), ("user", "are you there?"), ("assistant", "Yes, I am."))}
    weighted = {"messages": [*turns(("user", "hi"), ("assistant", "Hm."), weight=0), *turns(("assistant", "Yes?"))]}
    pair = {"messages": turns(("user", "one?")), "chosen": turns(("assistant", "A good answer.")),
            "rejected": turns(("assistant", "bad"))}  # fmt: skip
    repair(write_jsonl(tmp_path / "a.jsonl", [merged, weighted]), tmp_path / "b.jsonl")
    first, second = rows(tmp_path / "b.jsonl")
    assert first["messages"][0]["content"] == "hi\nare you there?" and len(first["messages"]) == 2
    assert second == weighted
    repair(write_jsonl(tmp_path / "c.jsonl", [pair]), tmp_path / "d.jsonl")
    assert rows(tmp_path / "d.jsonl") == [pair]


def test_a_chat_log_keeps_its_messages(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("time,sender,text\n2024-05-01 10:00,Ann,hi \n2024-05-01 10:01,Bob,hi\n", encoding="utf-8")
    repair(log, tmp_path / "log.jsonl", assistant=("Bob",))
    assert [row["text"] for row in rows(tmp_path / "log.jsonl")] == ["hi", "hi"]


def test_named_kinds_are_dropped_and_the_list_says_why(tmp_path: Path) -> None:
    planted = plant(clean("en", 500), "en")
    path = write_jsonl(tmp_path / "a.jsonl", planted.rows)
    asked = wanted("refusals, near-duplicates，contradictions", None, False)
    done = repair(path, tmp_path / "b.jsonl", asked)
    left = {found.kind for found in check(DataSpec(data=done.path), None).findings}
    assert not left & {"refusal", "contradiction"}
    dropped = [change for change in changes(tmp_path / "b.jsonl") if change["rule"] == "drop"]
    expected = {line for line, kind in planted.faults.items() if kind in ("refusal", "near_duplicate", "contradiction")}
    assert {change["row"] for change in dropped} >= expected and all(change["reason"] for change in dropped)
    assert done.rows == len(rows(tmp_path / "b.jsonl"))


def test_named_repairs_turn_marks_into_text(tmp_path: Path) -> None:
    answers = {
        "Fish &amp; chips<br>are ready.": "Fish & chips\nare ready.",
        "First.\\n\\nThen \\u4f60\\u597d.": "First.\n\nThen 你好.",
        "Call １２３ now.": "Call 123 now.",
        "Itâ€™s the cafÃ© there.": "It’s the café there.",
    }
    path = write_jsonl(tmp_path / "a.jsonl", [chat(f"question {index}?", text) for index, text in enumerate(answers)])
    repair(path, tmp_path / "b.jsonl", wanted(None, "markup,escapes,full-width,mojibake", False))
    assert [row["messages"][1]["content"] for row in rows(tmp_path / "b.jsonl")] == list(answers.values())
    repair(path, tmp_path / "c.jsonl")
    assert [row["messages"][1]["content"] for row in rows(tmp_path / "c.jsonl")] == list(answers)


def test_pseudonyms_are_the_same_in_question_answer_and_every_row(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [
            {**chat("订单号 DD20240099123 到哪了？我是李雷，电话 "
                    "13912345678", "李雷您好，DD20240099123 已发出，会拨打139 1234 5678。"), "姓名": "李雷"},
            {**chat("my order number is 4471100923, mail "
                    "li.wei82@qq.com", "Order 4471100923 is on its way."), "name": "Ann Berg"},
            {**chat("139-1234-5678 是我的手机", "好的，李雷已登记。"), "姓名": "李雷"},
        ],
    )  # fmt: skip
    repair(path, tmp_path / "b.jsonl", Wanted(pseudonymise=True))
    text = (tmp_path / "b.jsonl").read_text(encoding="utf-8")
    for secret in (
        "DD20240099123",
        "4471100923",
        "13912345678",
        "139 1234 5678",
        "139-1234-5678",
        "李雷",
        "li.wei82",
        "Berg",
    ):
        assert secret not in text, secret
    first, second, third = rows(tmp_path / "b.jsonl")
    number = first["messages"][0]["content"].split()[1]
    assert number.startswith("DD0") and number in first["messages"][1]["content"]
    assert first["姓名"] == third["姓名"] and first["姓名"] in first["messages"][1]["content"]
    assert second["messages"][1]["content"].split()[1] in second["messages"][0]["content"]
    assert third["messages"][0]["content"].split()[0] in first["messages"][0]["content"]  # one number, however written
    left = {found.kind for found in check(DataSpec(data=str(tmp_path / "b.jsonl")), None).findings}
    assert not left & {"phone_cn", "email"}


def test_nothing_is_overwritten_unasked_and_the_original_never(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", clean("en", 3))
    (tmp_path / "b.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        repair(path, tmp_path / "b.jsonl")
    assert caught.value.key == "fix_exists" and "--yes" in caught.value.fix()
    assert (tmp_path / "b.jsonl").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UsageError) as caught:
        fix(DataSpec(data=str(path)), path, Wanted(), True, lambda *_: None, {})
    assert caught.value.key == "fix_same" and len(rows(path)) == 3
    with pytest.raises(EnvironmentProblem):
        repair(path, tmp_path / "no" / "where.jsonl")


def test_a_file_without_a_usable_row_leaves_the_list_of_reasons_alone(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [chat("hi", ""), {"messages": []}])
    with pytest.raises(DataError, match="changes"):
        repair(path, tmp_path / "b.jsonl")
    assert len(changes(tmp_path / "b.jsonl")) == 2
    assert not (tmp_path / "b.jsonl").exists() and not list(tmp_path.glob(f"*{PART}"))


def test_unknown_kinds_are_named_with_those_that_are_known() -> None:
    with pytest.raises(UsageError) as caught:
        wanted("refusals,nonsense", None, False)
    assert (
        "nonsense" in caught.value.what() and "refusal" in caught.value.fix() and "refusals" not in caught.value.what()
    )
    assert set(DROPPABLE).isdisjoint(SAFE) and set(CHECKS) - SAFE <= set(DROPPABLE)


@pytest.mark.parametrize(
    "text",
    [
        '｛"messages"： [{"role": "user"， "content": "运费：多少，｛含税｝？"}, '
        '{"role": "assistant", "content": "“十元”。"}]｝',
        '{“messages”：［{“role”：“user”，“content”：“运费：多少，｛含税｝？”}，{“role”：“assistant”，“content”：“\\"十元\\"。”}］}',
        '{"messages"：[{"role"："user","content":"运费：多少，｛含税｝？"},{"role":"assistant","content":"“十元”。"},]}，',
    ],
)
def test_full_width_signs_of_json_are_narrowed_and_those_of_texts_stay(text: str) -> None:
    mended = mend(text)
    assert mended is not None
    assert mended["messages"][0] == {"role": "user", "content": "运费：多少，｛含税｝？"}
    assert "十元" in mended["messages"][1]["content"] and mended["messages"][1]["content"].endswith("。")
