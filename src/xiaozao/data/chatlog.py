"""Chat logs with one message per row, as shops and messengers export them -> conversations.

    2024/3/5 14:02  小美      在吗？              user       在吗？
    2024/3/5 14:02  小美      我的快递呢                      我的快递呢          (neighbours are merged)
    2024/3/5 14:03  客服阿宝   您好，请给我订单号     assistant  您好，请给我订单号
    2024/3/5 14:03  小美      [图片]                                            (dropped: media)

Messages are grouped by customer, ordered by time and cut where nobody spoke for `gap` minutes. What is left out is
counted: media, recalled, system_line, empty_message, before_customer (we spoke first), unanswered (the customer spoke
last). Sessions need all messages of a customer together, so a log is held in memory, unlike other files.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from datetime import time as clock
from itertools import pairwise
from pathlib import Path
from typing import Any

from xiaozao.data.formats import Conversation, Dropped, Turn, Verdict
from xiaozao.data.messengers import LEFT
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row
from xiaozao.data.times import has_clock_alone, order_of, parse_time
from xiaozao.data.turns import TURNS
from xiaozao.errors import Problem, UsageError
from xiaozao.spec.parts import DataSpec

HEADERS = {
    "time": """时间 发送时间 消息时间 聊天时间 日期 日期时间 创建时间
        time timestamp date datetime sent_at created_at send_time createtime create_time strtime msg_time""",
    "sender": """发送者 发送人 发言人 发件人 昵称 发送方 姓名 备注
        sender from sender_name author speaker from_name nickname name remark sendername user username talker""",
    "text": "内容 消息 消息内容 聊天内容 聊天记录 文本 text message content body msg strcontent",
    "customer": """客户 会话 买家 客户名称 客户昵称 买家昵称 会话id 对话 顾客 访客 customer session conversation buyer
        client chat customer_id session_id conversation_id chat_id thread talkerid talker_id room_name""",
    "ours": """issender is_sender isself is_self issend is_send fromme from_me is_from_me outgoing
        是否本人 是否自己 是否发送""",
}
KIND = ("type", "msgtype", "msg_type", "type_name", "消息类型", "类型")  # what a message is, where exporters say it
PLAIN = ("", "1", "text", "文本", "文字", "文本消息", "default", "message", "none")
COLUMNS = {header: column for column, headers in HEADERS.items() for header in headers.split()}
NEEDED = ("time", "text")  # and sender, or which side it is
XML = re.compile(r"\s*<(?:\?xml|msg|sysmsg|appmsg|voipmsg|voipinvitemsg)\b", re.IGNORECASE)
OURSELVES = re.compile(r"我|本人|me|you|myself", re.IGNORECASE)  # how an export names who made it
SIDES = {True: "me", False: "them"}  # in place of names, where an export has none
TRUE, FALSE = ("1", "true", "yes", "是", "1.0"), ("0", "false", "no", "否", "0.0", "")
OURS = re.compile(
    r"客服|店小二|小助手|售后|售前|掌柜|\b(?:support|agents?|service|assistant|helpdesk|staff)\b"
    r"|kundenservice|kundendienst|suporte|soporte|atendimento|atención|service client|サポート|고객센터|상담원"
    r"|поддержка",
    re.IGNORECASE,
)
SYSTEM_SENDER = re.compile(r"系统|系统消息|系统通知|系统提示|system|系统管理员", re.IGNORECASE)
MEDIA = re.compile(
    r"[\[【<(（]\s*(?:图片|语音|视频|表情|动画表情|文件|链接|位置|名片|红包|转账|商品|订单|小程序|音乐|聊天记录|语音通话|视频通话"
    r"|images?|photo|picture|voice|audio|video|sticker|emoji|file|location|contact|gif|media|attachment)"
    r"(?:\s*(?:omitted|message|消息))?[^\[\]【】]{0,30}[\]】>)）]"
    r"|(?:image|video|audio|sticker|document|GIF) omitted"
    r"|[\[【](?:语音|视频|文件|链接|位置|名片|红包|转账|商品|订单|小程序|音乐|聊天记录|卡片|优惠券|收款)[\]】][^\n]{0,80}",
    re.IGNORECASE,
)
RECALLED = re.compile(
    r"撤回了?一?条消息|该消息已撤回|消息已被?撤回|recalled a message|unsent a message|this message was deleted"
    r"|you deleted this message|此消息已删除|wurde gelöscht|eliminó este mensaje|message a été supprimé"
    r"|mensagem (?:foi )?apagada|삭제된 메시지|メッセージは削除され",
    re.IGNORECASE,
)
SYSTEM_LINE = re.compile(
    r"以上是打招呼的内容|你已添加了|我通过了你的朋友验证|加入了?群聊|退出了?群聊|修改群名|会话已?(?:结束|关闭|超时)|对方正在输入"
    r"|系统自动|已转接|为您转接|拍了拍|end-to-end encrypted|joined the (?:group|chat|conversation)"
    r"|left the (?:group|chat|conversation)|chat (?:has )?ended|conversation (?:was )?closed",
    re.IGNORECASE,
)
CLOCKED = re.compile(r"\d[:：]\d")
DAY_LENGTH = 20  # characters of a day without a clock
SYSTEM_LENGTH = 60  # characters; a longer text that holds such words is somebody talking


@dataclass(frozen=True)
class Message:
    """One row. `time` is in seconds; 0 where the log has no times. ours: whether the log says that it is our side's."""

    time: float
    sender: str
    text: str
    customer: str
    line: int
    ours: bool | None = None


