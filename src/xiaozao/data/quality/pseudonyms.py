"""Personal data replaced by what is nobody's, the same everywhere: in question and answer, and in every row.

What is written instead has the same form, and is nothing that could be real: a mobile number that begins with 100, a
card of zeros, an address of the domain kept for examples. Names are replaced where a field of its own says them.
"""

import re
from typing import Any

from xiaozao.data.quality.private import matches

KINDS = (
    "email",
    "iban",
    "id_card",
    "bank_card",
    "phone_cn",
    "phone_intl",
    "ssn",
    "ip_address",
    "plate",
    "messenger_id",
)
NAMED = re.compile(
    r"(?i)\A(?:(?:customer|client|user|contact|full|first|last|real|recipient)?[_ ]?name|customer|nickname|username|"
    r"姓名|客户|客户姓名|客户名称|用户名|用户姓名|联系人|收件人|收货人|昵称|顾客)\Z"
)
NUMBERED = re.compile(
    r"(?i)(?:\b(?:order|purchase|account|acct|tracking|invoice|ticket|reference|ref|customer|member(?:ship)?|case"
    r"|booking|"
    r"contract|policy)(?: ?(?:number|no\.?|id|code|nr\.?))?|订单号?|单号|运单号?|快递单号|会员号|会员卡号|账号|账户"
    r"|客户编号|客户号|"
    r"工单号?|合同号|保单号|编号|流水号)(?:\s*(?:is|[:：#]|是|为|号))*\s*#?\s*"
    r"(?P<number>(?=[A-Z0-9\-]*\d{4})[A-Z]{0,5}-?\d[\dA-Z\-]{3,30}(?<!-))"
)
LONG = re.compile(r"(?<![\w.\-+])\d{12,24}(?![\w\-])(?!\.\d)")
SHORTEST = 2  # characters of a name that is replaced within texts


class Pseudonyms:
    """What stands for what. Memory grows with the number of different things that are replaced."""

    def __init__(self, spared: tuple[str, ...] = ()) -> None:
        self._given: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._spared = set(spared)

    def of_row(self, values: dict[str, Any]) -> dict[str, str]:
        """What has to be replaced in a row, the longest first."""
        texts = list(_texts(values))
        pairs: dict[str, str] = {}
        for kind in KINDS:
            for text in texts:
                for match in matches(kind, text):
                    pairs[match[0]] = self._instead(kind, match[0])
        taken = [_digits(original) for original in pairs]
        for text in texts:
            for number in (*(match["number"] for match in NUMBERED.finditer(text)), *LONG.findall(text)):
                if number not in pairs and not any(
                    _digits(number) in known or known in _digits(number) for known in taken
                ):
                    pairs[number] = self._instead("number", number)
        for name, value in values.items():
            if NAMED.match(str(name).strip()) and isinstance(value, str) and self._is_name(value.strip()):
                pairs[value.strip()] = self._instead("name", value.strip())
        return dict(sorted(pairs.items(), key=lambda pair: -len(pair[0])))

    def _is_name(self, value: str) -> bool:
        return SHORTEST <= len(value) <= 40 and value not in self._spared and not any(map(str.isdigit, value))

    def _instead(self, kind: str, original: str) -> str:
        """The same stand-in for the same thing; spaces and dashes make no other number."""
        key = f"{kind}\0{re.sub(r'[ .()-]', '', original).lower()}"
        if key not in self._given:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._given[key] = str(self._counts[kind])
        return stand_in(kind, original, int(self._given[key]))


def replaced(text: str, pairs: dict[str, str]) -> str:
    """The text with the stand-ins. A number is replaced only where it stands alone."""
    for original, instead in pairs.items():
        if original in text:
            if original[-1].isdigit() and original[0].isdigit():
                text = re.sub(rf"(?<!\d){re.escape(original)}(?!\d)", instead.replace("\\", r"\\"), text)
            else:
                text = text.replace(original, instead)
    return text


def stand_in(kind: str, original: str, count: int) -> str:
    """Something of the same form that belongs to nobody."""
    if kind == "email":
        return f"user{count}@example.com"
    if kind == "ip_address":
        return f"192.0.2.{count % 254 + 1}"
    if kind == "name":
        return (
            f"客户{count}" if any("\u4e00" <= character <= "\u9fff" for character in original) else f"Customer {count}"
        )
    if kind == "plate":
        return f"甲{original[1]}{count:05d}"
    if kind == "iban":
        return f"XX00{_filled(original[4:], count)}"
    if kind == "messenger_id":
        start = re.split(r"[a-z0-9_\-]+\Z", original, flags=re.IGNORECASE)[0] or original[:2]
        return f"{start}u{count}"
    if kind == "phone_cn":
        return f"100{count:08d}"
    return _filled(original, count)


def _filled(original: str, count: int) -> str:
    """The original with its digits replaced by those of a count, zeros before it; letters of an IBAN become zeros."""
    places = [index for index, character in enumerate(original) if character.isdigit()]
    digits = str(count).zfill(len(places))[-len(places) :]
    signs = list(original)
    for index, digit in zip(places, digits, strict=True):
        signs[index] = digit
    return "".join(signs)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text)) or text


def _texts(value: Any) -> list[str]:
    """All strings of a row, wherever they stand."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    return [text for inner in value for text in _texts(inner)] if isinstance(value, list) else []
