"""What tools and templates left in a text: blanks, control tokens, markup, escapes, mojibake, odd characters."""

import html
import re

from xiaozao.data.formats import Conversation
from xiaozao.data.quality.findings import Check, Hit, answers, around, head, holds, said

NAMED = (
    "name|number|order|date|address|e-?mail|phone|company|customer|insert|your|city|product|link|url|id|amount|title|"
    "agent|website|account|support|person|store|recipient|sender|position|placeholder|code|price|hotline|hours|team"
    "|department"
)
BLANKS = (
    "姓名|名字|称呼|订单|单号|编号|地址|电话|手机|日期|时间|金额|公司名|"
    "客户|用户|产品|商品名|链接|网址|账号|城市|填写|插入|您的|你的|收件人"
)
PLACEHOLDER = re.compile(
    r"\{\{[^{}\n]{0,40}?\w[^{}\n]{0,40}?\}\}|\$\{[A-Za-z_][\w.]{0,40}\}|%\(\w{1,40}\)s|<%=?[^%\n]{1,60}%>"
    rf"|(?i:\[(?:[\w']+[ _\-])*?(?:{NAMED})(?:[ _\-][\w']+)*\])(?![(\w])"
    rf"|<(?:(?!BR|DIV|HTML|BODY|HEAD|SPAN|TABLE|EOF|IMG|SCRIPT|STYLE|TITLE|INPUT|FORM|META|LINK|BUTTON|HEADER|FOOTER)"
    r"[A-Z][A-Z0-9]*(?:[_ \-][A-Z0-9]+)*)>"
    rf"|(?i:<(?:your|insert|customer|order|user|company)[ _\-][a-z _\-]{{2,30}}>)"
    rf"|[【\[［{{<〈][^】\]］}}\n]{{0,6}}(?:{BLANKS})[^】\]］}}\n]{{0,6}}[】\]］}}>〉]"
    r"|(?<![A-Za-z0-9])[Xx]{3,}(?![A-Za-z0-9])|(?<![A-Za-z0-9])[Xx×]{2,}(?=[年月日号元先女公省市区县路街])"
    rf"|(?i:\{{(?:[a-z]+_(?:name|id|number|date|code|no|address|phone)|(?:{NAMED}))\}})"
    r"|(?i:<(?:name|date|email|phone|company|customer|product|number|order|amount)>)|%[A-Z][A-Z_]{2,20}%"
    r"|[（(]请?(?:填写|填入|插入|输入)[^）)\n]{0,10}[）)]"
    r"|(?i:lorem ipsum)|(?<![A-Za-z])(?:TODO|TBD|FIXME)(?=[:：\s\]）)])|待补充|待填写|此处(?:填写|插入|填入)|某某"
)
SIGNS = (
    "{",
    "[",
    "<",
    "XX",
    "xx",
    "Xx",
    "××",
    "【",
    "［",
    "待补充",
    "待填写",
    "此处",
    "某某",
    "%(",
    "TODO",
    "TBD",
    "FIXME",
    "orem ",
    "%",
    "（",
    "(请",
    "__",
)
WORDED = ("×", "TODO", "TBD", "FIXME", "待", "此处", "某某", *"İıſK")  # the last are an i, s or k to (?i:...)
OPENING = re.compile(r"[{$%<\[【［〈（(]")
BLANK_LINE = re.compile(r"_{4,}")
CODE = re.compile(
    r"```|\bdef \w+\(|\bimport \w+|#include|\bfunction\b.*\{|console\.log|\bprint\(|</?html|<!DOCTYPE|;\n"
)
TEMPLATE = re.compile(
    r"<\|[A-Za-z_][\w]{1,40}\|>|<｜[^｜\n]{2,40}｜>|\[/?INST\]|<</?SYS>>|(?m:^#{2,3} ?(?:Response|Instruction|Input"
    r"|Human|"
    r"Assistant|User|回答|指令|回复) ?[:：])|</?s>|<(?:start|end)_of_turn>|\[(?:BOS|EOS|PAD|UNK|SEP|CLS|gMASK)\]"
    r"|<(?:bos|eos|pad|unk|extra_id_\d+|sop|eop)>|<\|(?:im_end|im_start|endoftext)\b"
)
ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{2,6}|#[xX][0-9a-fA-F]{2,5});")
TAG = re.compile(
    r"(?i)</?(?:br|p|div|span|b|i|u|strong|em|font|table|tbody|tr|td|th|li|ul|ol|img|h[1-6]|center"
    r"|a)(?:\s[^<>]{0,300})?/?>"
    r"|<!\[CDATA\[|<\?xml\b|<(?:msg|appmsg|sysmsg)\b"
)
ABOUT_MARKUP = re.compile(
    r"(?i)\bhtml|\bxml|\bcss\b|\bweb ?page|\bjavascript|\btags?\b|\bmarkup|网页|标签|标记语言|前端|代码"
)
ESCAPE = re.compile(
    r"\\u[0-9a-fA-F]{4}|(?<![A-Za-z:\\])\\x[0-9a-f]{2}|\\r\\n|\\n(?![a-z])|(?<=[。！？.!?,，：:])\\[nt]|\\\""
)
MOJIBAKE = re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯|ï»¿")
# The first byte of a Chinese character in UTF-8 and its second one, read as cp1252 or as one character of GBK.
LATIN_LOOK = re.compile(
    "[ÂÃÐÑØÙàáâãäåæçèéêëìíîïð][\u0080-\u00bf\u0152-\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)
GBK_LOOK = re.compile(
    f"[{''.join(bytes((lead, trail)).decode('gbk') for lead in range(0xE4, 0xEA) for trail in range(0x80, 0xC0))}]"
)
HIGH = re.compile(r"[^\x00-\x7f]{2,}")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]"
    "|(?<=[A-Za-z\u4e00-\u9fff])[\u200c\u200d](?=[A-Za-z\u4e00-\u9fff])"
)
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")
FULL = re.compile("[０-９Ａ-Ｚａ-ｚ\uff65-\uff9f]+")
SPACE = re.compile(r"\n{4,}|\r")
SPEAKER = re.compile(
    r"(?i)\A\s*(?:assistant|ai|bot|chatgpt|answer|response|agent|support|助手|客服[\u4e00-\u9fff]{0,4}|机器人|回答"
    r"|答案|答|回复"
    r"|小助手)\s?[:：]\s*\S"
)
NEXT_SPEAKER = re.compile(r"(?im)^(?:user|human|customer|question|用户|顾客|客户|问)\s?[:：]\s*\S")
THINK = re.compile(r"</?think(?:ing)?>|</?tool_call>|</?reasoning>")