def looks_like_chatlog(values: Mapping[str, Any]) -> bool:
    """Whether a row has a time, a sender and a text, by the names of its columns."""
    known = _by_name(values).keys()
    return set(NEEDED) <= known and bool({"sender", "ours"} & known)


def map_columns(columns: str, values: Mapping[str, Any]) -> dict[str, str]:
    """`time=甲,sender=乙,text=丙,customer=丁` -> column by role; what is not given is found by name.

    Raises UsageError for a role or a column that does not exist, or where sender or text stay unknown.
    """
    by_role = _by_name(values)
    for pair in filter(None, (one.strip() for one in columns.split(","))):
        role, _, name = (one.strip() for one in pair.partition("="))
        if role not in HEADERS:
            raise UsageError("chatlog_role", given=pair, roles=", ".join(HEADERS))
        if name not in values:
            raise UsageError("chatlog_column", given=pair, name=name, columns=", ".join(values))
        by_role[role] = name
    missing = [
        role for role in ("sender", "text") if role not in by_role and not (role == "sender" and "ours" in by_role)
    ]
    if missing:
        raise UsageError("chatlog_missing", role=missing[0], columns=", ".join(values))
    return by_role


class Chatlog:
    """Collects the rows of a log and divides them into conversations (`sessions`)."""

    def __init__(self, path: Path, spec: DataSpec, notes: Notes) -> None:
        self._path, self._spec, self._notes = path, spec, notes
        self._columns: dict[str, str] = {}
        self._messages: list[tuple[Any, Message, Row]] = []

    def add(self, row: Row) -> Dropped | Problem | None:
        """Add a row. Returns the problem of a row that cannot be read, or the reason why a row is left out."""
        if not self._columns:
            self._columns = map_columns(self._spec.columns or "", row.values)
        read = {role: row.values.get(name) for role, name in self._columns.items()}
        ours = _side(read.get("ours"))
        text = self._without_media(row, read["text"])
        sender = str(read.get("sender") or "").strip() or ("" if ours is None else SIDES[ours])
        if text is not None and not isinstance(text, str):
            return _problem("row_not_text", row, self._columns["text"], found=type(text).__name__)
        reason = str(row.values.get(LEFT) or "") or _left_out(sender, text or "")
        if not reason and ours is not None:
            reason = _left_out_by_kind(row.values)
        if reason:
            return Dropped(reason, row.line)
        if not sender:
            return _problem("row_empty", row, self._columns["sender"])
        message = Message(0.0, sender, text or "", str(read.get("customer") or ""), row.line, ours)
        self._messages.append((_joined_time(read.get("time"), row.values), message, row))
        return None

    def _without_media(self, row: Row, text: Any) -> Any:
        """The text of a messenger's message without the lines that stand for pictures and files."""
        if LEFT not in row.values or not isinstance(text, str) or "\n" not in text:
            return text
        lines = text.split("\n")
        kept = [line for line in lines if not MEDIA.fullmatch(line.strip())]
        if not any(line.strip() for line in kept):
            return lines[0]  # media alone
        if len(kept) < len(lines):
            self._notes.count("note_media_lines", row.line)
        return "\n".join(kept)

    def sessions(self) -> Iterator[Verdict]:
        """The conversations, in the order in which they begin in the file."""
        order = order_of([time for time, _, _ in self._messages], self._spec.dates)
        if order.matters:
            self._notes.tell(
                "note_dates" if order.certain else "note_dates_doubt", order=order.name, example=order.example
            )
        messages: list[Message] = []
        for verdict in self._timed(order.name):
            if isinstance(verdict, Problem):
                yield verdict
            else:
                messages.append(verdict)
        ours = find_ours(self._path, messages, self._spec.assistant, "customer" in self._columns)
        by_customer: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            by_customer[message.customer].append(message)
        for customers_own in by_customer.values():
            for session in _cut(_in_order(customers_own), self._spec.gap * 60):
                yield from _conversation(session, ours)

    def _timed(self, order: str) -> Iterator[Message | Problem]:
        """The messages with their times in seconds, or the problem of a time that cannot be read."""
        before = 0.0
        for value, message, row in self._messages:
            time = parse_time(value, order) if "time" in self._columns else 0.0
            if time is None and has_clock_alone(value):
                time = before
                self._notes.count("note_undated", row.line)
            if time is None:
                yield _problem("row_time", row, self._columns["time"], found=str(value)[:60])
            else:
                before = time
                yield replace(message, time=time)


