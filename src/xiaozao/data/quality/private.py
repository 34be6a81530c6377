"""Personal data and secrets. Numbers that carry a checksum are counted only where it is right.

An excerpt shows the first and the last characters of such data, because a report is handed on.
Landline numbers and addresses without a door are left alone: dialogues about shops and sights are full of them.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache

from xiaozao.data.formats import Conversation
from xiaozao.data.quality.findings import Check, Hit, around, holds, said

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
CHECK_DIGITS = "10X98765432"
HAN = "\u4e00-\u9fff"
PUBLIC = {"info", "support", "service", "contact", "help", "sales", "admin", "hr", "noreply", "no-reply", "hello",
          "customerservice", "kefu", "marketing", "press", "jobs", "example", "user", "name", "yourname", "email",
          "someone", "test"}  # fmt: skip

ADDRESS_ZH = (
    rf"[{HAN}]{{1,8}}[省市区县镇乡路街道巷弄村][{HAN}\w\-（）()]{{0,30}}?\d+\s?(?:号楼|栋|幢|单元|号院|弄|座|号)"
    rf"[{HAN}\w\-]{{0,16}}?\d{{2,5}}\s?[室户房]"
    rf"|(?:收货地址|收件地址|家庭住址|家庭地址|住址|家住|寄到|送到|寄往)(?:是|为|在)?[:： ]?[{HAN}\w]{{4,40}}?\d+号"
)
ADDRESS_EN = (
    r"\b\d{1,5}[A-Z]? (?:(?:[NSEW]|North|South|East|West)\.? )?(?:[A-Z][a-z]+ ){1,3}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct)\b\.?"
    r"(?:,? (?:Apt|Apartment|Suite|Unit)\.? ?#?\w+|, [A-Z][a-z]+)"
)
PATTERNS: dict[str, re.Pattern[str]] = {
    "phone_cn": re.compile(r"(?<![\d.\-+])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?![\d\-])"),
    "phone_intl": re.compile(
        r"(?<![\w.+])(?:\+(?!86)[1-9]\d{0,2}(?:[ .-]|(?=\())(?:\(\d{1,4}\)[ .-]?)?(?:\d{2,4}[ .-]){1,4}\d{2,8}"
        r"|\([2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}[.-][2-9]\d{2}[.-]\d{4})(?![\w-])"
        r"|(?:(?<=[A-Za-z:：\u4e00-\u9fff] )|(?<=[:：\u4e00-\u9fff（(])|\A)\+(?!86)[1-9]\d{9,13}(?!\d)(?! [-+*/=])"
    ),
    "id_card": re.compile(r"(?<![0-9A-Za-z])[1-8]\d{5}(?:18|19|20)\d{2}[01]\d[0-3]\d{4}[0-9Xx](?![0-9A-Za-z])"),
    "bank_card": re.compile(
        r"(?<![\w.\-])(?:3[47]\d{2}[ -]\d{6}[ -]\d{5}"
        r"|[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}(?:[ -]?\d{1,3})?)(?![\w\-])",
        re.ASCII,
    ),
    "iban": re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![0-9A-Za-z])"),
    "ssn": re.compile(r"(?<![\d\-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d\-])"),
    "email": re.compile(r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]*@(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,}"),
    "address": re.compile(f"{ADDRESS_ZH}|{ADDRESS_EN}"),
    "plate": re.compile(
        r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·• ]?"
        r"(?=[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9]))[A-HJ-NP-Z0-9]*\d[A-HJ-NP-Z0-9]*"
    ),
    "messenger_id": re.compile(
        r"(?i)(?:qq号?码?|微信号?|wechat(?: id)?|whatsapp|telegram)(?:(?:\s*(?:是|为|is|[:：]))+\s*|\s?)"
        r"(?:[1-9]\d{4,10}(?!\d)|(?<=[:：是为 ])(?=[a-z_\-]*\d)[a-z][a-z0-9_\-]{5,19}(?![a-z0-9]))"
    ),
    "api_key": re.compile(
        r"(?<![A-Za-z0-9_\-])(?:sk-(?:proj-|ant-)?[A-Za-z0-9_\-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
        r"|gh[pousr]_[A-Za-z0-9]{36,}"
        r"|github_pat_\w{30,}|glpat-[\w\-]{20,}|xox[baprs]-[\w\-]{10,}|AIza[\w\-]{35}|LTAI[A-Za-z0-9]{12,}"
        r"|AKID[A-Za-z0-9]{13,}|hf_[A-Za-z]{30,}|pypi-[\w\-]{40,}|eyJ[\w\-]{10,}\.eyJ[\w\-]{10,}\.[\w\-]{10,}"
        r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,})"
        r"|(?i:api[_-]?key|secret|token|密钥)[\"'”]?\s*(?:[:=：]|是|为)\s*[\"'“]?(?=[A-Za-z_\-]*\d)[A-Za-z0-9_\-]{20,}"
    ),
    "private_key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "password": re.compile(
        r"(?i)(?:\b(?:password|passwd|pwd|passcode)\b|密码|口令)\s*(?:is|[:：=]|是|为)\s*[\"'“]?"
        r"(?=[!-~]*\d)(?=[!-~]*[A-Za-z])(?![{<\[(])[!-~]{6,40}"
    ),
    "ip_address": re.compile(
        r"(?<![\w.\-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w\-]|\.\d)", re.ASCII
    ),
}
# Quick to look for: a text without any of these holds nothing of the kind.
NUMBERS = {"phone_cn", "phone_intl", "id_card", "bank_card", "iban", "ssn", "ip_address"}
CHINESE = {"plate"}
NEEDED: dict[str, tuple[str, ...]] = {
    "email": ("@",),
    "address": ("号", " St", " Ave", " Road", " Rd", " Boul", " Blvd", " Lane", " Ln", " Drive", " Dr", " Court",
                " Ct"),
    "plate": tuple("京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"),
    "messenger_id": ("qq", "QQ", "微信", "hatsapp", "hatsApp", "echat", "eChat", "elegram"),
    "api_key": ("sk-", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox",
                "AIza", "LTAI",
                "AKID", "hf_", "pypi-", "eyJ", "_live_", "key", "KEY", "Key", "ecret", "oken", "密钥", "_test_"),
    "private_key": ("-----BEGIN",),
    "password": ("assword", "ASSWORD", "asswd", "pwd", "PWD", "Pwd", "asscode", "密码", "口令"),
}  # fmt: skip
LONG_NUMBER = re.compile(r"\d[\d .()\-]{6,}")
BEFORE, AFTER = 6, 3  # characters around a long number: "+86 ", and what must not follow
NO_HOST = re.compile(
    r"0\.|127\.|255\.|1\.1\.1\.1$|8\.8\.[48]\.[48]$|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|\d\.\d\.\d\.\d$"
)
FOR_EXAMPLES = re.compile(r"(^|\.)(example|test|invalid|domain|company|yourcompany|email)\.")
PLAIN = {"address", "password", "private_key"}  # shown without what stands around


def is_id_card(text: str) -> bool:
    """Whether a Chinese identity number has a possible date of birth and the right check digit."""
    digits = text.upper()
    try:
        date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
    except ValueError:
        return False
    return CHECK_DIGITS[sum(int(a) * b for a, b in zip(digits, WEIGHTS, strict=False)) % 11] == digits[17]


def is_card(text: str) -> bool:
    """Whether a card number has the length and beginning of a card and satisfies Luhn."""
    digits = [int(character) for character in text if character.isdigit()]
    number = "".join(map(str, digits))
    lengths = {"34": (15,), "37": (15,), "4": (16,), "5": (16,), "62": (16, 17, 18, 19), "60": (16, 19), "2": (16,)}
    fits = any(number.startswith(start) and len(number) in allowed for start, allowed in lengths.items())
    doubled = [digit if index % 2 == 0 else sum(divmod(2 * digit, 10)) for index, digit in enumerate(reversed(digits))]
    return fits and len(set(digits)) > 1 and sum(doubled) % 10 == 0 and not is_id_text(number)


def is_id_text(number: str) -> bool:
    """Whether a number is an identity number rather than a card."""
    return len(number) == 18 and bool(PATTERNS["id_card"].fullmatch(number)) and is_id_card(number)


def is_iban(text: str) -> bool:
    """ISO 13616: the rearranged number is 1 modulo 97."""
    joined = text.replace(" ", "")
    moved = joined[4:] + joined[:4]
    return 15 <= len(joined) <= 34 and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def is_personal_mail(text: str) -> bool:
    """Whether an address is a person's: not that of a desk, and not one of the domains kept for examples."""
    name, _, domain = text.lower().partition("@")
    return name not in PUBLIC and not FOR_EXAMPLES.search(domain)