def is_code(text: str) -> bool:
    """Whether a text holds a program. What each alternative of the pattern needs is looked for first."""
    signs = (
        ("(" in text and ("def " in text or "print(" in text))
        or ("`" in text and "```" in text)
        or ("#" in text and "#include" in text)
        or ("{" in text and "function" in text)
        or ("<" in text and ("html" in text or "<!DOCTYPE" in text))
        or (";" in text and ";\n" in text)
        or "import " in text
        or "console.log" in text
    )
    return signs and CODE.search(text) is not None


def blank_in(text: str) -> "re.Match[str] | None":
    """The first template blank. Where all that can begin one are brackets, only there the slow pattern is tried."""
    small = text.lower()
    if "xx" in small or "lorem" in small or holds(text, WORDED):
        return PLACEHOLDER.search(text)
    begun = (PLACEHOLDER.match(text, bracket.start()) for bracket in OPENING.finditer(text))
    return next(filter(None, begun), None)


def placeholder(conversation: Conversation) -> Hit | None:
    """Find a template blank that was left unfilled.

    In a text that contains code only a blank that starts with `{{` counts.
    """
    for number, turn in said(conversation):
        if not holds(turn.content, SIGNS):
            continue
        match = blank_in(turn.content)
        if match is None and turn.role == "assistant":
            match = BLANK_LINE.search(turn.content)
        if match and (match[0].startswith("{{") or not is_code(turn.content)):
            return Hit(around(turn.content, *match.span()), number)
    return None


def unclosed_think(conversation: Conversation) -> Hit | None:
    """A tag of thoughts or calls that is opened and not closed, or the other way round."""
    for number, turn in answers(conversation):
        if "<" not in turn.content:
            continue
        open_: list[str] = []
        for match in THINK.finditer(turn.content):
            name = match[0].strip("</>")
            if not match[0].startswith("</"):
                open_.append(name)
            elif not open_ or open_.pop() != name:
                return Hit(around(turn.content, *match.span()), number)
        if open_:
            return Hit(f"<{open_[-1]}>", number)
    return None


def markup(conversation: Conversation) -> Hit | None:
    """Entities and tags of HTML or XML, in a conversation that is not about them."""
    for number, turn in said(conversation):
        text = turn.content
        entities = ENTITY.finditer(text) if "&" in text else ()
        match = next((entity for entity in entities if html.unescape(entity[0]) != entity[0]), None)
        if match is None and "<" in text and not is_code(text):
            match = TAG.search(text)
        if match is not None:
            about = any(ABOUT_MARKUP.search(other.content) for _, other in said(conversation))
            return None if about else Hit(around(text, *match.span()), number)
    return None