def _joined_time(value: Any, values: Mapping[str, Any]) -> Any:
    """The time of a message; day and clock may stand in two columns."""
    if isinstance(value, datetime) or value is None:
        return value
    times = [values[name] for name in values if _column_of(name) == "time" and values[name] is not value]
    plain = [one.isoformat() if isinstance(one, date | clock) else str(one) for one in (value, *times)]
    day = next((one for one in plain if parse_time(one) is not None and not CLOCKED.search(one)), "")
    hour = next((one for one in plain if has_clock_alone(one)), "")
    return f"{day} {hour}" if day and hour and len(day) < DAY_LENGTH else value


def _side(value: Any) -> bool | None:
    """Whether a message is our side's, as an exporter's column says it."""
    plain = str(value).strip().lower()
    return None if value is None else True if plain in TRUE else False if plain in FALSE else None


def _left_out_by_kind(values: Mapping[str, Any]) -> str:
    """The reason to leave out a message that its exporter marks as something else than text."""
    kinds = {str(name).strip().lower(): str(value).strip().lower() for name, value in values.items()}
    kind = next((kinds[name] for name in KIND if name in kinds), "")
    if kind in PLAIN:
        return ""
    return "system_line" if kind in ("10000", "10002") or "系统" in kind or "system" in kind else "media"


def find_ours(path: Path, messages: Sequence[Message], given: Sequence[str], has_customers: bool) -> frozenset[str]:
    """The senders that answer for the shop: the assistant's side of the conversations.

    They are, by the first rule that decides: the given names; names such as 客服 or support; every sender who is no
    customer, if the log names its customers; senders who speak with more than one customer. Raises UsageError that
    lists the senders if no rule decides.
    """
    senders = Counter(message.sender for message in messages)
    if given:
        ours = {sender for sender in senders if sender.lower() in {name.lower() for name in given}}
        if len({sender.lower() for sender in ours}) < len({name.lower() for name in given}):
            raise UsageError("chatlog_assistant", path=path, given=", ".join(given), senders=_listed(senders))
    else:
        ours = {one.sender for one in messages if one.ours} or _guess(messages, set(senders))
    theirs = {sender for sender in senders if sender not in ours}
    if not messages:
        return frozenset()
    if not ours or not theirs:
        raise UsageError("chatlog_sides", path=path, senders=_listed(senders))
    if len(theirs) > 1 and not has_customers:
        raise UsageError(
            "chatlog_customers", path=path, senders=_listed(Counter({one: senders[one] for one in theirs}))
        )
    return frozenset(ours)


