"""Tables without a header, with two header rows, and columns that are named by their letters."""

from pathlib import Path
from typing import Any

import openpyxl
import pytest

from xiaozao.cli.main import run
from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation
from xiaozao.data.quality.fixing import Wanted, fix
from xiaozao.errors import DataError, Problem, UsageError
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import LANGUAGES

Table = list[list[Any]]
ENGLISH: Table = [
    ["Where is my parcel?", "It left the warehouse this morning and comes on Friday."],
    ["Can I return a lamp?", "Yes, within 30 days, if the bulb was not used."],
    ["My mug broke", "I am sorry. A new one is on its way to you."],
    ["Do you ship to Norway?", "Yes, it takes five to seven working days."],
]
CHINESE: Table = [
    ["我的快递到哪里了？", "您好，您的包裹今天上午已经发出，预计周五送达。"],
    ["可以退货吗", "可以的，七天内无理由退货。"],
    ["杯子碎了怎么办", "非常抱歉，我们会马上为您补发一个新的。"],
    ["发挪威吗？", "发的，五到七个工作日送达。"],
]
TYPED: Table = [
    ["where is my parcel", "it is on its way"],
    ["can i return it", "yes you can do that"],
    ["my mug broke again", "we are sorry for that"],
]
PAIRS = {"en": ENGLISH, "zh": CHINESE, "typed": TYPED}


def write(path: Path, rows: Table, encoding: str = "utf-8") -> Path:
    """A table as .csv, .tsv or .xlsx."""
    if path.suffix == ".xlsx":
        workbook = openpyxl.Workbook()
        for row in rows:
            workbook.worksheets[0].append(row)
        workbook.save(path)
        return path
    sign = "\t" if path.suffix == ".tsv" else ","
    quoted = [[f'"{cell}"' if sign in str(cell) else "" if cell is None else str(cell) for cell in row] for row in rows]
    path.write_text("".join(sign.join(row) + "\n" for row in quoted), encoding=encoding, newline="")
    return path


def read(path: Path, **options: Any) -> tuple[Table, dict[str, Problem]]:
    """The texts of the turns of each conversation, and the notes by key."""
    file = ConversationFile(path, DataSpec(data=str(path), **options))
    talks = [[turn.content for turn in one.turns] or [one.text] for one in file if isinstance(one, Conversation)]
    return talks, {note.key: note for note in file.notes}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx"])
@pytest.mark.parametrize("language", PAIRS)
def test_without_a_header_the_first_row_is_data(tmp_path: Path, language: str, suffix: str) -> None:
    talks, notes = read(write(tmp_path / f"a{suffix}", PAIRS[language]))
    assert talks == PAIRS[language]
    assert notes["note_no_header_mapped"].params == {"line": 1, "columns": "question=A,answer=B"}


def test_without_a_header_in_gb18030(tmp_path: Path) -> None:
    talks, notes = read(write(tmp_path / "a.csv", CHINESE, "gb18030"))
    assert talks == CHINESE and "note_no_header_mapped" in notes


def test_long_first_cells_and_titles_above_them(tmp_path: Path) -> None:
    rows = [["Please tell me in detail how I can bake a loaf of rye bread at home", "Mix, wait, bake."], *ENGLISH]
    assert read(write(tmp_path / "a.csv", rows))[0] == rows
    talks, notes = read(write(tmp_path / "a.xlsx", [["Questions of March", None], *rows]))
    assert talks == rows and notes["note_titles"].params["count"] == 1
    assert notes["note_no_header_mapped"].params["line"] == 2


def test_columns_beside_the_texts_are_told_by_what_they_hold(tmp_path: Path) -> None:
    numbered = [[place, f"2024-03-0{place + 1}", *pair] for place, pair in enumerate(ENGLISH)]
    talks, notes = read(write(tmp_path / "a.csv", numbered))
    assert talks == ENGLISH and notes["note_no_header_mapped"].params["columns"] == "question=C,answer=D"
    again = [[place, *pair] for place, pair in enumerate(ENGLISH * 4)]
    assert read(write(tmp_path / "c.csv", again))[0] == ENGLISH * 4, "texts that repeat are no labels"
    linked = [[f"https://shop.example/{place}", *pair] for place, pair in enumerate(ENGLISH)]
    assert read(write(tmp_path / "d.csv", linked))[0] == ENGLISH
    swapped = [[answer, question] for question, answer in CHINESE]
    assert read(write(tmp_path / "b.csv", swapped))[0] == CHINESE