def escapes(conversation: Conversation) -> Hit | None:
    """Backslash escapes that stand as text: \\n, \\u4f60. In code, formulas and JSON they belong."""
    for number, turn in said(conversation):
        text = turn.content
        if "\\" not in text or "`" in text or is_code(text) or text.lstrip()[:1] in ("{", "["):
            continue
        for match in ESCAPE.finditer(text):
            before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
            quoted = before in ("'", '"') and after in ("'", '"', "")
            if not quoted:
                return Hit(around(text, *match.span()), number)
    return None


def garbled(text: str) -> tuple[int, int] | None:
    """Where a text was decoded with the wrong encoding: its characters, encoded back, are UTF-8."""
    if text.isascii():
        return None
    if match := MOJIBAKE.search(text):
        return match.span()
    if LATIN_LOOK.search(text) or GBK_LOOK.search(text):
        for match in HIGH.finditer(text):
            if mended(match[0]) is not None:
                return match.span()
    return None


def mended(run: str) -> str | None:
    """Non-ASCII text read as cp1252 or GBK that was UTF-8; None if it was not."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return run.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    if len(run) < 3:
        return None
    raw = run.encode("gb18030", errors="ignore")
    text = raw.decode("utf-8", errors="ignore")
    han = sum("\u4e00" <= character <= "\u9fff" for character in text)
    whole = len(text.encode()) >= 0.85 * len(raw)
    return text if whole and han >= 2 and han >= 0.6 * len(text) else None


def mojibake(conversation: Conversation) -> Hit | None:
    """Characters that are left when a file was read in the wrong encoding."""
    for number, turn in said(conversation):
        if span := garbled(turn.content):
            return Hit(around(turn.content, *span), number)
    return None


def invisible(conversation: Conversation) -> Hit | None:
    """Characters that nobody sees. Marks of direction belong to Hebrew and Arabic."""
    for number, turn in said(conversation):
        if turn.content.isascii() or not (match := INVISIBLE.search(turn.content)):
            continue
        if not RIGHT_TO_LEFT.search(turn.content):
            return Hit(_shown(turn.content, match), number)
    return None


def control(conversation: Conversation) -> Hit | None:
    """Control characters but tab and line break."""
    for number, turn in said(conversation):
        if match := CONTROL.search(turn.content):
            return Hit(_shown(turn.content, match), number)
    return None


def white_space(conversation: Conversation) -> Hit | None:
    """Space at both ends, at the ends of lines, and heaps of empty lines."""
    for number, turn in said(conversation):
        text = turn.content
        if text != text.strip() or SPACE.search(text):
            match = SPACE.search(text)
            shown = text[: match.end()][-40:] if match else text[:40] if text[0].isspace() else text[-40:]
            return Hit(repr(shown)[1:-1], number)
    return None


def speaker(conversation: Conversation) -> Hit | None:
    """A name of a speaker in front of an answer, or the next question within it."""
    for number, turn in answers(conversation):
        if match := SPEAKER.search(turn.content):
            return Hit(head(turn.content, 60), number)
        if (match := NEXT_SPEAKER.search(turn.content)) and match.start() > 0:
            asked = any(NEXT_SPEAKER.search(other.content) for other in conversation.turns[: number - 1])
            if not asked:
                return Hit(around(turn.content, *match.span()), number)
    return None


def _shown(text: str, match: "re.Match[str]") -> str:
    before, after = text[max(0, match.start() - 16) : match.start()], text[match.end() : match.end() + 16]
    return f"{before}[U+{ord(match[0]):04X}]{after}"


def _pattern(pattern: "re.Pattern[str]", signs: tuple[str, ...] = ()) -> Check:
    def look(conversation: Conversation) -> Hit | None:
        for number, turn in said(conversation):
            text = turn.content
            worth = holds(text, signs) if signs else not text.isascii()
            if worth and (match := pattern.search(turn.content)):
                return Hit(around(turn.content, *match.span()), number)
        return None

    return look


CHECKS: dict[str, Check] = {
    "placeholder": placeholder,
    "template_token": _pattern(TEMPLATE, ("<", "[", "##")),
    "unclosed_think": unclosed_think,
    "markup": markup,
    "escapes": escapes,
    "mojibake": mojibake,
    "control": control,
    "invisible": invisible,
    "full_width": _pattern(FULL),
    "white_space": white_space,
    "speaker": speaker,
}
