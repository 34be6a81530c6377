"""Encodings that write every character in ASCII signs: ISO-2022-JP, HZ and UTF-7. Such a file looks like plain ASCII.

ESC $ B ... ESC ( B     ISO-2022-JP
~{ ... ~}               HZ: GB2312 of two signs each
+...-                   UTF-7: UTF-16 in base64
"""

import re
import unicodedata
from collections import Counter

from xiaozao.data.letters import HANZI

JAPANESE = re.compile(rb"\x1b\$[@B][!-~]{2,}\x1b\([BJ]")
HZ = re.compile(rb"~\{(?:[!-w][!-~])+~\}")
BASE64 = re.compile(rb"\+[A-Za-z0-9/][A-Za-z0-9+/]+-?")
USUAL = 0.3  # of the characters that are among the frequent ones
LEAST = 3  # characters of UTF-7 that are no ASCII
OF_ONE_SCRIPT = 0.8  # of the letters
MOSTLY = 0.6  # of the strange characters that are letters
TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}


def seven_bit(head: bytes) -> str:
    """The encoding of bytes that are ASCII; "" for plain ASCII."""
    if JAPANESE.search(head):
        return "iso2022_jp"
    whole = head[: head.rfind(b"\n") + 1] or head  # not within a character
    if HZ.search(whole) and _is_chinese(whole):
        return "hz"
    return "utf-7" if BASE64.search(whole) and _is_utf7(whole) else ""


def _is_chinese(head: bytes) -> bool:
    """Whether what HZ makes of the bytes is Chinese as it is written, not signs between braces."""
    try:
        text = head.decode("hz")
    except UnicodeDecodeError:
        return False
    wide = [character for character in text if "\u4e00" <= character <= "\u9fff"]
    return len(wide) > 1 and sum(character in HANZI for character in wide) >= USUAL * len(wide)


def _is_utf7(head: bytes) -> bool:
    """Whether all that looks like UTF-7 is, and gives letters of one script."""
    try:
        text = head.decode("utf-7")
    except UnicodeDecodeError:
        return False
    strange = [character for character in text if character > "\x7f"]
    scripts: Counter[str] = Counter()
    for character in strange:
        if character.isalpha():
            script = unicodedata.name(character, "").partition(" ")[0]
            scripts[TOGETHER.get(script, script)] += 1
    letters, most = scripts.total(), max(scripts.values(), default=0)
    return letters >= LEAST and most >= OF_ONE_SCRIPT * letters and letters >= MOSTLY * len(strange)
