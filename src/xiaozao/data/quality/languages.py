"""Which language a text is written in: by script, and for Latin letters by their most frequent words."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from xiaozao.data.formats import Conversation
from xiaozao.data.quality.findings import Check, Hit, answers, asked_before, head
from xiaozao.data.quality.leftovers import is_code

READ = 300  # characters of a text that are looked at
LETTERS = 6
SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "LATIN", "CYRILLIC", "ARABIC", "GREEK", "THAI", "DEVANAGARI",
           "HEBREW",
           "BENGALI", "TAMIL")  # fmt: skip
SYLLABLES = ("HIRAGANA", "KATAKANA", "HANGUL")  # which say more than a letter
NAMES = {"CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "ru", "ARABIC": "ar",
         "GREEK": "el",
         "THAI": "th", "DEVANAGARI": "hi", "HEBREW": "he", "BENGALI": "bn", "TAMIL": "ta"}  # fmt: skip
WORDS = {
    "en": "the of and to in is you that it for on are with as this be at have from or your not can i we "
    "will my what how do does was were by who when where which would could should may if any one his "
    "her he she they them has had been get just there here their our out up about into than then "
    "some no yes please",
    "es": "el la los las de que y en un una por con para su es se del al lo como más pero sus le ya este "
    "está mi usted puede qué cuándo dónde si no hay cómo son tiene hasta desde cuando muy sin sobre "
    "también me esta",
    "fr": "le la les de des et en un une que qui est pour dans ce il au pas vous nous je sur avec plus ne "
    "se votre du à sont mon ma où quand comment si elle ils cette par aux être avez puis",
    "de": "der die das und in zu den von mit sie ist im für auf nicht ein eine dem es sich wir ich ihre "
    "ihr auch werden wird bei können wann wie wo wenn mein haben hat sind oder aber nach ihnen vor "
    "als noch nur",
    "pt": "o a os as de que e em um uma para com não por mais dos como mas ao se na no seu sua você é do "
    "da está pode quando onde meu minha são até foi tem",
    "it": "la il di che e un una per non con del della sono i le si da lo come più ma al nel suo è puoi "
    "gli ha quando dove mio mia se questo anche alla",
    "vi": "và của là có cho không được với một trong các bạn để này những khi tôi đã",
}
WORD = re.compile(r"[^\W\d_]+")
TRANSLATED = re.compile(
    r"(?i)translat|\b(?:in|into|to|auf|en) (?:english|chinese|mandarin|spanish|french|german|japanese|korean"
    r"|russian|italian|portuguese|arabic|hindi|latin|language)"
    r"|(?:\bhow do you say|language)|翻译|译成|译为|英文|英语|中文|汉语|法语|德语|日语|韩语|西班牙语|俄语|外语|拼音"
    r"|单词|用.{1,3}(?:文|语)(?:写|说|回答|表达)"
)


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """The script of a letter, "" for anything else."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "")
    return next((script for script in SCRIPTS if name.startswith(script)), "OTHER")


class _Marks(dict[int, str | None]):
    """A table for str.translate that leaves of each letter the mark of its script, and of anything else nothing."""

    def __missing__(self, code: int) -> str | None:
        script = script_of(chr(code))
        self[code] = MARKS[script] if script else None
        return self[code]


MARKS = {script: chr(ord("a") + number) for number, script in enumerate((*SCRIPTS, "OTHER"))}
_MARKS = _Marks()
NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
ONLY_LETTERS = bytes(code if code < 128 and chr(code).isalpha() else 32 for code in range(256))


def scripts(text: str) -> Counter[str]:
    """How many letters of each script. A Chinese character counts as the three letters of a short word."""
    if text.isascii():
        return +Counter(LATIN=len(text.encode().translate(None, NO_LETTERS)))
    return _counted(text.translate(_MARKS))


