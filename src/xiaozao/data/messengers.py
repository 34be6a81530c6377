"""Exports of messengers -> the rows of a chat log, one message each.

12/03/24, 14:02 - Ann: hello                  WhatsApp on Android; its dates and clocks follow the phone's country
[05/03/24, 14:02:33] Ann: hello               WhatsApp on an iPhone
2024-03-05 14:02:33 小美(12345)                QQ and copied chats: a head, then the text on lines of its own
小美 2024-03-05 14:02                          WeChat, copied from its window
2024/03/05(Tue)  /  14:02 <tab> Ann <tab> hi  LINE
[Ann] [오후 2:02] hello                        KakaoTalk, under lines with the date
{"messages": [{"from": ..., "date": ...}]}    Telegram, Discord, Messenger and Instagram; lists of Slack's
id,IsSender,StrContent,StrTime ...            tables of WeChat exporters, which chatlog.py reads by their columns

A line that begins no message goes on with the one before. What the messenger itself wrote has no sender.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from xiaozao.data import slack
from xiaozao.data.encodings import Line
from xiaozao.data.messengermarks import mark_of
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row
from xiaozao.errors import Problem

TIME, SENDER, TEXT, CUSTOMER, LEFT, OURS = "time", "sender", "text", "customer", "left out", "ours"
TITLES = 4  # lines by which a talk has begun: some exports put their name and date above it
LOOKED_AT = 200  # lines from which a messenger is told
INVISIBLE = str.maketrans(dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069\ufeff"), ""))
SPACES = str.maketrans({"\u202f": " ", "\xa0": " ", "\u3000": " "})
HALF = r"(?:[ap]\.?\s?m\.?|上午|下午|凌晨|清晨|早上|中午|傍晚|晚上|오전|오후|午前|午後|AM|PM|πμ|μμ|ص|م|SA|CH)"
DAY = r"\d{1,4}\s?[./\-年년]\s?\d{1,2}\s?[./\-月월]\s?\d{1,4}\s?[日일.]?"
CLOCK = rf"(?:{HALF}\s?)?\d{{1,2}}[:.：]\d{{2}}(?:[:.：]\d{{2}})?(?:\s?{HALF})?"
MOMENT = rf"{DAY}\s?(?:[,،，、]|\(.{{1,4}}\)|at|à|um|om|klo|kl\.?|às|a las|alle|星期.|周.)?\s?{CLOCK}"
WHATSAPP = re.compile(rf"(?:\[({MOMENT})\]\s?|({MOMENT})\s?[-–—:,]\s)(.*)", re.IGNORECASE | re.DOTALL)
SAID = re.compile(r"([^:：\n]{1,80}?)\s?[:：](?:\s|$)(.*)", re.DOTALL)
HEAD_FIRST = re.compile(rf"({MOMENT})\s+(\S.{{0,60}}?)[:：]?", re.IGNORECASE)
NAME_FIRST = re.compile(
    rf"((?!{DAY}\b)\S.{{0,60}}?)[:：]?\s+((?:{MOMENT}|{CLOCK}|昨天\s?{CLOCK}|\d{{1,2}}月\d{{1,2}}日\s?{CLOCK}))",
    re.IGNORECASE,
)
BRACKETED = re.compile(rf"(\S.{{0,60}}?), \[((?:{MOMENT}|\d{{1,2}} \w{{3,9}} \d{{4}} at {CLOCK}))\]", re.IGNORECASE)
IN_LINE = re.compile(rf"({MOMENT})\s+([^:：\n]{{1,60}}?)\s?[:：]\s?(.*)", re.IGNORECASE | re.DOTALL)
ALONE = re.compile(MOMENT, re.IGNORECASE)
SPOKEN = re.compile(r"\s*([^\s:：][^:：\n]{0,20}?)\s?[:：]\s*(\S.*)", re.DOTALL)
SPEAKERS = 4  # of a talk
RULED_DAY = re.compile(rf"[—–─=\-_ ]{{2,}}\s*({DAY})\s*[—–─=\-_ ]{{2,}}")
CLOCK_ALONE = re.compile(CLOCK, re.IGNORECASE)
NUMBERED = re.compile(r"\s*(?:\(\d{4,12}\)|<[^<>\s]+@[^<>\s]+>)$")
LINE_DAY = re.compile(r"(\d{4}[./]\d{1,2}[./]\d{1,2})\s?(?:\(.{1,6}\)|.{1,10})?")
LINE_SAID = re.compile(rf"({CLOCK})\t([^\t]+)\t(.*)", re.IGNORECASE | re.DOTALL)
LINE_SYSTEM = re.compile(rf"({CLOCK})\t([^\t]+)", re.IGNORECASE)
KAKAO_DAY = re.compile(r"-{4,}\s*(\d{4}년 \d{1,2}월 \d{1,2}일).*?-{4,}")
KAKAO_SAID = re.compile(rf"\[([^\[\]]{{1,60}})\] \[({CLOCK})\] (.*)", re.DOTALL)
DECORATION = re.compile(
    r"[=\-_*~]{4,}|消息(?:记录|分组|对象)\s*(?:[（(:：].*)?|\[LINE\].*"
    r"|(?:Saved on|保存日期|保存日時|저장한 날짜)\s*[:：].*"
)
MARK = "\x01"  # in place of the invisible sign that WhatsApp puts before what it writes itself
OMITTED = re.compile(
    r"<[^<>]{2,80}>|.{0,40}(?:omitted|omitid[oa]|omise?s?|ausgeschlossen|weggelassen|ocult[oa]|省略|已忽略|含まれていません|제외됨?)\.?"
    r"|\S[^\n]{0,80}\.(?:jpe?g|png|webp|gif|heic|mp4|mov|opus|ogg|m4a|mp3|pdf|docx?|xlsx?|pptx?|zip|vcf)"
    r"(?: \([^()]{1,40}\))?",
    re.IGNORECASE,
)
EDITED = re.compile(r"\s*<[^<>]*(?:edited|bearbeitet|editad[oa]|modifié|编辑|編集|수정)[^<>]*>$", re.IGNORECASE)


@dataclass
class _Open:
    """A message that is being read: its row's values and where it begins."""

    values: dict[str, Any]
    line: int
    offset: int

    def row(self) -> Row:
        self.values[TEXT] = self.values[TEXT].strip("\n")
        return Row(self.values, self.line, self.offset)


