"""Rules that hold for all data, tried on the whole way from a file to samples.

Others of their kind are held beside what they are about: masks and control tokens in test_tokens.py, packing in
test_pack.py and in the tests of the models, bad rows and files in test_bad_input.py, the cache in test_prepare.py.
"""

import json
import zipfile
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import polars
import pytest

from tests.data.folders import LLAMA, SPECIAL, byte_level, chat, model_folder, write_jsonl
from tests.data.test_prepare import conserved, run
from xiaozao.data.checks import check
from xiaozao.data.conversations import ConversationFile
from xiaozao.data.conversion import convert
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.prepare import PreparedData
from xiaozao.data.showing import show_row
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec

ROWS = [{"question": f"问题 {place} hello?", "answer": f"回答 {place}\u2028 world 😀"} for place in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("rules") / "model", byte_level())


def samples(data: PreparedData) -> list[tuple[list[int], list[bool]]]:
    pairs = [data.train.sample(place) for place in range(len(data.train))]
    return [(ids.tolist(), targets.tolist()) for ids, targets in pairs]


def verdicts(path: Path, **options: Any) -> list[Conversation | Dropped | Problem]:
    return list(ConversationFile(path, DataSpec(data=str(path), **options)))


# Bytes


def test_marks_line_ends_and_encodings_give_the_same_samples(tmp_path: Path, model: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    text = "\n".join(lines)
    ways = {
        "plain": text.encode(), "BOM": b"\xef\xbb\xbf" + text.encode(), "CRLF": text.replace("\n", "\r\n").encode(),
        "end": f"{text}\n\n".encode(), "UTF-16": b"\xff\xfe" + text.encode("utf-16-le"),
        "UTF-16 BE": b"\xfe\xff" + text.encode("utf-16-be"), "GB18030": text.encode("gb18030"),
        "array": json.dumps(ROWS).encode(), "spread": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    }  # fmt: skip
    made = {}
    for place, (name, content) in enumerate(ways.items()):
        path = tmp_path / f"{place}.jsonl"
        path.write_bytes(content)
        made[name] = samples(run(path, model, validation="none"))
    assert all(one == made["plain"] for one in made.values()) and len(made["plain"]) == 6


def test_a_file_with_old_mac_line_ends_is_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("\r".join(json.dumps(row) for row in ROWS).encode())
    read = verdicts(path)
    problems = [one for one in read if isinstance(one, Problem)]
    assert problems or sum(isinstance(one, Conversation) for one in read) == len(ROWS)


def test_the_same_file_twice_has_one_fingerprint_and_names_beside_it_count(tmp_path: Path, model: Path) -> None:
    texts = [("U1", "hello <@U2>"), ("U2", "hi"), ("U1", "bye"), ("U2", "bye")]
    said = [
        {"type": "message", "user": user, "text": text, "ts": f"170964735{place}.1"}
        for place, (user, text) in enumerate(texts)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    first, again = (run(path, model, validation="none", assistant=("U2",)) for _ in range(2))
    assert first.fingerprint == again.fingerprint and samples(first) == samples(again)
    (tmp_path / "users.json").write_text(json.dumps([{"id": "U1", "name": "ann"}]), encoding="utf-8")
    other = run(path, model, validation="none", assistant=("U2",))
    assert other.fingerprint != first.fingerprint


# JSON


def test_the_order_of_rows_and_of_keys_does_not_change_what_is_accepted(tmp_path: Path, model: Path) -> None:
    mixed: list[dict[str, Any]] = [
        {"question": "q1", "answer": "a"}, {"question": "q2", "answer": 7}, {"question": "q3", "answer": None},
        {"question": "q4", "answer": ["b", "c"]},
    ]  # fmt: skip
    results = []
    for place, order in enumerate(permutations(mixed)):
        turned = [dict(reversed(row.items())) if place % 2 else row for row in order]
        path = write_jsonl(tmp_path / f"{place}.jsonl", turned)
        data = run(path, model, validation="none")
        results.append((sorted(samples(data)), data.counts.dropped))
        assert conserved(data)
    assert all(one == results[0] for one in results) and results[0][1] == {"empty_answer": 1}


# Conversations


TALKS: dict[str, tuple[dict[str, Any], str]] = {
    "no turns": ({"messages": []}, "row_no_turns"),
    "empty answer": (chat("q", ""), "empty_answer"),
    "null answer": ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]},
                    "empty_answer"),
    "only system": ({"messages": [{"role": "system", "content": "s"}]}, "row_only_system"),
    "assistant first": ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]},
                        "row_assistant_first"),
    "two users": ({"messages": [{"role": "user", "content": "p"}, *chat("q", "a")["messages"]]}, "accepted"),
    "unknown role": ({"messages": [{"role": "robot", "content": "p"}]}, "row_role"),
    "the user ends": (chat("q", "a", "r"), "accepted"),
    "call without result": ({"messages": [{"role": "user", "content": "q"}, {
        "role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, "accepted"),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]},
                            {"role": "assistant", "content": "a"}]}, "accepted"),
    "white space": (chat(" \n", "a"), "row_empty"),
    "role case": ({"messages": [{"role": "USER", "content": "q"}, {"role": "Assistant", "content": "a"}]}, "accepted"),
    "two styles in one row": ({"messages": [{"role": "user", "content": "q"}, {"from": "gpt", "value": "a"}]},
                              "row_no_field"),
    "alike sides": ({"prompt": "q", "chosen": "a", "rejected": "a"}, "same_answers"),
    "the question once more in the answer": ({"prompt": "Who? ", "completion": "Who? Ola."}, "accepted"),
}  # fmt: skip


