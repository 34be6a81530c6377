"""Which checks of a row can find anything at all, told by the signs that each of them needs.

    suspects(conversation) -> names of CHECKS        the others would find nothing

A sign is a character, a word or a shape without which no pattern of the check matches. To look for signs takes a small
part of the time of the patterns, and most rows have hardly any. A gate may be open in vain, never shut in vain: where a
row has letters whose case is odd, such as the dotless i, which patterns without case take for an i, all gates are open.
"""

import re
from collections.abc import Callable
from operator import eq

from xiaozao.data.formats import Conversation
from xiaozao.data.quality import endings
from xiaozao.data.quality.findings import holds
from xiaozao.data.quality.replies import BRACKETS, SIDES

ODD = "İıſK"  # letters that a pattern without case takes for i, s or k
# In bytes in which every digit is a 0: a pattern that begins with one certain byte is ten times as fast.
DIGITS = bytes(48 if 48 <= code < 58 else code for code in range(256))
OTHER_DIGIT = re.compile(r"[^\D0-9]")  # of another script
NUMBER_RUN = re.compile(rb"0[0 .()\-]{6,}")
IBAN = re.compile(rb"0(?<=[A-Z][A-Z]0)0 ?[A-Z0]")  # how one begins
DOOR = re.compile(r"\d\s?[室户房]|\d号")
STREET = re.compile(rb"0[A-Z]? [A-Z]")
STREETS = (" St", " Av", " R", " B", " L", " D", " C")
PLATE = re.compile("[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z]")
SECRET = re.compile(r"[:=：是为]\s*[\"'“]?[A-Za-z0-9_\-]{20}")
KEYS = (("K", "AKI"), ("J", "eyJ"), ("z", "AIza"), ("L", "LTAI"))
PASSWORD = re.compile(r"(?:pass(?:word|wd|code)|pwd|密码|口令)\s*(?:is|[:：=是为])")
PERCENT = re.compile(r"%[A-Z(]|<%")
UNSEEN = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb０-９Ａ-Ｚａ-ｚ\uff65-\uff9f\ufffd]"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
COLON = re.compile(r"[:：](?:(?<=[rnRN户客问][:：])|(?<=[rnRN户客问]\s[:：]))")
SPEAKER = re.compile(r"(?:user|human|customer|question|用户|顾客|客户|问)\s?[:：]")
ANSWERER = set("aAbBcCrRsS助客机回答小")
DECLINES = set("iIwWsSaAuU很抱对不非我")
NO_ENDS = set(".!?。！？…~～)）]】》」』\"'”’*`:：;；}>|、❤\ufe0f")
CUTS = ("truncated", "to be cont", "未完", "截断", "省略")
OPENERS = set(",，、；:：(（[【")
HOSTS = ("help you", "assist you", "thank you for", "happy to", "glad to", "can help")
MODELS = ("chatgpt", "claude", "gemini", "bard", "llama", "qwen")
BLANK_OPENERS, BLANK_WORDS = "【［〈", ("填写", "填入", "插入", "输入", "待补充", "此处", "某某")
HOLLOW_LENGTH = 12
ALNUM = re.compile(r"[^\W_]")
PAIRS = tuple((left, right) for right, left in BRACKETS.items())
PAIRS_ASCII = tuple((left, right) for right, left in BRACKETS.items() if right.isascii())


