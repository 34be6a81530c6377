"""Text that was read in the wrong encoding, here or when the file was made: garbled, but without any error."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xiaozao.data.detection import detect
from xiaozao.data.letters import LANGUAGES
from xiaozao.data.notes import Notes

ENCODINGS = (
    "gb18030, big5, cp949, euc_kr, cp932, euc_jp, cp1250, cp1251, cp1252, cp1253, cp1254, cp1255, cp1256, cp874, koi8_r"
)
WRONG = ("cp1252", "latin_1", "gb18030", "cp1251", "cp932", "cp949", "mac_roman")  # what UTF-8 is taken for
LOST = ("\ufffd", "锟斤拷", "烫烫烫", "ï¿½")
QUESTION_MARKS = set("?!., \t\n")  # what stays of text in an encoding without it
STRANGE = 4  # characters that are not ASCII, from which a text of another script tells anything
SURE = 15.0  # log odds for another encoding than the one that was named or is stored
SHOWN = 24  # characters of an example
LATIN = {language.name for language in LANGUAGES if language.latin}
SEVEN = {"iso2022_jp": "Japanese", "hz": "Chinese"}  # whose bytes are ASCII
USUAL = ("utf-8", "utf-16-le", "utf-16-be", "gb18030", "")


def note_encoding(rows: Sequence[Mapping[str, Any]], encoding: str, asked: str, notes: Notes) -> None:
    """Note a guessed encoding, and texts of the first rows that seem to have been read in a wrong one."""
    every = list(_texts(rows))
    if marks := sum(set(text) <= QUESTION_MARKS and text.count("?") >= STRANGE for text in every):
        notes.tell("note_question_marks", count=marks, rows=len(every))
    texts = [text for text in every if not text.isascii()]
    if not texts:
        return
    if asked == "auto" and encoding not in USUAL:
        raw = [text.encode(encoding, errors="ignore") for text in texts]
        reading = detect(raw)
        language = reading.language if reading else SEVEN.get(encoding, "")
        if language:
            notes.tell("note_encoding", encoding=encoding, language={"text": f"script.{language}"})
    _note_utf8(texts, notes)
    if lost := sum(any(sign in text for sign in LOST) for text in texts):
        notes.tell("note_replaced", count=lost, rows=len(texts))
    _note_other(texts, encoding, asked, notes)


def _note_utf8(texts: Sequence[str], notes: Notes) -> None:
    """Note texts that become other text when they are written in a wrong encoding and read as UTF-8."""
    for wrong in WRONG:
        better = [(text, read) for text in texts if (read := _reread(text, wrong)) is not None]
        if better:
            example, right = better[0]
            notes.tell(
                "note_mojibake", count=len(better), rows=len(texts), wrong=wrong, example=_short(example),
                better=_short(right),
            )  # fmt: skip
            return


def _reread(text: str, wrong: str) -> str | None:
    strange = "".join(character for character in text if character > "\x7f")
    if len(strange) < 2:
        return None
    try:
        read = text.encode(wrong).decode("utf-8")
    except UnicodeError:
        return None
    wide = wrong not in ("cp1252", "latin_1", "mac_roman")
    return None if read == text or (wide and len(strange) < STRANGE) else read


def _note_other(texts: Sequence[str], encoding: str, asked: str, notes: Notes) -> None:
    """Note texts whose bytes are far likelier in another encoding than in the one they were read in."""
    stored = encoding in USUAL and asked == "auto" and encoding != "gb18030"
    for name in ("gb18030", "cp1252") if stored else (encoding,):
        sample = [text for text in texts if _strange(text) >= STRANGE]
        try:
            raw = [text.encode(name) for text in sample]
        except UnicodeError:
            continue
        reading = detect(raw)
        if reading is None or reading.encoding == name or not sample or (stored and reading.language in LATIN):
            continue  # accents tell too little of a text that may well be what it says
        joined = "\n".join(sample)[: len(reading.text)]
        own = max(language.likelihood(joined) for language in LANGUAGES)
        if reading.score - own > SURE and reading.text != joined:
            better = raw[0].decode(reading.encoding, errors="replace")
            key = "note_mojibake_legacy" if stored else "note_encoding_other"
            language = {"text": f"script.{reading.language}"}
            notes.tell(
                key, encoding=reading.encoding, language=language, example=_short(sample[0]), better=_short(better),
                **({"wrong": name} if stored else {"asked": encoding}),
            )  # fmt: skip
            return


def _strange(text: str) -> int:
    return sum(character > "\x7f" for character in text)


def _short(text: str) -> str:
    place = next((index for index, character in enumerate(text) if character > "\x7f"), 0)
    return text[place : place + SHOWN]


def _texts(values: Any) -> Iterator[str]:
    """All texts within rows, however deep."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value)
