"""Texts of Slack's exports, as the reader saw them, and the names of people and channels.

a &lt; b &amp;&amp; c            a < b && c
<@U123>, <@U123|ann>       @Ann, by users.json beside the export, or @ann; without a name @U123
<#C1|orders>, <!here>      #orders, @here
<https://x.org|the page>   the page
<mailto:a@b.org|a@b.org>   a@b.org
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xiaozao.data.rows import Row
from xiaozao.errors import Problem

LINK = re.compile(r"<([^<>\s|][^<>|]*)(?:\|([^<>]*))?>")
ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
ENTITY = re.compile("&(?:lt|gt|amp);")
LISTS = ("users.json", "channels.json", "groups.json")
LIMIT = 64_000_000  # bytes of such a list
SAID = ("thread_broadcast", "me_message", "file_share", "reply_broadcast")  # kinds of messages that people wrote


def lists_beside(path: Path) -> tuple[Path, ...]:
    """The lists of people and channels that lie beside a file of an export, or beside its folder."""
    places = (folder / name for folder in (path.absolute().parent, path.absolute().parent.parent) for name in LISTS)
    return tuple(place for place in places if place != path.absolute() and _is_list(place))


def names_beside(path: Path) -> dict[str, str]:
    """The names of people and channels by their ids."""
    names: dict[str, str] = {}
    for place in lists_beside(path):
        names = {**_names(place), **names}
    return names


def names_within(rows: Iterable[Row | Problem]) -> dict[str, str]:
    """The names of people by their ids, as their own messages tell them."""
    names: dict[str, str] = {}
    for row in rows:
        inner = row.values.get("messages") if isinstance(row, Row) else None
        own = [row.values] if isinstance(row, Row) else []
        for message in inner if isinstance(inner, list) else own:
            profile = message.get("user_profile") if isinstance(message, dict) else None
            if isinstance(profile, dict) and (name := name_of({"profile": profile, **profile})):
                names[str(message.get("user"))] = name
    return names


def _is_list(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= LIMIT
    except OSError:
        return False


def _names(path: Path) -> dict[str, str]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {str(entry["id"]): name for entry in entries if "id" in entry and (name := name_of(entry))}


def name_of(entry: Mapping[str, Any]) -> str:
    """The name by which somebody is shown."""
    profile = entry.get("profile")
    inner = profile if isinstance(profile, dict) else {}
    known = (inner.get("display_name"), inner.get("real_name"), entry.get("real_name"), entry.get("name"))
    return next((name.strip() for name in known if isinstance(name, str) and name.strip()), "")


def shown(text: str, names: Mapping[str, str]) -> str:
    """A text as it was shown."""
    plain = LINK.sub(lambda match: _link(match[1], (match[2] or "").strip(), names), text)
    return ENTITY.sub(lambda match: ENTITIES[match[0]], plain)


def has_unknown(text: str, names: Mapping[str, str]) -> bool:
    """Whether a text speaks of somebody, or of a channel, of whom only the id is known."""
    return any(match[1][0] in "@#" and not match[2] and match[1][1:] not in names for match in LINK.finditer(text))


def _link(target: str, label: str, names: Mapping[str, str]) -> str:
    sign, rest = target[0], target[1:]
    if sign in "@#":
        return sign + (names.get(rest) or label or rest).lstrip(sign)
    if sign == "!":
        kind = rest.partition("^")[0]
        return label or (f"@{kind}" if kind in ("here", "channel", "everyone") else rest)
    return label or target.removeprefix("mailto:").removeprefix("tel:")
