"""The texts for users, in two languages.

The catalogues are two flat JSON files with the same keys and the same placeholders (a test holds them to it), so that
the command line, the reports and the pages in a browser can share them.
"""

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from xiaozao.texts.visible import in_line

Language = Literal["en", "zh-CN"]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # but tab, newline
KNOWN_LENGTH = 80  # characters of the messages of Python's json
LANGUAGES: tuple[Language, ...] = ("en", "zh-CN")


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """All texts of one language, by key."""
    texts: dict[str, str] = json.loads(Path(__file__).with_name(f"{language}.json").read_text(encoding="utf-8"))
    return texts


def say(key: str, language: Language = "en", /, **params: object) -> str:
    """The text `key` with its placeholders filled in. An unknown key is a bug and raises KeyError.

    Counts by reason become words, and so does a mapping {"text": KEY, ...}, which is a text itself. Whatever else is
    filled in may be text of others, so nothing in it steers a terminal (texts/visible.py).
    """
    return catalogue(language)[key].format_map({name: _shown(value, language) for name, value in params.items()})


def counted(reasons: Mapping[str, int], language: Language = "en") -> str:
    """Rows by the reason for which they were left out: `3 too long, 1 empty answer`."""
    names = {reason: say(f"dropped.{reason}", language) if has(f"dropped.{reason}") else reason for reason in reasons}
    parts = (say("dropped", language, count=count, reason=names[reason]) for reason, count in reasons.items() if count)
    return say("dropped.and", language).join(parts) or "-"


def _shown(value: object, language: Language) -> object:
    if isinstance(value, Mapping) and "text" in value:
        return say(value["text"], language, **{name: one for name, one in value.items() if name != "text"})
    if isinstance(value, Mapping):
        return counted(value, language)
    return value if isinstance(value, int | float) else in_line(_known(str(value), language))


def _known(text: str, language: Language) -> str:
    """A message of Python's json in the reader's language; any other text as it is."""
    named = text.lower().replace("','", "comma").replace("':'", "colon") if len(text) < KNOWN_LENGTH else ""
    key = "json." + re.sub(r"[^a-z]+", "_", named).strip("_")
    return say(key, language) if has(key) else text


def has(key: str) -> bool:
    """Whether there is a text with this key."""
    return key in catalogue("en")


def language_of(name: str) -> Language:
    """`zh`, `zh_CN.UTF-8`, `Chinese` -> zh-CN; anything else -> en."""
    return "zh-CN" if name.lower().startswith(("zh", "chinese")) else "en"


def language_from(environment: Mapping[str, str] = os.environ) -> Language:
    """The reader's language: ZAO_LANG, then LC_ALL, LC_MESSAGES, LANG. A C locale reads English."""
    for name in ("ZAO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return language_of(environment[name])
    return "en"
