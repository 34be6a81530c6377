"""Chat logs of shops and messengers, one message per row."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation, Dropped, Verdict
from xiaozao.data.times import parse_time
from xiaozao.errors import Problem, UsageError
from xiaozao.spec.parts import DataSpec

SHOP = [
    ("2024-03-05 14:00:00", "客服阿宝", "欢迎光临", "小美"),
    ("2024-03-05 14:02:00", "小美", "在吗？", "小美"),
    ("2024-03-05 14:02:10", "小美", "我的快递呢", "小美"),
    ("2024-03-05 14:02:20", "小美", "[图片]", "小美"),
    ("2024-03-05 14:03:00", "客服阿宝", "您好，请给我订单号", "小美"),
    ("2024-03-05 14:03:30", "系统消息", "客服阿宝已接入", "小美"),
    ("2024-03-05 14:04:00", "大刘", "能便宜点吗", "大刘"),
    ("2024-03-05 14:04:30", "客服小王", "大刘撤回了一条消息", "大刘"),
    ("2024-03-05 14:05:00", "客服小王", "亲，已经是最低价了", "大刘"),
    ("2024-03-05 14:05:10", "小美", "12345", "小美"),
    ("2024-03-05 14:06:00", "客服阿宝", "明天到", "小美"),
    ("2024-03-05 14:06:30", "小美", "好的谢谢", "小美"),
    ("2024-03-05 18:00:00", "小美", "收到了", "小美"),
    ("2024-03-05 18:01:00", "客服阿宝", "祝您生活愉快", "小美"),
    ("2024-03-05 18:02:00", "客服阿宝", "  ", "小美"),
]
HEADER = ("发送时间", "发送者", "消息内容", "买家")


def log(path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] = HEADER) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read(path: Path, **options: Any) -> list[Verdict]:
    return list(ConversationFile(path, DataSpec(data=str(path), **options)))


def talks(found: list[Verdict]) -> list[list[tuple[str, str]]]:
    conversations = [one for one in found if isinstance(one, Conversation)]
    return [[(turn.role, turn.content) for turn in one.turns] for one in conversations]


def dropped(found: list[Verdict]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in found:
        if isinstance(one, Dropped):
            counts[one.reason] = counts.get(one.reason, 0) + one.rows
    return counts


def rows_of(found: list[Verdict]) -> int:
    return sum(1 if isinstance(one, Problem) else one.rows for one in found)


MEI = [
    [("user", "在吗？\n我的快递呢"), ("assistant", "您好，请给我订单号"), ("user", "12345"), ("assistant", "明天到")],
    [("user", "收到了"), ("assistant", "祝您生活愉快")],
]
LIU = [("user", "能便宜点吗"), ("assistant", "亲，已经是最低价了")]


def test_log_becomes_sessions_by_customer_and_gap_and_every_row_is_counted(tmp_path: Path) -> None:
    file = ConversationFile(log(tmp_path / "a.csv", SHOP), DataSpec(data="x"))
    found = list(file)
    assert file.format == "chatlog"
    assert talks(found) == [*MEI, LIU]
    assert dropped(found) == {
        "media": 1, "system_line": 1, "recalled": 1, "empty_message": 1, "before_customer": 1, "unanswered": 1,
    }  # fmt: skip
    assert rows_of(found) == len(SHOP)


def test_gap_decides_where_a_session_ends(tmp_path: Path) -> None:
    found = talks(read(log(tmp_path / "a.csv", SHOP), gap=600))
    assert len(found) == 2
    assert found[0][-1] == ("assistant", "祝您生活愉快")


def test_newest_first_and_times_to_the_minute_read_the_same(tmp_path: Path) -> None:
    rows = [(row[0][:16], *row[1:]) for row in SHOP]
    assert sorted(talks(read(log(tmp_path / "a.csv", rows)))) == sorted([*MEI, LIU])
    assert sorted(talks(read(log(tmp_path / "b.csv", rows[::-1])))) == sorted([*MEI, LIU])


def test_english_messenger_export_in_a_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in (
        ("Date", "From", "Message", "Session"),
        (datetime(2024, 3, 5, 14, 2), "Ann", "Hi there", 1),
        (datetime(2024, 3, 5, 14, 3), "Support Bob", "Hello", 1),
        (datetime(2024, 3, 5, 14, 4), "Ann", "<Media omitted>", 1),
        (datetime(2024, 3, 5, 14, 5), "Ann", "This message was deleted", 1),
        (datetime(2024, 3, 6, 9, 0), "Cid", 12345, 2),
        (datetime(2024, 3, 6, 9, 1), "Support Eve", "Found it", 2),
    ):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    found = read(tmp_path / "a.xlsx")
    assert talks(found) == [
        [("user", "Hi there"), ("assistant", "Hello")],
        [("user", "12345"), ("assistant", "Found it")],
    ]
    assert dropped(found) == {"media": 1, "recalled": 1}


def test_columns_are_mapped_by_the_user(tmp_path: Path) -> None:
    path = log(tmp_path / "a.csv", SHOP, ("甲", "乙", "丙", "丁"))
    assert talks(read(path, columns="time=甲, sender=乙, text=丙, customer=丁")) == [*MEI, LIU]


@pytest.mark.parametrize(
    ("columns", "key"),
    [("when=甲", "chatlog_role"), ("time=戊", "chatlog_column"), ("time=甲", "chatlog_missing")],
)
def test_wrong_mapping_is_refused(tmp_path: Path, columns: str, key: str) -> None:
    path = log(tmp_path / "a.csv", SHOP, ("甲", "乙", "丙", "丁"))
    with pytest.raises(UsageError) as caught:
        read(path, columns=columns)
    assert caught.value.key == key
    assert "甲" in str(caught.value) or "time" in str(caught.value)


def renamed(names: dict[str, str], customers: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
    return [
        (time, names.get(sender, sender), text, (customers or {}).get(customer, customer))
        for time, sender, text, customer in SHOP
    ]


def test_our_side_is_who_is_no_customer(tmp_path: Path) -> None:
    rows = renamed({"客服阿宝": "阿宝", "客服小王": "小王"})
    assert talks(read(log(tmp_path / "a.csv", rows))) == [*MEI, LIU]


def test_our_side_is_who_speaks_with_several_customers(tmp_path: Path) -> None:
    rows = renamed({"客服阿宝": "阿宝", "客服小王": "阿宝"}, {"小美": "1001", "大刘": "1002"})
    assert talks(read(log(tmp_path / "a.csv", rows))) == [*MEI, LIU]


def test_our_side_as_given_wins(tmp_path: Path) -> None:
    rows = renamed({"客服阿宝": "AA", "客服小王": "BB"}, {"小美": "1001", "大刘": "1002"})
    assert talks(read(log(tmp_path / "a.csv", rows), assistant="aa,bb")) == [*MEI, LIU]


def test_side_that_cannot_be_told_lists_the_senders(tmp_path: Path) -> None:
    rows = renamed({"客服阿宝": "阿宝", "客服小王": "小王"}, {"小美": "1001", "大刘": "1002"})
    with pytest.raises(UsageError, match="assistant=") as caught:
        read(log(tmp_path / "a.csv", rows))
    assert caught.value.key == "chatlog_sides"
    for name in ("阿宝", "小王", "小美", "大刘"):
        assert name in caught.value.what("zh-CN")


def test_unknown_name_of_our_side_lists_the_senders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="客服阿宝") as caught:
        read(log(tmp_path / "a.csv", SHOP), assistant="阿宝")
    assert caught.value.key == "chatlog_assistant"


def test_one_chat_needs_no_customer_column_but_several_do(tmp_path: Path) -> None:
    rows = [row[:3] for row in SHOP if row[3] == "小美"]
    assert talks(read(log(tmp_path / "a.csv", rows, HEADER[:3]))) == MEI
    with pytest.raises(UsageError, match="customer=") as caught:
        read(log(tmp_path / "b.csv", [row[:3] for row in SHOP], HEADER[:3]))
    assert caught.value.key == "chatlog_customers"


def test_time_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    rows = [*SHOP[:3], ("昨天", "小美", "喂", "小美"), *SHOP[3:]]
    problems = [one for one in read(log(tmp_path / "a.csv", rows)) if isinstance(one, Problem)]
    assert [(one.key, one.params["line"], one.params["field"]) for one in problems] == [("row_time", 5, "发送时间")]
    assert "昨天" in problems[0].text()


def test_ordinary_words_about_pictures_are_not_dropped(tmp_path: Path) -> None:
    said = [
        "图片发你了",
        "[图片]我拍的",
        "请把会话结束按钮的位置告诉我，我在页面上找了很久都没有找到，麻烦你发一张带标注的截图给我看看，谢谢你了，我是真的急用，在线等你的回复",
    ]
    rows = [(f"2024-03-05 14:0{index}:00", "小美", text, "小美") for index, text in enumerate(said)]
    found = read(log(tmp_path / "a.csv", [*rows, ("2024-03-05 14:09:00", "客服", "好", "小美")]))
    assert talks(found) == [[("user", "\n".join(said)), ("assistant", "好")]]


NOON = datetime(2024, 3, 5, 14, 2, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2024-03-05 14:02", 0), ("2024/3/5 14:02", 0), ("2024.3.5 14:02:00", 0), ("2024-03-05T14:02:00Z", 0),
        ("2024-03-05T14:02:00+08:00", -8 * 3600), ("2024-03-05 14:02:00.250", 0.25), ("2024年3月5日 14:02", 0),
        ("2024年3月5日 14时2分", 0), ("2024年3月5日 下午2:02", 0), ("2024-03-05 上午12:02", -14 * 3600),
        ("3/5/2024 2:02 PM", 0), ("3/5/24, 2:02 PM", 0), ("15/3/2024 14:02", 10 * 86400), ("2024-03-05", -50520),
        ("2024/3/5 星期二 14:02", 0), (NOON, 0), (int(NOON), 0), (str(int(NOON)), 0), (NOON * 1000, 0),
        (45356.584722222222, 0), ("45356.584722222222", 0), (datetime(2024, 3, 5, 14, 2), 0),
        (datetime(2024, 3, 5).date(), -50520),
    ],
)  # fmt: skip
def test_times_in_many_ways(value: Any, seconds: float) -> None:
    found = parse_time(value)
    assert found is not None and abs(found - NOON - seconds) < 0.5


@pytest.mark.parametrize(
    "value", ["", "soon", "14:02", "2024-13-05", "2024-03-05 25:00", "2024-03-05 foo", 7, True, None]
)
def test_what_is_no_time_is_none(value: Any) -> None:
    assert parse_time(value) is None