CONFIRMED: dict[str, Callable[[str], bool]] = {
    "id_card": is_id_card,
    "bank_card": is_card,
    "iban": is_iban,
    "email": is_personal_mail,
    "ip_address": lambda text: not NO_HOST.match(text),
    "phone_intl": lambda text: 9 <= sum(map(str.isdigit, text)) <= 15,
}


def matches(kind: str, text: str) -> "list[re.Match[str]]":
    """The places in a text where this kind of data stands."""
    confirmed = CONFIRMED.get(kind)
    if kind in NUMBERS:
        if not (spans := _number_spans(text)):
            return []
        whole = [(0, len(text))] if kind == "iban" else spans  # which has letters within
        places = [match for start, end in whole for match in PATTERNS[kind].finditer(text, start, end)]
        return [match for match in places if confirmed is None or confirmed(match[0])]
    if (kind in CHINESE and text.isascii()) or not holds(text, NEEDED[kind]):
        return []
    return [match for match in PATTERNS[kind].finditer(text) if confirmed is None or confirmed(match[0])]


@lru_cache(maxsize=64)
def _number_spans(text: str) -> list[tuple[int, int]]:
    """The places of long numbers, with what patterns look at on both sides of them."""
    return [(max(0, match.start() - BEFORE), match.end() + AFTER) for match in LONG_NUMBER.finditer(text)]


def hidden(text: str) -> str:
    """The text with all such data masked; it keeps its length."""
    for kind in PATTERNS:
        for match in matches(kind, text):
            text = text[: match.start()] + masked(match[0]) + text[match.end() :]
    return text


def masked(text: str) -> str:
    """A secret of which the first and the last characters are left."""
    shown = max(2, min(4, len(text) // 4))
    return f"{text[:shown]}{'*' * (len(text) - shown - 2)}{text[-2:]}"


def _check(kind: str) -> Check:
    def look(conversation: Conversation) -> Hit | None:
        for number, turn in said(conversation):
            for match in matches(kind, turn.content):
                start, end = match.span()
                shown = masked(match[0]) if kind in PLAIN else around(hidden(turn.content), start, end)
                return Hit(shown, number)
        return None

    return look


CHECKS: dict[str, Check] = {kind: _check(kind) for kind in PATTERNS}