@pytest.mark.parametrize("name", TALKS)
def test_every_odd_conversation_has_its_verdict(tmp_path: Path, name: str) -> None:
    row, expected = TALKS[name]
    clear = [chat("q", "a")] if name == "no turns" else []  # a row that tells the format
    verdict = verdicts(write_jsonl(tmp_path / "a.jsonl", [*clear, row]))[-1]
    given = "accepted" if isinstance(verdict, Conversation) else ""
    given = verdict.reason if isinstance(verdict, Dropped) else verdict.key if isinstance(verdict, Problem) else given
    assert given == expected


def test_two_styles_in_one_file_are_refused_with_both_lines(tmp_path: Path) -> None:
    sharegpt = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    with pytest.raises(DataError) as caught:
        verdicts(write_jsonl(tmp_path / "a.jsonl", [chat("q", "a"), sharegpt]))
    assert caught.value.key == "data_mixed" and (caught.value.params["line"], caught.value.params["first"]) == (2, 1)


def test_rows_that_stand_on_both_sides_are_told(tmp_path: Path, model: Path) -> None:
    rows = [chat(f"question {word}", word) for word in ("red", "blue", "green", "white")]
    path, other = write_jsonl(tmp_path / "a.jsonl", rows), write_jsonl(tmp_path / "v.jsonl", rows[:2])
    assert run(path, model, validation=str(other)).counts.overlap == 2
    found = {one.kind: one.count for one in check(DataSpec(data=str(path), validation=str(other)), None).findings}
    assert found["leak_validation"] == 2


# Tables


def test_tables_of_odd_columns_give_text(tmp_path: Path) -> None:
    frame = polars.DataFrame({
        "question": polars.Series(["q", "r"], dtype=polars.Categorical), "answer": ["a", "b"],
        "meta": [{"x": None, "y": [None, 1]}, None],
    })  # fmt: skip
    frame.write_parquet(tmp_path / "a.parquet")
    read = verdicts(tmp_path / "a.parquet")
    assert [[turn.content for turn in one.turns] for one in read if isinstance(one, Conversation)] == [
        ["q", "a"], ["r", "b"]
    ]  # fmt: skip


FORMULA = '=cmd|"/C calc"!A1'


def test_what_looks_like_a_formula_is_text_and_is_never_computed(tmp_path: Path) -> None:
    quoted = FORMULA.replace('"', '""')
    (tmp_path / "a.csv").write_text(f'question,answer\nwhat,"{quoted}"\nprice,"3,50"\n', encoding="utf-8")
    workbook = openpyxl.Workbook()
    for row in (("question", "answer"), ("what", FORMULA), ("price", "3,50")):
        workbook.worksheets[0].append(row)
    cell = workbook.worksheets[0]["B2"]
    cell.data_type = "s"  # as text, where Excel would have a formula
    workbook.save(tmp_path / "a.xlsx")
    for name in ("a.csv", "a.xlsx"):
        texts = [one.turns[1].content for one in verdicts(tmp_path / name) if isinstance(one, Conversation)]
        assert texts == [FORMULA, "3,50"]
    spec = DataSpec(data=str(tmp_path / "a.csv"))
    written = convert(spec, tmp_path / "b.jsonl", "alpaca", lambda *_: None).path.read_text(encoding="utf-8")
    assert json.loads(written.split("\n")[0])["output"] == FORMULA


def cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def lying(whole: bytes) -> bytes:
    """The footer of a parquet file with another length than it has."""
    return whole[:-8] + (10**6).to_bytes(4, "little") + whole[-4:]


@pytest.mark.parametrize("change", [cut, lying, lambda whole: whole[:-4]])
def test_a_damaged_table_is_refused_in_words(tmp_path: Path, change: Any) -> None:
    polars.DataFrame({"question": ["q"] * 50, "answer": ["a"] * 50}).write_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(change(whole))
    with pytest.raises(DataError) as caught:
        verdicts(tmp_path / "b.parquet")
    assert caught.value.key == "data_parquet"
    with zipfile.ZipFile(tmp_path / "c.csv", "w") as archive:
        archive.writestr("a.csv", "question,answer\na,b\n")
    with pytest.raises(DataError) as caught:
        verdicts(tmp_path / "c.csv")
    assert caught.value.params["kind"] == "zip"


# Counts


def test_every_row_is_learned_or_left_out_with_a_reason_and_check_says_the_same(tmp_path: Path, model: Path) -> None:
    rows = [*ROWS, chat("x"), {"foo": 1}, {"question": "q", "answers": []}, {"question": "w" * 900, "answer": "a"}]
    rows = [row for row in rows if "messages" not in row]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    options: dict[str, Any] = {"validation": "none", "bad_rows": "drop", "length": 128}
    data = run(path, model, **options)
    report = check(DataSpec(data=str(path), **options), model)
    assert conserved(data) and data.counts.rows_read == len(rows) == report.rows_read
    assert data.counts.dropped == report.dropped == {"empty_answer": 1, "row_format": 1, "too_long": 1}
    assert (data.counts.rows_used, report.rows_used) == (6, 6)


@pytest.mark.parametrize("template", [None, LLAMA])
def test_what_is_shown_of_a_row_is_what_is_trained(tmp_path: Path, template: str | None) -> None:
    model = model_folder(tmp_path / "model", byte_level(), *([template] if template else []))
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    data = run(path, model, validation="none")
    for place in range(len(ROWS)):
        ((shown,),) = show_row(DataSpec(data=str(path)), place + 1, model).samples
        ids, targets = data.train.sample(place)
        assert np.array_equal(ids, shown.ids) and np.array_equal(targets, shown.targets)


# Lengths and tokens


def test_a_row_without_anything_to_learn_is_never_trained_on(tmp_path: Path, model: Path) -> None:
    rows = [chat("hello " * 60, "yes"), chat("hi", "hello there")]
    for truncation, dropped in (("right", {"no_target": 1}), ("drop", {"too_long": 1}), ("left", {})):
        path = write_jsonl(tmp_path / f"{truncation}.jsonl", rows)
        data = run(path, model, validation="none", length=24, truncation=truncation)
        assert data.counts.dropped == dropped and conserved(data)
        assert all(any(targets) for _, targets in samples(data))
    with pytest.raises(DataError) as caught:
        run(write_jsonl(tmp_path / "a.jsonl", rows[:1]), model, validation="none", length=24, truncation="right")
    assert caught.value.key == "data_nothing_left"


@pytest.mark.parametrize("truncation", ["left", "right"])
def test_a_cut_keeps_special_tokens_whole(tmp_path: Path, model: Path, truncation: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [chat("hello", "hi there"), chat("the the", "this that")])
    tokenizer = ChatTokenizer.from_folder(model)
    whole = samples(run(path, model, validation="none"))
    for length in range(8, max(len(ids) for ids, _ in whole)):
        try:
            made = samples(run(path, model, validation="none", length=length, truncation=truncation))
        except DataError as error:
            assert error.key == "data_nothing_left"
            continue
        for ids, targets in made:
            parts = [one for one, _ in whole if one[:length] == ids or one[-length:] == ids or one == ids]
            assert parts, "a cut is a piece of the whole, token by token"
            text = tokenizer.decode(ids, skip_special=False)
            assert sum(text.count(token) for token in SPECIAL) == sum(map(tokenizer.is_control, ids))
            assert not targets[0]


def test_no_id_is_beyond_the_vocabulary(tmp_path: Path, model: Path) -> None:
    strange = "".join(map(chr, range(0x20, 0x3000, 7))) + "".join(SPECIAL)
    data = run(
        write_jsonl(tmp_path / "a.jsonl", [chat(strange, strange[::-1])]), model, validation="none", length=10**5
    )
    assert max(ids for row, _ in samples(data) for ids in row) < byte_level().get_vocab_size()
