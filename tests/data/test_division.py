"""`split`: parts that hold every row once, by near duplicates, and what is told of them."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import chat, shared_data, write_jsonl
from xiaozao.data.conversations import read_conversations
from xiaozao.data.division import Division, Shares, assign, divide_file, nearness
from xiaozao.data.groups import asked
from xiaozao.data.survey import Survey
from xiaozao.data.twins import Twins, normalised
from xiaozao.errors import DataError
from xiaozao.spec.parts import DataSpec

THINGS = ("copper kettle", "breakfast mug", "desk lamp", "glass teapot", "woollen blanket", "umbrella", "notebook",
          "beeswax candle", "flower vase", "picnic basket")  # fmt: skip
ASKED = ("where is my {} now", "how do I return this {}", "is a warranty included with any {}",
         "{} arrived broken today", "please send me an invoice for one {}")  # fmt: skip
WHOLE = Shares()


def rows_of(count: int) -> list[dict[str, Any]]:
    """Questions in five intents about ten things, each several times with a small change."""
    return [
        {**chat(ASKED[index % 5].format(THINGS[index // 5 % 10]) + "?" * (index // 50), f"answer {index}"),
         "intent": f"i{index % 5}"}
        for index in range(count)
    ]  # fmt: skip


def files(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.jsonl" for name in ("train", "validation", "questions")}


def split(path: Path, folder: Path, shares: Shares = WHOLE, **options: Any) -> Division:
    return divide_file(DataSpec(data=str(path), **options), shares, files(folder), lambda *_: None)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_row_is_in_one_part_as_it_was(tmp_path: Path) -> None:
    rows = rows_of(200)
    division = split(write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "out", Shares(questions=20))
    written = {name: read(path) for name, path in division.files.items()}
    assert {name: len(part) for name, part in written.items()} == division.rows
    assert division.rows == {"questions": 20, "train": 160, "validation": 20}
    assert sorted(json.dumps(row) for part in written.values() for row in part) == sorted(map(json.dumps, rows))
    assert [row for row in rows if row in written["train"]] == written["train"]  # in their order
    told = {normalised(row["messages"][0]["content"]): name for name, part in written.items() for row in part}
    for name, part in written.items():
        assert {told[normalised(row["messages"][0]["content"])] for row in part} == {name}
    assert (division.rows_read, division.groups, division.divided) == (200, 50, 0)
    assert all(one.twins == one.alike == 0 and one.most is None for one in division.between)


def test_intents_keep_their_shares_and_the_field_is_told_as_a_guess(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(200))
    division = split(path, tmp_path / "out", Shares(questions=20))
    assert (division.by, division.guessed) == ("intent", True)
    assert Counter(row["intent"] for row in read(division.files["questions"])) == {
        f"i{number}": 4 for number in range(5)
    }
    named = split(path, tmp_path / "named", Shares(by="intent", questions=20))
    assert (named.by, named.guessed) == ("intent", False)
    assert read(named.files["train"]) == read(division.files["train"])
    with pytest.raises(DataError, match="topic"):
        split(path, tmp_path / "no", Shares(by="topic"))
    assert not (tmp_path / "no" / "train.jsonl").exists()


def test_the_division_depends_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    rows = rows_of(200)
    shuffled = random.Random(5).sample(rows, 200)
    paths = [write_jsonl(tmp_path / "a.jsonl", rows), write_jsonl(tmp_path / "b.jsonl", shuffled)]
    held = [
        set(map(json.dumps, read(split(path, tmp_path / f"{path.stem}{seed}", Shares(seed=seed)).files["validation"])))
        for seed in (0, 1)
        for path in paths
    ]
    assert held[0] == held[1] and held[2] == held[3] and held[0] != held[2]


@pytest.mark.parametrize(
    ("shares", "rows"),
    [
        (Shares(), {"train": 160, "validation": 20, "questions": 20}),  # 50 questions would be a quarter
        (Shares(validation=0, questions=0), {"train": 200}),
        (Shares(validation=30, questions=0), {"train": 172, "validation": 28}),  # groups have four rows
        (Shares(0.5, 0.1, 0.1), {"train": 100, "validation": 20, "questions": 20, "unused": 60}),
        (Shares(train=100, validation=0, questions=0), {"train": 100, "unused": 100}),
    ],
)  # fmt: skip
def test_parts_have_the_sizes_that_were_asked_for(tmp_path: Path, shares: Shares, rows: dict[str, int]) -> None:
    division = split(write_jsonl(tmp_path / "a.jsonl", rows_of(200)), tmp_path / "out", shares)
    assert division.conversations == division.rows == rows
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.jsonl" for name in rows if name != "unused"
    )


@pytest.mark.parametrize("shares", [Shares(train=0.9, questions=0.1), Shares(questions=200), Shares(validation=181)])
def test_shares_that_are_more_than_the_file_has_are_refused_with_the_numbers(tmp_path: Path, shares: Shares) -> None:
    with pytest.raises(DataError) as caught:
        split(write_jsonl(tmp_path / "a.jsonl", rows_of(200)), tmp_path / "out", shares)
    assert caught.value.key == "split_shares" and caught.value.params["rows"] == 200
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_read_stop_it_or_are_counted(tmp_path: Path) -> None:
    rows = [*rows_of(50), {"messages": [{"role": "nobody", "content": "x"}]}, chat("no answer here")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        split(path, tmp_path / "out")
    assert [problem.params["line"] for problem in caught.value.problems] == [51]
    division = split(path, tmp_path / "out", bad_rows="drop")
    assert division.dropped == {"no_answer": 1, "row_role": 1}
    assert division.rows_read == sum(division.rows.values()) + 2 == 52


def test_several_files_and_a_table_are_written_as_rows_of_json(tmp_path: Path) -> None:
    table = tmp_path / "b.csv"
    table.write_text(
        "question,answer\n" + "".join(f"{THINGS[n]} {n}?,yes {n}\n" for n in range(10)), encoding="gb18030"
    )
    one = tmp_path / "a.csv"
    one.write_text("question,answer\n杯子在哪里,在这里\n灯怎么退货,打印标签\n", encoding="gb18030")
    division = split(Path(f"{one},{table}"), tmp_path / "out", Shares(validation=2, questions=0))
    rows = [row for path in division.files.values() for row in read(path)]
    assert len(rows) == 12 and {"question": "杯子在哪里", "answer": "在这里"} in rows


def test_a_chat_log_is_written_as_conversations(tmp_path: Path) -> None:
    lines = ["time,customer,sender,text"]
    for number, thing in enumerate(THINGS):
        lines += [f"2026-03-{number + 1:02} 10:00:00,c{number},Ann{number},where is the {thing}",
                  f"2026-03-{number + 1:02} 10:01:00,c{number},Support,the {thing} is here"]  # fmt: skip
    path = tmp_path / "chats.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    spec = {"format": "chatlog", "assistant": ("Support",)}
    division = split(path, tmp_path / "out", Shares(validation=2, questions=0), **spec)
    assert division.as_conversations
    assert division.rows == {"train": 16, "validation": 4}  # messages
    assert division.conversations == {"train": 8, "validation": 2}
    parts = [
        conversation
        for path in division.files.values()
        for conversation in read_conversations(DataSpec(data=str(path)))
    ]
    assert {asked(one) for one in parts} == {f"where is the {thing}" for thing in THINGS}


def test_lines_of_a_chat_that_are_asked_for_as_texts_are_written_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    lines = [f"[2026-03-{day:02} 10:00:00] Ann: where is the {thing}" for day, thing in enumerate(THINGS, 1)]
    path.write_text("\n".join(lines), encoding="utf-8")
    division = split(path, tmp_path / "out", Shares(validation=2, questions=0), format="text")
    assert division.rows == {"train": 8, "validation": 2}
    assert sorted(row["text"] for part in division.files.values() for row in read(part)) == sorted(lines)


def test_a_file_of_one_pattern_is_divided_and_it_is_told(tmp_path: Path) -> None:
    rows = [chat(f"What is {number} plus {number % 7}?", str(number)) for number in range(10, 110)]
    division = split(write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "out", Shares(questions=10))
    assert division.divided == 100 and division.rows == {"train": 80, "validation": 10, "questions": 10}
    against = {(one.part, one.other): one for one in division.between}
    assert against["validation", "train"].twins == 10 and against["validation", "train"].most == 1.0


def test_nearness_counts_rows_of_each_form_and_both_ways() -> None:
    twins = Twins()
    texts = ["how can I cancel my order", "How can I cancel my order?", "how can I cancel my orders", "where is it",
             "where is it!", "something else that is long enough"]  # fmt: skip
    for text in texts:
        twins.add(text)
    parts = ["train", "validation", "validation", "validation", "questions", "train"]
    told = {(one.part, one.other): (one.twins, one.alike, one.most) for one in nearness(twins, parts)}
    assert told["validation", "train"][:2] == (2, 2) and told["validation", "train"][2] == 1.0
    assert told["questions", "validation"] == (1, 1, 1.0)
    assert told["questions", "train"] == (0, 0, None)


def test_a_random_split_of_real_questions_leaks_and_this_one_does_not(tmp_path: Path) -> None:
    spec = DataSpec(data=",".join(str(shared_data(f"bitext/canned_{name}.jsonl")) for name in ("train", "val", "test")))
    surveyed = Survey(twins=Twins())
    for conversation in read_conversations(spec):
        surveyed.add(conversation, None)
    assert surveyed.twins is not None
    count = len(surveyed.questions)
    held = set(random.Random(0).sample(range(count), count // 10))
    by_chance = ["validation" if index in held else "train" for index in range(count)]
    (leaks,) = nearness(surveyed.twins, by_chance)
    assert leaks.alike > len(held) / 3 and leaks.twins > len(held) / 20
    parts, divided = assign(surveyed, Shares(questions=0), tmp_path)
    (left,) = nearness(surveyed.twins, parts)
    assert divided == 0 and left.twins == left.alike == 0
    assert abs(parts.count("validation") - count / 10) < 5