class Signs:
    """What the gates look at in one row: all that is said in it, and what several gates ask of that.

    odd: whether it holds letters or digits that only the patterns themselves know. shape: its bytes, with a 0 for every
    digit. runs: stretches of digits and the signs within long numbers. digits: how many the richest of them has.
    """

    def __init__(self, conversation: Conversation) -> None:
        turns, rejected = conversation.turns, conversation.rejected
        said = [turn.content for turn in turns if turn.role != "tool"]
        if rejected:
            said += [turn.content for turn in rejected[conversation.shared :] if turn.role != "tool"]
        if conversation.text:
            said.append(conversation.text)
        self.turns, self.said = turns, said
        self.text = text = "\n".join(said)
        self.ascii = text.isascii()
        self.odd = not self.ascii and (any(letter in text for letter in ODD) or OTHER_DIGIT.search(text) is not None)
        self.lower = text.lower()
        self.roles = [turn.role for turn in turns]
        self.answers = [
            (number, turn.content)
            for number, turn in enumerate(turns)
            if turn.role == "assistant" and turn.learned and not turn.calls
        ]
        self.shape = text.encode("utf-8", "surrogatepass").translate(DIGITS)
        self.digit = b"0" in self.shape
        self.unseen = not self.ascii and UNSEEN.search(text) is not None
        self.runs = NUMBER_RUN.findall(self.shape) if self.digit else []
        self.digits = max([run.count(b"0") for run in self.runs], default=0)

    def asked(self, number: int) -> str:
        """What the user said last before a turn."""
        return next((turn.content for turn in reversed(self.turns[:number]) if turn.role == "user"), "")


Gate = Callable[[Signs], bool]


def suspects(conversation: Conversation) -> list[str]:
    """The checks that are worth calling for a row."""
    signs = Signs(conversation)
    return [*GATES] if signs.odd else [kind for kind, gate in GATES.items() if gate(signs)]


def _phone_intl(signs: Signs) -> bool:
    return signs.digits >= 10 or (signs.digits == 9 and "+" in signs.text)


def _address(signs: Signs) -> bool:
    if not signs.digit:
        return False
    chinese = not signs.ascii and DOOR.search(signs.text) is not None
    return chinese or (STREET.search(signs.shape) is not None and holds(signs.text, STREETS))


def _messenger(signs: Signs) -> bool:
    lower = signs.lower
    return signs.digit and ("qq" in lower or "微信" in lower or holds(lower, ("wechat", "whatsapp", "telegram")))


def _api_key(signs: Signs) -> bool:
    text = signs.text
    if "-" in text and holds(text, ("sk-", "glpat-", "xox", "pypi-")):
        return True
    if "_" in text and holds(text, ("gh", "github_pat_", "hf_", "k_live_", "k_test_")):
        return True
    if "ASIA" in text or any(letter in text and sign in text for letter, sign in KEYS):
        return True
    return signs.digit and (":" in text or "=" in text or not signs.ascii) and SECRET.search(text) is not None


def _password(signs: Signs) -> bool:
    return signs.digit and PASSWORD.search(signs.lower) is not None


def _placeholder(signs: Signs) -> bool:
    text = signs.text
    if "{" in text or "[" in text or "<" in text or "____" in text or "xx" in signs.lower:
        return True
    if "%" in text and PERCENT.search(text):
        return True
    if "lorem" in signs.lower or ("D" in text and ("TODO" in text or "TBD" in text)) or ("X" in text and "FIX" in text):
        return True
    return not signs.ascii and ("×" in text or holds(text, BLANK_OPENERS) or holds(text, BLANK_WORDS))


def _mojibake(signs: Signs) -> bool:
    return not signs.ascii


def _white_space(signs: Signs) -> bool:
    if "\r" in signs.text or "\n\n\n\n" in signs.text:
        return True
    return any(text[:1].isspace() or text[-1:].isspace() for text in signs.said)


def _speaker(signs: Signs) -> bool:
    if ":" not in signs.text and "：" not in signs.text:
        return False
    after = COLON.search(signs.text) is not None and SPEAKER.search(signs.lower) is not None
    return after or any(text.lstrip()[:1] in ANSWERER for _, text in signs.answers)


def _hollow(signs: Signs) -> bool:
    return any(len(text.strip(SIDES)) <= HOLLOW_LENGTH for _, text in signs.answers)


def _one_word(signs: Signs) -> bool:
    return len(signs.answers) == 1 and len(signs.answers[0][1].strip()) <= 24


def _no_end(signs: Signs) -> bool:
    for _, text in signs.answers:
        end = text.rstrip()[-40:]
        if not end or (end[-1] not in NO_ENDS and not end[-1].isdecimal()) or holds(end.lower(), CUTS):
            return True
    return False


def _hanging(signs: Signs) -> bool:
    for _, text in signs.answers:
        end = text.rstrip()[-24:].lower()
        if end and (end[-1] in OPENERS or end.endswith(endings.HAN_ENDS) or _last_word(end) in endings.WORDS):
            return True
    return False