def test_a_class_a_chat_and_texts_alone_without_a_header(tmp_path: Path) -> None:
    texts = [f"{question} {answer}" for question, answer in ENGLISH]
    classes = [[text, "good" if place % 2 else "bad"] for place, text in enumerate(texts)]
    assert read(write(tmp_path / "a.csv", classes))[0] == classes
    assert read(write(tmp_path / "b.csv", [[text] for text in texts]))[0] == [[text] for text in texts]
    chat = [[f"2024-03-05 14:0{place}", ("Ann", "Support")[place % 2], text]
            for place, text in enumerate(cell for pair in ENGLISH for cell in pair)]  # fmt: skip
    assert read(write(tmp_path / "c.csv", chat))[0] == [[cell for pair in ENGLISH for cell in pair]]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_letters_and_numbers_name_columns_and_every_row_is_data(tmp_path: Path, suffix: str) -> None:
    vague = [["cat", "chat"], ["dog", "chien"], ["bird", "oiseau"]]
    path = write(tmp_path / f"a{suffix}", vague)
    for language in LANGUAGES:
        with pytest.raises(DataError) as caught:
            read(path)
        assert caught.value.key == "data_format_table" and "columns=question=A,answer=B" in caught.value.fix(language)
        assert "A (cat)" in caught.value.what(language)
    assert read(path, columns="question=A,answer=B")[0] == vague
    assert read(path, columns="question=2,answer=1")[0] == [[answer, question] for question, answer in vague]
    assert read(path, columns="question=cat,answer=chat")[0] == vague[1:], "a name of a header makes it one"
    assert read(write(tmp_path / f"b{suffix}", ENGLISH), columns="question=A,answer=B")[0] == ENGLISH


def test_letters_leave_a_plain_header_alone(tmp_path: Path) -> None:
    for header in (["question", "answer"], ["甲", "乙"], ["Kundenanliegen", "Unsere Worte"]):
        talks, notes = read(write(tmp_path / "a.csv", [header, *ENGLISH]), columns="question=A,answer=B")
        assert talks == ENGLISH and notes["note_letters"].params == {"line": 1}
    talks, _ = read(write(tmp_path / "b.csv", [["B", "A"], *ENGLISH]), columns="question=B,answer=A")
    assert talks == ENGLISH, "names come before letters"
    wide = [["id", "", "reply"], *([place, *pair] for place, pair in enumerate(ENGLISH))]
    assert read(write(tmp_path / "c.csv", wide), columns="question=B,answer=C")[0] == ENGLISH


def test_letters_name_the_columns_of_a_chat(tmp_path: Path) -> None:
    chat = [["2024-03-05 14:00", "Ann", "hello"], ["2024-03-05 14:01", "Support", "hi, how can I help"]]
    talks, _ = read(write(tmp_path / "a.csv", chat), columns="time=A,sender=B,text=C")
    assert talks == [["hello", "hi, how can I help"]]


@pytest.mark.parametrize(
    "header", [["question", "answer"], ["客户问题", "客服回答"], ["Frage", "answer"], ["Kunde sagt", "Antwort"]]
)
def test_a_header_stays_one(tmp_path: Path, header: list[str]) -> None:
    talks, notes = read(
        write(tmp_path / "a.csv", [header, *ENGLISH]), columns=f"question={header[0]},answer={header[1]}"
    )
    assert talks == ENGLISH and not {"note_no_header", "note_no_header_mapped"} & notes.keys()


def test_a_header_over_numbers_and_dates_stays_one(tmp_path: Path) -> None:
    rows = [["When did you write?", "What did you ask?", "answer"],
            *([f"2024-03-05 14:0{place}", *pair] for place, pair in enumerate(ENGLISH))]  # fmt: skip
    talks, notes = read(write(tmp_path / "a.csv", rows), columns="question=What did you ask?,answer=answer")
    assert talks == ENGLISH and not {"note_no_header", "note_no_header_mapped"} & notes.keys()


def test_a_repaired_copy_and_the_command_read_a_table_without_a_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", [*ENGLISH, ENGLISH[0]])
    fixed = fix(DataSpec(data=str(path)), tmp_path / "b.jsonl", Wanted(), False, lambda *_: None, {})
    assert (fixed.rows, fixed.left_out) == (4, 1)
    assert read(tmp_path / "b.jsonl")[0] == ENGLISH
    vague = write(tmp_path / "c.csv", [["cat", "chat"], ["dog", "chien"], ["bird", "oiseau"]])
    given = DataSpec(data=str(vague), columns="question=A,answer=B")
    assert fix(given, tmp_path / "d.jsonl", Wanted(), False, lambda *_: None, {}).rows == 3
    assert read(tmp_path / "d.jsonl", columns="question=A,answer=B")[0][0] == ["cat", "chat"]
    assert run(["data", "check", str(path), "validation=none"]) == 0
    assert "no header" in capsys.readouterr().out


