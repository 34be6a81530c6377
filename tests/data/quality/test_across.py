"""What shows when rows are compared: leaks, labels, formats, lengths, languages, and how much of it stays in memory."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import byte_level, chat, model_folder, write_jsonl
from tests.data.quality.planted import clean
from xiaozao.data.checks import DataReport, check
from xiaozao.data.formats import Conversation
from xiaozao.data.quality.across import whole_key
from xiaozao.data.quality.findings import Found
from xiaozao.data.turns import Turn
from xiaozao.spec.parts import DataSpec


def report(path: Path, **options: Any) -> DataReport:
    questions = options.pop("questions", None)
    model = options.pop("model", None)
    return check(DataSpec(data=str(path), **options), model, questions=questions)


def kinds(path: Path, **options: Any) -> dict[str, Found]:
    return {found.kind: found for found in report(path, **options).findings}


def test_questions_that_stand_in_validation_or_question_files_are_leaks(tmp_path: Path) -> None:
    rows = clean("en", 120)
    held = [
        chat(rows[10]["messages"][0]["content"].upper() + " ", "Another answer is given here."),
        *clean("en", 130)[121:],
    ]
    other = write_jsonl(tmp_path / "held.jsonl", held)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = kinds(path, validation=str(other))
    assert list(found["leak_validation"].lines) == [11] and found["leak_validation"].gravity == "serious"
    assert found["leak_validation"].examples[0].hit.other == 1 and "held.jsonl" in found["leak_validation"].what("en")
    found = kinds(path, questions=other)
    assert list(found["leak_questions"].lines) == [11] and "leak_validation" not in found


def test_labels_that_dominate_or_hardly_occur_are_told(tmp_path: Path) -> None:
    rows = [{**row, "intent": "refund" if index < 190 else "rare" if index < 193 else "other", "id": index}
            for index, row in enumerate(clean("zh", 200))]  # fmt: skip
    found = kinds(write_jsonl(tmp_path / "a.jsonl", rows))
    assert "intent=refund" in found["dominant_label"].examples[0].text("en")
    assert "intent=rare: 3 / 200" in found["rare_label"].examples[0].text("zh-CN")
    balanced = [{**row, "intent": "ab"[index % 2]} for index, row in enumerate(clean("zh", 200))]
    assert not {"dominant_label", "rare_label"} & kinds(write_jsonl(tmp_path / "b.jsonl", balanced)).keys()


def test_one_answer_for_a_tenth_of_the_questions_is_told(tmp_path: Path) -> None:
    rows = clean("en", 100)
    same = [
        chat(row["messages"][0]["content"], "Thank you. Our colleagues will answer this question soon.")
        for row in rows[:20]
    ]
    assert kinds(write_jsonl(tmp_path / "a.jsonl", same + rows[20:]))["same_answer"].gravity == "note"
    assert "same_answer" not in kinds(write_jsonl(tmp_path / "b.jsonl", rows))


def test_an_answer_that_is_no_json_among_many_that_are_is_serious(tmp_path: Path) -> None:
    rows = [chat(row["messages"][0]["content"], json.dumps({"n": index})) for index, row in enumerate(clean("en", 40))]
    rows[7] = chat("And which number is this one?", '{"n": 7')
    found = kinds(write_jsonl(tmp_path / "a.jsonl", rows))
    assert list(found["broken_json"].lines) == [8] and found["broken_json"].gravity == "serious"


def test_a_row_without_the_system_text_of_all_others_is_told(tmp_path: Path) -> None:
    rows = [chat(*(turn["content"] for turn in row["messages"]), system="Be kind.") for row in clean("en", 60)]
    rows[4] = {"messages": rows[4]["messages"][1:]}
    assert list(kinds(write_jsonl(tmp_path / "a.jsonl", rows))["no_system"].lines) == [5]


def test_a_file_of_labels_is_not_full_of_one_word_answers(tmp_path: Path) -> None:
    rows = [chat(row["messages"][0]["content"], "refund" if index % 2 else "repair")
            for index, row in enumerate(clean("en", 60))]  # fmt: skip
    assert "one_word" not in kinds(write_jsonl(tmp_path / "a.jsonl", rows))


def test_few_rows_are_told_and_enough_are_not(tmp_path: Path) -> None:
    few = kinds(write_jsonl(tmp_path / "a.jsonl", clean("zh", 12)))["too_few"]
    assert few.of_file and "12" in few.what("zh-CN")
    assert "too_few" not in kinds(write_jsonl(tmp_path / "b.jsonl", clean("zh", 60)))


def test_rows_beyond_the_length_and_a_tokenizer_that_does_not_know_the_language(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", byte_level())
    path = write_jsonl(tmp_path / "a.jsonl", clean("zh", 60))
    found = kinds(path, model=model, length=100)
    assert found["cut_at_length"].count == 60 and "100" in found["cut_at_length"].what("en")
    tokens = report(path, model=model, length=100).token_statistics
    assert tokens is not None and str(tokens.longest) in found["cut_at_length"].fix("en")
    assert "model_language" in found
    assert "model_language" not in kinds(write_jsonl(tmp_path / "b.jsonl", clean("en", 60)), model=model)


def test_two_answers_that_only_say_the_same_in_other_words_contradict_nothing(tmp_path: Path) -> None:
    rows = clean("en", 60)
    question = rows[3]["messages"][0]["content"]
    rows += [chat(question, "A colleague takes care of it, and a letter follows as soon as it is settled by the shop.")]
    assert "contradiction" not in kinds(write_jsonl(tmp_path / "a.jsonl", rows))


def test_one_broken_contents_does_not_change_what_training_would_do(tmp_path: Path) -> None:
    rows = [*clean("en", 60), chat("Which key?", "It is sk-" + "abcDEF0123456789abcdef.")]
    checked = report(write_jsonl(tmp_path / "a.jsonl", rows))
    assert checked.ok and checked.serious == 1 and checked.rows_used == 61


def test_excerpts_show_only_a_part_of_a_secret(tmp_path: Path) -> None:
    rows = [*clean("zh", 60), chat("密码多少？", "密码是Kx7!mango22，手机13912345678。")]
    text = json.dumps(report(write_jsonl(tmp_path / "a.jsonl", rows)).to_json("zh-CN")["findings"], ensure_ascii=False)
    assert "mango" not in text and "3912345" not in text
    assert "13*******78" in text and '"phone_cn"' in text and '"password"' in text


@pytest.mark.parametrize("rows", [8_000])
def test_memory_grows_by_numbers_and_not_by_texts(rows: int, tmp_path: Path) -> None:
    """A check grows by less than the bytes of its file, twins included."""
    path = tmp_path / "big.jsonl"
    filler = "word " * 300
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(chat(f"Question number {number} of many?", f"{number}. {filler}")) + "\n")
    script = (
        "import resource, sys; from xiaozao.data.checks import check; from xiaozao.spec.parts import DataSpec; "
        "from xiaozao.data.quality.inspection import Inspection; "
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "check(DataSpec(data=sys.argv[1]), None); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < path.stat().st_size


def test_rows_with_other_tools_are_no_duplicates() -> None:
    turns = (Turn("user", "book a table for two please"), Turn("assistant", "I have no tool for it."))
    rows = [Conversation(turns, 1, tools=tools) for tools in ("", '[{"type": "function"}]')]
    assert whole_key(rows[0]) != whole_key(rows[1]) and whole_key(rows[0]) == whole_key(replace(rows[0], line=2))


def test_many_answers_to_one_question_are_no_fault_where_answers_are_judged(tmp_path: Path) -> None:
    asked = "Where is my parcel with the lamp, please?"
    rows: list[dict[str, Any]] = [{"prompt": asked, "completion": "It is at home 1.", "label": True}]
    rows += [{"prompt": asked, "completion": "It is lost, no idea 2.", "label": False}]
    pairs = [{"prompt": asked, "chosen": f"At home {n}.", "rejected": f"No idea {n}."} for n in range(2)]
    for name, given in (("kto", rows), ("pairs", pairs)):
        path = write_jsonl(tmp_path / f"{name}.jsonl", given)
        kinds = {found.kind for found in check(DataSpec(data=str(path), validation="none"), None).findings}
        assert not kinds & {"near_duplicate", "contradiction", "duplicate"}
