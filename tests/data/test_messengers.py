"""Exports of messengers in several countries' forms, and the order of day and month."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.times import order_of, parse_time
from xiaozao.errors import Problem
from xiaozao.spec.parts import DataSpec

TALK = [[("user", "is the mug in stock"), ("assistant", "Yes.\nWe have 14.")]]


def read(path: Path, **options: Any) -> tuple[ConversationFile, list[list[tuple[str, str]]], dict[str, int]]:
    """The file after it was read, its conversations, and how many rows were dropped by reason."""
    file = ConversationFile(path, DataSpec(data=str(path), **options))
    talks, dropped = [], dict[str, int]()
    for verdict in file:
        assert not isinstance(verdict, Problem), verdict
        if isinstance(verdict, Dropped):
            dropped[verdict.reason] = dropped.get(verdict.reason, 0) + verdict.rows
        else:
            talks.append([(turn.role, turn.content) for turn in verdict.turns])
    return file, talks, dropped


def keys(file: ConversationFile) -> set[str]:
    return {note.key for note in file.notes}


def whatsapp(first: str, second: str, media: str = "<Media omitted>") -> str:
    system = first.partition("Ann: ")[0]
    return (
        f"{system}Messages and calls are end-to-end encrypted. No one outside of this chat can read them.\n"
        f"{first}is the mug in stock\n{second}Yes.\nWe have 14.\n{first}{media}\n"
    )


WHATSAPP = {
    "Android, day first": ("12/03/24, 14:02 - Ann: ", "12/03/24, 14:03 - Support: ", "<Media omitted>"),
    "Android, US": (
        "3/13/24, 2:02 PM - Ann: ",
        "3/13/24, 2:03\u202fPM - Support: ",
        "IMG-20240313-WA0001.jpg (file attached)",
    ),
    "Android, German": ("12.03.24, 14:02 - Ann: ", "12.03.24, 14:03 - Support: ", "<Medien ausgeschlossen>"),
    "Android, Spanish": ("12/3/24, 2:02 p. m. - Ann: ", "12/3/24, 2:03 p. m. - Support: ", "<Multimedia omitido>"),
    "Android, French": ("12/03/2024 à 14:02 - Ann: ", "12/03/2024 à 14:03 - Support: ", "<Médias omis>"),
    "Android, Dutch": ("12-03-2024 14:02 - Ann: ", "12-03-2024 14:03 - Support: ", "<Media weggelaten>"),
    "Android, Chinese": ("2024/3/12 下午2:02 - Ann: ", "2024/3/12 下午2:03 - Support: ", "<省略多媒体文件>"),
    "Android, Korean": (
        "2024. 3. 12. 오후 2:02 - Ann: ",
        "2024. 3. 12. 오후 2:03 - Support: ",
        "<미디어 파일을 제외됨>",
    ),
    "Android, Finnish": ("12.3.2024 klo 14.02 - Ann: ", "12.3.2024 klo 14.03 - Support: ", "<Media jätettiin pois>"),
    "iPhone": ("[12/03/24, 14:02:33] Ann: ", "[12/03/24, 14:03:33] Support: ", "\u200eimage omitted"),
    "iPhone, US": (
        "\u200e[3/13/24, 2:02:33\u202fPM] Ann: ",
        "[3/13/24, 2:03:33\u202fPM] Support: ",
        "\u200e<attached: a.jpg>",
    ),
    "iPhone, Chinese": ("[2024/3/12 下午2:02:33] Ann: ", "[2024/3/12 下午2:03:33] Support: ", "\u200e图片已省略"),
    "iPhone, German": ("[12.03.24, 14:02:33] Ann: ", "[12.03.24, 14:03:33] Support: ", "\u200eBild weggelassen"),
}


@pytest.mark.parametrize("name", WHATSAPP)
def test_whatsapp_is_read_as_a_chat_in_many_forms(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text(whatsapp(*WHATSAPP[name]), encoding="utf-8")
    file, talks, dropped = read(tmp_path / "a.txt")
    assert (file.format, talks) == ("chatlog", TALK)
    assert dropped == {"media": 1, "system_line": 1} and "note_messenger" in keys(file)


def test_what_whatsapp_itself_writes_under_a_name_is_no_answer(tmp_path: Path) -> None:
    head = "[12/03/24, 14:02:33] "
    lines = [
        *("Ann: is it there", "Support: Yes \u200e<This message was edited>", "Ann: \u200eThis message was deleted."),
        *("Support: \u200eVoice call, 3 min", "~ Bob: thanks"),
    ]
    (tmp_path / "a.txt").write_text("".join(f"{head}{line}\n" for line in lines), encoding="utf-8")
    file = ConversationFile(tmp_path / "a.txt", DataSpec(data="x", columns=None, assistant=("Support", "~ x")[:1]))
    with pytest.raises(Exception, match="Bob"):
        list(file)
    (tmp_path / "a.txt").write_text("".join(f"{head}{line}\n" for line in lines[:4]), encoding="utf-8")
    _, talks, dropped = read(tmp_path / "a.txt")
    assert talks == [[("user", "is it there"), ("assistant", "Yes")]]
    assert dropped == {"system_line": 2} or dropped == {"system_line": 1, "recalled": 1}


RULE = "=" * 64 + "\n"
SAID, ANSWERED = "is the mug in stock\n", "Yes.\nWe have 14.\n"
TEXTS = {
    "QQ": f"消息记录（此消息记录为文本格式，不支持重新导入）\n\n{RULE}消息分组:我的好友\n{RULE}消息对象:小美\n{RULE}\n"
    f"2024-03-05 14:02:33 小美(12345)\n{SAID}\n2024-03-05 14:03:33 客服\n{ANSWERED}\n",
    "QQ group": f"2024-03-05 14:02:33 小美<a@qq.com>\n{SAID}\n2024-03-05 下午2:03:33 客服\n{ANSWERED}",
    "WeChat": f"小美 2024-03-05 14:02\n{SAID}\n客服 2024-03-05 14:03\n{ANSWERED}",
    "WeChat, clocks": f"小美 14:02\n{SAID}客服小王 14:03\n{ANSWERED}",
    "WeChat, Chinese dates": f"小美: 2024年3月5日 下午2:02\n{SAID}\n客服: 2024年3月5日 下午2:03\n{ANSWERED}",
    "LINE": "[LINE] Chat history with Ann\nSaved on: 2024/03/06 10:00\n\n2024/03/05(Tue)\n"
    f"14:02\tAnn\t{SAID}14:03\tSupport\t{ANSWERED}",
    "Telegram, copied": f"Ann, [5 Mar 2024 at 14:02]\n{SAID}\nSupport, [5 Mar 2024 at 14:03]\n{ANSWERED}",
    "three lines": f"2024-03-05 14:02:33\n小美\n{SAID}\n2024-03-05 14:03:33\n客服\n{ANSWERED}",
    "one line": f"2024-03-05 14:02:33 小美: {SAID}2024-03-05 14:03:33 客服: {ANSWERED}",
    "WeChat, by mail": f"—————  2024-03-05  —————\n\n\n小美  14:02\n\n{SAID}\n客服  14:03\n\n{ANSWERED}",
    "KakaoTalk": "--------------- 2024년 3월 5일 화요일 ---------------\n"
    f"[Ann] [오후 2:02] {SAID}[Support] [오후 2:03] {ANSWERED}",
}


def test_a_title_above_a_talk_is_no_message(tmp_path: Path) -> None:
    lines = ["Ann 님과 카카오톡 대화", "저장한 날짜 : 2024-03-06 10:00:00", "", "----- 2024년 3월 5일 화요일 -----"]
    said = [
        "[Ann] [오후 2:02] hello",
        "[Support] [오후 2:03] yes?",
        "[Ann] [오후 2:04] open?",
        "[Support] [오후 2:05] yes",
    ]
    (tmp_path / "a.txt").write_text("\n".join([*lines, *said]), encoding="utf-8")
    file, talks, _ = read(tmp_path / "a.txt")
    assert talks == [[("user", "hello"), ("assistant", "yes?"), ("user", "open?"), ("assistant", "yes")]]
    assert file.format == "chatlog"


@pytest.mark.parametrize("name", TEXTS)
def test_other_messengers_texts_are_read_as_chats(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text(TEXTS[name], encoding="utf-8")
    file, talks, dropped = read(tmp_path / "a.txt")
    assert (talks, dropped) == (TALK, {}) and file.format == "chatlog"
    assert ("note_undated" in keys(file)) == (name == "WeChat, clocks")


@pytest.mark.parametrize(
    "text",
    [
        "The boat left at 14:02.\nIt was Ann: she waved.\nThen came the night.\n",
        "2024-03-05 The shop opens\nRules:\n1. No refunds after 7 days\n2. Ask us\n",
        "Ann: hello\nBo: hi\nAnn: bye\n",
        "发货时间 14:00\n退货时间 18:00\n周末不发货\n",
    ],
)
def test_other_texts_stay_texts(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    file = ConversationFile(tmp_path / "a.txt", DataSpec(data="x"))
    assert all(isinstance(one, Conversation) and one.text for one in file) and file.format == "text"


def test_a_talk_without_times_is_a_doubt_and_the_advice_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("小美：在吗\n客服甲：在的\n\n小美：多少钱\n客服甲：十元\n", encoding="utf-8")
    file, texts, _ = read(tmp_path / "a.txt")
    assert len(texts) == 4 and file.format == "text"
    note = next(note for note in file.notes if note.key == "note_speakers")
    assert "format=chatlog" in note.text() and "客服甲" in note.text("zh-CN")
    _, talks, dropped = read(tmp_path / "a.txt", format="chatlog", assistant="客服甲")
    assert (
        talks == [[("user", "在吗"), ("assistant", "在的"), ("user", "多少钱"), ("assistant", "十元")]] and not dropped
    )


def test_a_chat_is_plain_text_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(whatsapp(*WHATSAPP["iPhone"]), encoding="utf-8")
    file = ConversationFile(tmp_path / "a.txt", DataSpec(data="x", format="text"))
    assert len([one for one in file if isinstance(one, Conversation)]) == 5 and file.format == "text"


def at(clock: str, **values: Any) -> dict[str, Any]:
    return {"date": f"2024-03-05T14:{clock}", **values}


TELEGRAM = [
    at("02:00", id=0, type="service", actor="Ann", action="phone_call", text=""),
    {**at("02:33", id=1, type="message", from_id="user1", text="is the mug in stock"), "from": "Ann"},
    {
        **at("03:33", id=2, type="message", from_id="user2", text=["Yes.\n", {"type": "bold", "text": "We have 14."}]),
        "from": "Support",
    },
    {**at("04:00", id=3, type="message", from_id="user1", photo="a.jpg", text=""), "from": "Ann"},
]
ANN, SUPPORT = {"real_name": "Ann"}, {"real_name": "Support"}
SLACK = [
    {"type": "message", "subtype": "channel_join", "user": "U1", "text": "<@U1> has joined", "ts": "1709647300.0001"},
    {"type": "message", "user": "U1", "user_profile": ANN, "text": "is the mug in stock", "ts": "1709647353.0001"},
    {"type": "message", "user": "U2", "user_profile": SUPPORT, "text": "Yes.\nWe have 14.", "ts": "1709647393.1"},
    {"type": "message", "user": "U1", "user_profile": ANN, "text": "", "files": [{}], "ts": "1709647399.1"},
]


def discord(clock: str, name: str, text: str, type: str = "Default", **values: Any) -> dict[str, Any]:
    return {
        "type": type,
        "timestamp": f"2024-03-05T14:{clock}+00:00",
        "content": text,
        "author": {"name": name},
        **values,
    }


DISCORD = [
    discord("02:00", "Ann", "Joined.", "GuildMemberJoin"),
    discord("02:33", "Ann", "is the mug in stock"),
    discord("03:33", "Support", "Yes.\nWe have 14.", "Reply"),
    discord("04:33", "Ann", "", attachments=[{}]),
]
META = [
    {"sender_name": "Ann", "timestamp_ms": 1709647400000, "photos": [{}]},
    {"sender_name": "Support", "timestamp_ms": 1709647393000, "content": "Yes.\nWe have 14."},
    {"sender_name": "Ann", "timestamp_ms": 1709647353000, "content": "is the mug in stock"},
]
CHAT = {"name": "Ann", "type": "personal_chat", "id": 1}
EXPORTS = {
    "Telegram": {**CHAT, "messages": TELEGRAM},
    "Telegram, all chats": {"about": "x", "chats": {"about": "y", "list": [{**CHAT, "messages": TELEGRAM}]}},
    "Slack": SLACK,
    "Discord": {"guild": {"id": "1"}, "channel": {"name": "shop"}, "messages": DISCORD},
    "Messenger": {"participants": [{"name": "Ann"}], "messages": META, "title": "Ann"},
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_in_json_are_read_as_chats(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(EXPORTS[name], indent=1), encoding="utf-8")
    file, talks, dropped = read(tmp_path / "a.json")
    assert (file.format, talks) == ("chatlog", TALK)
    assert dropped["media"] == 1 and sum(dropped.values()) == (1 if name == "Messenger" else 2)


def test_messengers_bytes_as_characters_are_put_right(tmp_path: Path) -> None:
    said = [("Ann", "café?"), ("Support", "Oui, à 9 h")]
    messages = [
        {"sender_name": name, "timestamp_ms": 1709647353000 + place, "content": text.encode().decode("latin-1")}
        for place, (name, text) in enumerate(said)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"participants": [], "messages": messages}), encoding="utf-8")
    assert read(tmp_path / "a.json")[1] == [[("user", "café?"), ("assistant", "Oui, à 9 h")]]


def table(path: Path, *rows: tuple[Any, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_wechat_exporters_table_says_whose_side_it_is(tmp_path: Path) -> None:
    xml = '<?xml version="1.0"?><msg><appmsg><title>新品</title></appmsg></msg>'
    path = table(
        tmp_path / "a.csv",
        ("localId", "TalkerId", "Type", "SubType", "IsSender", "CreateTime", "StrContent", "StrTime", "NickName"),
        (1, 7, 1, 0, 0, 1709647353, "在吗", "2024-03-05 14:02:33", "小美"),
        (2, 7, 47, 0, 0, 1709647360, "<msg><emoji/></msg>", "2024-03-05 14:02:40", "小美"),
        (3, 7, 1, 0, 1, 1709647400, "在的，请讲", "2024-03-05 14:03:20", "阿宝"),
        (4, 7, 49, 5, 1, 1709647410, xml, "2024-03-05 14:03:30", "阿宝"),
        (5, 7, 34, 0, 0, 1709647412, "语音", "2024-03-05 14:03:32", "小美"),
        (6, 7, 10000, 0, 0, 1709647420, "以上是打招呼", "2024-03-05 14:03:40", ""),
    )
    file, talks, dropped = read(path)
    assert talks == [[("user", "在吗"), ("assistant", "在的，请讲")]]
    assert dropped == {"xml_message": 2, "media": 1, "system_line": 1}


@pytest.mark.parametrize("side", ["is_sender", "isSelf", "是否本人"])
def test_a_table_without_names_needs_only_the_side(tmp_path: Path, side: str) -> None:
    path = table(
        tmp_path / "a.csv", ("time", side, "content"), ("2024-03-05 14:02", 0, "hi"), ("2024-03-05 14:03", 1, "ok")
    )
    assert read(path)[1] == [[("user", "hi"), ("assistant", "ok")]]


@pytest.mark.parametrize(
    "text", ["[转账] ¥15.00", "[红包] 恭喜发财", "[文件] 报价单.pdf", "[位置] 人民路1号", "【链接】新品上架"]
)
def test_what_stands_behind_a_mark_of_media_is_no_answer(tmp_path: Path, text: str) -> None:
    rows = [
        ("2024-03-05 14:02", "小美", "多少钱"),
        ("2024-03-05 14:03", "客服", "15元"),
        ("2024-03-05 14:04", "客服", text),
    ]
    _, talks, dropped = read(table(tmp_path / "a.csv", ("时间", "发送者", "内容"), *rows))
    assert talks == [[("user", "多少钱"), ("assistant", "15元")]] and dropped == {"media": 1}


def test_lines_of_media_within_a_message_are_left_out_and_told(tmp_path: Path) -> None:
    said = (
        ("小美", "14:02", "多少钱"),
        ("客服", "14:03", "[转账] ¥15.00\n[图片]\n15元"),
        ("小美", "14:04", "[图片]\n[图片]"),
    )
    text = "".join(f"{name} 2024-03-05 {hour}\n{words}\n" for name, hour, words in said)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    file, talks, dropped = read(tmp_path / "a.txt")
    assert talks == [[("user", "多少钱"), ("assistant", "15元")]] and dropped == {"media": 1}
    assert next(note for note in file.notes if note.key == "note_media_lines").params == {"line": 3, "count": 1}


@pytest.mark.parametrize(("day", "hour"), [("日期", "时间"), ("Time", "Date")])
def test_day_and_clock_may_stand_in_two_columns(tmp_path: Path, day: str, hour: str) -> None:
    times = [("2024-03-05", "14:02"), ("2024-03-05", "14:03"), ("2024-03-05", "18:00"), ("2024-03-05", "18:01")]
    rows = [(*time, ("Ann", "Support")[place % 2], f"m{place}") for place, time in enumerate(times)]
    assert len(read(table(tmp_path / "a.csv", (day, hour, "sender", "message"), *rows))[1]) == 2


def test_times_in_brackets_are_read(tmp_path: Path) -> None:
    rows = [("[05/03/24, 14:02:33]", "Ann", "hi"), ("[05/03/24, 14:03:33]", "Support", "hello")]
    assert read(table(tmp_path / "a.csv", ("date", "sender", "message"), *rows))[1] == [
        [("user", "hi"), ("assistant", "hello")]
    ]


def dated(path: Path, *times: str) -> Path:
    rows = [(time, ("Ann", "Support")[place % 2], f"m{place}") for place, time in enumerate(times)]
    return table(path, ("date", "sender", "message"), *rows)


def test_the_order_of_day_and_month_is_one_for_the_whole_file_and_told(tmp_path: Path) -> None:
    path = dated(tmp_path / "a.csv", "12/03/2024 23:58", "13/03/2024 00:02", "13/03/2024 00:05", "13/03/2024 00:06")
    file, talks, dropped = read(path)
    assert talks == [[("user", "m0"), ("assistant", "m1"), ("user", "m2"), ("assistant", "m3")]] and not dropped
    assert file.notes == (Problem("note_dates", {"order": "dmy", "example": "13/03/2024 00:02"}),)
    path = dated(tmp_path / "b.csv", "3/12/2024 11:58 PM", "3/13/2024 12:02 AM")
    file, talks, _ = read(path)
    assert len(talks) == 1 and file.notes[0].params["order"] == "mdy"


def test_dates_that_both_orders_can_read_are_a_doubt_whose_advice_is_followed(tmp_path: Path) -> None:
    path = dated(tmp_path / "a.csv", "03/04/2024 23:58", "04/04/2024 00:02")
    file, talks, _ = read(path)
    assert [len(talk) for talk in talks] == [2]
    assert file.notes[0].key == "note_dates_doubt" and file.notes[0].params["order"] == "dmy"
    file, talks, dropped = read(path, dates="mdy")
    assert (talks, dropped, file.notes) == ([], {"unanswered": 1, "before_customer": 1}, ())


@pytest.mark.parametrize(
    ("values", "asked", "name"),
    [
        (["24/03/05 10:00", "24/03/06 10:00", "24/03/31 10:00"], "auto", "ymd"),
        (["31/12/23 10:00", "31/12/23 10:01"], "auto", "dmy"),
        (["30.12.25, 10:00", "31.12.25, 10:01"], "auto", "dmy"),
        (["12/31/23 10:00"], "auto", "mdy"),
        (["2024-03-05 10:00"], "auto", ""),
        (["01.02.2024", "13.02.2024"], "auto", "dmy"),
        (["1/2/2024"], "ymd", "ymd"),
        (["5 Mar 2024 at 14:02", "March 5, 2024 2:02 PM", "Tue, Mar 5 2024"], "auto", ""),
    ],
)
def test_the_order_is_that_in_which_all_can_be_dates(values: list[str], asked: str, name: str) -> None:
    assert order_of(values, asked).name == name
    assert all(parse_time(value, name) is not None for value in values)


def test_a_day_that_can_only_be_one_is_no_doubt_and_a_day_to_come_is_none(tmp_path: Path) -> None:
    file, talks, _ = read(dated(tmp_path / "a.csv", "31/12/23 10:00", "31/12/23 10:01"))
    assert len(talks) == 1 and "note_dates_doubt" not in keys(file)
    then = parse_time("2026-06-01")
    assert order_of(["31/12/23 10:00"], "auto", then).certain
    assert order_of(["24/03/05 10:00"], "auto", parse_time("2031-06-01")).certain is False, "it may be in 2024, or 2005"


def slack(path: Path, *said: tuple[str, str], **values: Any) -> Path:
    """An export of Slack's: a channel's file, of messages by user ids."""
    messages = [
        {"type": "message", "user": user, "text": text, "ts": f"{1709647353 + place}.1", **values}
        for place, (user, text) in enumerate(said)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(messages), encoding="utf-8")
    return path


SHOWN = {
    "a &lt;b&gt; &amp;amp; c": "a <b> &amp; c",
    "ask <@U2> or <@U9|bo>": "ask @Support or @bo",
    "see <#C1|orders> and <#C2>": "see #orders and #stock",
    "<!here> and <!subteam^S1|@team>, <!channel>": "@here and @team, @channel",
    "<https://shop.example/a?b=1&amp;c=2|our page> <https://x.example>": "our page https://x.example",
    "<mailto:a@shop.example|a@shop.example>, <tel:123|123>": "a@shop.example, 123",
    "<!date^1392734382^{date}|18 Feb>": "18 Feb",
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_text_of_slacks_is_what_the_reader_saw(tmp_path: Path, text: str) -> None:
    path = slack(tmp_path / "orders" / "2024-03-05.json", ("U1", text), ("U2", "Yes."))
    people = [{"id": "U1", "name": "ann"}, {"id": "U2", "profile": {"display_name": "Support"}}]
    (tmp_path / "users.json").write_text(json.dumps(people), encoding="utf-8")
    (tmp_path / "channels.json").write_text(json.dumps([{"id": "C2", "name": "stock"}]), encoding="utf-8")
    file, talks, _ = read(path)
    assert talks == [[("user", SHOWN[text]), ("assistant", "Yes.")]] and "note_ids" not in keys(file)


def test_slacks_ids_without_names_are_told_and_the_advice_helps(tmp_path: Path) -> None:
    path = slack(tmp_path / "a.json", ("U1", "is <@U7> there"), ("U2", "Yes &amp; no."))
    file, talks, _ = read(path, assistant=("U2",))
    assert talks == [[("user", "is @U7 there"), ("assistant", "Yes & no.")]] and "note_ids" in keys(file)
    people = [{"id": name, "name": name.lower()} for name in ("U1", "U2", "U7")]
    (tmp_path / "users.json").write_text(json.dumps(people), encoding="utf-8")
    file, talks, _ = read(path, assistant=("u2",))
    assert talks[0][0] == ("user", "is @u7 there") and "note_ids" not in keys(file)
    (tmp_path / "users.json").write_text("{", encoding="utf-8")
    assert "note_ids" in keys(read(path, assistant=("U2",))[0]), "a broken list of users is none"


def test_names_in_slacks_own_messages_are_those_of_mentions(tmp_path: Path) -> None:
    messages = [
        {"type": "message", "user": "U1", "user_profile": ANN, "text": "hi <@U2>", "ts": "1709647353.1"},
        {"type": "message", "user": "U2", "user_profile": SUPPORT, "text": "hi <@U1>", "ts": "1709647354.1"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(messages), encoding="utf-8")
    file, talks, _ = read(tmp_path / "a.json")
    assert talks == [[("user", "hi @Support"), ("assistant", "hi @Ann")]] and "note_ids" not in keys(file)


def test_slacks_answers_to_the_channel_are_messages_and_joins_are_none(tmp_path: Path) -> None:
    said = (("U1", "hello"), ("U2", "hi"))
    assert read(slack(tmp_path / "a.json", *said, subtype="thread_broadcast"), assistant=("U2",))[1]
    assert read(slack(tmp_path / "b.json", *said, subtype="channel_join"))[2] == {"system_line": 2}


MARKED = {
    "poll": ["POLL:\nWhich day?\nOPTION: Monday (1 vote)\nOPTION: Friday (0 votes)",
             "投票：\n哪天？\n选项：周一（1票）",
             "ENCUESTA:\n¿Qué día?\nOPCIÓN: lunes", "POLL: Which day? OPTION: Monday (1 vote)"],
    "recalled": ["This message was deleted", "You deleted this message", "您已删除此消息", "此消息已删除",
                 "Diese Nachricht wurde gelöscht.", "Du hast diese Nachricht gelöscht.", "Eliminaste este mensaje.",
                 "Ce message a été supprimé", "Mensagem apagada", "Você apagou esta mensagem",
                 "このメッセージは削除されました", "삭제된 메시지입니다"],
    "system_line": ["Waiting for this message", "Waiting for this message. This may take a while.", "正在等待此消息",
                    "You received a view once message. For added privacy, you can only open it on your phone.",
                    "View once photo", "Esperando este mensaje. Esto puede tomar tiempo.", "null"],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in MARKED.items() for text in texts])
def test_what_whatsapp_writes_itself_is_counted_and_not_learned(tmp_path: Path, reason: str, text: str) -> None:
    lines = ["is the mug in stock", text, "Yes.\nWe have 14.", text]
    names = ["Ann", "Ann", "Support", "Ann"]
    told = [
        f"12/03/24, 14:0{place} - {name}: {line}" for place, (name, line) in enumerate(zip(names, lines, strict=True))
    ]
    (tmp_path / "a.txt").write_text("\n".join(told), encoding="utf-8")
    _, talks, dropped = read(tmp_path / "a.txt")
    assert talks == TALK and dropped == {reason: 2}


WORDS = [
    "Was this message was deleted by you?",
    "poll: who is coming?",
    "投票：大家选周一",
    "I was waiting for this message all day",
    "Waiting for this message to come",
    "view once more please",
]


@pytest.mark.parametrize("text", WORDS)
def test_words_about_a_poll_or_a_deleted_message_stay(tmp_path: Path, text: str) -> None:
    told = [f"12/03/24, 14:02 - Ann: {text}" + ", is that so?" * 4, "12/03/24, 14:03 - Support: Yes."]
    (tmp_path / "a.txt").write_text("\n".join(told), encoding="utf-8")
    assert read(tmp_path / "a.txt")[1][0][0][1].startswith(text)


@pytest.mark.parametrize("above", [["Chat of March"], ["Chat of March", "", "exported by Bo"]])
def test_titles_above_a_chat_are_counted(tmp_path: Path, above: list[str]) -> None:
    said = [("Ann", "hello"), ("Ann", "is it red"), ("Support", "Yes."), ("Support", "It is.")]
    lines = [*above, *(f"12/03/24, 14:02 - {name}: {text}" for name, text in said)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    file, talks, _ = read(tmp_path / "a.txt")
    titles = [line for line in above if line]
    assert talks == [[("user", "hello\nis it red"), ("assistant", "Yes.\nIt is.")]]
    note = next(note for note in file.notes if note.key == "note_titles_chat")
    assert note.params == {"count": len(titles), "text": " | ".join(titles)}