TWO: dict[str, tuple[list[Any], list[Any], list[str]]] = {
    "groups over names": (["客户", None, "我方", None], ["问题", "渠道", "回答", "工号"],
                          ["问题", "渠道", "回答", "工号"]),
    "known groups": (["Question", None, "Answer", None], ["text", "channel", "text", "by"],
                     ["Question text", "channel", "Answer text", "by"]),
    "repeated groups": (["Customer", "Customer", "Agent", "Agent"], ["question", "channel", "reply", "by"],
                        ["question", "channel", "reply", "by"]),
    "a name over both rows": (["question", "Agent", None, "note"], [None, "answer", "channel", None],
                              ["question", "answer", "channel", "note"]),
    "one group": (["编号", "对话", None, None], [None, "问题", "回答", "渠道"], ["编号", "问题", "回答", "渠道"]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize("name", TWO)
def test_of_two_header_rows_the_lower_names_are_used(tmp_path: Path, name: str, suffix: str) -> None:
    upper, lower, names = TWO[name]
    rows = [["Where is it?", "web", "On its way.", "a1"], ["Is it red?", "phone", "No, it is blue.", "a2"]]
    if name.startswith("a name"):
        rows = [[row[0], row[2], row[1], row[3]] for row in rows]
    if name == "one group":
        rows = [[row[3], row[0], row[2], row[1]] for row in rows]
    path = write(tmp_path / f"a{suffix}", [upper, lower, *rows])
    talks, notes = read(path)
    assert talks == [["Where is it?", "On its way."], ["Is it red?", "No, it is blue."]]
    assert notes["note_two_headers"].params == {"line": 1, "names": " | ".join(names)}


def test_a_title_stands_above_two_header_rows(tmp_path: Path) -> None:
    rows: Table = [["Support, March", None, None, None], ["Customer", None, "Agent", None],
                   ["question", "channel", "answer", "by"], ["Where is it?", "web", "On its way.", "a1"]]  # fmt: skip
    talks, notes = read(write(tmp_path / "a.xlsx", rows))
    assert talks == [["Where is it?", "On its way."]] and notes["note_titles"].params["count"] == 1
    assert notes["note_two_headers"].params["line"] == 2


def test_a_first_row_with_empty_cells_is_no_second_header(tmp_path: Path) -> None:
    rows: Table = [["question", "answer", ""], ["text", "a", "x"], ["Is it red?", "No, blue.", "y"]]
    talks, notes = read(write(tmp_path / "a.csv", rows))
    assert talks == [["text", "a"], ["Is it red?", "No, blue."]] and "note_two_headers" not in notes


def test_the_sign_that_divides_is_told_from_all_lines(tmp_path: Path) -> None:
    lines = ["Hello, where, is it?;On its way.", "Is it red?;No, blue.", "Who are you?;A shop."]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    assert read(tmp_path / "a.csv")[0] == [line.split(";") for line in lines]


def test_a_sign_that_only_some_sentences_hold_divides_nothing(tmp_path: Path) -> None:
    lines = ["How do I bake bread at home?", "Mix flour and water, then wait.", "Bake it for one hour."]
    for suffix in ("csv", "tsv"):
        (tmp_path / f"a.{suffix}").write_text("\n".join(lines), encoding="utf-8")
        assert read(tmp_path / f"a.{suffix}")[0] == [[line] for line in lines]
    (tmp_path / "b.csv").write_text("Shop\nMarch\nquestion,answer\na,b\n", encoding="utf-8")
    assert read(tmp_path / "b.csv")[0] == [["a", "b"]]


def test_a_header_among_rows_without_one_is_passed_over(tmp_path: Path) -> None:
    talks, notes = read(write(tmp_path / "a.csv", [*ENGLISH, ["question", "answer"], *TYPED]))
    assert talks == [*ENGLISH, *TYPED] and notes["note_header_again"].params == {"line": 5, "count": 1}


@pytest.mark.parametrize("header", [["Question?", "Answer?"], ["What did the customer say?", "Reply text"]])
def test_a_header_that_asks_stays_one(tmp_path: Path, header: list[str]) -> None:
    talks, notes = read(write(tmp_path / "a.csv", [header, *ENGLISH]))
    assert talks == ENGLISH and notes["note_columns"].params == {"question": header[0], "answer": header[1]}


def test_terms_and_what_they_mean_have_no_header(tmp_path: Path) -> None:
    terms = [["Output", "The result of a process."], ["Input", "What is given to it."], ["Loop", "It goes round."]]
    assert read(write(tmp_path / "a.csv", terms))[0] == terms


def test_groups_over_equal_names_are_told_apart_and_the_error_lists_them(tmp_path: Path) -> None:
    rows: Table = [["问题", None, "回答", None], ["中文", "英文", "中文", "英文"],
            ["在哪里？", "Where?", "在路上。", "On its way."], ["红的吗？", "Red?", "不是。", "No."]]  # fmt: skip
    path = write(tmp_path / "a.xlsx", rows)
    with pytest.raises(DataError, match=r"A \(问题 中文\), B \(问题 英文\)"):
        read(path)
    assert read(path, columns="question=问题 中文,answer=回答 中文")[0] == [
        ["在哪里？", "在路上。"],
        ["红的吗？", "不是。"],
    ]
    assert read(path, columns="question=B,answer=D")[0] == [["Where?", "On its way."], ["Red?", "No."]]


def test_a_letter_without_a_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [["cat", "house"], ["dog", "mouse"]])
    with pytest.raises(UsageError, match="no column Z"):
        read(path, columns="question=A,answer=Z")
    assert read(path, columns="question=a,answer=b")[0] == [["cat", "house"], ["dog", "mouse"]]