def _counted(marks: str) -> Counter[str]:
    weights = {script: 3 if script == "CJK" else 1 for script, mark in MARKS.items() if mark in marks}
    return Counter({script: weight * marks.count(MARKS[script]) for script, weight in weights.items()})


@lru_cache(maxsize=64)
def language(text: str) -> str:
    """A code such as zh, en, ru; "" where the text is short or mixed."""
    read = text[:READ]
    if read.isascii():
        return _latin(read) if len(read.encode().translate(None, NO_LETTERS)) >= LETTERS else ""
    marks = read.translate(_MARKS)
    han = marks.count(MARKS["CJK"])
    if han == len(marks):  # the usual case of a text that is not ASCII
        return NAMES["CJK"] if 3 * han >= LETTERS else ""
    counted = _counted(marks)
    total = counted.total()
    if total + 2 * sum(counted[script] for script in SYLLABLES) < LETTERS:
        return ""
    if counted["HIRAGANA"] + counted["KATAKANA"] > 0.15 * total:
        return "ja"
    script, count = counted.most_common(1)[0]
    foreign = counted["LATIN"] // 2 if script != "LATIN" else 0  # names and terms in Latin letters
    if count < 0.75 * (total - foreign):
        return ""
    return NAMES.get(script, "") if script != "LATIN" else _latin(read)


def _latin(text: str) -> str:
    words = words_of(text)
    if len(words) < 4:
        return "latin"
    different = set(words)
    met = different & EVERY
    if len(met) < 3:
        return "latin"
    hits = sorted([(len(met & known), name) for name, known in KNOWN.items()], reverse=True)
    (best, name), (second, _) = hits[:2]
    return name if best >= 3 and best > 1.4 * second and best >= 0.12 * len(different) else "latin"


def words_of(text: str) -> list[str]:
    """The words of a text in small letters."""
    if text.isascii():
        return text.lower().encode().translate(ONLY_LETTERS).decode().split()
    return WORD.findall(text.lower())


def answer_language(conversation: Conversation) -> Hit | None:
    """An answer in another language than the question, which does not speak of languages."""
    for number, turn in answers(conversation):
        asked = asked_before(conversation, number)
        question, given = language(asked), language(turn.content)
        if not question or not given or not _differ(question, given, asked, turn.content):
            continue
        about = [asked, *(other.content for other in conversation.turns if other.role == "system")]
        script = _script_of_language(given)
        quoted = script != _script_of_language(question) and scripts(asked)[script] > 0.2 * scripts(asked).total()
        if not quoted and not any(TRANSLATED.search(text) for text in about) and not is_code(turn.content):
            return Hit(f"{question} → {given}: {head(turn.content, 60)}", number)
    return None


def spoken(conversation: Conversation) -> str:
    """The language of a whole row, by its answers."""
    spoken_by = [turn.content for turn in conversation.turns if turn.role in ("user", "assistant")]
    names = {name for name in map(language, spoken_by or [conversation.text]) if name}
    return names.pop() if len(names) == 1 and not any(is_code(text) for text in spoken_by) else ""


def _differ(question: str, given: str, asked: str, answer: str) -> bool:
    """`latin` is a text in Latin letters whose language is not clear. It differs from other scripts, and from a clear
    language of which it holds no word."""
    if question == given:
        return False
    if "latin" not in (question, given):
        return True
    clear, text = (given, asked) if question == "latin" else (question, answer)
    if clear not in WORDS:
        return True
    if clear == "en":
        return False  # questions typed in haste have no small words
    words = words_of(text[:READ])
    return len(words) >= 5 and not KNOWN[clear] & set(words)


def _script_of_language(name: str) -> str:
    return next((script for script, code in NAMES.items() if code == name), "LATIN")


KNOWN = {name: frozenset(words.split()) for name, words in WORDS.items()}
EVERY = frozenset().union(*KNOWN.values())
LATIN = {"", "latin", *WORDS}
CHECKS: dict[str, Check] = {"answer_language": answer_language}
