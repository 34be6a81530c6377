"""Whether a generated answer is right: pure functions of an item's accepted answers and a text, by name.

A scorer never raises, whatever a model wrote. It judges what is said, not how it is dressed, except the scorers of
form, which judge just that. Text is compared in Unicode's compatibility form (NFKC), so that a full-width number is a
number.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Protocol

NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
WORDS = {"yes": "yes", "no": "no", "true": "yes", "false": "no", "correct": "yes", "incorrect": "no"}
YES_OR_NO = re.compile(r"\b(yes|no|true|false|correct|incorrect)\b")
SHI_FOU = re.compile(r"不是|不对|不能|不会|没有|否|不|是|对|能|会|有")
SENTENCE = re.compile(r"(?<=\w\w)[.!?](?=\s|$)|[。！？\n]")
LIST = re.compile(r"\s*[,，、;；]\s*")
NUMBERED = re.compile(r"\s*(\d+)\s*[.)、．:：]\s*\S")
LETTER, BULLET = re.compile(r"[A-Za-z]"), re.compile(r"\s*[-\u2010-\u2015]\s*\S")
ENDINGS = " \t\r\n.。!！\"'“”‘’`*"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


class Scorer(Protocol):
    """(accepted answers, what the model wrote) -> whether it is right."""

    def __call__(self, answers: Sequence[str], text: str) -> bool: ...


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def number(answers: Sequence[str], text: str) -> bool:
    """The last number of the text is the answer."""
    said = NUMBER.findall(plain(text).replace("−", "-"))
    if not said:
        return False
    try:
        return any(float(said[-1].replace(",", "")) == float(answer) for answer in answers)
    except (ValueError, OverflowError):
        return False


def one_of(answers: Sequence[str], text: str) -> bool:
    """The first sentence has one of the accepted answers, as a word of its own in languages that part words."""
    said = SENTENCE.split(plain(text), maxsplit=1)[0].casefold()
    return any(_stands(plain(answer).casefold(), said) for answer in answers)


def _stands(answer: str, said: str) -> bool:
    if CHINESE.search(answer):
        return answer in said
    return re.search(rf"(?<![a-z0-9]){re.escape(answer)}(?![a-z0-9])", said) is not None


def yes_no(answers: Sequence[str], text: str) -> bool:
    """The first yes or no of the text is the answer."""
    said = plain(text).casefold()
    english = YES_OR_NO.search(said)
    if english:
        return WORDS[english[1]] in answers
    chinese = SHI_FOU.search(said)
    if not chinese:
        return False
    return ("否" if chinese[0][0] in "不没否" else "是") in answers


def exactly(answers: Sequence[str], text: str) -> bool:
    """The text is the answer and nothing else, up to quotation marks and a full stop."""
    said = plain(text).strip(ENDINGS)
    return any(
        said == plain(answer) if answer.isupper() else said.casefold() == plain(answer).casefold() for answer in answers
    )


def one_word(answers: Sequence[str], text: str) -> bool:
    said = plain(text).strip(ENDINGS)
    return bool(said) and len(said.split()) == 1


def at_most(answers: Sequence[str], text: str) -> bool:
    """At most so many characters, and at least one."""
    said = plain(text).strip(ENDINGS)
    return 0 < len(said) <= int(answers[0])


def items(answers: Sequence[str], text: str) -> bool:
    """So many things on one line, parted by commas."""
    said = plain(text).strip(ENDINGS)
    parts = LIST.split(said)
    return "\n" not in said and len(parts) == int(answers[0]) and all(part and len(part) <= 40 for part in parts)


def numbered(answers: Sequence[str], text: str) -> bool:
    """So many lines, numbered from 1, and no other."""
    lines = [line for line in plain(text).splitlines() if line.strip()]
    numbers = [match[1] if (match := NUMBERED.match(line)) else "" for line in lines]
    return numbers == [str(at) for at in range(1, int(answers[0]) + 1)]


def json_keys(answers: Sequence[str], text: str) -> bool:
    """A JSON object that has the keys, and nothing around it."""
    try:
        value = json.loads(text.strip())
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(answers) <= value.keys()


def capitals(answers: Sequence[str], text: str) -> bool:
    """Some Latin letters, all of them capitals."""
    letters = LETTER.findall(plain(text))
    return bool(letters) and all(letter.isupper() for letter in letters)


def lowercase(answers: Sequence[str], text: str) -> bool:
    """Some Latin letters, none of them a capital."""
    letters = LETTER.findall(plain(text))
    return bool(letters) and not any(letter.isupper() for letter in letters)


def bullets(answers: Sequence[str], text: str) -> bool:
    """So many lines that begin with a hyphen, and no other."""
    lines = [line for line in plain(text).splitlines() if line.strip()]
    return len(lines) == int(answers[0]) and all(BULLET.match(line) for line in lines)


def sentences(answers: Sequence[str], text: str) -> bool:
    """So many sentences."""
    return len([part for part in SENTENCE.split(plain(text)) if part.strip(ENDINGS)]) == int(answers[0])


def begins(answers: Sequence[str], text: str) -> bool:
    said = plain(text).casefold()
    return any(said.startswith(plain(answer).casefold()) for answer in answers)


def ends(answers: Sequence[str], text: str) -> bool:
    said = plain(text)
    return len(said) > 1 and any(said.endswith(plain(answer)) for answer in answers)


SCORERS: dict[str, Scorer] = {
    "number": number, "one_of": one_of, "yes_no": yes_no, "exactly": exactly, "one_word": one_word, "at_most": at_most,
    "items": items, "numbered": numbered, "json": json_keys, "begins": begins, "ends": ends,
    "capitals": capitals, "lowercase": lowercase, "bullets": bullets, "sentences": sentences,
}  # fmt: skip
