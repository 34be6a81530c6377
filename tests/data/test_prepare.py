"""The whole way from a file to samples: nothing lost, nothing done twice, nothing stale."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.folders import CHATML, STRICT, byte_level, chat, model_folder, write_jsonl
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.prepare import PreparedData, prepare
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import DataError, EnvironmentProblem
from xiaozao.spec.parts import DataSpec

ROWS = [{**chat(f"question {index}", f"answer {index} " * (index % 7 + 1)), "intent": "abc"[index % 3]}
        for index in range(60)]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("prepare") / "model", byte_level())


def run(path: Path, model: Path, seed: int = 0, **options: Any) -> PreparedData:
    spec = DataSpec(data=str(path), **options)
    return prepare(spec, model, seed, path.parent / "cache", lambda stage, done, total: None)


def texts(data: PreparedData, model: Path) -> list[str]:
    tokenizer = ChatTokenizer.from_folder(model)
    return [tokenizer.decode(data.train.sample(index)[0].tolist()) for index in range(len(data.train))]


def conserved(data: PreparedData) -> bool:
    counts = data.counts
    return counts.rows_read == counts.rows_used + counts.rows_validation + sum(counts.dropped.values())


def test_samples_are_what_the_tokenizer_makes_of_the_rows(tmp_path: Path, model: Path) -> None:
    data = run(write_jsonl(tmp_path / "a.jsonl", ROWS), model, validation="none")
    tokenizer = ChatTokenizer.from_folder(model)
    assert data.validation is None and len(data.train) == 60
    for index, row in enumerate(ROWS):
        turns = tuple(Turn(one["role"], one["content"]) for one in row["messages"])
        expected = tokenizer.encode(Conversation(turns, 1))
        ids, targets = data.train.sample(index)
        assert np.array_equal(ids, expected.ids) and np.array_equal(targets, expected.targets)
    assert data.train.lines.tolist() == list(range(1, 61))
    assert data.train.lengths.sum() == data.train.tokens == len(data.train.ids)
    assert data.train.target_tokens == sum(int(data.train.sample(index)[1].sum()) for index in range(60))
    assert data.train.longest == data.train.lengths.max()
    assert data.train.ids.dtype == np.int32 and data.train.offsets.dtype == np.int64


def test_share_for_validation_is_seeded_and_counted(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    data = run(path, model, validation=0.1)
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (54, 6)
    assert (data.counts.rows_used, data.counts.rows_validation) == (54, 6)
    assert set(data.train.lines.tolist()) | set(data.validation.lines.tolist()) == set(range(1, 61))
    other = run(path, model, seed=1, validation=0.1)
    assert other.validation is not None
    assert other.validation.lines.tolist() != data.validation.lines.tolist()


def test_same_question_never_stands_on_both_sides(tmp_path: Path, model: Path) -> None:
    rows = [chat(f"question {index % 10}", f"answer {index}") for index in range(60)]
    data = run(write_jsonl(tmp_path / "a.jsonl", rows), model, validation=0.3)
    assert data.validation is not None
    sides = [{(line - 1) % 10 for line in part.lines.tolist()} for part in (data.train, data.validation)]
    assert not sides[0] & sides[1] and sides[1]


ASKED = (
    "how can I cancel order", "where is my parcel", "I want my money back for", "change the delivery address of",
    "the invoice is wrong for number", "can I still pay by card for", "who do I talk to about",
    "what about the colour of", "is there a discount on", "please gift-wrap",
)  # fmt: skip


def alike(count: int) -> list[dict[str, Any]]:
    """Rows with ten questions, each asked in many nearly equal ways."""
    return [
        {**chat(f"{ASKED[index % 10]} {1000 + index}{'?' * (index % 3)}", f"answer {index}"), "intent": "ab"[index % 2]}
        for index in range(count)
    ]


def test_a_row_that_asks_nearly_the_same_never_validates(tmp_path: Path, model: Path) -> None:
    data = run(write_jsonl(tmp_path / "a.jsonl", alike(80)), model, validation=0.2)
    assert data.validation is not None and len(data.validation) == 16
    sides = [{(line - 1) % 10 for line in part.lines.tolist()} for part in (data.train, data.validation)]
    assert not sides[0] & sides[1] and data.counts.alike == 0
    assert {line % 2 for line in data.validation.lines.tolist()} == {0, 1}  # of each intent


def test_the_order_of_the_rows_does_not_change_which_of_them_validate(tmp_path: Path, model: Path) -> None:
    rows = alike(80)
    held = []
    for name, some in (("a", rows), ("b", rows[::-1])):
        validation = run(write_jsonl(tmp_path / f"{name}.jsonl", some), model, validation=0.2).validation
        assert validation is not None
        held.append({some[line - 1]["messages"][0]["content"] for line in validation.lines.tolist()})
    assert held[0] == held[1] and len(held[0]) == 16


def test_a_file_of_one_pattern_is_divided_and_the_run_is_told(tmp_path: Path, model: Path) -> None:
    rows = [chat(f"What is {number} plus {number % 7}?", f"{number + number % 7}") for number in range(10, 70)]
    data = run(write_jsonl(tmp_path / "a.jsonl", rows), model, validation=0.1)
    assert data.validation is not None and len(data.validation) == 6
    assert data.counts.alike == 6


@pytest.mark.parametrize("rows", [2, 3, 5, 8, 20])
def test_a_small_file_of_near_duplicates_gives_one_row_to_validation(tmp_path: Path, model: Path, rows: int) -> None:
    few = [chat(f"where is my parcel {'abcdefghijklmnopqrst'[number]}", "there") for number in range(rows)]
    data = run(write_jsonl(tmp_path / "a.jsonl", few), model, validation=0.05)
    assert data.validation is not None and len(data.validation) == 1 and len(data.train) == rows - 1
    assert data.counts.alike == 1


def test_validation_file_is_used_whole_and_its_overlap_is_counted(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    held = write_jsonl(tmp_path / "b.jsonl", [*ROWS[:4], chat("new", "thing"), chat("x", "")])
    data = run(path, model, validation=str(held), rows=30)
    assert data.validation is not None and len(data.validation) == 5
    assert data.counts.rows_read == 66
    assert data.counts.dropped == {"not_sampled": 30, "empty_answer": 1}
    assert data.counts.overlap == len(set(data.train.lines.tolist()) & {1, 2, 3, 4})
    assert conserved(data)


def test_stratified_sample_keeps_the_shares(tmp_path: Path, model: Path) -> None:
    rows = sorted(ROWS, key=lambda row: str(row["intent"]))
    data = run(write_jsonl(tmp_path / "a.jsonl", rows), model, validation="none", rows=12, stratify="intent")
    chosen = [rows[line - 1]["intent"] for line in data.train.lines.tolist()]
    assert {intent: chosen.count(intent) for intent in "abc"} == {"a": 4, "b": 4, "c": 4}
    with pytest.raises(DataError, match="intent") as caught:
        run(tmp_path / "a.jsonl", model, validation="none", rows=12, stratify="topic")
    assert caught.value.key == "data_stratify"


@pytest.mark.parametrize(("truncation", "kept"), [("drop", 0), ("right", 1), ("left", 1)])
def test_truncation_policies(tmp_path: Path, model: Path, truncation: str, kept: int) -> None:
    rows = [chat("hi", "hello"), chat("hi", "hello " + "w" * 60 + " end")]
    data = run(write_jsonl(tmp_path / "a.jsonl", rows), model, validation="none", length=40, truncation=truncation)
    assert (len(data.train), data.counts.dropped) == (1 + kept, {} if kept else {"too_long": 1})
    assert data.train.longest <= 40
    if kept:
        full = run(tmp_path / "a.jsonl", model, validation="none", length=400).train.sample(1)
        ids, targets = data.train.sample(1)
        expected = slice(40) if truncation == "right" else slice(len(full[0]) - 40, None)
        assert np.array_equal(ids, full[0][expected])
        assert not targets[0] and np.array_equal(targets[1:], full[1][expected][1:])


def test_truncation_error_names_every_row(tmp_path: Path, model: Path) -> None:
    rows = [chat("hi", "hello"), chat("hi", "w" * 90), chat("hi", "w" * 95)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        run(path, model, validation="none", length=40, truncation="error", bad_rows="drop")
    assert [problem.params["line"] for problem in caught.value.problems] == [2, 3]
    assert all(problem.params["length"] == 40 for problem in caught.value.problems)


def test_row_whose_answer_is_cut_off_is_dropped_and_counted(tmp_path: Path, model: Path) -> None:
    rows = [chat("hi", "hello"), chat("w" * 90, "hello")]
    data = run(write_jsonl(tmp_path / "a.jsonl", rows), model, validation="none", length=40, truncation="right")
    assert data.counts.dropped == {"no_target": 1}
    with pytest.raises(DataError) as caught:
        run(write_jsonl(tmp_path / "b.jsonl", rows[1:]), model, validation="none", length=40, truncation="right")
    assert caught.value.key == "data_nothing_left"
    assert caught.value.params["reasons"] == {"no_target": 1}
    assert "截断后没有可学的内容 1 条" in caught.value.what("zh-CN")


@pytest.mark.parametrize(("rows", "fits"), [(1, False), (2, True), (3, True)])
def test_tiny_file_leaves_a_row_on_both_sides_or_says_so(tmp_path: Path, model: Path, rows: int, fits: bool) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS[:rows])
    if fits:
        data = run(path, model)
        assert data.validation is not None and len(data.validation) == 1 and len(data.train) == rows - 1
    else:
        with pytest.raises(DataError, match="validation=none") as caught:
            run(path, model)
        assert caught.value.key == "data_too_few"


def test_template_that_refuses_rows_is_a_problem_of_those_rows(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", byte_level(), STRICT)
    path = write_jsonl(tmp_path / "a.jsonl", [chat("hi", "hello"), chat("hi", "hello", system="be kind")])
    with pytest.raises(DataError, match="System role not supported") as caught:
        run(path, model, validation="none")
    assert caught.value.problems[0].params["line"] == 2
    data = run(path, model, validation="none", bad_rows="drop")
    assert data.counts.dropped == {"row_template": 1} and conserved(data)


def test_ids_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", byte_level())
    (model / "config.json").write_text('{"vocab_size": 100}', encoding="utf-8")
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(DataError, match="100 tokens") as caught:
        run(path, model, validation="none")
    assert caught.value.key == "data_vocabulary"


def test_chat_log_counts_messages(tmp_path: Path, model: Path) -> None:
    lines = [
        "time,sender,text",
        "2024-03-05 14:00,Ann,hi",
        "2024-03-05 14:00,Ann,there",
        "2024-03-05 14:01,support,yes",
        "2024-03-05 14:02,Ann,[image]",
        "2024-03-05 19:00,Ann,hm",
        "2024-03-05 19:01,support,what?",
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    data = run(tmp_path / "a.csv", model, validation="none")
    assert (data.counts.rows_read, data.counts.rows_used, len(data.train)) == (6, 5, 2)
    assert data.counts.dropped == {"media": 1} and conserved(data)


def test_cache_is_reused_until_anything_changes(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    first = run(path, model, validation="none")
    made = tmp_path / "cache" / "data" / first.fingerprint / "summary.json"
    stamp = made.stat().st_mtime_ns
    again = run(path, model, validation="none")
    assert (again.fingerprint, made.stat().st_mtime_ns) == (first.fingerprint, stamp)
    assert again.counts == first.counts
    shutil.copy(path, tmp_path / "copy.jsonl")
    assert run(tmp_path / "copy.jsonl", model, validation="none").fingerprint == first.fingerprint
    fingerprints = [
        first.fingerprint,
        run(path, model, validation="none", length=100).fingerprint,
        run(path, model, validation="none", truncation="left").fingerprint,
        run(path, model, validation="none", system="be kind").fingerprint,
        run(path, model, validation="none", rows=59).fingerprint,
        run(path, model, validation="none", seed=1).fingerprint,
        run(path, model, validation=0.2).fingerprint,
        run(path, model, validation=str(write_jsonl(tmp_path / "v.jsonl", ROWS[:2]))).fingerprint,
        run(path, model, validation=str(write_jsonl(tmp_path / "v.jsonl", ROWS[:3]))).fingerprint,
        run(path, model_folder(tmp_path / "m", byte_level(), CHATML + "{# #}"), validation="none").fingerprint,
        run(path, model_folder(tmp_path / "n", byte_level(merges=False)), validation="none").fingerprint,
        run(write_jsonl(path, ROWS[:-1]), model, validation="none").fingerprint,
    ]
    assert len(set(fingerprints)) == len(fingerprints)


@pytest.mark.parametrize("damage", ["cut", "gone", "summary"])
def test_damaged_cache_is_made_again(tmp_path: Path, model: Path, damage: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    first = run(path, model, validation="none")
    expected = first.train.ids.tolist()
    folder = tmp_path / "cache" / "data" / first.fingerprint
    if damage == "cut":
        content = (folder / "train" / "ids.npy").read_bytes()
        (folder / "train" / "ids.npy").unlink()
        (folder / "train" / "ids.npy").write_bytes(content[:-8])
    elif damage == "gone":
        (folder / "train" / "offsets.npy").unlink()
    else:
        (folder / "summary.json").write_text("{", encoding="utf-8")
    assert run(path, model, validation="none").train.ids.tolist() == expected
    assert [one.name for one in folder.parent.iterdir()] == [first.fingerprint]


def test_cache_that_cannot_be_written_is_named(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "cache").write_text("a file is in the way", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="cache") as caught:
        run(path, model, validation="none")
    assert caught.value.key == "not_writable"


def test_prepared_data_holds_no_path_of_the_user(tmp_path: Path, model: Path) -> None:
    data = run(write_jsonl(tmp_path / "a.jsonl", ROWS), model, validation="none")
    folder = tmp_path / "cache" / "data" / data.fingerprint
    assert str(tmp_path) not in (folder / "summary.json").read_text(encoding="utf-8")
    assert set(json.loads((folder / "summary.json").read_text(encoding="utf-8"))) == {"counts", "sizes"}


def test_progress_is_told_by_stage(tmp_path: Path, model: Path) -> None:
    told: list[tuple[str, int, int]] = []
    spec = DataSpec(data=str(write_jsonl(tmp_path / "a.jsonl", ROWS)), validation="none")
    prepare(spec, model, 0, tmp_path / "cache", lambda *one: told.append(one))
    assert {stage for stage, _, _ in told} == {"data_read", "data_tokens"}
    assert all(0 <= done <= total for _, done, total in told) and len(told) < 250


KINDS = st.sampled_from([
    chat("hi", "hello"), chat("hi", "hello", "and", "now"), chat("hi", ""), chat("hi", "w" * 300), {"messages": []},
    {"messages": [{"role": "user", "content": "hi"}]}, {"messages": [{"role": "x", "content": "hi"}]}, {"foo": 1},
    chat("w" * 300, "hello"), chat("one", "two"), chat("a", "b"),
])  # fmt: skip


@given(rows=st.lists(KINDS, min_size=1, max_size=30), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_row_read_is_used_or_dropped_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, model: Path, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("conserve")
    options: dict[str, Any] = {
        "validation": data.draw(st.sampled_from(["none", 0.2, 0.5])),
        "rows": data.draw(st.sampled_from([None, 1, 5])),
        "truncation": data.draw(st.sampled_from(["drop", "left", "right"])),
    }
    try:
        found = run(write_jsonl(folder / "a.jsonl", rows), model, length=60, bad_rows="drop", **options)
    except DataError as error:
        assert error.key in ("data_nothing_left", "data_too_few", "data_format", "data_nothing_validates")
        return
    assert found.counts.rows_read == len(rows)
    assert conserved(found)
    assert found.counts.rows_used == len(found.train)
    assert found.counts.rows_validation == (0 if found.validation is None else len(found.validation))
    for part in filter(None, (found.train, found.validation)):
        assert all(part.sample(index)[1].any() for index in range(len(part)))
        assert not any(part.sample(index)[1][0] for index in range(len(part)))


def test_same_file_in_another_order_gives_the_same_samples(tmp_path: Path, model: Path) -> None:
    first = texts(run(write_jsonl(tmp_path / "a.jsonl", ROWS), model, validation="none"), model)
    second = texts(run(write_jsonl(tmp_path / "b.jsonl", ROWS[::-1]), model, validation="none"), model)
    assert first == second[::-1]


def test_several_files_are_read_as_one_and_each_row_is_found_again(tmp_path: Path, model: Path) -> None:
    one, other = write_jsonl(tmp_path / "a.jsonl", ROWS[:30]), write_jsonl(tmp_path / "b.jsonl", ROWS[30:])
    whole = run(write_jsonl(tmp_path / "whole.jsonl", ROWS), model, validation="none")
    spec = DataSpec(data=f"{one}，{other}", validation="none")
    both = prepare(spec, model, 0, tmp_path / "cache", lambda stage, done, total: None)
    assert np.array_equal(both.train.ids, whole.train.ids) and both.counts.rows_read == 60
    assert [both.train.where(index) for index in (0, 29, 30, 59)] == [1, 30, "2:1", "2:30"]
    assert both.fingerprint != whole.fingerprint


def test_a_bad_row_of_the_second_file_names_that_file(tmp_path: Path, model: Path) -> None:
    bad = {"messages": [{"role": "nobody", "content": "x"}]}
    one, other = write_jsonl(tmp_path / "a.jsonl", ROWS), write_jsonl(tmp_path / "b.jsonl", [ROWS[0], bad])
    with pytest.raises(DataError) as caught:
        prepare(DataSpec(data=f"{one},{other}"), model, 0, tmp_path / "cache", lambda *_: None)
    assert [problem.params["line"] for problem in caught.value.problems] == ["b.jsonl:2"]


def test_a_file_of_another_kind_among_several_is_refused_by_name(tmp_path: Path, model: Path) -> None:
    one = write_jsonl(tmp_path / "a.jsonl", ROWS)
    other = write_jsonl(tmp_path / "b.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(DataError) as caught:
        prepare(DataSpec(data=f"{one},{other}"), model, 0, tmp_path / "cache", lambda *_: None)
    assert caught.value.key == "data_pairs" and caught.value.params["path"] == other


def test_a_number_of_rows_validates_and_one_too_large_is_refused(tmp_path: Path, model: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    data = run(path, model, validation=7)
    assert data.counts.rows_validation == 7 and conserved(data)
    with pytest.raises(DataError, match="validation=60"):
        run(path, model, validation=60)


def test_validation_without_a_usable_row_is_told_with_its_own_counts(tmp_path: Path, model: Path) -> None:
    rows = [chat(f"hi {number}", "hello") for number in range(30)]
    held = write_jsonl(tmp_path / "v.jsonl", [chat("w" * 200, "hello"), chat("v" * 200, "hello")])
    with pytest.raises(DataError) as caught:
        run(write_jsonl(tmp_path / "a.jsonl", rows), model, validation=str(held), length=60, rows=20)
    assert (caught.value.key, caught.value.params["rows"]) == ("data_nothing_validates", 2)
    assert caught.value.params["reasons"] == {"too_long": 2}