def _last_word(end: str) -> str:
    """The letters at the end of a text that is not empty."""
    match = endings.LAST.search(end)
    return match[1] if match else ""


def _unbalanced(signs: Signs) -> bool:
    pairs = PAIRS_ASCII if signs.ascii else PAIRS
    for _, text in signs.answers:
        if "```" in text:
            return True
        for left, right in pairs:
            if (left in text or right in text) and text.count(left) != text.count(right):
                return True
    return False


def _refusal(signs: Signs) -> bool:
    return any(not text[:1].isalnum() or text[0] in DECLINES for _, text in signs.answers)


def _disclaimer(signs: Signs) -> bool:
    lower = signs.lower
    if "artificial" in lower or "language" in lower or "openai" in lower:
        return True
    if " ai" in lower and ("a ai" in lower or "an ai" in lower):
        return True
    if "cut" in lower and ("cutoff" in lower or "cut-off" in lower):
        return True
    if ("i am " in lower or "'m " in lower or "’m " in lower) and holds(lower, MODELS):
        return True
    return not signs.ascii and holds(lower, ("作为", "我是", "我只是", "我的知识"))


def _echo(signs: Signs) -> bool:
    for number, text in signs.answers:
        asked = signs.asked(number)
        if not 0.5 * len(asked) <= len(text) <= 1.5 * len(asked):
            continue
        first, other = ALNUM.search(asked), ALNUM.search(text)
        if first and other and first[0].lower() == other[0].lower():
            return True
    return False


def _swapped(signs: Signs) -> bool:
    heads = "\n".join([turn.content[:200] for turn in signs.turns if turn.role == "user"]).lower()
    if holds(heads, HOSTS):
        return True
    return not heads.isascii() and holds(heads, ("有什么", "有啥", "客服", "亲", "感谢您的", "很高兴为您"))


def _repeated(signs: Signs) -> bool:
    return len({turn.content for turn in signs.turns}) < len(signs.turns)


def _always(signs: Signs) -> bool:
    return True


GATES: dict[str, Gate] = {
    "phone_cn": lambda signs: signs.digits >= 11,
    "phone_intl": _phone_intl,
    "id_card": lambda signs: signs.digits >= 17,
    "bank_card": lambda signs: signs.digits >= 15,
    "iban": lambda signs: bool(signs.runs) and IBAN.search(signs.shape) is not None,
    "ssn": lambda signs: signs.digits >= 9 and any(run.count(b"-") >= 2 for run in signs.runs),
    "email": lambda signs: "@" in signs.text,
    "address": _address,
    "plate": lambda signs: signs.digit and not signs.ascii and PLATE.search(signs.text) is not None,
    "messenger_id": _messenger,
    "api_key": _api_key,
    "private_key": lambda signs: "-----BEGIN" in signs.text,
    "password": _password,
    "ip_address": lambda signs: any(run.count(b".") >= 3 for run in signs.runs),
    "placeholder": _placeholder,
    "template_token": lambda signs: "<" in signs.text or "[" in signs.text or "##" in signs.text,
    "unclosed_think": lambda signs: "<" in signs.text,
    "markup": lambda signs: "<" in signs.text or "&" in signs.text,
    "escapes": lambda signs: "\\" in signs.text,
    "mojibake": _mojibake,
    "control": lambda signs: CONTROL.search(signs.text) is not None,
    "invisible": lambda signs: signs.unseen,
    "full_width": lambda signs: signs.unseen,
    "white_space": _white_space,
    "speaker": _speaker,
    "hollow_answer": _hollow,
    "one_word": _one_word,
    "no_end": _no_end,
    "hanging": _hanging,
    "unbalanced": _unbalanced,
    "refusal": _refusal,
    "disclaimer": _disclaimer,
    "loop": _always,
    "echo": _echo,
    "same_role": lambda signs: any(map(eq, signs.roles, signs.roles[1:])),
    "repeated_turn": _repeated,
    "swapped": _swapped,
    "late_system": lambda signs: "system" in signs.roles[1:],
    "answer_language": _always,
}
