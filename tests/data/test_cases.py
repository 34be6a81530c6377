"""Small inputs that went wrong in other tools and in this one, each with what is right."""

import pytest

from tests.data.folders import shared_data
from xiaozao.data.checks import check
from xiaozao.spec.parts import DataSpec

RIGHT = {
    "dolly.jsonl": ("prompt", 2, ("The boat of Ola is green.",), ()),
    "history_num.jsonl": ("alpaca", 2, ("Who was Nero?",), ()),
    "korean_cp949.csv": ("prompt", 2, ("주문한 상품이",), ("note_encoding",)),
    "greek_cp1253.csv": ("prompt", 1, ("Πού είναι το δέμα μου",), ("note_encoding",)),
    "japanese_sjis.csv": ("prompt", 2, ("注文した商品が",), ("note_encoding",)),
    "arabic_cp1256.csv": ("prompt", 1, ("أين طلبي",), ("note_encoding",)),
    "x000d.xlsx": ("prompt", 1, ("First step.\nSecond step.",), ()),
    "twosheets.xlsx": ("prompt", 1, ("hello",), ("note_sheet",)),
    "forum_qa2.jsonl": ("prompt", 2, ("How do I bake bread?",), ("note_unused",)),
    "msgs_meta.jsonl": ("messages", 2, ("hello",), ("note_unused_beside",)),
    "whatsapp.txt": ("chatlog", 2, ("Yes.\nWe have 14.",), ("note_messenger",)),
    "qq.txt": ("chatlog", 2, ("在的，请讲",), ("note_messenger",)),
    "telegram.json": ("chatlog", 2, ("Yes, see https://shop.example",), ("note_messenger",)),
    "wa_bracket.csv": ("chatlog", 2, ("hello",), ()),
    "wechatmsg.csv": ("chatlog", 2, ("在的，请讲",), ()),
    "dayfirst.csv": ("chatlog", 4, ("Monday too.",), ("note_dates",)),
    "kto_int.jsonl": ("kto", 2, ("a1",), ()),
    "labels_true.jsonl": ("kto", 2, ("Is water wet?",), ()),
    "emptyinstr.jsonl": ("alpaca", 1, ("Who wrote Hamlet?",), ()),
    "msgs_str.jsonl": ("messages", 1, ("hello",), ()),
    "wrapped.json": ("alpaca", 2, ("a",), ()),
    "bom_mid.jsonl": ("prompt", 2, ("a",), ()),
    "sep.csv": ("prompt", 1, ("hello",), ()),
    "textlabel.jsonl": ("classification", 2, ("What a film!",), ("note_classes", "note_few")),
    "chatml_text.jsonl": ("messages", 2, ("hello",), ("note_marks_read",)),
    "tc_null.parquet": ("messages", 2, ("3 degrees",), ()),
    "tc_time.parquet": ("messages", 1, ("Book it",), ()),
    "tools_time.parquet": ("messages", 1, ("hello",), ()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_case_is_read_as_it_is_meant(name: str) -> None:
    path = shared_data(f"../cases/data/{name}")
    format, rows, texts, notes = RIGHT[name]
    report = check(DataSpec(data=str(path), validation="none"), None)
    assert (report.format, report.rows_used, report.problem_count) == (format, rows, 0)
    said = [turn["content"] for sample in report.samples for turn in sample["turns"]]
    assert all(any(text in turn for turn in said) for text in texts), said
    assert tuple(note.key for note in report.notes) == notes
    for note in report.notes:
        assert note.text("zh-CN") != note.text("en")
