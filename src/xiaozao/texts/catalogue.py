"""What we say to people, in two languages.

The catalogues are two flat JSON files with the same keys and the same placeholders (a test holds them to it), so that
the command line, the reports and the pages in a browser can share them.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from xiaozao.texts.visible import in_line

Language = Literal["en", "zh-CN"]
LANGUAGES: tuple[Language, ...] = ("en", "zh-CN")


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """All texts of one language, by key."""
    texts: dict[str, str] = json.loads(Path(__file__).with_name(f"{language}.json").read_text(encoding="utf-8"))
    return texts


def say(key: str, language: Language = "en", /, **params: object) -> str:
    """The text `key` with its placeholders filled in. An unknown key is a bug and raises KeyError.

    Whatever is filled in may be text of others, so nothing in it steers a terminal (texts/visible.py).
    """
    return catalogue(language)[key].format_map({name: _harmless(value) for name, value in params.items()})


def _harmless(value: object) -> object:
    return value if isinstance(value, int | float) else in_line(str(value))


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
