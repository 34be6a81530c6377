"""Makes untrusted text safe to print: control characters and text-direction overrides are shown as escapes.

A file name, a column, a row or a model's name may hold ESC ] 0 ; ... BEL, which renames the window, or U+202E, after
which letters run backwards. Shown is `\\x1b]0;...\\x07` and `\\u202e`.
"""

import re

LONGEST = 4000  # characters of one value in a sentence; the longest path a system allows has 4,096
# C0 but for tab and line feed, DEL, C1, marks and overrides of direction, line separators, half characters.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
_BREAKS = re.compile("[\t\n]")
_NAMES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    """The text with escapes in place of steering characters; its tabs and line breaks stay."""
    return _STEERING.sub(_escape, text)


def in_line(text: str) -> str:
    """A value for use within a sentence: as `visible`, but on one line and cut if it is very long."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return _BREAKS.sub(_escape, visible(shown))


def json_visible(document: str) -> str:
    """JSON in which steering characters are JSON's own escapes; it reads back as the same value.

    json.dumps escapes C0 alone, and such characters stand nowhere but in strings.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return _NAMES.get(match[0]) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")