Begun = dict[str, Any] | str | None  # a message, "" for a line that belongs to none, None for more of the last message


def text_messenger(lines: Iterable[str]) -> str:
    """The messenger whose export a text is, by its first lines; "" where it is none. A key of READERS."""
    plain = [line for line in map(_plain, lines) if line.strip()][:LOOKED_AT]
    for name, make in READERS.items() if plain else ():
        begin = make()
        begun = [begin(line) for line in plain]
        heads = sum(isinstance(one, dict) and bool(one[SENDER]) for one in begun)
        senders = {one[SENDER] for one in begun if isinstance(one, dict) and one[SENDER]}
        bare = sum(
            isinstance(one, dict) and not one[TEXT] and isinstance(after, dict) and not one[LEFT]
            for one, after in pairwise(begun)
        )  # heads without a text, which no chat has
        titled = heads * 2 >= len(plain) and any(one is not None for one in begun[:TITLES])
        known = begun[0] is not None or DECORATION.fullmatch(plain[0]) is not None or titled
        if (
            heads >= 2
            and known
            and len(senders) <= max(2, heads // 2 + 1)
            and heads * 12 >= len(plain)
            and bare * 5 <= heads
        ):
            return name
    return ""


def read_text(name: str, lines: Iterable[Line], notes: Notes) -> Iterator[Row | Problem]:
    """The messages of a text, in the order of the file. Titles above the first are noted."""
    begin, message, titles = READERS[name](), None, list[str]()
    for line in lines:
        if line.problem is not None:
            yield line.problem
            continue
        text = _plain(line.text)
        begun = begin(text)
        if isinstance(begun, dict):
            if message is not None:
                yield message.row()
            elif titles:
                notes.tell("note_titles_chat", count=len(titles), text=" | ".join(titles)[:80])
            message = _Open(begun, line.number, line.offset)
        elif begun is None and message is None and text.strip() and not DECORATION.fullmatch(text.strip()):
            titles.append(text.strip())
        elif begun is None and message is not None and not DECORATION.fullmatch(text.strip()):
            message.values[TEXT] += "\n" + EDITED.sub("", text.replace(MARK, ""))
    if message is not None:
        yield message.row()


def _plain(line: str) -> str:
    return line.replace(": \u200e", f": {MARK}").translate(INVISIBLE).translate(SPACES)


def _message(time: str, sender: str, text: str) -> dict[str, Any]:
    name = NUMBERED.sub("", sender.strip().removeprefix("~").strip()).strip()
    return {TIME: time, SENDER: name, TEXT: text, LEFT: ""}


def _system(time: str, text: str) -> dict[str, Any]:
    return {TIME: time, SENDER: "", TEXT: text, LEFT: "system_line"}


def _whatsapp() -> Callable[[str], Begun]:
    def begin(line: str) -> Begun:
        head = WHATSAPP.fullmatch(line)
        if head is None:
            return None
        time, said = head[1] or head[2], SAID.fullmatch(head[3])
        if said is None:
            return _system(time, head[3].replace(MARK, ""))
        text = EDITED.sub("", said[2].replace(MARK, ""))
        left = "media" if OMITTED.fullmatch(text) else mark_of(text)
        left = left or ("system_line" if said[2].startswith(MARK) else "")
        return {**_message(time, said[1].replace(MARK, ""), text), LEFT: left}

    return begin


def _headed(pattern: re.Pattern[str], time: int, sender: int) -> Callable[[], Callable[[str], Begun]]:
    """Messages of a head with time and sender, and of text on the lines below."""

    def make() -> Callable[[str], Begun]:
        today = ""

        def begin(line: str) -> Begun:
            nonlocal today
            if day := RULED_DAY.fullmatch(line.strip()):
                today = f"{day[1]} "
                return ""
            head = pattern.fullmatch(line.strip())
            if head is None:
                return None
            clock = CLOCK_ALONE.fullmatch(head[time])
            return _message(f"{today}{head[time]}" if clock else head[time], head[sender], "")

        return begin

    return make


def _alone() -> Callable[[str], Begun]:
    """Messages of a line with the time, one with the sender, and the text below."""
    time = ""

    def begin(line: str) -> Begun:
        nonlocal time
        if ALONE.fullmatch(line.strip()):
            time = line.strip()
            return ""
        if not time or not line.strip():
            return None
        said, time = _message(time, line, ""), ""
        return said

    return begin


def _in_line() -> Callable[[str], Begun]:
    """Messages of one line: the time, the sender, a colon, the text."""

    def begin(line: str) -> Begun:
        head = IN_LINE.fullmatch(line)
        return None if head is None else _message(head[1], head[2], head[3])

    return begin


def _under_days(
    day: re.Pattern[str], said: re.Pattern[str], order: tuple[int, int]
) -> Callable[[], Callable[[str], Begun]]:
    """Messages with a clock each, below lines with the day."""

    def make() -> Callable[[str], Begun]:
        today = ""

        def begin(line: str) -> Begun:
            nonlocal today
            if head := day.fullmatch(line.strip()):
                today = head[1]
                return ""
            if head := said.fullmatch(line):
                return _message(f"{today} {head[order[0]]}", head[order[1]], head[3])
            if head := LINE_SYSTEM.fullmatch(line):
                return _system(f"{today} {head[1]}", head[2])
            return None

        return begin

    return make


READERS: dict[str, Callable[[], Callable[[str], Begun]]] = {
    "WhatsApp": _whatsapp,
    "LINE": _under_days(LINE_DAY, LINE_SAID, (1, 2)),
    "KakaoTalk": _under_days(KAKAO_DAY, KAKAO_SAID, (2, 1)),
    "QQ": _headed(HEAD_FIRST, 1, 2),
    "Telegram": _headed(BRACKETED, 2, 1),
    "WeChat": _headed(NAME_FIRST, 2, 1),
    "TXT": _in_line,
    "TXT, in three lines": _alone,
}


def speakers_of(lines: Iterable[str]) -> list[str]:
    """The names before the colons of a text that is a talk line by line (`Ann: hello`), [] where it is none."""
    plain = [line for line in map(_plain, lines) if line.strip()][:LOOKED_AT]
    names = Counter(head[1].strip() for line in plain if (head := SPOKEN.fullmatch(line)))
    several = [name for name, count in names.most_common(SPEAKERS) if count > 1]
    return several if len(several) > 1 and sum(names[name] for name in several) * 5 >= len(plain) * 4 else []


def read_spoken(lines: Iterable[Line]) -> Iterator[Row | Problem]:
    """The messages of a talk line by line, without times."""
    for line in lines:
        if line.problem is not None:
            yield line.problem
            continue
        head = SPOKEN.fullmatch(_plain(line.text))
        if head is not None:
            yield Row({SENDER: head[1].strip(), TEXT: head[2], LEFT: ""}, line.number, line.offset)
        elif line.text.strip():
            yield Row({SENDER: "", TEXT: line.text, LEFT: "system_line"}, line.number, line.offset)


SENDERS = ("from", "sender_name", "user_profile", "username", "user", "from_id", "actor")
TIMES = ("date_unixtime", "date", "timestamp_ms", "timestamp", "ts")
MEDIA = (
    *("media_type", "photo", "file", "photos", "videos", "audio_files", "files", "attachments", "sticker", "gifs"),
    *("location_information", "contact_information", "poll", "share"),
)


def json_messenger(values: Mapping[str, Any]) -> str:
    """The messenger whose message, or whose chat of messages, a JSON object is; "" where it is neither."""
    inner = values.get("messages")
    if isinstance(inner, list) and inner and isinstance(inner[0], dict) and "role" not in inner[0]:
        return json_messenger(inner[0])
    if "date_unixtime" in values or ({"from", "from_id", "text"} <= values.keys() and "date" in values):
        return "Telegram"
    if {"type", "date", "text", "actor"} <= values.keys():
        return "Telegram"
    if {"author", "content", "timestamp"} <= values.keys() and isinstance(values["author"], dict):
        return "Discord"
    if {"sender_name", "timestamp_ms"} <= values.keys():
        return "Messenger"
    if "ts" in values and "text" in values and ("user" in values or "bot_id" in values or "subtype" in values):
        return "Slack"
    return ""


def read_json(row: Row, names: Mapping[str, str] | None, notes: Notes) -> Iterator[Row]:
    """The messages of an object: itself, or those of the chat that it is. names: of people by their ids in Slack."""
    inner = row.values.get("messages")
    if not isinstance(inner, list):
        yield _json_message(row.values, row, None, names, notes)
        return
    name = row.values.get("name") or row.values.get("title") or row.values.get("id")
    for message in inner:
        if isinstance(message, dict):
            yield _json_message(message, row, name, names, notes)


def _json_message(
    values: Mapping[str, Any], row: Row, chat: object, names: Mapping[str, str] | None, notes: Notes
) -> Row:
    author = values.get("author")
    sender = _first_of(values, SENDERS) or ""
    sender = author.get("nickname") or author.get("name") or "" if isinstance(author, dict) else sender
    if isinstance(sender, dict):
        sender = sender.get("display_name") or sender.get("real_name") or values.get("user") or ""
    text = _said(values.get("text", values.get("content", "")))
    if names is not None:
        sender = names.get(str(sender), sender)
        if slack.has_unknown(text, names):
            notes.count("note_ids", row.line)
        text = slack.shown(text, names)
    time = _first_of(values, TIMES)
    spoken = names is not None and values.get("subtype") in slack.SAID
    service = values.get("type") == "service" or "actor" in values or (bool(values.get("subtype")) and not spoken)
    discord = isinstance(author, dict) and values.get("type") not in (None, "Default", "Reply", 0, 19)
    left = (
        "system_line"
        if service or discord
        else ""
        if text.strip()
        else "media"
        if _has_media(values)
        else "empty_message"
    )
    if "sender_name" in values:
        sender, text = _repaired(str(sender)), _repaired(text)
    return Row({TIME: time, SENDER: str(sender), TEXT: text, LEFT: left, **({CUSTOMER: str(chat)} if chat else {})},
               row.line, row.offset)  # fmt: skip


def _first_of(values: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((values[name] for name in names if values.get(name)), None)


def _has_media(values: Mapping[str, Any]) -> bool:
    return any(values.get(name) for name in MEDIA)


def _said(text: Any) -> str:
    """Telegram writes a text with links as a list of parts."""
    if isinstance(text, list):
        return "".join(_said(part) for part in text)
    if isinstance(text, dict):
        return str(text.get("text", ""))
    return text if isinstance(text, str) else ""


def _repaired(text: str) -> str:
    """Messenger and Instagram write each byte of UTF-8 as a character of its own."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