def _guess(messages: Sequence[Message], senders: set[str]) -> set[str]:
    for pattern in (OURSELVES.fullmatch, OURS.search):
        named = {sender for sender in senders if pattern(sender)}
        if named and named != senders:
            return named
    customers: dict[str, set[str]] = defaultdict(set)
    for message in messages:
        customers[message.sender].add(message.customer)
    everyone = {message.customer for message in messages}
    if len(everyone & senders) * 2 > len(everyone):  # the column holds the customers' own names
        return senders - everyone
    return {sender for sender in senders if len(customers[sender]) > 1}


def _conversation(session: Sequence[Message], ours: frozenset[str]) -> Iterator[Verdict]:
    """A session as turns: neighbours of one side merged, our greeting and the unanswered end left out and counted."""
    roles = ["assistant" if message.sender in ours else "user" for message in session]
    start = roles.index("user") if "user" in roles else len(roles)
    end = len(roles) - roles[::-1].index("assistant") if "assistant" in roles else 0
    if start:
        yield Dropped("before_customer", session[0].line, start)
    if max(start, end) < len(session):
        yield Dropped("unanswered", session[max(start, end)].line, len(session) - max(start, end))
    if start >= end:
        return
    said: list[tuple[str, list[str]]] = []
    for message, role in zip(session[start:end], roles[start:end], strict=True):
        if not said or said[-1][0] != role:
            said.append((role, []))
        said[-1][1].append(message.text.strip())
    if len(said) > TURNS:
        yield Problem("session_turns", {"line": session[start].line, "count": len(said), "limit": TURNS})
        return
    turns = [Turn(role, "\n".join(texts)) for role, texts in said]
    customer = {"customer": session[0].customer} if session[0].customer else {}
    yield Conversation(tuple(turns), session[start].line, labels=customer, rows=end - start)


def _in_order(messages: Sequence[Message]) -> list[Message]:
    """The messages by time; those of one minute in the file's order, reversed if the file lists the newest first."""
    steps = [later.time - earlier.time for earlier, later in pairwise(messages)]
    backwards = sum(step < 0 for step in steps) > sum(step > 0 for step in steps)
    return sorted(messages[::-1] if backwards else messages, key=lambda one: one.time)


def _cut(messages: Sequence[Message], gap: float) -> Iterator[list[Message]]:
    session: list[Message] = []
    for message in messages:
        if session and message.time - session[-1].time > gap:
            yield session
            session = []
        session.append(message)
    if session:
        yield session


def _left_out(sender: str, text: str) -> str:
    """The reason why a row is no message (media, recalled, system line ...); "" if it is one."""
    said = text.strip()
    if SYSTEM_SENDER.fullmatch(sender):
        return "system_line"
    if not said:
        return "empty_message"
    if XML.match(said):
        return "xml_message"
    if MEDIA.fullmatch(said):
        return "media"
    if len(said) <= SYSTEM_LENGTH and RECALLED.search(said):
        return "recalled"
    return "system_line" if len(said) <= SYSTEM_LENGTH and SYSTEM_LINE.search(said) else ""


def _by_name(values: Mapping[str, Any]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for name in values:
        if column := _column_of(name):
            columns.setdefault(column, name)
    return columns


def _column_of(name: object) -> str:
    plain = str(name).strip().lower()
    return COLUMNS.get(plain.replace(" ", "_")) or COLUMNS.get(plain) or ""


def _problem(key: str, row: Row, field: str, **params: object) -> Problem:
    return Problem(key, {"line": row.line, "offset": row.offset, "field": field, **params})


def _listed(senders: Counter[str]) -> str:
    return ", ".join(f"{sender} ({count})" for sender, count in senders.most_common(20))
